"""What becomes of a gateway's request when a node, or the way to it, fails: never a wrong or a clear answer."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

import atoma_crypto as ac
from gateways import (
    CHAT,
    CHUNKS,
    COMPLETION,
    SEALED_CHAT,
    Answering,
    ScriptedNode,
    body,
    events_of,
    gateway,
    oracle_node,
    replying,
    streaming,
)
from oracle import Behaviour
from serving import INTERNAL_ERROR, error_of
from upstreams import http, raw_upstream


def refusal(status: int, code: str = "SOME_CODE", **headers: str) -> Response:
    error = {"error": {"code": code, "message": "what the node says"}}
    return JSONResponse(error, status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens, and nothing will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_dead_node(nobody: str) -> None:
    with gateway(nobody) as gate:
        for stream in (False, True):
            assert error_of(gate.post(body(stream=stream)))[:2] == (502, "BAD_GATEWAY")
            assert error_of(gate.post(body(stream=stream), SEALED_CHAT)) == INTERNAL_ERROR


def test_of_two_nodes_one_is_dead(nobody: str) -> None:
    with oracle_node() as foreign, gateway(nobody, foreign.base_url) as gate:
        for _ in range(4):
            assert gate.post(body()).json() == COMPLETION
            assert events_of(gate.post(body(stream=True), SEALED_CHAT).text)[-1] == "[DONE]"
        assert len(foreign.opened) == 8
        assert {seen.node_address for seen in gate.seen} == {foreign.base_url}


def test_nodes_are_asked_in_turn() -> None:
    with oracle_node() as one, oracle_node() as two, gateway(one.base_url, two.base_url) as gate:
        for _ in range(6):
            assert gate.post().status_code == 200
        assert [seen.node_address for seen in gate.seen] == [one.base_url, two.base_url] * 3


@pytest.mark.parametrize("where", ["lock", "request"])
def test_a_503_sends_the_request_to_the_next_node(where: str) -> None:
    busy = ScriptedNode([refusal(503)], [refusal(503)] if where == "lock" else [])
    with busy.running() as url, oracle_node() as foreign, gateway(url, foreign.base_url) as gate:
        assert gate.post().json() == COMPLETION
        assert gate.post().json() == COMPLETION  # in turn: this one would have been the other's
        assert len(foreign.opened) == 2
    assert busy.paths == (["/v1/nodes/lock"] if where == "lock" else ["/v1/nodes/lock", SEALED_CHAT])
    assert len({seen.salt for seen in gate.seen}) == len(gate.seen)


def test_a_503_of_all_nodes_reaches_the_app() -> None:
    busy = ScriptedNode([refusal(503, retry_after="7")], [])
    with busy.running() as url, gateway(url) as gate:
        response = gate.post()
        assert error_of(response) == (503, "SOME_CODE", "what the node says")
        assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [423, 425])
def test_a_lock_that_is_gone_is_taken_anew_with_all_that_is_fresh(status: int) -> None:
    busy = ScriptedNode([refusal(status), replying(json.dumps(COMPLETION).encode())])
    with busy.running() as url, gateway(url) as gate:
        assert gate.post().json() == COMPLETION
        first, second = gate.seen
        assert first.salt != second.salt
    assert busy.paths == ["/v1/nodes/lock", SEALED_CHAT] * 2
    assert busy.requests[1][1]["x-stack-small-id"] == "42"
    assert busy.requests[1][1]["x-tx-digest"] == "AbC"


@pytest.mark.parametrize("status", [400, 401, 402, 404, 413, 422, 429, 500, 502, 504, 599])
def test_a_refusal_is_handed_on_and_not_tried_again(status: int) -> None:
    refusing = ScriptedNode([refusal(status, retry_after="3")] * 2)
    with refusing.running() as url, oracle_node() as other, gateway(url, other.base_url) as gate:
        assert error_of(gate.post()) == (status, "SOME_CODE", "what the node says")
        assert gate.post().status_code == 200  # the other's turn
        assert error_of(gate.post(body(stream=True), SEALED_CHAT)) == INTERNAL_ERROR
        assert len(other.opened) == 1


def test_a_refusal_of_a_lock_is_handed_on_on_both_paths() -> None:
    scripted = ScriptedNode([], [refusal(401), refusal(401), refusal(402), refusal(500)])
    with scripted.running() as url, gateway(url) as gate:
        assert error_of(gate.post()) == (401, "SOME_CODE", "what the node says")
        assert error_of(gate.post(body(stream=False), SEALED_CHAT)) == (401, "SOME_CODE", "what the node says")
        assert error_of(gate.post())[0] == 402
        assert error_of(gate.post(body(stream=False), SEALED_CHAT)) == INTERNAL_ERROR
    assert set(scripted.paths) == {"/v1/nodes/lock"}


STRANGE = {
    "no JSON": (Response("<html>", 429), "TOO_MANY_REQUESTS"),
    "no object": (Response("[]", 429), "TOO_MANY_REQUESTS"),
    "members of other types": (JSONResponse({"error": {"code": 7, "message": []}}, 429), "TOO_MANY_REQUESTS"),
    "no error": (JSONResponse({"detail": "x"}, 429), "TOO_MANY_REQUESTS"),
    "endless": (Response(b"x" * 100_000, 429), "TOO_MANY_REQUESTS"),
    "a date": (refusal(429, retry_after="x\ty"), "SOME_CODE"),
}


def test_a_refusal_of_another_shape_gets_ours() -> None:
    for answer, code in STRANGE.values():
        with ScriptedNode([answer]).running() as url, gateway(url) as gate:
            response = gate.post()
            assert error_of(response)[:2] == (429, code)
            assert "retry-after" not in response.headers


# Locks that are none


def lock_reply(**more: object) -> Response:
    key = ac.SecretKey.generate().public_key.to_base64()
    return JSONResponse({"public_key": key, "node_small_id": 7, "stack_small_id": 42, **more})


LOCKS = {
    "garbage": Response(b"\xff\x00"),
    "empty": Response(b""),
    "no key": lock_reply(public_key=None),
    "no key at all": lock_reply(public_key="AAAA"),
    "a key of no secret": lock_reply(public_key="A" * 43 + "="),
    "no stack": lock_reply(stack_small_id=-1),
    "digest with a line feed": lock_reply(stack_entry_digest="a\r\nx: y"),
    "too long": lock_reply(padding="x" * (4 << 20)),
    "redirect": RedirectResponse("http://127.0.0.1:1/", 307),
    "no content": Response(status_code=204),
}


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_no_lock_is_a_502_and_nothing_is_sealed_to_it(name: str) -> None:
    scripted = ScriptedNode([], [LOCKS[name]] * 2)
    with scripted.running() as url, gateway(url) as gate:
        assert error_of(gate.post())[:2] == (502, "BAD_GATEWAY")
        assert error_of(gate.post(body(stream=True), SEALED_CHAT)) == INTERNAL_ERROR
    assert set(scripted.paths) == {"/v1/nodes/lock"}


# Answers that are none


def clear(_request: Request, _session: ac.NodeSession, _opened: ac.Request) -> Response:
    return JSONResponse(COMPLETION)


def flipped(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
    sealed = bytearray(session.seal_response(json.dumps(COMPLETION).encode()))
    at = sealed.index(b'"ciphertext":"') + 20
    sealed[at] = ord("A") if sealed[at] != ord("A") else ord("B")
    return Response(bytes(sealed))


def of_another_session(_request: Request, _session: ac.NodeSession, _opened: ac.Request) -> Response:
    key = ac.SecretKey.generate()
    with ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol="v1") as client:
        other = ac.NodeSession(key, protocols=("v1",))
        other.open_request(client.seal_request(b"{}", stream=False))
    return Response(other.seal_response(json.dumps(COMPLETION).encode()))


ANSWERS: dict[str, Answering | Response] = {
    "clear": clear,
    "flipped": flipped,
    "another's": of_another_session,
    "garbage": Response(b"\xff" * 1000),
    "empty": Response(b""),
    "redirect": RedirectResponse("http://127.0.0.1:1/", 308),
    "created": Response(b"{}", 201),
    "no content": Response(status_code=204),
    "a stream": streaming(*CHUNKS),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_sealed_answer_is_a_502(name: str) -> None:
    if name != "a stream":
        whole = ScriptedNode([ANSWERS[name]] * 2)
        with whole.running() as url, gateway(url) as gate:
            assert error_of(gate.post())[:2] == (502, "BAD_GATEWAY")
            assert error_of(gate.post(body(stream=False), SEALED_CHAT)) == INTERNAL_ERROR
            assert len(gate.seen) == 2  # not tried again: it may have been worked on
    if name in {"flipped", "another's"}:
        return  # they seal an answer that is whole
    streamed = ScriptedNode([ANSWERS[name] if name != "a stream" else streaming()] * 2)
    with streamed.running() as url, gateway(url) as gate:
        assert error_of(gate.post(body(stream=True)))[:2] == (502, "BAD_GATEWAY")
        assert error_of(gate.post(body(stream=True), SEALED_CHAT)) == INTERNAL_ERROR


def test_a_key_that_was_replaced_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who replaces the key in the lock cannot answer for the node; the node cannot read what was sealed."""
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        real = foreign.answer

        def replaced(path: str, raw: bytes) -> tuple[int, str, bytes]:
            status, content_type, told = real(path, raw)
            if path.endswith("/lock"):
                other = ac.SecretKey.generate().public_key.to_base64()
                told = json.dumps(json.loads(told) | {"public_key": other}).encode()
            return status, content_type, told

        monkeypatch.setattr(foreign, "answer", replaced)
        assert error_of(gate.post()) == INTERNAL_ERROR  # what the node says of it
        assert foreign.opened == []
        monkeypatch.undo()
        assert gate.post().status_code == 200


@pytest.mark.parametrize("path", [CHAT, SEALED_CHAT])
@pytest.mark.parametrize(
    "behaviour",
    [
        *(Behaviour(nonces="fresh", cut=cut) for cut in (600, 900)),
        Behaviour(nonces="fresh", flip=-240),
        Behaviour(nonces="reflect"),
    ],
    ids=["cut", "cut later", "flipped", "reflected"],
)
def test_a_stream_that_does_not_hold_is_never_ended_cleanly(path: str, behaviour: Behaviour) -> None:
    with oracle_node(behaviour=behaviour) as foreign, gateway(foreign.base_url) as gate:
        received = b""
        try:
            with gate.http.stream("POST", path, content=json.dumps(body(stream=True)).encode()) as response:
                for part in response.iter_raw():
                    received += part
        except httpx.RemoteProtocolError:
            assert response.status_code == 200
            assert received.startswith(b"data: " + CHUNKS[0])
        else:  # nothing of it held, so that nothing was begun
            assert response.status_code == (502 if path == CHAT else 500)
            assert behaviour.nonces == "reflect"
        assert b"[DONE]" not in received


def test_a_stream_without_its_end_is_not_taken_for_whole() -> None:
    """Protocol v1 has no last event: a clean end of the body behind half an answer is a cut all the same."""
    for chunks in ([CHUNKS[0]], [CHUNKS[0]] * 10):
        with (
            oracle_node(chunks=chunks) as foreign,
            gateway(foreign.base_url) as gate,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            gate.post(body(stream=True))


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n", http(b"{", length=9), b"no HTTP\r\n\r\n"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_node_that_dies_under_the_lock(part: bytes, *, reset: bool) -> None:
    with raw_upstream(part, reset=reset) as dying, oracle_node() as foreign, gateway(dying, foreign.base_url) as gate:
        assert gate.post().json() == COMPLETION  # nothing was sent: the next may be asked
    with raw_upstream(part, reset=reset) as dying, gateway(dying) as gate:
        assert error_of(gate.post())[:2] == (502, "BAD_GATEWAY")


def test_a_node_that_dies_in_the_middle_of_a_stream() -> None:
    def dying(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield session.seal_chunk(CHUNKS[0])
            raise ConnectionResetError

        return StreamingResponse(events(), media_type="text/event-stream")

    with ScriptedNode([dying]).running() as url, gateway(url) as gate, pytest.raises(httpx.RemoteProtocolError):
        gate.post(body(stream=True))


@pytest.mark.parametrize("status", [400, 600, 999])
def test_what_a_node_says_can_be_written_and_is_in_no_log(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """JSON may hold half of a surrogate pair, and HTTP any number for a status."""
    caplog.set_level(0)
    told = b'{"error":{"code":"X","message":"\\ud800 canary-7731"}}'

    def answer(_request: Request, _session: ac.NodeSession, _opened: ac.Request) -> Response:
        return Response(told, status, media_type="application/json")

    with ScriptedNode([answer]).running() as url, gateway(url) as gate:
        shown, code, message = error_of(gate.post())
    assert (shown, code) == ((400, "X") if status == 400 else (502, "BAD_GATEWAY"))
    assert ("canary" in message) is (status == 400)
    assert "canary" not in caplog.text
