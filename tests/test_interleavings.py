"""Another thread comes between two steps of a call: each case by itself, put there by hand.

tests/test_free_threading.py lets another thread in before every instruction; here stands what exactly must happen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import atoma_crypto as ac
from atoma_crypto._opener_v1 import V1Opener
from atoma_crypto._state import State
from helpers import SessionPair

Between = Callable[[], object]


@pytest.fixture
def pair() -> SessionPair:
    return SessionPair()


@contextmanager
def while_reading(monkeypatch: pytest.MonkeyPatch, do: Between) -> Iterator[None]:
    """`do` happens when the reader has taken the place and found no chunk."""

    def next_chunk(_opener: V1Opener) -> None:
        do()

    with monkeypatch.context() as patch:
        patch.setattr(V1Opener, "next_chunk", next_chunk)
        yield


def test_a_chunk_that_another_thread_has_opened_is_given_first(pair: SessionPair) -> None:
    opener = pair.client._opener
    pair.client.receive_data(pair.node.seal_chunks([b"0", b"1", b"2"]))
    assert pair.client.next_event() == ac.Chunk(b"0", 0, None)
    assert opener.take()
    assert opener.next_chunk() == ac.Chunk(b"1", 1, None)
    opener.give()
    assert pair.client.next_event() == ac.Chunk(b"2", 2, None)


def test_the_last_chunk_is_taken_between_the_look_and_the_grip(pair: SessionPair) -> None:
    class Taken(deque[ac.Chunk]):
        def __bool__(self) -> bool:
            return True

    pair.client._opener.ready = Taken()
    pair.client.receive_data(pair.node.seal_chunk(b"0"))
    assert pair.client.next_event() == ac.Chunk(b"0", 0, None)


def test_a_session_fails_while_it_is_read(pair: SessionPair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.client.receive_data(b"data")
    with (
        while_reading(monkeypatch, lambda: pair.client._move(State.FAILED)),
        pytest.raises(ac.LocalProtocolError, match="has failed before"),
    ):
        pair.client.next_event()


def test_what_a_reader_meets_in_a_session_that_has_failed_says_so(
    pair: SessionPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        pair.client._move(State.FAILED)
        raise IndexError

    pair.client.receive_data(b"data")
    with while_reading(monkeypatch, fail), pytest.raises(ac.LocalProtocolError, match="has failed before"):
        pair.client.next_event()


def test_another_thread_has_found_the_end(pair: SessionPair, monkeypatch: pytest.MonkeyPatch) -> None:
    end = ac.EndOfStream(7, None)

    def ended() -> None:
        pair.client._end_of_stream = end

    pair.client.receive_data(b"data")
    with while_reading(monkeypatch, ended):
        assert pair.client.next_event() is end


def test_another_thread_is_inside_at_the_end(pair: SessionPair) -> None:
    pair.client.receive_eof()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with pair.client._lock:
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    try:
        with pytest.raises(ac.ConcurrentUseError):
            pair.client.next_event()
    finally:
        leave.set()
        thread.join()
    assert pair.client.next_event() == ac.EndOfStream(0, None)


def test_a_reader_that_fails_while_another_thread_is_in_the_core_wipes_nothing_there(pair: SessionPair) -> None:
    opener = pair.client._opener
    opener._native.busy = 1
    assert opener.take()
    with pytest.raises(ac.ConcurrentUseError):
        opener.close(reading=True)
    opener._native.busy = 0
    opener.give()
    pair.client.receive_data(pair.node.seal_chunk(b"0"))
    assert pair.client.next_event() == ac.Chunk(b"0", 0, None)


def test_an_opener_whose_close_was_refused_can_be_closed_later(pair: SessionPair) -> None:
    opener = pair.client._opener
    opener._native.busy = 1
    with pytest.raises(ac.ConcurrentUseError):
        opener.close()
    opener._native.busy = 0
    assert opener.take()  # another thread reads
    with pytest.raises(ac.ConcurrentUseError):
        opener.close()
    opener.give()
    opener.close()
    assert opener._closed


def test_a_session_that_another_thread_has_closed_does_not_come_back_as_failed(pair: SessionPair) -> None:
    pair.client.close()
    pair.client._fail()
    with pytest.raises(ac.SessionClosedError):
        pair.client.next_event()
