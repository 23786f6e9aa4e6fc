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
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope, hazmat
from atoma_crypto._core import ffi
from helpers import REPLY_BODY, STREAM_BODY, SessionPair, member, native, new_client, new_node, node_key, read
from threads import THREADS, insist, run

FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
CORES: Final = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
side_by_side = pytest.mark.skipif(CORES == 1, reason="one core runs one thread at a time")


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_the_library_does_not_bring_the_gil_back() -> None:
    code = "import sys, atoma_crypto.hazmat, atoma_crypto.server.node; sys.exit(sys._is_gil_enabled())"
    env = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class Meanwhile:
    """Does something at the n-th point of our own code on the way, as another thread could; none is left if `left`.

    A point is before an instruction, or only before a line. The parsers in `_envelope` have nothing that is shared.
    """

    FILES: Final = {str(path) for path in Path(ac.__file__).parent.glob("*.py")} - {_envelope.__file__}

    def __init__(self, at: int, do: Callable[[], object], *, lines: bool = False) -> None:
        self.left = at
        self._do = do
        self._event = "line" if lines else "opcode"

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code.co_filename not in self.FILES:
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        if event == self._event:
            self.left -= 1
            if self.left == 0:
                self._do()  # not traced itself
        return self._trace

    def __enter__(self) -> Meanwhile:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


# ---- one session ----------------------------------------------------------------------------------------------------


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
