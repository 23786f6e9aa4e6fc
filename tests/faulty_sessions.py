"""What a session does while something fails (tests/test_faults_memory.py), and what must hold of it after that.

A case makes its objects anew. `call` is what is struck; `check` is told what it gave, or None if it raised, and goes on
in another thread, so that nothing can be left locked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto._state import State
from atoma_crypto._typing import Protocol, Suite
from helpers import REPLY_BODY, STREAM_BODY, USAGE, SessionPair, member, new_client, new_node
from interrupting import Session, key_is_gone


class Case(NamedTuple):
    """An operation, and a look at what it has left behind."""

    call: Callable[[], Any]
    check: Callable[[Any], object]
    close: Callable[[], object]  # must work, whatever has happened
    session: Session | None = None


def fail_or(call: Callable[[], bytes], session: Session) -> bytes | None:
    """What a call gives; None: the session has failed for good, and its key is wiped."""
    try:
        return call()
    except ac.LocalProtocolError as error:
        assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - its subclasses say that it is closed, or locked
        assert session._state is State.FAILED, error  # noqa: PT017 - as above
        assert key_is_gone(session)
        return None


def split(events: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in events.split(b"\n\n")[:-1]]


def assert_no_nonce_twice(events: list[bytes]) -> None:
    """In v1 an event shows its nonce; in v2 it is the number that the client counts to, so that it reads no other."""
    nonces = [member(event, "nonce") for event in events]
    assert len(set(nonces)) == len(nonces), nonces


# ---- a node's session -----------------------------------------------------------------------------------------------


def sealing(
    protocol: Protocol,
    seal: Callable[[ac.NodeSession], bytes],
    texts: list[bytes],
    *,
    begun: bool,
    limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
) -> Case:
    """One event was given before, and one is asked for after it."""
    pair = SessionPair(protocol=protocol, client={"limits": limits}, node={"limits": limits})
    first = [pair.node.seal_chunk(b"first")] if begun else []

    def check(given: bytes | None) -> None:
        more = fail_or(lambda: pair.node.seal_chunk(b"more"), pair.node)
        end = fail_or(pair.node.finish, pair.node)
        events = [*first, *split(given or b""), *([more] if more else [])]
        if protocol == "v1":
            assert_no_nonce_twice(events)
        pair.client.receive_data(b"".join(events) + (end or b""))
        want = [b"first"] * begun + texts * (given is not None) + [b"more"] * (more is not None)
        got = [event.plaintext for event in pair.client.events() if isinstance(event, ac.Chunk)]
        assert got == want, (got, want)
        assert given is None or more is not None  # what has succeeded has failed nothing

    return Case(lambda: seal(pair.node), check, pair.node.close, pair.node)


def ending(protocol: Protocol, end: Callable[[ac.NodeSession], bytes]) -> Case:
    """At most one end is given, and nothing behind it."""
    pair = SessionPair(protocol=protocol)
    first = pair.node.seal_chunk(b"first")

    def check(given: bytes | None) -> None:
        ends = [given] if given is not None else []
        if given is not None:
            assert pair.node._state is State.DONE
        else:
            again = fail_or(pair.node.finish, pair.node)
            ends += [] if again is None else [again]
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.finish())
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.seal_chunk(b"behind"))
        pair.client.receive_data(first + b"".join(ends))
        with suppress(ac.RemoteAbortError):
            assert [type(event) for event in pair.client.events()][:1] == [ac.Chunk]

    return Case(lambda: end(pair.node), check, pair.node.close, pair.node)


def answering(protocol: Protocol) -> Case:
    pair = SessionPair(protocol=protocol, stream=False)

    def check(given: bytes | None) -> None:
        if given is None:
            given = fail_or(lambda: pair.node.seal_response(b'{"answer":1}', USAGE), pair.node)
        if given is not None:
            assert pair.client.open_response(given) == b'{"answer":1}'
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.seal_response(b"x"))

    return Case(lambda: pair.node.seal_response(b'{"answer":1}', USAGE), check, pair.node.close, pair.node)


def opening_request(protocol: Protocol, body: bytes = REPLY_BODY, suite: Suite = "X25519") -> Case:
    """In v2, of all who are given one request, one answers."""
    store = ac.MemoryReplayCache(fresh_key=True)
    client = new_client(protocol=protocol, suite=suite)
    envelope = client.seal_request(body, stream=False)
    nodes = [new_node(suite=suite, replay_cache=store) for _ in range(3)]

    def opens(node: ac.NodeSession) -> bool:
        try:
            return node.open_request(envelope).body == body
        except ac.ReplayedError:
            return False
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            return False

    def check(given: ac.Request | None) -> None:
        node = nodes[0]
        if given is None:
            assert node._state in {State.IDLE, State.FAILED}
            assert node._state is State.IDLE or key_is_gone(node)
        opened = [given is not None or opens(node), *map(opens, nodes[1:])]
        if protocol == "v2":
            assert sum(opened) <= 1, opened
            assert given is None or sum(opened) == 1
            assert store._seen is not None
            assert set(store._seen) == {request_id for _, request_id in store._expiries}
        for node, was_opened in zip(nodes, opened, strict=True):
            if was_opened:
                assert client.open_response(node.seal_response(b"answer")) == b"answer"
                break

    return Case(lambda: nodes[0].open_request(envelope), check, nodes[0].close, nodes[0])


# ---- a client's session ---------------------------------------------------------------------------------------------


def requesting(protocol: Protocol, body: bytes = STREAM_BODY, suite: Suite = "X25519") -> Case:
    client = new_client(protocol=protocol, suite=suite)

    def call() -> bytes:
        return client.seal_request(body, stream=True)

    def check(given: bytes | None) -> None:
        envelope = given if given is not None else fail_or(call, client)
        if envelope is None:
            return
        node = new_node(suite=suite)
        assert node.open_request(envelope).body == body
        client.receive_data(node.seal_chunk(b"x"))
        assert client.next_event() == (b"x", 0, None)

    return Case(call, check, client.close, client)


READ: Final = [b"0", b"1", b"22", b"3"]


def reading(protocol: Protocol, *, before: int, dress: Callable[[bytes], bytes] = bytes, joined: bool = True) -> Case:
    """Four chunks and the end; some of them were given before, one is asked for, and then the rest."""
    pair = SessionPair(protocol=protocol)
    events = [dress(pair.node.seal_chunk(text, USAGE if text == b"22" else None)) for text in READ]
    events.append(pair.node.finish())
    pair.client._warned = True
    got: list[Any] = []
    for piece in [b"".join(events)] if joined else events:
        pair.client.receive_data(piece)
        if len(got) < before:
            got.append(pair.client.next_event())
    got += [pair.client.next_event() for _ in range(before - len(got))]
    pair.client.receive_eof()

    def check(given: Any) -> None:
        got.extend([given] if given is not None else [])
        try:
            got.extend(pair.client.events() if not isinstance(given, ac.EndOfStream) else [])
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            assert pair.client._state is State.FAILED
            assert key_is_gone(pair.client)
            assert given is None
            assert all(isinstance(event, ac.Chunk) for event in got)
        else:
            assert isinstance(got.pop(), ac.EndOfStream)
            assert len(got) == len(READ)
        texts = [event.plaintext for event in got if isinstance(event, ac.Chunk)]
        assert texts == READ[: len(texts)], texts

    return Case(pair.client.next_event, check, pair.client.close, pair.client)


def receiving(protocol: Protocol, *, late: bool = False) -> Case:
    """Bytes are taken, or not: then they can be given once more."""
    pair = SessionPair(protocol=protocol)
    event = bytearray(b": behind\n\n" if late else pair.node.seal_chunk(b"x"))
    if late:
        pair.client.receive_data(pair.node.finish())
        pair.client.next_event()

    def call() -> bool:
        pair.client.receive_data(event)
        return True

    def check(given: bool | None) -> None:
        try:
            if given is None:
                call()
            found = pair.client.next_event()
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            assert key_is_gone(pair.client)
        else:
            assert isinstance(found, ac.EndOfStream if late else ac.Chunk)
            assert late or pair.client.next_event() is ac.NEED_DATA

    return Case(call, check, pair.client.close, pair.client)


def opening_response(protocol: Protocol, answer: bytes = b"answer") -> Case:
    pair = SessionPair(protocol=protocol, stream=False)
    raw = pair.node.seal_response(answer, USAGE)

    def check(given: bytes | None) -> None:
        if given is None:
            given = fail_or(lambda: pair.client.open_response(raw), pair.client)
        assert given in {None, answer}

    return Case(lambda: pair.client.open_response(raw), check, pair.client.close, pair.client)


# ---- either's -------------------------------------------------------------------------------------------------------


def closing(protocol: Protocol, end: str) -> Case:
    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.seal_chunks([b"x", b"y"]))
    pair.client.next_event()
    session: Session = pair.client if end == "client" else pair.node

    def call() -> bool:
        session.close()
        return True

    def check(given: bool | None) -> None:
        session.close()
        assert session._state is State.CLOSED
        assert key_is_gone(session)
        assert given is None or session._state is State.CLOSED

    return Case(call, check, session.close, session)
