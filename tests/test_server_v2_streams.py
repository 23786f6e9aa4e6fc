"""What a node of protocol v2 seals: streams and their end, aborts, usage, padding, and keys that rotate meanwhile."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._routes import BY_PLAINTEXT
from atoma_crypto.server import node as server
from atoma_crypto.server._reply import StreamAbortedError
from atoma_crypto.server.model import Answer, InferenceError
from serving import (
    CANARY,
    CHAT,
    INTERNAL_ERROR,
    MORE_USAGE,
    USAGE,
    Client,
    Clock,
    ScriptedModel,
    chunk,
    connected,
    error_of,
    head,
    node,
    opened,
    read_to_end,
    recorded_sessions,
    request_body,
    sealed_error,
    serving,
    wiped,
)

EMBEDDINGS, IMAGES = BY_PLAINTEXT["/v1/embeddings"], BY_PLAINTEXT["/v1/images/generations"]
PROTOCOLS: tuple[Protocol, ...] = ("v1", "v2")
ANSWER = Answer(b'{"choices":[]}')


def events_of(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix(b"data: ")) for event in raw.split(b"\n\n") if event]


def ended(session: ac.ClientSession, received: bytes) -> tuple[list[bytes], ac.EndOfStream]:
    session.receive_data(received)
    session.receive_eof()
    *chunks, end = session.events()
    assert isinstance(end, ac.EndOfStream)
    return [event.plaintext for event in chunks if isinstance(event, ac.Chunk)], end


# The end


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stream_has_an_end_that_is_sealed_however_many_events(count: int) -> None:
    texts = [chunk(str(number)) for number in range(count)]
    with node(ScriptedModel([[Answer(text)] for text in texts]), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert ended(session, response.content) == (texts, ac.EndOfStream(count, None))
    *before, last = events_of(response.content)
    assert last["flag"] == 1
    assert len(before) == count
    assert not any("flag" in event for event in before)


def test_usage_goes_with_the_event_that_tells_it_and_with_the_end() -> None:
    steps = [[Answer(chunk("a"))], [Answer(chunk("b"), USAGE)], [Answer(chunk("c")), Answer(chunk("d"), MORE_USAGE)]]
    with node(ScriptedModel(steps), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
    shown = [event.get("usage") for event in events_of(response.content)]
    assert shown == [None, USAGE, USAGE, MORE_USAGE, MORE_USAGE]
    assert ended(session, response.content)[1] == ac.EndOfStream(4, MORE_USAGE)


FITTING: dict[str, Any] = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
EMBEDDED: dict[str, Any] = {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}
USAGES: Sequence[tuple[dict[str, Any], dict[str, int] | None]] = (
    (FITTING | {"prompt_tokens_details": {"cached_tokens": 1}, "cost": 0.5}, FITTING),
    ({"prompt_tokens": 8, "total_tokens": 8}, EMBEDDED),
    ({"prompt_tokens": 8, "completion_tokens": None, "total_tokens": 8}, EMBEDDED),
    ({}, None),
    (FITTING | {"prompt_tokens": -1}, None),
    (FITTING | {"total_tokens": 12.0}, None),
    (FITTING | {"total_tokens": True}, None),
    (FITTING | {"total_tokens": 2**53}, None),
    (FITTING | {"total_tokens": "12"}, None),
    ({"completion_tokens": 9, "total_tokens": 9}, None),
)


@pytest.mark.parametrize(("told", "shown"), USAGES, ids=lambda usage: json.dumps(usage)[:50])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_usage_that_does_not_fit_is_left_out(
    told: dict[str, object], shown: dict[str, int] | None, stream: bool
) -> None:
    answer = Answer(b"{}", told)
    with node(ScriptedModel([[answer] if stream else answer]), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=stream))
    if stream:
        assert ended(session, response.content)[1].usage == shown
    else:
        assert session.open_response(response.content) == b"{}"
        assert response.json().get("usage") == shown


def test_images_show_no_usage_and_embeddings_show_theirs() -> None:
    for endpoint, shown in ((EMBEDDINGS, USAGE), (IMAGES, None)):
        with node(ScriptedModel([Answer(b"{}", USAGE)]), protocol="v2") as client:
            client.lock(max_num_tokens=endpoint.default_units)
            session = client.session(endpoint=endpoint.plaintext)
            sealed = session.seal_request(b'{"model":"scripted"}', stream=False)
            assert client.http.post(endpoint.confidential, content=sealed).json().get("usage") == shown


# Inference that fails


FAILURES: dict[str, tuple[Any, tuple[int, str]]] = {
    "refuses": (InferenceError(418, passes=True), (418, "IM_A_TEAPOT")),
    "is busy": (InferenceError(429, retry_after="7"), (429, "TOO_MANY_REQUESTS")),
    "status of nobody": (InferenceError(499, passes=True), (499, "UPSTREAM_ERROR")),
    "status of success": (InferenceError(200, passes=True), (500, "INTERNAL_ERROR")),
    "raises": (ValueError(CANARY), (500, "INTERNAL_ERROR")),
}


@pytest.mark.parametrize(("failure", "code"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_inference_that_fails_before_any_answer_is_one_sealed_object(
    failure: Exception, code: tuple[int, str], stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = recorded_sessions(monkeypatch)
    with node(ScriptedModel([failure]), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=stream))
        told = sealed_error(session, response)
        assert told[:2] == code
        assert CANARY not in told[2]
        assert response.headers.get("retry-after") == getattr(failure, "retry_after", None)
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize(("failure", "code"), FAILURES.values(), ids=FAILURES)
def test_a_stream_that_fails_in_its_middle_ends_with_a_sealed_error(
    failure: Exception, code: tuple[int, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = recorded_sessions(monkeypatch)
    with node(ScriptedModel([[Answer(b'{"n":1}')], failure]), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))  # which reads the HTTP body to a clean end
        assert response.status_code == 200
        assert client.lock().status_code == 200
    session.receive_data(response.content)
    session.receive_eof()
    event = session.next_event()
    assert isinstance(event, ac.Chunk)
    assert event.plaintext == b'{"n":1}'
    with pytest.raises(ac.RemoteAbortError) as told:
        session.next_event()
    assert (told.value.status, told.value.code) == code
    assert CANARY not in told.value.message + caplog.text
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []  # no traceback of a server's
    assert [wiped(session) for session in sessions] == [True]


def test_an_event_that_cannot_be_sealed_is_told_as_an_abort() -> None:
    with node(ScriptedModel([[Answer(b"{}")], [Answer(b"")]]), protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
        session.receive_data(response.content)
        assert isinstance(session.next_event(), ac.Chunk)
        with pytest.raises(ac.RemoteAbortError, match="INTERNAL_ERROR"):
            session.next_event()


def test_where_not_even_an_abort_can_be_sealed_the_stream_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def spent(_session: ac.NodeSession, _code: str, _message: str, _status: int) -> bytes:
        raise ac.LimitExceededError("spent")

    monkeypatch.setattr(ac.NodeSession, "abort", spent)
    with node(ScriptedModel([[Answer(b"{}")], InferenceError()]), protocol="v2") as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert not read_to_end(connection).endswith(b"0\r\n\r\n")
    with node(ScriptedModel([InferenceError()]), protocol="v2") as client:
        client.lock()
        assert error_of(client.ask(request_body())[1]) == INTERNAL_ERROR


def test_a_stream_of_v1_that_fails_is_cut_as_ever() -> None:
    with node(ScriptedModel([[Answer(b"{}")], InferenceError()])) as client:
        client.lock()
        with pytest.raises(httpx.RemoteProtocolError):
            client.ask(request_body(stream=True))


# Counts


def test_protocols_refusals_and_aborts_are_counted() -> None:
    model = ScriptedModel([[Answer(b"{}")], InferenceError()])
    with node(model, protocol="v2", metrics=True) as client:
        client.lock()
        client.lock()
        sealed = client.session().seal_request(request_body(stream=True), stream=True)
        for _ in range(2):
            client.http.post(CHAT, content=sealed)
        client.http.post(CHAT, content=b"{}")
        for _ in range(2):
            client.ask(request_body(stream=True))
        client.protocol = "v1"
        client.lock()
        with pytest.raises(httpx.RemoteProtocolError):
            client.ask(request_body(stream=True))
        text = client.http.get("/metrics").text
    counted = {
        re.sub(r'endpoint="/v1/confidential/chat/completions",?|,(?=endpoint)', "", name): float(value)
        for name, value in re.findall(r"^atoma_crypto_(\S+) (\S+)$", text, re.MULTILINE)
    }
    assert counted['opened_total{protocol="v2"}'] == 3
    assert counted['opened_total{protocol="v1"}'] == 1
    assert counted['refusals_total{code="REPLAYED"}'] == 1
    assert counted['refusals_total{code="INVALID_BODY"}'] == 1
    assert counted['refusals_total{code="UNAVAILABLE_STACK"}'] == 1
    assert counted['requests_total{status="aborted"}'] == 3
    assert counted['requests_total{status="409"}'] == 1
    assert counted["streams_in_flight{}"] == 0


# Padding


@pytest.mark.parametrize(("pad_to", "multiple"), [("auto", 256), (64, 64), (None, None)])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_all_that_is_sealed_has_a_length_that_says_little(pad_to: Any, multiple: int | None, protocol: Any) -> None:
    texts = [chunk("x" * length) for length in (0, 1, 5, 190, 600)]
    with node(ScriptedModel([[Answer(text)] for text in texts]), protocol=protocol, pad_to=pad_to) as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
    plaintexts = [event.plaintext for event in opened(session, response.content)]
    assert [json.loads(text) for text in plaintexts] == [json.loads(text) for text in texts]
    if multiple is None:
        assert plaintexts == texts
    else:
        assert {len(text) % multiple for text in plaintexts} == {0}
        assert all(len(text) - len(plain) < multiple for text, plain in zip(plaintexts, texts, strict=True))
    with node(ScriptedModel([ANSWER]), protocol=protocol, pad_to=pad_to) as client:
        client.lock()
        session, response = client.ask(request_body())
    whole = session.open_response(response.content)
    assert json.loads(whole) == json.loads(ANSWER.plaintext)
    assert len(whole) == (multiple or len(ANSWER.plaintext))


def test_a_padding_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="pad_to"), node(ScriptedModel(), pad_to=0):
        pass


# Keys that rotate


def test_rotation_of_one_protocol_leaves_the_other_s_requests_alone_and_loses_none() -> None:
    clock = Clock()
    with (
        ac.NodeKeyring(rotate_after=3600, grace=10, clock=clock) as keys,
        serving(server.create_app(keys, ScriptedModel([ANSWER]))) as url,
        Client(url, protocol="v2") as client,
    ):
        client.lock()
        v1, waiting = client.told["public_key"], [client.session() for _ in range(2)]
        sealed = [session.seal_request(request_body(), stream=False) for session in waiting]
        keys.rotate("v2")
        client.lock()
        assert client.told["public_key"] == v1
        session, response = waiting[0], client.http.post(CHAT, content=sealed[0])
        assert session.open_response(response.content) == ANSWER.plaintext
        keys.rotate("v1")
        assert client.ask(request_body())[1].status_code == 200
        clock.now += 3610  # whatever was promised is over
        client.lock()
        assert error_of(client.http.post(CHAT, content=sealed[1]))[:2] == (422, "KEY_UNKNOWN")
        assert client.ask(request_body())[1].status_code == 200


def test_streams_that_began_before_a_rotation_end_after_it() -> None:
    go_on = threading.Event()
    model = ScriptedModel([[Answer(b"1")], go_on, [Answer(b"2")]])
    clock = Clock()
    with (
        ac.NodeKeyring(rotate_after=60, grace=0, clock=clock) as keys,
        serving(server.create_app(keys, model)) as url,
        ExitStack() as held,
    ):
        streams = []
        for protocol in PROTOCOLS:
            client = held.enter_context(Client(url, protocol=protocol))
            client.lock()
            session, response = held.enter_context(client.asking(request_body(stream=True)))
            parts = response.iter_bytes()
            streams.append((session, parts, next(parts)))
        before = keys.offers()
        clock.now += 1000
        assert not {offer.public_key for offer in before} & {offer.public_key for offer in keys.offers()}
        go_on.set()
        for session, parts, first in streams:
            assert [event.plaintext for event in opened(session, first + b"".join(parts))] == [b"1", b"2"]


def test_the_application_raises_only_where_it_has_to_cut() -> None:
    raised: list[type[BaseException]] = []
    with ac.SecretKey.generate() as key:
        app = server.create_app(key, ScriptedModel([[Answer(b"{}")], InferenceError()]))

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except BaseException as error:
                raised.append(type(error))
                raise

        with serving(watched) as url:
            for protocol, expected in zip(PROTOCOLS, ([StreamAbortedError], [StreamAbortedError]), strict=True):
                with Client(url, protocol=protocol) as client:
                    client.lock()
                    sealed = client.session().seal_request(request_body(stream=True), stream=True)
                    with connected(url) as connection:
                        connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}", "Connection: close") + sealed)
                        read_to_end(connection)
                    assert raised == expected
