"""The node under a real server, asked by our client and by the oracle's, over loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.listener import listen
from atoma_crypto.server.model import Answer
from oracle import ABSENT, OracleClient, body_hash, verify_sui_signature
from serving import (
    CHAT,
    MORE_USAGE,
    USAGE,
    Client,
    ScriptedModel,
    chunk,
    node,
    opened,
    request_body,
)


@pytest.fixture(scope="module")
def plain_node() -> Iterator[Client]:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        yield client


# Answers


def test_a_whole_answer() -> None:
    plaintext = json.dumps({"id": "é", "usage": USAGE}, ensure_ascii=False).encode()
    model = ScriptedModel([Answer(plaintext, USAGE)])
    body = b'{"model": "scripted"}'
    with node(model) as client:
        client.lock()
        session, response = client.ask(body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert session.open_response(response.content) == plaintext
    assert response.json()["usage"] == USAGE
    assert response.json()["signature"] == ""
    assert model.bodies == [body]


def test_a_streamed_answer() -> None:
    plaintexts = [chunk(word) for word in ("one", "two", "three", "four", "five", "six")]
    steps = [
        [Answer(plaintexts[0])],
        [Answer(plaintexts[1]), Answer(plaintexts[2]), Answer(plaintexts[3], USAGE)],
        [Answer(plaintexts[4])],
        [Answer(plaintexts[5], MORE_USAGE)],
    ]
    model = ScriptedModel(steps)
    body = request_body(stream=True)
    with node(model) as client:
        client.lock()
        session, response = client.ask(body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    chunks = opened(session, response.content)
    assert [event.plaintext for event in chunks] == plaintexts
    # not before it is told, on every event afterwards, and then the last that was told
    assert [event.usage for event in chunks] == [None, None, None, USAGE, USAGE, MORE_USAGE]
    assert b"[DONE]" not in response.content
    assert model.bodies == [body]


def test_the_stream_is_framed_for_clients_of_any_make_and_repeats_no_nonce() -> None:
    plaintexts = [chunk(str(number)) for number in range(40)]
    with node(ScriptedModel([[Answer(plaintext) for plaintext in plaintexts]])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        status, raw = oracle.chat(client.url, request_body(stream=True), stream=True)
    assert status == 200
    events = oracle.open_events(raw)
    assert [event.plaintext for event in events] == plaintexts
    assert len({event.nonce for event in events} | {oracle.nonce}) == 41
    assert {tuple(event.members) for event in events} == {("ciphertext", "nonce", "signature", "response_hash")}


def test_a_whole_answer_is_readable_by_a_client_of_another_make() -> None:
    with node(ScriptedModel([Answer(b'{"a":1}', USAGE)])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        status, raw = oracle.chat(client.url, request_body())
    assert status == 200
    reply = oracle.open_reply(raw)
    assert reply.plaintext == b'{"a":1}'
    assert list(reply.members) == ["nonce", "ciphertext", "response_hash", "signature", "usage"]


def test_a_node_with_a_signing_key_signs_what_it_sends() -> None:
    seed = bytes(range(32))
    with ac.SigningKey.from_bytes(seed) as signing_key:
        public = signing_key.public_key
        model = ScriptedModel([[Answer(b'{"a":1}')], [Answer(b'{"a":2}')]])
        with node(model, signing_key=signing_key) as client:
            oracle = OracleClient.lock(client.url, model="scripted")
            _, raw = oracle.chat(client.url, request_body(stream=True), stream=True)
    events = oracle.open_events(raw)
    signers = [verify_sui_signature(str(event.members["signature"]), body_hash(event.plaintext)) for event in events]
    assert signers == [public, public]


def test_eliza_answers_behind_a_node() -> None:
    with node(ElizaModel(seed=7)) as client:
        client.model = "eliza"
        client.lock()
        session, response = client.ask(request_body(model="eliza"))
        completion = json.loads(session.open_response(response.content))
        client.lock()
        session, response = client.ask(request_body(model="eliza", stream=True))
        chunks = opened(session, response.content)
    said = [json.loads(event.plaintext)["choices"] for event in chunks]
    text = "".join(choices[0]["delta"].get("content", "") for choices in said if choices)
    assert text == completion["choices"][0]["message"]["content"] != ""
    assert chunks[-1].usage == completion["usage"] == response_usage(completion)


def response_usage(completion: dict[str, Any]) -> dict[str, int]:
    usage: dict[str, int] = completion["usage"]
    return usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


def test_events_go_out_while_the_model_is_still_at_it() -> None:
    go_on = threading.Event()
    with node(ScriptedModel([[Answer(b'{"n":1}')], go_on, [Answer(b'{"n":2}')]])) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_raw()
            while (event := session.next_event()) is ac.NEED_DATA:
                session.receive_data(next(parts))
            assert isinstance(event, ac.Chunk)
            assert event.plaintext == b'{"n":1}'  # and the model waits for this test
            go_on.set()
            rest = opened(session, b"".join(parts))
    assert [event.plaintext for event in rest] == [b'{"n":2}']


@pytest.mark.parametrize("size", [(64 << 10) - 1, 64 << 10, 300_000])
def test_large_plaintexts(size: int) -> None:
    plaintext = json.dumps({"text": "x" * (size - 12)}).encode()
    assert len(plaintext) == size
    with node(ScriptedModel([Answer(plaintext)])) as client:
        client.lock()
        session, response = client.ask(request_body(padding="y" * size))
        assert session.open_response(response.content) == plaintext
    with node(ScriptedModel([[Answer(plaintext), Answer(plaintext)]])) as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [plaintext] * 2


def test_what_a_proxy_adds_is_ignored() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock()
        headers = {"X-Signature": "not a signature", "X-User-Id": "-1", "Content-Type": "text/plain"}
        session = client.session()
        sealed = session.seal_request(request_body(), stream=False)
        response = client.http.post(CHAT, content=sealed, headers=headers)
    assert session.open_response(response.content) == b"{}"


@pytest.mark.parametrize("stream", [None, ABSENT], ids=["null", "absent"])
def test_a_stream_that_is_not_told_is_none(plain_node: Client, stream: object) -> None:
    oracle = OracleClient.lock(plain_node.url, model="scripted")
    sealed = oracle.seal_request(b'{"model":"scripted"}', stream=stream)
    response = plain_node.http.post(CHAT, content=sealed)
    assert oracle.open_reply(response.content).plaintext == b"{}"


# Shutting down


def test_the_model_is_closed_when_the_node_shuts_down() -> None:
    model = ScriptedModel()
    with node(model) as client:
        client.lock()
        assert not model.closed.is_set()
    assert model.closed.is_set()


def test_a_seed_is_made_a_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    real = ac.NodeSession

    def recording(*args: Any, **more: Any) -> ac.NodeSession:
        given.append(more["signing_key"])
        return real(*args, **more)

    monkeypatch.setattr(ac, "NodeSession", recording)
    with node(ScriptedModel([Answer(b"{}")]), signing_key=bytes(range(32))) as client:
        for _ in range(2):
            client.lock()
            response = client.ask(request_body())[1]
            assert response.json()["signature"]
    assert isinstance(given[0], ac.SigningKey)
    assert given[0] is given[1]


# The listener


def test_a_listener_is_of_tcp_by_name() -> None:
    """Else asyncio leaves Nagle's delay on, and every answer of two writes waits for a late ACK."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert (listener.family, listener.type) == (socket.AF_INET, socket.SOCK_STREAM)
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", listener.getsockname()[1])
