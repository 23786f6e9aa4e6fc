"""One key for many threads, and two threads in the core at one moment, with and without a GIL."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._core import ffi
from helpers import STREAM_BODY, SessionPair, native, new_client, node_key, read
from threads import Meanwhile, run

CORES: Final = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
side_by_side = pytest.mark.skipif(CORES == 1, reason="one core runs one thread at a time")


# ---- one key --------------------------------------------------------------------------------------------------------


def test_eight_threads_on_one_aes_key() -> None:
    key = hazmat.AES256GCM(bytes(range(32)))
    texts = [os.urandom(size) for size in (0, 1, 15, 16, 31, 300, 4_096, 70_001)]
    right = [key.seal(bytes(12), text, b"aad") for text in texts]

    def work(number: int) -> None:
        out = bytearray(70_001 + 16)
        for i in range(number, number + 200):
            text, sealed = texts[i % len(texts)], right[i % len(texts)]
            assert key.seal(bytes(12), text, b"aad") == sealed
            assert out[: key.open_into(bytes(12), sealed, out, b"aad")] == text
            with pytest.raises(ac.AuthenticationError):
                key.open(bytes(12), sealed, b"other")

    run(work)


KEY: Final = bytes(range(100, 132))


def opening_a_request() -> tuple[Any, Callable[[], object]]:
    envelope = new_client().seal_request(STREAM_BODY, stream=True)
    key = ac.SigningKey.from_bytes(KEY)
    return key, lambda: ac.NodeSession(node_key(), signing_key=key).open_request(envelope).body


def opening_a_request_with() -> tuple[Any, Callable[[], object]]:
    key = ac.SecretKey.from_bytes(KEY)
    session = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1")
    envelope = session.seal_request(STREAM_BODY, stream=True)
    return key, lambda: ac.NodeSession(key).open_request(envelope).body


def asking_for_the_public_key(make: Any) -> tuple[Any, Callable[[], object]]:
    key = make.from_bytes(KEY)
    return key, lambda: bytes(key.public_key)


def sealing() -> tuple[Any, Callable[[], object]]:
    key = hazmat.AES256GCM(KEY)
    return key, lambda: key.seal(bytes(12), b"x" * 100)


def unsealing() -> tuple[Any, Callable[[], object]]:
    key = hazmat.AES256GCM(KEY)
    sealed = key.seal(bytes(12), b"x" * 100)
    return key, lambda: key.open(bytes(12), sealed)


@pytest.mark.parametrize(
    "make",
    [
        opening_a_request,
        opening_a_request_with,
        pytest.param(lambda: asking_for_the_public_key(ac.SecretKey), id="public_key"),
        pytest.param(lambda: asking_for_the_public_key(ac.SigningKey), id="signing.public_key"),
        sealing,
        unsealing,
    ],
)
def test_a_key_is_closed_at_any_point_of_its_use(make: Callable[[], tuple[Any, Callable[[], object]]]) -> None:
    """The result is right or the key is closed. Wiped and freed under a reader it would be something else."""
    right = make()[1]()
    closed = 0
    for at in count(1):
        key, call = make()
        meanwhile = Meanwhile(at, key.close)
        try:
            with meanwhile:
                assert call() == right
        except ac.SessionClosedError:
            closed += 1
        if meanwhile.left > 0:
            break
    assert 0 < closed < at - 1


def test_a_session_closed_by_another_thread_is_wiped_at_once() -> None:
    """Not when it is freed: on a free-threaded build the thread that has made it must run for that."""
    made: list[SessionPair] = []
    ready, leave = threading.Event(), threading.Event()

    def make() -> None:
        made.append(SessionPair())
        ready.set()
        leave.wait()

    thread = threading.Thread(target=make)
    thread.start()
    ready.wait()
    pair = made.pop()
    try:
        pair.node.close()
        pair.client.close()
        for session in (pair.node, pair.client):
            assert not any(bytes(ffi.buffer(ffi.addressof(native(session), "aes"))))
    finally:
        leave.set()
        thread.join()


# ---- side by side ---------------------------------------------------------------------------------------------------
#
# Nothing here is timed. A third thread, which runs Python meanwhile, catches two others inside the core at one moment.
# That is impossible if a call keeps the GIL. How soon it is seen is up to the machine, so it looks until it is, with
# ever larger messages.


def until_seen(look: Callable[[int], bool], largest: int) -> None:
    give_up = time.monotonic() + 60
    size = 1 << 20
    while not look(size):
        assert time.monotonic() < give_up, "two threads were never seen in the core at once"
        size = min(2 * size, largest)


def seen_by_a_third(work: Callable[[int], object], look: Callable[[], bool]) -> bool:
    """Whether `look` was true while threads 0 and 1 were at work."""
    seen: list[bool] = []
    done: list[int] = []

    def body(number: int) -> None:
        if number < 2:
            try:
                work(number)
            finally:
                done.append(number)
            return
        while not seen and len(done) < 2:
            if look():
                seen.append(True)

    run(body, 3)
    return bool(seen)


@side_by_side
@pytest.mark.parametrize("verb", ["seal", "open"])
def test_two_threads_use_one_key_at_the_same_time(verb: str) -> None:
    """Both have begun to write, and neither has written its end yet."""
    nothing = bytes(16)
    key = hazmat.AES256GCM(KEY)

    def look(size: int) -> bool:
        source = bytes([7]) * size if verb == "seal" else key.seal(bytes(12), bytes([7]) * size)
        outs = [bytearray(size + 16 if verb == "seal" else size) for _ in range(2)]
        into = key.seal_into if verb == "seal" else key.open_into

        def both_inside() -> bool:
            begun = all(out[:16] != nothing for out in outs)
            return begun and all(out[-16:] == nothing for out in outs)  # in this order

        seen = seen_by_a_third(lambda number: into(bytes(12), source, outs[number]), both_inside)
        assert outs[0] == outs[1]
        assert outs[0][-16:] != nothing
        return seen

    until_seen(look, 64 << 20)


@side_by_side
@pytest.mark.parametrize("side", ["node", "client"])
def test_two_sessions_work_at_the_same_time(side: str) -> None:
    """What a node and a client do for each chunk: each of two makes one call of the core, and both are inside."""

    def look(size: int) -> bool:
        limits = {"limits": ac.Limits(max_event_bytes=1 << 30)}
        pairs = [SessionPair(client=limits, node=limits) for _ in range(2)]
        plaintext = bytes(size)
        given: list[object] = [None, None]
        if side == "client":
            for pair in pairs:
                # the first makes room: without, the second would take two calls
                assert len(read(pair.client, [pair.node.seal_chunk(plaintext)], eof=False).chunks) == 1
                pair.client.receive_data(pair.node.seal_chunk(plaintext))
        first, second = (native(pair.node if side == "node" else pair.client) for pair in pairs)

        def work(number: int) -> None:
            pair = pairs[number]
            given[number] = pair.node.seal_chunk(plaintext) if side == "node" else pair.client.next_event()

        def both_inside() -> bool:
            return bool(first.busy and second.busy and first.busy)  # one call each: it did not leave in between

        seen = seen_by_a_third(work, both_inside)
        if side == "node":
            given = [read(pair.client, [event]).chunks[0] for pair, event in zip(pairs, given, strict=True)]  # type: ignore[list-item]
        assert given == [(plaintext, 0 if side == "node" else 1, None)] * 2
        return seen

    until_seen(look, 32 << 20)
