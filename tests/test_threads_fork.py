"""Threads and processes: no nonce twice, nothing mixed up, and a child cannot seal with its parent's state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _state, hazmat
from atoma_crypto._core import ffi, lib
from helpers import SessionPair, native, new_client, read
from threads import THREADS, run

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")


def nonce_of(event: bytes) -> str:
    return str(json.loads(event.removeprefix(b"data: "))["nonce"])


def opened(pair: SessionPair, events: list[bytes]) -> list[bytes]:
    """Each event by itself, whatever its order."""
    got = read(pair.client, events, eof=False)
    assert got.end is None
    return [text for text, _, _ in got.chunks]


@pytest.mark.parametrize("batch", [False, True])
def test_eight_threads_on_one_session(batch: bool) -> None:
    """No nonce twice, and each call that went through sealed what its own thread gave it."""
    pair = SessionPair()
    made: list[list[tuple[bytes, bytes]]] = [[] for _ in range(THREADS)]

    def work(number: int) -> None:
        rounds = 0
        while rounds < 25:
            texts = [b"%d %d %d " % (number, rounds, i) + bytes([number]) * 3000 for i in range(3 if batch else 1)]
            try:
                raw = pair.node.seal_chunks(texts) if batch else pair.node.seal_chunk(texts[0])
            except ac.ConcurrentUseError:
                continue
            events = [event + b"\n\n" for event in raw.split(b"\n\n")[:-1]]
            made[number] += zip(texts, events, strict=True)
            rounds += 1

    run(work)
    pairs = [couple for one in made for couple in one]
    assert len(pairs) == THREADS * 25 * (3 if batch else 1)
    assert len({nonce_of(event) for _, event in pairs}) == len(pairs)
    assert opened(pair, [event for _, event in pairs]) == [text for text, _ in pairs]


def test_eight_threads_on_one_native_sealer() -> None:
    """The core's own guard, with no lock of Python's before it."""
    pair = SessionPair()
    sealer = native(pair.node)
    text = bytes(2000)
    need = lib.ac_v1_event_bytes(sealer, len(text), 0)
    made: list[list[bytes]] = [[] for _ in range(THREADS)]
    busy = [0] * THREADS

    def work(number: int) -> None:
        out = ffi.new("uint8_t[]", need)
        while len(made[number]) < 100:
            status = lib.ac_v1_event_seal(sealer, out, need, text, len(text))
            if status == lib.AC_ERR_BUSY:
                busy[number] += 1
                continue
            assert status == need
            made[number].append(bytes(ffi.buffer(out, need)))

    run(work)
    events = [event for one in made for event in one]
    assert len({nonce_of(event) for event in events}) == len(events) == 100 * THREADS
    assert opened(pair, events) == [text] * len(events)
    assert sealer.chunks_left == 2**32 - len(events)


def session_calls() -> list[Any]:
    return [
        pytest.param(lambda p: p.node.seal_chunk(b"x"), id="seal_chunk"),
        pytest.param(lambda p: p.node.seal_chunks([b"x"]), id="seal_chunks"),
        pytest.param(lambda p: p.node.finish(), id="finish"),
        pytest.param(lambda p: p.node.close(), id="node.close"),
        pytest.param(lambda p: p.node.__exit__(None, None, None), id="node.__exit__"),
        pytest.param(lambda p: p.node.open_request(b"{}"), id="open_request"),
        pytest.param(lambda p: p.node.seal_response(b"x"), id="seal_response"),
        pytest.param(lambda p: p.client.next_event(), id="next_event"),
        pytest.param(lambda p: p.client.receive_data(b"x"), id="receive_data"),
        pytest.param(lambda p: p.client.receive_eof(), id="receive_eof"),
        pytest.param(lambda p: p.client.open_response(b"{}"), id="open_response"),
        pytest.param(lambda p: p.client.seal_request(b"{}", stream=False), id="seal_request"),
        pytest.param(lambda p: p.client.close(), id="client.close"),
    ]


@pytest.mark.parametrize("call", session_calls())
def test_a_call_while_another_thread_is_inside(call: Callable[[SessionPair], object]) -> None:
    pair = SessionPair()
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
    before = (bytes(ffi.buffer(native(pair.node))), bytes(ffi.buffer(native(pair.client))))
    try:
        with pytest.raises(ac.ConcurrentUseError, match="another thread is inside this session"):
            call(pair)
        assert before == (bytes(ffi.buffer(native(pair.node))), bytes(ffi.buffer(native(pair.client))))
    finally:
        leave.set()
        thread.join()
    assert read(pair.client, [pair.node.seal_chunk(b"x")]).end == ac.EndOfStream(1, None)


def test_the_core_says_busy_and_changes_nothing() -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x")
    pair.client.receive_data(event)
    for session in (pair.node, pair.client):
        native(session).busy = 1
    with pytest.raises(ac.ConcurrentUseError, match="inside this object"):
        pair.node.seal_chunk(b"x")
    with pytest.raises(ac.ConcurrentUseError, match="inside this object"):
        pair.node.finish()
    with pytest.raises(ac.ConcurrentUseError, match="inside this object"):
        pair.node._sealer.close()
    with pytest.raises(ac.ConcurrentUseError, match="inside this object"):
        pair.client._opener.close()
    for session in (pair.node, pair.client):
        native(session).busy = 0
    assert pair.client.next_event() == (b"x", 0, None)
    assert opened(pair, [pair.node.seal_chunk(b"y")]) == [b"y"]
    assert pair.node.finish() == b""


def test_closing_while_others_seal() -> None:
    """close() is refused while a thread is inside, and clean when none is: no event is ever spoiled by it."""
    for _ in range(5):
        pair = SessionPair()
        made: list[list[bytes]] = [[] for _ in range(THREADS)]

        def step(number: int, pair: SessionPair = pair, made: list[list[bytes]] = made) -> bool:
            try:
                if number != 0:
                    made[number].append(pair.node.seal_chunk(bytes([number]) * 5_000))
                    return len(made[number]) == 50
                pair.node.close()
            except ac.ConcurrentUseError:
                return False
            except ac.SessionClosedError:
                pass
            return True

        def work(number: int, step: Callable[[int], bool] = step) -> None:
            while not step(number):
                pass

        run(work)
        sealer = native(pair.node)
        assert not any(bytes(ffi.buffer(ffi.addressof(sealer, "aes"))))
        for number, events in enumerate(made):
            assert opened(pair, events) == [bytes([number]) * 5_000] * len(events)


def test_closing_a_key_while_others_use_it() -> None:
    """Who is inside keeps the key until it is done: a result is right, or the key is closed."""
    text = bytes(1 << 20)
    right = hazmat.AES256GCM(bytes(32)).seal(bytes(12), text)
    for _ in range(5):
        key = hazmat.AES256GCM(bytes(32))
        results: list[bytes] = []

        def work(number: int, key: hazmat.AES256GCM = key, results: list[bytes] = results) -> None:
            try:
                while True:
                    results.append(key.seal(bytes(12), text))
                    if number == 0:
                        key.close()
            except ac.SessionClosedError:
                pass

        run(work)
        assert all(result == right for result in results)


@pytest.mark.parametrize("make", [ac.SecretKey.generate, ac.SigningKey.generate, lambda: hazmat.AES256GCM(bytes(32))])
def test_a_closed_key_lives_as_long_as_a_thread_is_inside(make: Callable[[], Any]) -> None:
    """What C was given stays as it is, until nobody holds it: only then it is wiped and freed."""
    key = make()
    name = "_key" if isinstance(key, hazmat.AES256GCM) else "_native"
    saved = getattr(key, name)
    wiped: list[bool] = []
    setattr(key, name, ffi.gc(saved, lambda _: wiped.append(True)))
    held = getattr(key, name)  # as a call into C holds it
    before = bytes(ffi.buffer(saved))
    key.close()
    assert wiped == []
    assert bytes(ffi.buffer(saved)) == before
    del held
    assert wiped == [True]


def test_many_sessions_of_one_key_at_once() -> None:
    """A key is read-only: sessions of their own may use it from any thread."""
    key = ac.SecretKey.generate()

    def work(number: int) -> None:
        for i in range(20):
            client = ac.ClientSession(key.public_key, model="m", stack_small_id=number, protocol="v1")
            node = ac.NodeSession(key, signing_key=bytes(32))
            request = node.open_request(client.seal_request(b'{"stream":true}', stream=True))
            assert request.stack_small_id == number
            text = b"%d %d" % (number, i)
            assert read(client, [node.seal_chunk(text)]).chunks == [(text, 0, None)]

    run(work)


# ---- fork -------------------------------------------------------------------------------------------------------

FORKED: Final = """
import json, os, sys, threading
sys.path.insert(0, {tests!r})
import atoma_crypto as ac
from atoma_crypto._core import ffi
from helpers import SessionPair, read, native
from programs import in_child

def nonce(event):
    return json.loads(event.removeprefix(b"data: "))["nonce"]

pair, reply, fresh = SessionPair(), SessionPair(stream=False), SessionPair()
events = [pair.node.seal_chunk(b"0")]

def refuse(call):
    try:
        call()
    except ac.LocalProtocolError as error:
        assert "before fork()" in str(error), error
    else:
        raise AssertionError("sealed")

def child(depth=0):
    for _ in range(2):  # it stays refused
        refuse(lambda: pair.node.seal_chunk(b"x"))
        refuse(lambda: pair.node.seal_chunks([b"x"] * 3))
        refuse(lambda: fresh.node.seal_chunk(b"x"))
        refuse(lambda: reply.node.seal_response(b"x"))
    own = SessionPair(node={{"signing_key": bytes(32)}})
    assert read(own.client, [own.node.seal_chunk(b"x")]).end == ac.EndOfStream(1, None)
    if depth == 0:
        # what the child has made, its own child must not use either
        def grandchild():
            refuse(lambda: own.node.seal_chunk(b"x"))
            child(1)
        in_child(grandchild)
        assert own.node.seal_chunk(b"y")
    native(pair.node).busy = 1  # as if a thread of the parent had been inside
    refuse(lambda: pair.node.seal_chunk(b"x"))
    pair.node.close()
    reply.node.close()
    for held in (pair.node, reply.node):
        try:
            held.seal_chunk(b"x")
        except ac.SessionClosedError:
            pass
        else:
            raise AssertionError("not closed")

in_child(child)
in_child(child)
events += [pair.node.seal_chunk(b"1"), fresh.node.seal_chunk(b"2")]
assert len(set(map(nonce, events))) == 3
assert read(pair.client, events[:2]).end == ac.EndOfStream(2, None)
assert reply.client.open_response(reply.node.seal_response(b"x")) == b"x"

# a child, while another thread is inside both sessions
inside, leave = threading.Event(), threading.Event()
def stay():
    for session, action in ((pair.node, "seal_chunk"), (pair.client, "next_event")):
        session._begin(action)
        native(session).busy = 1  # in the core, even
    inside.set()
    leave.wait()
    for session in (pair.node, pair.client):
        native(session).busy = 0
        session._end()
pair = SessionPair()
thread = threading.Thread(target=stay)
thread.start()
inside.wait()

def refused(call, error=ac.LocalProtocolError):
    try:
        call()
    except ac.LocalProtocolError as caught:
        assert type(caught) is error, caught
    else:
        raise AssertionError("entered")

def wiped(session):
    return not any(bytes(ffi.buffer(ffi.addressof(native(session), "aes"))))

def calls():
    return (lambda: pair.node.seal_chunk(b"x"), pair.node), (lambda: pair.client.next_event(), pair.client)

def locked():
    for call, session in calls():
        refused(call)
        refused(call)
        assert wiped(session)
        session.close()
        refused(call, ac.SessionClosedError)

def closed():
    for call, session in calls():
        session.close()
        assert wiped(session)
        refused(call, ac.SessionClosedError)

def two_threads():
    # in the child, too, only one at a time
    own = fresh.client
    own._begin("next_event")
    caught = []
    def other():
        try:
            own.next_event()
        except ac.LocalProtocolError as error:
            caught.append(type(error))
    second = threading.Thread(target=other)
    second.start()
    second.join()
    assert caught == [ac.ConcurrentUseError], caught
    own._end()
    assert own.next_event() is ac.NEED_DATA

for work in (locked, closed, two_threads):
    in_child(work)
for call, _ in calls():
    refused(call, ac.ConcurrentUseError)
leave.set()
thread.join()
assert read(pair.client, [pair.node.seal_chunk(b"3")]).end == ac.EndOfStream(1, None)
print("done")
"""


@forks
def test_a_child_cannot_seal_and_the_parent_goes_on() -> None:
    code = FORKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_the_lock_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, in one process: the lock that a thread holds is no obstacle where that thread is not."""
    _state._forked()
    pair = SessionPair()
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        pair.client._begin("next_event")
        inside.set()
        leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait()
    try:
        with pytest.raises(ac.ConcurrentUseError):
            pair.client.close()
        monkeypatch.setattr(_state, "_pid", _state._pid + 1)
        with pytest.raises(ac.LocalProtocolError, match=r"^next_event: a call before was interrupted"):
            pair.client.next_event()
        pair.client.close()
    finally:
        leave.set()
        thread.join()


def test_a_client_can_be_read_by_one_thread_after_another() -> None:
    """Not at once, but it belongs to no thread."""
    pair = SessionPair()
    got: list[object] = []
    for i in range(3):
        pair.client.receive_data(pair.node.seal_chunk(b"%d" % i))
        thread = threading.Thread(target=lambda: got.append(pair.client.next_event()))
        thread.start()
        thread.join()
    assert got == [(b"0", 0, None), (b"1", 1, None), (b"2", 2, None)]
    assert new_client()


def test_a_child_closes_what_a_thread_of_its_parent_was_inside_of() -> None:
    pair = SessionPair()
    thread = threading.Thread(target=pair.node._lock.acquire)  # and it is gone, as in a child
    thread.start()
    thread.join()
    with pytest.raises(ac.ConcurrentUseError):
        pair.node.close()
    pair.node._pid = -1
    pair.node.close()
    assert not any(bytes(ffi.buffer(ffi.addressof(native(pair.node), "aes"))))
