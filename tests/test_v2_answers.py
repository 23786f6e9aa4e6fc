"""A node of protocol v2 seals answers: events, objects and aborts, and the limits of each."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi
from helpers import USAGE, SessionPair, native
from threads import run


def streaming(**options: Any) -> SessionPair:
    return SessionPair(protocol="v2", **options)


def test_an_empty_plaintext_is_no_event() -> None:
    pair = streaming()
    before = bytes(ffi.buffer(native(pair.node)))
    calls: list[Callable[[], object]] = [
        lambda: pair.node.seal_chunk(b""),
        lambda: pair.node.seal_chunk(bytearray()),
        lambda: pair.node.seal_chunk(b"", USAGE),
        lambda: pair.node.seal_chunks([b"a", b""]),
        lambda: pair.node.seal_chunks([b"a", memoryview(b"")]),
    ]
    for call in calls * 2:
        with pytest.raises(ValueError, match="must not be empty"):
            call()
        assert bytes(ffi.buffer(native(pair.node))) == before
        if len(calls) == 5:  # once more, with a place that is there
            pair.node.seal_chunk(b"x")
            before = bytes(ffi.buffer(native(pair.node)))
    assert pair.node.seal_chunks([]) == b""


WRONG_USAGE: Final[list[tuple[Any, type[Exception]]]] = [
    ({}, ValueError),
    ({"prompt_tokens": 1, "completion_tokens": 2}, ValueError),
    (USAGE | {"cached": 1}, ValueError),
    (USAGE | {"total_tokens": 2**53}, ValueError),
    (USAGE | {"total_tokens": -1}, ValueError),
    (USAGE | {"total_tokens": True}, ValueError),
    (USAGE | {"total_tokens": 1.0}, ValueError),
    (USAGE | {"total_tokens": "1"}, ValueError),
    ([1, 2, 3], TypeError),
    (5, TypeError),
]


@pytest.mark.parametrize(("usage", "error"), WRONG_USAGE)
def test_usage_is_three_integers(usage: Any, error: type[Exception]) -> None:
    pair, reply = streaming(), streaming(stream=False)
    calls: list[Callable[[], object]] = [
        lambda: pair.node.seal_chunk(b"x", usage),
        lambda: pair.node.seal_chunks([b"x"], usage),
        lambda: pair.node.finish(usage),
        lambda: reply.node.seal_response(b"x", usage),
    ]
    for call in calls:
        with pytest.raises(error, match="usage must be"):
            call()
    assert native(pair.node).index == native(reply.node).index == 0


WRONG_ABORTS: Final[list[tuple[Any, Any, Any, type[Exception]]]] = [
    ("", "m", 500, ValueError),
    ("lower", "m", 500, ValueError),
    ("X" * 65, "m", 500, ValueError),
    ("X\n", "m", 500, ValueError),
    ("X", "m" * 1025, 500, ValueError),
    ("X", "\ud800", 500, ValueError),
    ("X", "m", 399, ValueError),
    ("X", "m", 600, ValueError),
    ("X", "m", True, TypeError),
    ("X", "m", "500", TypeError),
    (5, "m", 500, TypeError),
    ("X", b"m", 500, TypeError),
]


@pytest.mark.parametrize(("code", "message", "status", "error"), WRONG_ABORTS)
def test_what_an_abort_can_say(code: Any, message: Any, status: Any, error: type[Exception]) -> None:
    pair = streaming()
    with pytest.raises(error):
        pair.node.abort(code, message, status)
    assert pair.node.finish().startswith(b"data: ")


@pytest.mark.parametrize("status", [400, 599])
def test_the_first_and_the_last_status_of_an_abort(status: int) -> None:
    pair = streaming()
    pair.client.receive_data(pair.node.seal_chunk(b"x") + pair.node.abort("X", "m", status))
    assert pair.client.next_event() == ac.Chunk(b"x", 0, None)
    with pytest.raises(ac.RemoteAbortError) as caught:
        pair.client.next_event()
    assert caught.value.status == status


def test_a_counter_that_is_spent_leaves_the_abort() -> None:
    for name, value in (("index", 2**32 - 1), ("bytes_left", 1 << 20)):
        pair = streaming()
        pair.node.seal_chunk(b"x")
        setattr(native(pair.node), name, value)
        with pytest.raises(ac.LimitExceededError):
            pair.node.seal_chunk(b"x")
        with pytest.raises(ac.LimitExceededError):
            pair.node.seal_chunks([b"x"])
        with pytest.raises(ac.LimitExceededError):
            pair.node.seal_chunk(b"x", USAGE)
        assert b'"flag":2' in pair.node.abort("LIMIT", "spent", 500)


def test_what_is_kept_back_is_enough_for_the_longest_padding() -> None:
    pair = streaming(node={"pad_to": 1 << 20})
    pair.node.seal_chunk(b"x")
    native(pair.node).bytes_left = 1 << 20
    with pytest.raises(ac.LimitExceededError):
        pair.node.seal_chunk(b"x")
    assert b'"flag":2' in pair.node.abort("LIMIT", "\U0001f600" * 1024, 500)


def test_an_event_that_would_be_too_long() -> None:
    pair = streaming(node={"limits": ac.Limits(max_event_bytes=300)})
    for _ in range(2):
        with pytest.raises(ValueError, match="longer than the limit of 300 bytes"):
            pair.node.seal_chunk(b"x" * 300)
        with pytest.raises(ValueError, match="longer than the limit of 300 bytes"):
            pair.node.seal_chunks([b"y", b"x" * 300])
        pair.node.seal_chunk(b"z")
    assert len(pair.node.seal_chunk(b"x" * 20)) <= 300


def test_a_thread_that_is_inside_while_a_stream_ends() -> None:
    """What is written is whole; the core takes nothing more, and is wiped with the session."""
    pair = streaming()
    sealer = pair.node._sealer
    closed: list[bool] = []

    def busy() -> None:
        closed.append(True)
        raise ac.ConcurrentUseError("another thread is inside this object")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(sealer), "close", lambda _: busy())
        end = pair.node.finish()
    assert closed == [True]
    assert b'"flag":1' in end
    assert not any(bytes(ffi.buffer(ffi.addressof(native(pair.node), "aes"))))


def test_threads_on_one_session_of_v2() -> None:
    """Each index once, whoever seals; the losers get an error and nothing else."""
    pair = streaming()
    events: list[bytes] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        rounds = 0
        while rounds < 25:
            try:
                event = pair.node.seal_chunk(b"%d %d" % (number, rounds))
            except ac.ConcurrentUseError:
                continue
            with lock:
                events.append(event)
            rounds += 1

    run(work)
    assert native(pair.node).index == len(events) == len(set(events))
    assert len({json.loads(event[6:])["ciphertext"] for event in events}) == len(events)
