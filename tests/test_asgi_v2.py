"""The middleware and protocol v2: an application's answers and failures, keys from a file, Redis by its URL."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount

import atoma_crypto as ac
from asgi_apps import CookieForEach, confidential, events, fastapi_app, whole
from atoma_crypto._offers import read_offers
from atoma_crypto.adapters._routes import ENDPOINTS, KEYS_PATH, Endpoint
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from atoma_crypto.server.keyfile import write_secret_key
from redis_server import RedisServer, needs_redis
from serving import CANARY, CHAT, USAGE, Client, chunk, error_of, opened, request_body, sealed_error, serving

EVERY = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)


@EVERY
def test_an_application_answers_each_endpoint_in_both_protocols(endpoint: Endpoint) -> None:
    seen: list[bytes] = []

    async def answer(request: Request) -> Response:
        seen.append(await request.body())
        return JSONResponse({"data": ["é"], "usage": {"prompt_tokens": 2, "total_tokens": 2, "cost": 1}})

    body = b'{"model":"m",  "input":1.50}'
    with confidential(fastapi_app(answer)) as client:
        client.model = "m"
        for protocol in ("v1", "v2"):
            client.protocol = protocol
            client.lock(max_num_tokens=2**20)
            more: Any = {"endpoint": endpoint.plaintext} if protocol == "v2" else {}
            session = client.session(**more)
            response = client.http.post(endpoint.confidential, content=session.seal_request(body, stream=False))
            assert json.loads(session.open_response(response.content))["data"] == ["é"]
    assert seen == [body, body]
    shown = {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}
    assert response.json().get("usage") == (None if "images" in endpoint.plaintext else shown)


def test_a_stream_of_an_application_has_a_sealed_end() -> None:
    plaintexts = [chunk("a"), chunk("b"), json.dumps({"choices": [], "usage": USAGE}).encode()]
    with confidential(fastapi_app(events(plaintexts, pause=0.005))) as client:
        client.protocol = "v2"
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == plaintexts
        assert session.next_event() == ac.EndOfStream(3, USAGE)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_what_is_added_to_one_streams_head_is_not_in_the_next(protocol: Any) -> None:
    app = CookieForEach(ConfidentialMiddleware(fastapi_app(events([chunk("a")]))))
    with serving(app) as url, Client(url, protocol=protocol) as client:
        cookies = []
        for _ in range(3):
            client.lock()
            cookies.append(client.ask(request_body(stream=True))[1].headers.get_list("set-cookie"))
    assert [len(found) for found in cookies] == [1, 1, 1]
    assert len({found[0] for found in cookies}) == 3


async def _raising() -> AsyncIterator[bytes]:
    yield b"data: " + chunk("a") + b"\n\n"
    raise ValueError(CANARY)


async def _cut() -> AsyncIterator[bytes]:
    yield b"data: " + chunk("a") + b"\n\n"  # and no [DONE]


@pytest.mark.parametrize("stream", [_raising, _cut], ids=["raises", "ends"])
def test_an_application_that_fails_in_mid_stream_is_told_as_a_sealed_error(
    stream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_request: Request) -> Response:
        return StreamingResponse(stream(), media_type="text/event-stream")

    with confidential(fastapi_app(answer)) as client:
        client.protocol = "v2"
        session, response = client.ask(request_body(stream=True))  # HTTP's own end is a clean one
    session.receive_data(response.content)
    event = session.next_event()
    assert isinstance(event, ac.Chunk)
    assert event.plaintext == chunk("a")
    with pytest.raises(ac.RemoteAbortError, match=r"INTERNAL_ERROR \(500\)") as told:
        session.next_event()
    assert CANARY not in told.value.message
    assert not [record for record in caplog.records if record.name.startswith("atoma") and CANARY in str(vars(record))]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_application_that_refuses_is_told_sealed(stream: bool) -> None:
    with confidential(fastapi_app(whole({"error": CANARY}, 429, **{"Retry-After": "3"}))) as client:
        client.protocol = "v2"
        session, response = client.ask(request_body(stream=stream))
        assert sealed_error(session, response)[:2] == (429, "TOO_MANY_REQUESTS")
        assert response.headers["retry-after"] == "3"


# What is published


def test_keys_are_published_below_a_mount_and_only_where_v2_is_spoken() -> None:
    inner = fastapi_app(whole({}))
    inner.add_middleware(ConfidentialMiddleware)
    with serving(FastAPI(routes=[Mount("/llm", inner)])) as url, Client(url + "/llm", protocol="v2") as client:
        client.lock()
        assert client.http.get(KEYS_PATH).json() == {"keys": client.told["keys"]}
        assert client.ask(request_body())[1].status_code == 200
    app = fastapi_app(whole({}))
    app.add_api_route(KEYS_PATH, lambda: {"mine": True}, methods=["GET"])
    app.add_middleware(ConfidentialMiddleware, protocols=("v1",))
    with serving(app) as url, Client(url) as client:
        assert client.http.get(KEYS_PATH).json() == {"mine": True}
        assert "keys" not in client.lock().json()


def test_keys_that_are_made_are_apart_for_each_protocol() -> None:
    app = fastapi_app(whole({}))
    app.add_middleware(ConfidentialMiddleware)
    with serving(app) as url, Client(url) as client:
        client.lock()
        (offer,) = read_offers(client.told["keys"])
        assert offer.public_key.to_base64() != client.told["public_key"]


# What the environment says


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ac.PublicKey:
    path = tmp_path / "key"
    with ac.SecretKey.generate() as key:
        write_secret_key(path, key)
        monkeypatch.setenv("ATOMA_CRYPTO_KEY_FILE", str(path))
        return key.public_key


@needs_redis
def test_workers_with_one_key_file_and_one_redis_admit_a_request_once(
    key_file: ac.PublicKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer("--maxmemory-policy", "noeviction") as redis:
        redis.age()
        monkeypatch.setenv("ATOMA_CRYPTO_REPLAY", redis.url)
        workers = [ConfidentialMiddleware(fastapi_app(whole({}))) for _ in range(2)]
        with (
            serving(workers[0]) as first_url,
            serving(workers[1]) as second_url,
            Client(first_url, protocol="v2") as first,
            Client(second_url, protocol="v2") as second,
        ):
            first.lock()
            second.lock()
            assert [read_offers(client.told["keys"])[0].public_key for client in (first, second)] == [key_file] * 2
            sealed = first.session(stack_small_id=None).seal_request(request_body(), stream=False)
            answers = [client.http.post(CHAT, content=sealed) for client in (first, second, first)]
            assert [answer.status_code for answer in answers] == [200, 409, 409]
    assert caplog.text == ""


def test_a_key_file_without_redis_is_warned_of_and_refused_for_a_minute(
    key_file: ac.PublicKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "atoma_crypto.adapters.asgi")
    with serving(ConfidentialMiddleware(fastapi_app(whole({})))) as url, Client(url, protocol="v2") as client:
        client.lock()
        assert read_offers(client.told["keys"])[0].public_key == key_file
        assert error_of(client.ask(request_body())[1])[:2] == (503, "REPLAY_STORE_UNAVAILABLE")
        client.protocol = "v1"
        assert client.ask(request_body())[1].status_code == 200
    (record,) = (record for record in caplog.records if record.name == "atoma_crypto.adapters.asgi")
    assert "503 for a minute" in record.getMessage()


def test_what_is_no_replay_store_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOMA_CRYPTO_REPLAY", "http://:sesame@h")
    with pytest.raises(ValueError, match="a replay store is redis://") as refused:
        ConfidentialMiddleware(fastapi_app(whole({})))
    assert "sesame" not in str(refused.value)
    monkeypatch.delenv("ATOMA_CRYPTO_REPLAY")
    for wrong in ({"replay_cache": object()}, {"pad_to": "much"}, {"protocols": ("v3",)}):
        with pytest.raises((TypeError, ValueError)):
            ConfidentialMiddleware(fastapi_app(whole({})), **wrong)
