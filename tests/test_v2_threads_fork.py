"""Threads and processes on v2's sessions: an order that holds, one end for all, and nothing that a child can seal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi
from atoma_crypto._opener_v2 import V2Opener
from atoma_crypto._state import State
from helpers import USAGE, SessionPair, native, read
from threads import run

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")


@pytest.fixture
def pair() -> SessionPair:
    return SessionPair(protocol="v2")


def test_eight_threads_read_one_stream(pair: SessionPair) -> None:
    """Each chunk is given once, to one of them, and all of them learn of the end."""
    pair.client.receive_data(pair.node.seal_chunks([b"%d" % i for i in range(400)]) + pair.node.finish(USAGE))
    got: list[list[ac.Chunk]] = [[] for _ in range(64)]
    ends: list[ac.EndOfStream] = []

    def work(number: int) -> None:
        while True:
            with suppress(ac.ConcurrentUseError):
                event = pair.client.next_event()
                if isinstance(event, ac.EndOfStream):
                    ends.append(event)
                    return
                if isinstance(event, ac.Chunk):
                    got[number].append(event)

    run(work)
    chunks = [chunk for one in got for chunk in one]
    assert sorted(chunks, key=lambda chunk: chunk.index) == [(b"%d" % i, i, None) for i in range(400)]
    for one in got:
        assert [chunk.index for chunk in one] == sorted(chunk.index for chunk in one)
    assert len(set(map(id, ends))) == 1
    assert ends[0] == ac.EndOfStream(400, USAGE)


def test_one_receives_while_another_reads(pair: SessionPair) -> None:
    events = [pair.node.seal_chunk(b"%d" % i) for i in range(300)] + [pair.node.finish()]
    got: list[object] = []

    def receive() -> None:
        for event in events:
            pair.client.receive_data(event[:30])
            pair.client.receive_data(event[30:])

    thread = threading.Thread(target=receive)
    thread.start()
    while True:
        event = pair.client.next_event()
        if event is not ac.NEED_DATA:
            got.append(event)
        if isinstance(event, ac.EndOfStream):
            break
    thread.join()
    assert got == [*((b"%d" % i, i, None) for i in range(300)), ac.EndOfStream(300, None)]


def test_ending_while_others_seal() -> None:
    """What was sealed before the end is whole, and nothing comes after it."""
    for ending in ("finish", "abort"):
        pair = SessionPair(protocol="v2")
        made: list[bytes] = []
        last: list[bytes] = []

        def end(pair: SessionPair = pair, ending: str = ending) -> bytes:
            return pair.node.finish() if ending == "finish" else pair.node.abort("X", "", 500)

        def work(
            number: int,
            pair: SessionPair = pair,
            made: list[bytes] = made,
            last: list[bytes] = last,
            end: Callable[[], bytes] = end,
        ) -> None:
            while not last:
                with suppress(ac.ConcurrentUseError):
                    if number == 0 and len(made) > 20:
                        last.append(end())
                        return
                    try:
                        made.append(pair.node.seal_chunk(bytes([number]) * 2000))
                    except ac.LocalProtocolError as error:
                        if isinstance(error, ac.ConcurrentUseError):
                            raise
                        return

        run(work)
        assert pair.node._state is State.DONE
        assert len(last) == 1
        assert native(pair.node).index == len(made) + 1
        pair.node.close()
        assert not any(bytes(ffi.buffer(ffi.addressof(native(pair.node), "aes"))))


CALLS: Final[list[Any]] = [
    pytest.param(lambda p: p.node.abort("X", "", 500), id="abort"),
    pytest.param(lambda p: p.node.finish(), id="finish"),
    pytest.param(lambda p: p.node.seal_chunk(b"x"), id="seal_chunk"),
    pytest.param(lambda p: p.client.open_response(b"{}"), id="open_response"),
    pytest.param(lambda p: p.client.next_event(), id="next_event"),
    pytest.param(lambda p: p.client.receive_data(b"x"), id="receive_data"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_while_another_thread_is_inside(call: Callable[[SessionPair], object], pair: SessionPair) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        pair.node._begin("seal_chunk")
        pair.client._begin("receive_data")
        inside.set()
        leave.wait()
        pair.node._end()
        pair.client._end()

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait()
    try:
        with pytest.raises(ac.ConcurrentUseError, match="another thread is inside this session"):
            call(pair)
    finally:
        leave.set()
        thread.join()
    assert read(pair.client, [pair.node.seal_chunk(b"x") + pair.node.finish()]).end == ac.EndOfStream(1, None)


def test_the_core_says_busy_and_changes_nothing(pair: SessionPair) -> None:
    pair.client.receive_data(pair.node.seal_chunk(b"x"))
    for session in (pair.node, pair.client):
        native(session).busy = 1
    calls: list[Callable[[], object]] = [
        lambda: pair.node.seal_chunk(b"x"),
        lambda: pair.node.seal_chunks([b"x"]),
        pair.node.finish,
        lambda: pair.node.abort("X", "", 500),
    ]
    for call in calls:
        with pytest.raises(ac.ConcurrentUseError, match="inside this object"):
            call()
    for session in (pair.node, pair.client):
        native(session).busy = 0
    assert pair.node._state is State.STREAM
    assert pair.client.next_event() == (b"x", 0, None)
    assert read(pair.client, [pair.node.finish()]).end == ac.EndOfStream(1, None)


# ---- another thread comes between two steps -----------------------------------------------------------------------


def while_reading(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """`do` happens when the reader has taken the place, before it has looked for a chunk."""
    next_chunk = V2Opener.next_chunk

    def first(opener: V2Opener) -> ac.Chunk | None:
        monkeypatch.undo()
        do()
        return next_chunk(opener)

    monkeypatch.setattr(V2Opener, "next_chunk", first)


def test_another_thread_opens_an_object_while_events_are_read(
    pair: SessionPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.client.receive_data(pair.node.seal_chunk(b"x"))

    def open_object() -> None:
        with pytest.raises(ac.ConcurrentUseError, match="another thread is inside this session"):
            pair.client.open_response(b"{}")

    while_reading(monkeypatch, open_object)
    assert pair.client.next_event() == (b"x", 0, None)
    assert read(pair.client, [pair.node.finish()]).end == ac.EndOfStream(1, None)


def test_bytes_that_come_while_the_end_is_given_are_looked_at(
    pair: SessionPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.client.receive_data(pair.node.finish())
    while_reading(monkeypatch, lambda: pair.client.receive_data(b"data: late\n\n"))
    assert isinstance(pair.client.next_event(), ac.EndOfStream)
    with pytest.raises(ac.FramingError):
        pair.client.next_event()


def test_the_end_of_the_bytes_comes_while_the_end_is_given(pair: SessionPair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.client.receive_data(pair.node.seal_chunk(b"x") + pair.node.finish())
    while_reading(monkeypatch, pair.client.receive_eof)
    assert [type(event) for event in pair.client.events()] == [ac.Chunk, ac.EndOfStream]


# ---- fork -------------------------------------------------------------------------------------------------------

FORKED: Final = """
import os, sys
sys.path.insert(0, {tests!r})
import atoma_crypto as ac
from helpers import SessionPair, new_client, new_node, node_key, read
from programs import in_child

stream, reply = SessionPair(protocol="v2"), SessionPair(protocol="v2", stream=False)
first = stream.node.seal_chunk(b"0")
request = new_client(protocol="v2").seal_request(b"{{}}", stream=False)
sealer = ac.Sealer(bytes(32), bytes(32))

def refuse(call, error=ac.LocalProtocolError, text="before fork()"):
    try:
        call()
    except error as caught:
        assert text in str(caught), caught
    else:
        raise AssertionError("done")

def child():
    for _ in range(2):
        refuse(lambda: stream.node.seal_chunk(b"x"))
        refuse(lambda: stream.node.seal_chunks([b"x"]))
        refuse(lambda: stream.node.finish())
        refuse(lambda: stream.node.abort("X", "", 500))
        refuse(lambda: reply.node.seal_response(b"x"))
        refuse(lambda: sealer.seal(b"x"))
    refuse(lambda: new_node().open_request(request), ac.ReplayStoreError, "before fork()")
    assert read(stream.client, [first]).chunks == [(b"0", 0, None)]  # a child may read
    with ac.SecretKey.generate() as key:
        client = ac.ClientSession(key.public_key, model="m", stack_small_id=None, protocol="v2")
        node = ac.NodeSession(key)
        node.open_request(client.seal_request(b"{{}}", stream=False))
        assert client.open_response(node.seal_response(b"x")) == b"x"
    stream.node.close()

for _ in range(2):
    in_child(child)
rest = stream.node.seal_chunk(b"1") + stream.node.finish()
assert read(stream.client, [first + rest]).end == ac.EndOfStream(2, None)
assert reply.client.open_response(reply.node.seal_response(b"x")) == b"x"
assert new_node().open_request(request).body == b"{{}}"
print("done")
"""


@forks
def test_a_child_cannot_seal_nor_admit_and_the_parent_goes_on() -> None:
    code = FORKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
