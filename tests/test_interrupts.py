"""KeyboardInterrupt at any point: it locks no thread out of its session, and what ends a session still wipes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto import _state
from atoma_crypto._opener_v1 import V1Opener
from atoma_crypto._typing import Buffer
from helpers import SessionPair, native, read
from interrupting import CASES, Session, Striking, key_is_gone, points, sealing


@pytest.mark.parametrize("make", CASES)
def test_an_interrupt_at_any_point_locks_nobody_out(make: Callable[[], tuple[Session, Callable[[], object]]]) -> None:
    ends = set()
    for at in range(1, points(make) + 1):
        session, call = make()
        with pytest.raises(KeyboardInterrupt), Striking(at):
            call()
        for _ in range(2):  # ConcurrentUseError is a LocalProtocolError, too
            try:
                call()
            except ac.LocalProtocolError as error:  # noqa: PERF203 - the point of it
                assert type(error) is ac.LocalProtocolError, (at, error)  # noqa: PT017 - it may also work
                ends.add(session._state)
            else:
                ends.add(session._state)
        if session._state is _state.State.FAILED:
            assert key_is_gone(session), at
        session.close()
        assert session._state is _state.State.CLOSED
        assert key_is_gone(session), at
        with pytest.raises(ac.SessionClosedError):
            call()
    assert _state.State.FAILED in ends
    assert len(ends) > 1  # some of the points are before anything was done


@pytest.mark.parametrize("make", CASES)
def test_an_interrupt_comes_out_of_a_block_as_it_is(make: Callable[[], tuple[Session, Callable[[], object]]]) -> None:
    for at in range(1, points(make) + 1):
        session, call = make()
        striking = Striking(at)
        with pytest.raises(KeyboardInterrupt), session:  # noqa: PT012 - the block is what is tested
            with striking:
                call()
            pytest.fail("not interrupted")
        assert session._state is _state.State.CLOSED, at
        assert key_is_gone(session), at
        thread = threading.Thread(target=session.close)  # where ConcurrentUseError would fail the test
        thread.start()
        thread.join()


@pytest.mark.parametrize("make", CASES)
def test_close_can_be_repeated_where_it_was_interrupted(
    make: Callable[[], tuple[Session, Callable[[], object]]],
) -> None:
    at = 0
    while True:
        at += 1
        session, _ = make()
        try:
            with Striking(at):
                session.close()
        except KeyboardInterrupt:
            session.close()
            assert key_is_gone(session), at
        else:
            break
    assert at > 5


def test_another_thread_can_close_after_an_interrupted_thread_has_found_out() -> None:
    session, call = sealing()
    session._begin("seal_chunk")  # and no _end
    refused: list[BaseException] = []

    def other() -> None:
        try:
            session.close()
        except ac.ConcurrentUseError as error:
            refused.append(error)

    def in_thread() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    in_thread()
    assert len(refused) == 1
    with pytest.raises(ac.LocalProtocolError, match=r"^seal_chunk: a call before was interrupted"):
        call()
    assert key_is_gone(session)
    with pytest.raises(ac.LocalProtocolError, match=r"^seal_chunk: the session has failed before"):
        call()
    in_thread()
    assert len(refused) == 1
    assert session._state is _state.State.CLOSED


# ---- the same thread, inside once more: a signal handler, or a sequence of the caller's ----------------------------


class Acting(Sequence[Buffer]):
    """One chunk, and something is done when it is looked at."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index > 0:
            raise IndexError
        self._act()
        return b"x"


def test_closing_from_inside() -> None:
    pair = SessionPair()
    with pytest.raises(ac.SessionClosedError, match=r"^seal_chunk: the session is closed"):
        pair.node.seal_chunks(Acting(pair.node.close))
    assert key_is_gone(pair.node)
    with pytest.raises(ac.SessionClosedError):
        pair.node.seal_chunk(b"x")


def test_sealing_from_inside_fails_the_session() -> None:
    pair = SessionPair()
    with pytest.raises(ac.LocalProtocolError, match="a call before was interrupted"):
        pair.node.seal_chunks(Acting(lambda: pair.node.seal_chunk(b"y")))
    assert key_is_gone(pair.node)
    with pytest.raises(ac.LocalProtocolError, match="failed before"):
        pair.node.seal_chunk(b"x")


def test_closing_from_inside_once_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SessionPair(stream=False)
    reply = type(pair.node._sealer).reply

    def reply_and_close(*args: Any) -> bytes:
        raw = reply(*args)
        pair.node.close()
        return raw

    monkeypatch.setattr(type(pair.node._sealer), "reply", reply_and_close)
    with pytest.raises(ac.SessionClosedError, match=r"^seal_response: the session is closed"):
        pair.node.seal_response(b"x")


def test_closing_from_inside_while_an_event_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SessionPair()
    pair.client.receive_data(pair.node.seal_chunk(b"x"))
    next_chunk = type(pair.client._opener).next_chunk

    def next_chunk_and_close(opener: V1Opener) -> ac.Chunk | None:
        chunk = next_chunk(opener)
        pair.client.close()
        return chunk

    monkeypatch.setattr(type(pair.client._opener), "next_chunk", next_chunk_and_close)
    with pytest.raises(ac.ConcurrentUseError):
        pair.client.next_event()
    assert key_is_gone(pair.client)  # a handler that raises is an interrupt like any other
    assert pair.client._state is _state.State.FAILED
    pair.client.close()


class Ready:
    """Chunks that were opened, as another thread, or a signal, leaves them in the middle of taking one."""

    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error

    def __len__(self) -> int:
        return self._error is not None

    def popleft(self) -> ac.Chunk:
        error, self._error = self._error, None
        assert error is not None
        raise error

    def clear(self) -> None:
        pass


def test_a_chunk_that_another_thread_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SessionPair()
    monkeypatch.setattr(pair.client._opener, "ready", Ready(IndexError()))
    assert pair.client.next_event() is ac.NEED_DATA
    monkeypatch.undo()
    assert read(pair.client, [pair.node.seal_chunk(b"x")]).chunks == [(b"x", 0, None)]


def test_an_interrupt_while_a_chunk_is_taken_fails_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = SessionPair()
    monkeypatch.setattr(pair.client._opener, "ready", Ready(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        pair.client.next_event()
    assert pair.client._state is _state.State.FAILED
    assert key_is_gone(pair.client)


def test_an_interrupt_while_another_thread_seals_is_told_as_it_is() -> None:
    pair = SessionPair()
    native(pair.node).busy = 1
    pair.node._judge(KeyboardInterrupt())
    assert pair.node._state is _state.State.FAILED
    native(pair.node).busy = 0
    pair.node.close()
    assert key_is_gone(pair.node)


# ---- usage ------------------------------------------------------------------------------------------------------


class Raising(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


def test_usage_that_cannot_be_written_leaves_the_session_usable() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    cases: list[tuple[Mapping[str, object], type[Exception]]] = [
        (deep, ValueError),
        (Raising(), ZeroDivisionError),
        ({"a": object()}, TypeError),
    ]
    for usage, error in cases:
        reply, stream = SessionPair(stream=False), SessionPair()
        with pytest.raises(error):
            reply.node.seal_response(b"x", usage)
        assert reply.client.open_response(reply.node.seal_response(b"x")) == b"x"
        with pytest.raises(error):
            stream.node.seal_chunk(b"x", usage)
        with pytest.raises(error):
            stream.node.seal_chunks([b"x"], usage)
        assert native(stream.node).chunks_left == 2**32
        assert read(stream.client, [stream.node.seal_chunk(b"x")]).end == ac.EndOfStream(1, None)
    while deep:  # taken apart from outside: freeing it at once would go as deep
        deep = deep["a"]  # type: ignore[assignment] # it is one of these
