"""Answers that do not come to their end: inference that fails, and clients that leave."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._routes import Endpoint
from atoma_crypto.server._reply import StreamAbortedError
from atoma_crypto.server.model import Answer, InferenceError
from atoma_crypto.server.node import create_app
from serving import (
    CANARY,
    CHAT,
    INTERNAL_ERROR,
    LOCK,
    Client,
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
    serving,
    wiped,
)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.NodeSession]:
    return recorded_sessions(monkeypatch)


# Inference that fails


FAILURES: dict[str, Sequence[Any]] = {
    "refuses": [InferenceError(418)],
    "raises": [ValueError(CANARY)],
    "answers nothing": [],
    "usage that is no JSON": [[Answer(b"{}", {"a": object()})]],
}


@pytest.mark.parametrize("steps", FAILURES.values(), ids=FAILURES.keys())
def test_inference_that_fails_before_its_first_batch_is_a_plain_500(
    steps: Sequence[Any], sessions: list[ac.NodeSession]
) -> None:
    model = ScriptedModel(steps)
    with node(model) as client:
        client.lock()
        assert error_of(client.ask(request_body(stream=True))[1]) == INTERNAL_ERROR
        # and the connection and the node go on
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize(
    "step",
    [InferenceError(), ValueError(CANARY), Answer(b"{}", {"a": object()})],
    ids=["refuses", "raises", "usage"],
)
def test_inference_of_a_whole_answer_that_fails_is_a_plain_500(
    step: Answer | Exception, sessions: list[ac.NodeSession]
) -> None:
    with node(ScriptedModel([step])) as client:
        client.lock()
        assert error_of(client.ask(request_body())[1]) == INTERNAL_ERROR
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize(
    "failure",
    [InferenceError(), ValueError(CANARY), [Answer(b"{}", {"a": object()})]],
    ids=["ends", "raises", "usage"],
)
def test_a_stream_that_breaks_off_has_no_clean_end(
    failure: Exception | list[Answer], sessions: list[ac.NodeSession]
) -> None:
    go_on = threading.Event()
    model = ScriptedModel([[Answer(b'{"n":1}')], go_on, failure])
    with node(model) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            assert response.status_code == 200
            parts = response.iter_raw()
            received = next(parts)
            go_on.set()
            with pytest.raises(httpx.RemoteProtocolError):
                received += b"".join(parts)
            assert [event.plaintext for event in opened(session, received)] == [b'{"n":1}']
        assert client.lock().status_code == 200
    assert received.count(b"\n\n") == 1
    assert received.endswith(b"\n\n")
    assert [wiped(session) for session in sessions] == [True]


def test_a_stream_that_breaks_off_ends_without_the_last_chunk_of_http() -> None:
    with node(ScriptedModel([[Answer(b'{"n":1}')], InferenceError()])) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"data: {" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_the_application_itself_raises_when_a_stream_breaks_off() -> None:
    raised: list[BaseException] = []
    key = ac.SecretKey.generate()
    app = create_app(key, ScriptedModel([[Answer(b"{}")], InferenceError()]))

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except BaseException as error:
            raised.append(error)
            raise

    with key, serving(watched) as url, Client(url) as client:
        client.lock()
        with pytest.raises(httpx.RemoteProtocolError):
            client.ask(request_body(stream=True))
    assert [type(error) for error in raised] == [StreamAbortedError]
    assert raised[0].__context__ is None  # nothing that could quote the model


def test_what_sending_raises_does_not_lead_to_what_the_model_raised() -> None:
    raised: list[BaseException] = []
    app = create_app(ac.NodeKeyring(), ScriptedModel([ValueError(CANARY)] * 2))

    async def gone(message: Message) -> None:
        raise OSError(f"{message['type']} cannot be sent")

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, gone if scope.get("path") == CHAT else send)
        except Exception as error:
            raised.append(error)
            raise

    protocols: tuple[Protocol, ...] = ("v1", "v2")
    for protocol in protocols:
        with serving(watched) as url, Client(url, protocol=protocol) as client:
            client.lock()
            assert client.ask(request_body(stream=True))[1].status_code == 500
    assert len(raised) == 2
    for error in raised:  # and all that these lead to
        assert CANARY not in repr(error)
        raised += [one for one in (error.__context__, error.__cause__, *getattr(error, "exceptions", ())) if one]


def test_a_model_whose_stream_needs_no_closing() -> None:
    class Plain:
        """An iterator, but not a generator."""

        def __init__(self) -> None:
            self.left = [b'{"n":1}', b'{"n":2}']

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> list[Answer]:
            if not self.left:
                raise StopAsyncIteration
            return [Answer(self.left.pop(0))]

    class PlainModel(ScriptedModel):
        def stream(self, _endpoint: Endpoint, _body: bytes) -> AsyncIterator[list[Answer]]:
            return Plain()

    with node(PlainModel()) as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [b'{"n":1}', b'{"n":2}']


def test_only_a_disconnect_means_that_the_client_has_left() -> None:
    key = ac.SecretKey.generate()
    app = create_app(key, ScriptedModel([Answer(b"{}")]))

    async def repeating(scope: Scope, receive: Receive, send: Send) -> None:
        said: list[Message] = []

        async def receive_twice() -> Message:
            if said:
                return {**said.pop(), "body": b""}
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                said.append(message)
            return message

        await app(scope, receive_twice, send)

    with key, serving(repeating) as url, Client(url) as client:
        client.lock()
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == b"{}"


# Clients that leave


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "waiting"])
def test_a_client_that_leaves_stops_the_model_and_its_session_is_wiped(
    stream: bool, begun: bool, sessions: list[ac.NodeSession]
) -> None:
    never = threading.Event()
    model = ScriptedModel([[Answer(b"{}")], never] if stream and begun else [never])
    with node(model) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=stream), stream=stream)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            if stream and begun:
                assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert model.asked.wait(30)
            assert not model.stopped.is_set()
        assert model.stopped.wait(30)
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


def test_a_client_that_does_not_read_is_waited_for_and_may_leave(sessions: list[ac.NodeSession]) -> None:
    class ClosesSlowly(ScriptedModel):
        async def stream(self, _endpoint: Endpoint, _body: bytes) -> AsyncIterator[list[Answer]]:
            try:
                for batch in batches:
                    yield batch
            finally:
                await anyio.sleep(0.01)  # must be let finish, although the client has left
                self.stopped.set()

    batches = [[Answer(chunk("x" * 100_000))] for _ in range(400)]  # more than any buffer between takes
    model = ClosesSlowly()
    with node(model) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert not model.stopped.wait(0.3)
        assert model.stopped.wait(30)
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize("path", [LOCK, CHAT])
def test_a_client_that_leaves_while_it_asks_is_no_error(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with node(ScriptedModel()) as client:
        with connected(client.url) as connection:
            connection.sendall(head(path, "Content-Length: 100") + b'{"model":')
        assert client.lock().status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
