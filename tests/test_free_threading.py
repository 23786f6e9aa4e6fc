"""With and without a GIL: threads share what they may, spoil nothing that they must not, and run side by side.

Everything here means something on any build. On a free-threaded one threads meet between any two instructions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi
from helpers import REPLY_BODY, STREAM_BODY, SessionPair, member, native, new_client, new_node, read
from threads import THREADS, Meanwhile, insist, run

FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_the_library_does_not_bring_the_gil_back() -> None:
    code = "import sys, atoma_crypto.hazmat, atoma_crypto.server.node; sys.exit(sys._is_gil_enabled())"
    env = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_thread_finishes_while_others_seal() -> None:
    """It finishes once, and every event that was given before is sound; a refused finish() has changed nothing."""
    for _ in range(10):
        pair = SessionPair()
        events: list[bytes] = []
        finished: list[bytes] = []

        def work(
            number: int, pair: SessionPair = pair, events: list[bytes] = events, finished: list[bytes] = finished
        ) -> None:
            try:
                while number != 0 or len(events) < 3 * THREADS:
                    events.append(insist(lambda: pair.node.seal_chunk(bytes([number]) * 4_000)))
                    if len(events) > 500:  # on one core one hardly ever gets in between seven others
                        time.sleep(1e-3)
            except ac.LocalProtocolError as exc:
                assert "'done'" in str(exc)  # noqa: PT017 - this thread may see no other end
            else:
                finished.append(insist(pair.node.finish))

        run(work)
        assert finished == [b""]
        assert len({member(event, "nonce") for event in events}) == len(events)
        pair.client.receive_data(b"".join(events))
        pair.client.receive_eof()
        chunks = list(pair.client.events())
        assert chunks.pop() == ac.EndOfStream(len(events), None)
        assert all(isinstance(chunk, ac.Chunk) and len(set(chunk.plaintext)) == 1 for chunk in chunks)


def test_eight_threads_read_what_one_feeds() -> None:
    """Every chunk is given to one of them, once, in order; the end is given to all."""
    pair = SessionPair()
    texts = [b"%d " % i * (i % 97) for i in range(1_500)]
    raw = b"".join(pair.node.seal_chunks(texts[i : i + 50]) for i in range(0, len(texts), 50))
    got: list[list[ac.Chunk]] = [[] for _ in range(THREADS)]
    ends: list[ac.EndOfStream] = []

    def work(number: int) -> None:
        if number == 0:
            for begin in range(0, len(raw), 20_000):
                piece = raw[begin : begin + 20_000]
                insist(partial(pair.client.receive_data, piece))
            insist(pair.client.receive_eof)
        while not isinstance(event := insist(pair.client.next_event), ac.EndOfStream):
            if isinstance(event, ac.Chunk):
                got[number].append(event)
        ends.append(event)

    run(work)
    assert ends == [ac.EndOfStream(len(texts), None)] * THREADS
    assert sorted((chunk.index, chunk.plaintext) for chunks in got for chunk in chunks) == list(enumerate(texts))
    for chunks in got:
        assert chunks == sorted(chunks, key=lambda chunk: chunk.index)


@pytest.mark.parametrize("usage", [None, {"n": 1}])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("most", [1, 3])
def test_other_threads_take_chunks_at_any_point_of_a_call(usage: Any, before: int, most: int) -> None:
    """What is opened and not given yet is taken without the lock: by threads, say, that were about to when we came."""

    def make() -> SessionPair:
        pair = SessionPair()
        for text in (b"0", b"1", b"2"):
            pair.client.receive_data(pair.node.seal_chunk(text, usage))
        pair.client.receive_eof()
        for _ in range(before):
            pair.client.next_event()
        return pair

    taken = 0
    for at in count(1):
        pair = make()
        ready = pair.client._opener.ready
        stolen: list[object] = []

        def steal(ready: Any = ready, stolen: list[object] = stolen) -> None:
            while ready and len(stolen) < most:
                stolen.append(ready.popleft())

        with Meanwhile(at, steal) as meanwhile:
            event = pair.client.next_event()
        if meanwhile.left > 0:
            break
        taken += len(stolen)
        rest = [event, *pair.client.events()] if isinstance(event, ac.Chunk) else [event]
        assert rest.pop() == ac.EndOfStream(3, usage)
        assert sorted(str(chunk) for chunk in rest + stolen) == sorted(
            str(ac.Chunk(b"%d" % i, i, usage)) for i in range(before, 3)
        )
    assert taken


def test_another_thread_seals_at_any_point_of_an_abort() -> None:
    """What was sealed before it can be read, and then the abort: as an event, or as an object if it is all there is."""
    forms: set[bool] = set()
    for at in count(1):
        pair = SessionPair(protocol="v2")
        given: list[bytes] = []

        def seal(pair: SessionPair = pair, given: list[bytes] = given) -> None:
            with suppress(ac.LocalProtocolError):  # too late
                given.append(pair.node._sealer.event(b"x", None))  # as a thread that the session has let through

        with Meanwhile(at, seal) as meanwhile:
            aborted = pair.node.abort("CODE", "text", 500)
        if meanwhile.left > 0:
            break
        forms.add(aborted.startswith(b"data: "))
        if given:
            pair.client.receive_data(given[0] + aborted)
            assert pair.client.next_event() == (b"x", 0, None)
        with pytest.raises(ac.RemoteAbortError, match="CODE"):
            _ = pair.client.next_event() if given else pair.client.open_response(aborted)
    assert forms == {True, False}


def test_an_event_that_came_just_before_an_abort_is_followed_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above at one point, without a tracer, which would hide the lines from the one that measures coverage."""
    pair = SessionPair(protocol="v2")
    kind: Any = type(pair.node._sealer)
    given: list[bytes] = []
    seal_object = kind._object

    def sealed_first(sealer: Any, *rest: Any) -> bytes:
        given.append(sealer.event(b"x", None))
        raw: bytes = seal_object(sealer, *rest)
        return raw

    monkeypatch.setattr(kind, "_object", sealed_first)
    aborted = pair.node.abort("CODE", "text", 500)
    pair.client.receive_data(given[0] + aborted)
    assert pair.client.next_event() == (b"x", 0, None)
    with pytest.raises(ac.RemoteAbortError, match="CODE"):
        pair.client.next_event()


def test_what_else_is_wrong_with_an_abort_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SessionPair(protocol="v2").node

    def refuse(*_: object) -> bytes:
        raise ValueError("too long")

    monkeypatch.setattr(type(node._sealer), "_object", refuse)
    with pytest.raises(ValueError, match="too long"):
        node.abort("CODE", "text", 500)


def test_one_thread_closes_while_others_read() -> None:
    """What they were given is right, and then the session is closed: never anything else."""
    texts = [b"%d " % i * 50 for i in range(500)]
    for _ in range(10):
        pair = SessionPair()
        pair.client.receive_data(pair.node.seal_chunks(texts))
        got: list[ac.Chunk] = []

        def work(number: int, pair: SessionPair = pair, got: list[ac.Chunk] = got) -> None:
            try:
                while number != 0 or len(got) < 50:
                    event = insist(pair.client.next_event)
                    if isinstance(event, ac.Chunk):
                        got.append(event)
                insist(pair.client.close)
            except ac.SessionClosedError:
                pass

        run(work)
        assert len({chunk.index for chunk in got}) == len(got)
        assert all(chunk.plaintext == texts[chunk.index] for chunk in got)


class Call(NamedTuple):
    """One call of a session, and a check of what it gave."""

    session: ac.ClientSession | ac.NodeSession
    run: Callable[[], Any]
    check: Callable[[Any], object]
    pair: SessionPair | None = None
    locked: bool = False  # all of it, so that other threads may as well come between lines alone


def sealing_the_first_chunk() -> Call:
    pair = SessionPair()

    def check(event: bytes) -> None:
        assert read(pair.client, [event], eof=False).chunks == [(b"x", 0, None)]

    return Call(pair.node, lambda: pair.node.seal_chunk(b"x"), check, pair)


def sealing_a_chunk() -> Call:
    pair = SessionPair()
    read(pair.client, [pair.node.seal_chunk(b"first")], eof=False)

    def check(event: bytes) -> None:
        assert read(pair.client, [event], eof=False).chunks == [(b"x", 1, None)]

    return Call(pair.node, lambda: pair.node.seal_chunk(b"x"), check, pair)


def sealing_chunks() -> Call:
    pair = SessionPair()

    def check(events: bytes) -> None:
        assert read(pair.client, [events], eof=False).chunks == [(b"x", 0, None), (b"y", 1, None)]

    return Call(pair.node, lambda: pair.node.seal_chunks([b"x", b"y"]), check, pair)


def reading_a_chunk() -> Call:
    pair = SessionPair()
    pair.client.receive_data(pair.node.seal_chunks([b"x", b"y"]))

    def check(event: ac.Chunk) -> None:
        assert event == (b"x", 0, None)

    return Call(pair.client, pair.client.next_event, check)


def receiving() -> Call:
    pair = SessionPair()

    def check(given: object) -> None:
        assert given is None

    return Call(pair.client, lambda: pair.client.receive_data(b":\n\n"), check)


def requesting() -> Call:
    session = new_client()

    def check(envelope: bytes) -> None:
        assert new_node().open_request(envelope).body == REPLY_BODY

    return Call(session, lambda: session.seal_request(REPLY_BODY, stream=False), check, locked=True)


def opening() -> Call:
    session, envelope = new_node(), new_client().seal_request(STREAM_BODY, stream=True)

    def check(request: ac.Request) -> None:
        assert request.body == STREAM_BODY

    return Call(session, lambda: session.open_request(envelope), check, locked=True)


def at_every_point(make: Callable[[], Call], act: Callable[[Any], object]) -> Iterator[tuple[Call, Any, Any]]:
    """For each point of a call, with another thread that does `act` with the session at that point, to its end.

    Gives the call, what it gave, and what the other gave: an exception where one was raised.
    """
    for at in count(1):
        call = make()
        others: list[object] = []

        def other(call: Call = call, others: list[object] = others) -> None:
            try:
                others.append(act(call.session))
            except ac.LocalProtocolError as exc:
                others.append(exc)

        def meet(other: Callable[[], None] = other) -> None:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

        own: Any
        with Meanwhile(at, meet, lines=call.locked) as meanwhile:
            try:
                own = call.run()
            except ac.LocalProtocolError as exc:
                own = exc
        if meanwhile.left > 0:
            return
        if not isinstance(own, BaseException):
            call.check(own)
        yield call, own, others[0]


SEALING: Final = [sealing_the_first_chunk, sealing_a_chunk, sealing_chunks]
CALLS: Final = [*SEALING, reading_a_chunk, receiving, requesting, opening]


@pytest.mark.parametrize("make", CALLS)
def test_a_session_is_closed_at_any_point_of_a_call(make: Callable[[], Call]) -> None:
    """One of the two is refused, or the call is done and then the session closed: nothing is closed under a call."""
    kept = closed = 0
    for call, own, other in at_every_point(make, lambda session: session.close()):
        if other is None:
            closed += 1
            if isinstance(own, BaseException):
                assert type(own) in {ac.SessionClosedError, ac.ConcurrentUseError}
            assert not any(bytes(ffi.buffer(ffi.addressof(native(call.session), "aes"))))
            with pytest.raises(ac.SessionClosedError):
                call.run()
        else:
            assert type(other) is ac.ConcurrentUseError
            assert not isinstance(own, BaseException)
        kept += not isinstance(own, BaseException)
    assert kept
    assert closed


@pytest.mark.parametrize("make", SEALING)
def test_a_session_is_finished_at_any_point_of_a_call(make: Callable[[], Call]) -> None:
    """The same with finish(), after which nothing is sealed; refused, it has changed nothing."""
    kept = refused = 0
    for call, own, other in at_every_point(make, lambda session: session.finish()):
        if isinstance(own, BaseException):
            refused += 1
            assert (type(own), other) == (ac.LocalProtocolError, b"")
            assert "the session's state is 'done'" in str(own)
        else:
            kept += 1
            assert other == b"" or type(other) is ac.ConcurrentUseError
        if other != b"":
            assert isinstance(call.session, ac.NodeSession)
            assert call.session.finish() == b""
        with pytest.raises(ac.LocalProtocolError, match="'done'"):
            call.run()
    assert kept
    assert refused


@pytest.mark.parametrize("make", SEALING)
def test_another_thread_seals_at_any_point_of_a_call(make: Callable[[], Call]) -> None:
    """It is refused, or both have sealed what they were given, under nonces of their own."""
    both = 0
    for call, own, other in at_every_point(make, lambda session: session.seal_chunk(b"other")):
        assert call.pair is not None
        if isinstance(other, BaseException):
            assert type(other) is ac.ConcurrentUseError
            continue
        both += 1
        nonces = [member(event, "nonce") for event in (own + other).split(b"\n\n")[:-1]]
        assert len(set(nonces)) == len(nonces)
        assert [text for text, _, _ in read(call.pair.client, [other]).chunks] == [b"other"]
    assert both


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_another_thread_reads_at_any_point_of_a_call(chunks: int) -> None:
    """It is refused, or they have read one after the other: each chunk once, and the end as often as one asks."""

    def make() -> Call:
        pair = SessionPair()
        pair.client.receive_data(pair.node.seal_chunks([b"%d" % i for i in range(chunks)]))
        pair.client.receive_eof()
        return Call(pair.client, pair.client.next_event, lambda _: None, pair)

    both = 0
    for call, own, other in at_every_point(make, lambda session: session.next_event()):
        events = [event for event in (own, other) if type(event) is not ac.ConcurrentUseError]
        both += len(events) == 2
        while len(events) < chunks + 2:
            events.append(call.run())
        end = ac.EndOfStream(chunks, None)
        assert sorted(events, key=str) == [
            *((b"%d" % i, i, None) for i in range(chunks)),
            *[end] * (len(events) - chunks),
        ]
    assert both
