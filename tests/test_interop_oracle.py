"""Our client against the oracle's node, over real HTTP."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import httpx
import pytest

import atoma_crypto as ac
from oracle import (
    CHAT_PATH,
    LOCK_PATH,
    Behaviour,
    NodeSide,
    OracleClient,
    OracleNode,
    b64,
    unb64,
)

NonceReuse = Literal["warn", "error"]
NewLine = Literal["\n", "\r\n", "\r"]
Hashes = Literal["sent", "absent", "null"]

HTTP: Final = httpx.Client(trust_env=False)  # the oracle's node closes every connection: none is left in it
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
UNICODE = "Grüße, 世界 🌍 \u2028 \x00 \"'\\/ \r\n data: [DONE]\n\n: x"


def printed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def said(delta: dict[str, object], usage: object = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": None}]
    return printed({"id": "c", "object": "chat.completion.chunk", "choices": choices, "usage": usage})


TOOL_CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"a":"ü"}'},
}
ANSWERS = {
    "long": [*(said({"content": f"word{i} "}) for i in range(2000)), said({}, USAGE)],
    "unicode": [said({"content": character}) for character in UNICODE] + [said({"content": UNICODE})],
    "tools": [said({"content": None, "tool_calls": [TOOL_CALL]}), said({"tool_calls": [TOOL_CALL] * 20})],
    "empty delta": [said({}), said({}), said({"content": ""}), said({})],
    "huge": [said({"content": "x" * 1_000_000}), said({"content": "y"})],
}
THREE = [said({"content": word}) for word in ("one", "two")] + [said({}, USAGE)]
REPLY = printed({"choices": [{"message": {"role": "assistant", "content": UNICODE}}], "usage": USAGE})


def open_client(node: OracleNode, nonce_reuse: NonceReuse = "warn") -> ac.ClientSession:
    lock = HTTP.post(node.base_url + LOCK_PATH, json={"model": "m"}).json()
    return ac.ClientSession(
        ac.PublicKey.from_base64(lock["public_key"]),
        model="m",
        stack_small_id=lock["stack_small_id"],
        protocol="v1",
        nonce_reuse=nonce_reuse,
    )


def drain(client: ac.ClientSession) -> Iterator[ac.Chunk | ac.EndOfStream]:
    """What there is to be had now; the same end again and again would be endless, so it comes once."""
    while (event := client.next_event()) is not ac.NEED_DATA:
        assert isinstance(event, ac.Chunk | ac.EndOfStream)
        yield event
        if isinstance(event, ac.EndOfStream):
            return


def read_stream(
    node: OracleNode, nonce_reuse: NonceReuse = "warn", seen: list[ac.Chunk] | None = None
) -> tuple[list[ac.Chunk], ac.EndOfStream]:
    """Hold a streamed exchange. `seen` gets the chunks as they come, for those exchanges that fail."""
    chunks = [] if seen is None else seen
    ends = []
    with open_client(node, nonce_reuse) as client:
        sealed = client.seal_request(b'{"model":"m","stream":true}', stream=True)
        with HTTP.stream("POST", node.base_url + CHAT_PATH, content=sealed) as response:
            assert response.status_code == 200
            for piece in response.iter_raw():
                client.receive_data(piece)
                chunks.extend(event for event in drain(client) if isinstance(event, ac.Chunk))
        client.receive_eof()
        for event in drain(client):
            if isinstance(event, ac.Chunk):
                chunks.append(event)
            else:
                ends.append(event)
    assert len(ends) == 1
    return chunks, ends[0]


def read_reply(node: OracleNode, nonce_reuse: NonceReuse = "warn") -> bytes:
    with open_client(node, nonce_reuse) as client:
        sealed = client.seal_request(b'{"model":"m"}', stream=False)
        return client.open_response(HTTP.post(node.base_url + CHAT_PATH, content=sealed).content)


@contextmanager
def client_and_side(*, stream: bool = True) -> Iterator[tuple[ac.ClientSession, NodeSide]]:
    """A client that has sent its request, and the oracle that has opened it; no HTTP."""
    private = os.urandom(32)
    public = ac.SecretKey.from_bytes(private).public_key
    with ac.ClientSession(public, model="m", stack_small_id=42, protocol="v1") as client:
        sealed = client.seal_request(printed({"stream": stream}), stream=stream)
        yield client, NodeSide.open_request(private, sealed, behaviour=Behaviour("fresh"))


def warnings_of(run: Callable[[], object]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return caught


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ANSWERS)
def test_streams_are_read(name: str, newline: NewLine) -> None:
    with OracleNode(REPLY, ANSWERS[name], Behaviour("fresh", newline)) as node:
        chunks, end = read_stream(node, "error")
        assert [chunk.plaintext for chunk in chunks] == ANSWERS[name]
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert end.chunk_count == len(chunks)
        assert node.opened[0].body == b'{"model":"m","stream":true}'


@pytest.mark.parametrize("hashes", ["sent", "absent", "null"])
def test_hashes_and_signatures_may_be_missing(hashes: Hashes) -> None:
    with OracleNode(REPLY, THREE, Behaviour("fresh", hashes=hashes)) as node:
        assert [chunk.plaintext for chunk in read_stream(node)[0]] == THREE
        assert read_reply(node) == REPLY


def test_usage_is_shown_as_it_was_sent() -> None:
    with OracleNode(REPLY, [THREE[0], THREE[2], THREE[1]], Behaviour("fresh")) as node:
        chunks, end = read_stream(node)
    assert [chunk.usage for chunk in chunks] == [None, USAGE, USAGE]  # nodes repeat the last one
    assert end.usage == USAGE


def test_a_reply_is_read() -> None:
    with OracleNode(REPLY, []) as node:
        assert read_reply(node, "error") == REPLY
        assert node.opened[0].body == b'{"model":"m"}'
        assert "num_compute_units" not in node.opened[0].members


def test_a_repeated_nonce_is_read_with_one_warning_a_session() -> None:
    with OracleNode(REPLY, ANSWERS["long"]) as node:
        for _ in range(2):
            read: list[ac.Chunk] = []
            caught = warnings_of(lambda read=read: read_stream(node, seen=read))  # type: ignore[misc]
            assert [warning.category for warning in caught] == [ac.NonceReuseWarning]
            assert [chunk.plaintext for chunk in read] == ANSWERS["long"]


def test_a_repeated_nonce_is_refused_when_asked_to() -> None:
    read: list[ac.Chunk] = []
    with OracleNode(REPLY, THREE) as node, pytest.raises(ac.NonceReuseError):
        read_stream(node, "error", read)
    assert [chunk.plaintext for chunk in read] == THREE[:1]


def test_one_event_repeats_nothing() -> None:
    with OracleNode(REPLY, THREE[:1]) as node:
        assert warnings_of(lambda: read_stream(node)) == []
        assert read_stream(node, "error")[0][0].plaintext == THREE[0]


def test_fresh_nonces_give_no_warning() -> None:
    with OracleNode(REPLY, ANSWERS["long"], Behaviour("fresh")) as node:
        assert warnings_of(lambda: read_stream(node)) == []
        assert warnings_of(lambda: read_reply(node)) == []


@pytest.mark.parametrize("nonce_reuse", ["warn", "error"])
@pytest.mark.parametrize("nonces", ["reflect", "request"])
@pytest.mark.parametrize("read", [read_stream, read_reply])
def test_the_requests_own_nonce_is_always_refused(
    read: Callable[..., object],
    nonces: Literal["reflect", "request"],
    nonce_reuse: NonceReuse,
) -> None:
    with OracleNode(REPLY, THREE, Behaviour(nonces)) as node, pytest.raises(ac.NonceReuseError):
        read(node, nonce_reuse)


@pytest.mark.parametrize("again", [0, 1], ids=["the first", "the one before"])
def test_a_nonce_that_comes_back_is_noticed(again: int) -> None:
    nonces = [os.urandom(12), os.urandom(12)]
    with client_and_side() as (client, side):
        for nonce in nonces:
            client.receive_data(side.event(THREE[0], nonce))
            assert len(list(drain(client))) == 1
        client.receive_data(side.event(THREE[0], nonces[again]))
        with pytest.warns(ac.NonceReuseWarning):
            assert len(list(drain(client))) == 1


def flipped(text: str) -> str:
    return b64(bytes([unb64(text)[0] ^ 1]) + unb64(text)[1:])


def body_like(node: OracleNode) -> bytes:
    """A stream as `node` sends them: all have their line ends at the same places."""
    sealed = OracleClient.lock(node.base_url).seal_request(b"{}")
    return NodeSide.open_request(node.private, sealed, behaviour=node.behaviour).stream(node.chunks)


def test_a_cut_stream_is_truncated_unless_it_is_cut_behind_an_event() -> None:
    with OracleNode(REPLY, THREE, Behaviour("fresh")) as node:
        body = body_like(node)
        ends = [place for place in range(len(body) + 1) if body[:place].endswith(b"\n\n")]
        assert len(ends) == 5  # of a comment, three events, a comment
        near = {end + shift for end in ends for shift in (-2, -1, 0, 1, 2)}
        for cut in sorted({*range(0, len(body), 97), *near}):
            node.behaviour = Behaviour("fresh", cut=cut)
            rest = body[:cut].rpartition(b"\n\n")[2]
            boundary = rest in {b"", b": keep-alive\n"}  # a whole comment is no part of an event
            whole = THREE[: sum(cut >= end for end in ends[1:4])]
            read: list[ac.Chunk] = []
            if boundary:
                assert read_stream(node, seen=read)[1].chunk_count == len(whole)
            else:
                with pytest.raises(ac.TruncatedStreamError):
                    read_stream(node, seen=read)
            assert [chunk.plaintext for chunk in read] == whole


def test_a_cut_reply_is_malformed() -> None:
    with OracleNode(REPLY, [], Behaviour(cut=200)) as node, pytest.raises(ac.EnvelopeError):
        read_reply(node)


@pytest.mark.parametrize("member", ["ciphertext", "nonce", "response_hash"])
def test_a_flip_in_what_is_sealed_fails_authentication(member: str) -> None:
    """One bit of the bytes, so that the base64 stays good."""
    with client_and_side() as (client, side):
        members = json.loads(side.event(THREE[0]).removeprefix(b"data: "))
        client.receive_data(b"data: " + printed(members | {member: flipped(members[member])}) + b"\n\n")
        with pytest.raises(ac.AuthenticationError):
            client.next_event()
    with client_and_side(stream=False) as (client, side):
        members = json.loads(side.reply(REPLY))
        with pytest.raises(ac.AuthenticationError):
            client.open_response(printed(members | {member: flipped(members[member])}))


def test_a_flip_on_the_way_is_never_read() -> None:
    """Bits all over the second event, over HTTP: the first event and then an error, or one event lost.

    A flip in the framing may make another field or member of what it hits, and so hide an event or a hash: v1
    has no way to notice that. What is shown is what was sealed, or nothing.
    """
    with OracleNode(REPLY, THREE, Behaviour("fresh")) as node:
        comment, first, second, *_ = body_like(node).split(b"\n\n")
        begin = len(comment) + len(first) + 4
        refusals = set()
        for bit in range(8 * begin, 8 * (begin + len(second) + 2), 61):
            node.behaviour = Behaviour("fresh", flip=bit)
            read: list[ac.Chunk] = []
            try:
                read_stream(node, seen=read)
            except ac.RemoteProtocolError as error:
                refusals.add(type(error))
                assert [chunk.plaintext for chunk in read] == THREE[:1]
            else:
                assert [chunk.plaintext for chunk in read] in (THREE, THREE[:2], [THREE[0], THREE[2]])
        assert refusals == {ac.AuthenticationError, ac.FramingError}


def test_an_error_answer_is_no_reply() -> None:
    with OracleNode(REPLY, []) as node, open_client(node) as client:
        other = ac.SecretKey.generate().public_key
        with ac.ClientSession(other, model="m", stack_small_id=42, protocol="v1") as wrong:
            refused = HTTP.post(node.base_url + CHAT_PATH, content=wrong.seal_request(b"{}", stream=False))
        assert refused.status_code == 500
        client.seal_request(b"{}", stream=False)
        with pytest.raises(ac.EnvelopeError):
            client.open_response(refused.content)
