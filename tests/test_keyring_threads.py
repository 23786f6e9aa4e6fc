"""The keyring between threads, in signal handlers and in child processes: no request is lost, no key wiped in use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _state
from atoma_crypto._core import ffi
from helpers import REPLY_BODY
from test_keyring import Clock, opens, sealed, watched, wiped
from threads import THREADS, Meanwhile, run

ROTATIONS: Final = 20
AT_ONCE: Final = 7  # for each thread: more than a thousand requests in all


@pytest.mark.parametrize("by", ["clock", "hand"])
def test_a_thousand_requests_across_twenty_rotations(by: str) -> None:
    """All threads seal some requests; then one of them rotates while the others have theirs opened."""
    clock = Clock()
    keys = ac.NodeKeyring(rotate_after=10 if by == "clock" else None, grace=15, clock=clock)
    shown = [keys.public_key]
    late: list[ac.PublicKey] = []  # the keys of requests that were opened after a rotation
    answered: list[bytes] = []
    together = threading.Barrier(THREADS, timeout=60)

    def rounds(number: int) -> None:
        for i in range(ROTATIONS):
            batch = [(public_key := keys.public_key, *sealed(public_key)) for _ in range(AT_ONCE)]
            together.wait()
            if number == i % THREADS:
                if by == "hand":
                    keys.rotate()
                clock.now += 10
                shown.append(keys.public_key)
            for public_key, client, envelope in batch:
                node = ac.NodeSession(keys)
                assert node.open_request(envelope).body == REPLY_BODY
                if public_key != keys._rings[0].held[0].public_key:
                    late.append(public_key)
                answered.append(client.open_response(node.seal_response(b"%d" % len(shown))))
            together.wait()

    def work(number: int) -> None:
        try:
            rounds(number)
        except BaseException:
            together.abort()
            raise

    run(work)
    assert len(answered) == ROTATIONS * THREADS * AT_ONCE >= 1000
    assert len(set(shown)) == ROTATIONS + 1
    assert set(late) >= set(shown[:-1])
    assert len(late) >= ROTATIONS * AT_ONCE
    assert len(keys._rings[0].held) <= 3  # the clock has wiped the others


def test_many_threads_find_one_and_the_same_rotation() -> None:
    for _ in range(20):
        clock = Clock()
        keys = ac.NodeKeyring(clock=clock)
        first, memory = keys.public_key, watched(keys)
        clock.now += 3600
        seen: list[ac.PublicKey] = []
        run(lambda _: seen.append(keys.public_key))  # noqa: B023 - it ends before the next round
        assert len(seen) == THREADS
        assert len(set(seen)) == 1
        assert first not in seen
        clock.now += 300
        run(lambda _: seen.append(keys.public_key))  # noqa: B023 - as above
        assert len(set(seen)) == 1
        assert wiped(memory)


def test_a_key_that_is_in_use_is_wiped_when_its_last_user_is_done() -> None:
    clock = Clock()
    keys = ac.NodeKeyring(clock=clock)
    name, memory = keys.public_key.to_base64().encode(), watched(keys)
    before = bytes(ffi.buffer(memory))
    users = [keys.native_for(name), keys.native_for(name)]  # as calls into C hold it
    keys.rotate()
    clock.now += 300
    assert keys.native_for(name) not in users  # the current one, which the core refuses
    for end in (keys.rotate, keys.close):
        end()
        assert bytes(ffi.buffer(memory)) == before
    users.pop()
    assert bytes(ffi.buffer(memory)) == before
    users.pop()
    assert wiped(memory)


def test_a_key_is_rotated_out_and_wiped_at_any_point_of_its_use() -> None:
    """The request is opened, or its key is gone; wiped under a reader it would be something else."""
    outcomes = []
    for at in count(1):
        clock = Clock()
        keys = ac.NodeKeyring(grace=0, clock=clock)
        client, envelope = sealed(keys.public_key)
        node = ac.NodeSession(keys)
        meanwhile = Meanwhile(at, keys.rotate)
        try:
            with meanwhile:
                assert node.open_request(envelope).body == REPLY_BODY
            assert client.open_response(node.seal_response(b"{}")) == b"{}"
            outcomes.append(True)
        except ac.AuthenticationError:
            outcomes.append(False)
        except ac.SessionClosedError:  # wiped between two instructions under the lock: by a signal handler alone
            outcomes.append(False)
        if meanwhile.left > 0:
            break
    assert outcomes == sorted(outcomes)
    assert 0 < sum(outcomes) < len(outcomes)


def test_a_key_in_grace_is_found_whenever_another_rotates() -> None:
    for at in count(1):
        keys = ac.NodeKeyring()
        client, envelope = sealed(keys.public_key)
        node = ac.NodeSession(keys)
        with Meanwhile(at, keys.rotate) as meanwhile:
            assert node.open_request(envelope).body == REPLY_BODY
        assert client.open_response(node.seal_response(b"{}")) == b"{}"
        if meanwhile.left > 0:
            break
    assert at > 100


@pytest.mark.parametrize("name", ["public_key", "rotate", "due", "close"])
def test_a_keyring_closed_at_any_point_of_a_call_stays_closed(name: str) -> None:
    """As a signal handler may: no key is left, and none comes back."""
    calls: dict[str, Callable[[ac.NodeKeyring], object]] = {
        "public_key": lambda keys: keys.public_key,
        "rotate": lambda keys: keys.rotate(),
        "due": lambda keys: keys.offers(),
        "close": lambda keys: keys.close(),
    }
    refused = 0
    for at in count(1):
        clock = Clock()
        keys = ac.NodeKeyring(clock=clock)
        first = keys._rings[0].held[0]
        clock.now += 3600 if name == "due" else 0
        meanwhile = Meanwhile(at, keys.close)
        try:
            with meanwhile:
                calls[name](keys)
        except ac.SessionClosedError:
            refused += 1
        if meanwhile.left > 0:
            break
        assert keys._rings[0].held == ()
        assert first.key._native is None
        with pytest.raises(ac.SessionClosedError):
            keys.rotate()
    assert (refused > 0) == (name != "close")
    assert at > 10


def test_a_keyring_closed_in_the_middle_of_a_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the points above, without a tracer."""
    keys = ac.NodeKeyring(grace=0)
    memory = watched(keys)
    with monkeypatch.context() as patched:
        patched.setattr(ac.SecretKey, "close", lambda _self: keys.close())
        with pytest.raises(ac.SessionClosedError, match="this keyring is closed"):
            keys.rotate()
    assert keys._rings[0].held == ()
    assert wiped(memory)


# ---- child processes ------------------------------------------------------------------------------------------------

FORKED: Final = """
import os, sys, threading
sys.path.insert(0, {tests!r})
import atoma_crypto as ac
from test_keyring import Clock, opens, watched, wiped

clock = Clock()
keys = ac.NodeKeyring(clock=clock)
current = keys.public_key
inside, leave = threading.Event(), threading.Event()

def stay():
    with keys._lock:  # as a thread that is rotating
        inside.set()
        leave.wait()

thread = threading.Thread(target=stay)
thread.start()
inside.wait()
out, into = os.pipe()
child = os.fork()
if child == 0:
    try:
        memory = watched(keys)
        assert keys.public_key == current and opens(keys, current)
        clock.now += 3600
        own = keys.public_key
        assert own != current and opens(keys, own) and opens(keys, current)
        clock.now += 300
        assert not opens(keys, current) and wiped(memory)
        os.write(into, own.to_base64().encode())
        keys.close()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(repr(error))
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
leave.set()
thread.join()
childs = ac.PublicKey.from_base64(os.read(out, 100).decode())
assert keys.public_key == current and opens(keys, current) and not opens(keys, childs)
assert keys.rotate() not in (current, childs)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_child_goes_on_with_its_parents_keys_and_rotates_by_itself() -> None:
    code = FORKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], text=True, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_the_lock_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, in one process: all threads of the child get one lock, and it is a new one."""
    keys = ac.NodeKeyring()
    thread = threading.Thread(target=keys._lock.acquire)  # and it is gone, as in a child
    thread.start()
    thread.join()
    monkeypatch.setattr(_state, "_pid", _state._pid + 1)
    assert opens(keys, keys.public_key)
    for at in count(1):
        monkeypatch.setattr(_state, "_pid", _state._pid + 1)
        locks: list[Any] = []
        with Meanwhile(at, lambda: locks.append(keys._entered())) as meanwhile:  # noqa: B023 - it ends here
            locks.append(keys._entered())
        assert len({id(lock) for lock in locks}) == 1
        if meanwhile.left > 0:
            break
    assert at > 10
