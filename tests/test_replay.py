"""The replay store in memory: nothing is admitted twice, whatever clocks, threads, forks, restarts and callers do."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import atoma_crypto as ac
from test_keyring import Clock
from threads import Meanwhile, run

NOW: Final = 1763808745.0
ID: Final = [bytes([number]) * 32 for number in range(12)]
LATER: Final = NOW + 360


def store(**more: Any) -> tuple[ac.MemoryReplayCache, Clock]:
    clock = Clock(NOW)
    return ac.MemoryReplayCache(**{"clock": clock, "fresh_key": True, **more}), clock


def refused(cache: ac.ReplayCache, request_id: bytes, expires_at: float, match: str = ".") -> bool:
    with pytest.raises(ac.ReplayStoreError, match=match) as caught:
        cache.admit(request_id, expires_at)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return True


# ---- one store ------------------------------------------------------------------------------------------------------


def test_an_id_is_admitted_once() -> None:
    cache, _ = store()
    for number, request_id in enumerate(ID):
        assert cache.admit(request_id, LATER + number) is True
        assert [cache.admit(one, LATER + 7) for one in ID[: number + 1]] == [False] * (number + 1)
    assert len(cache) == len(ID)


def test_what_a_store_before_this_one_may_have_admitted_is_refused() -> None:
    """Sent until a minute after its birth; a new key had no store before."""
    unknown, fresh = store(fresh_key=False)[0], store()[0]
    for sent_at in (0, NOW - 300, NOW, NOW + 5, NOW + 59, NOW + 60):
        assert refused(unknown, ID[0], sent_at + 360, "a store before this one")
    assert unknown.admit(ID[0], NOW + 61 + 360)
    assert not unknown.admit(ID[0], NOW + 60 + 360)
    assert fresh.admit(ID[0], 360)


def test_an_entry_lives_until_it_expires_and_is_not_admitted_after_that() -> None:
    cache, clock = store()
    assert cache.admit(ID[0], LATER)
    assert cache.admit(ID[1], LATER + 1)
    clock.now = LATER - 0.001
    assert not cache.admit(ID[0], LATER)
    clock.now = LATER
    assert refused(cache, ID[0], LATER, "admitted and forgotten")
    assert len(cache) == 1
    clock.now = NOW  # back
    assert refused(cache, ID[2], LATER, "admitted and forgotten")
    assert not cache.admit(ID[1], LATER + 1)
    assert cache.admit(ID[2], LATER + 0.5)


def test_a_full_store_forgets_nothing_and_refuses() -> None:
    cache, clock = store(capacity=3)
    assert [cache.admit(one, LATER + n) for n, one in enumerate(ID[:3])] == [True] * 3
    assert refused(cache, ID[3], LATER + 9, "the replay store is full")
    assert not any(cache.admit(one, LATER) for one in ID[:3])
    clock.now = LATER
    assert cache.admit(ID[3], LATER + 9)
    assert refused(cache, ID[4], LATER + 9, "the replay store is full")


def test_a_store_of_one() -> None:
    cache, _ = store(capacity=1)
    assert cache.admit(ID[0], LATER)
    assert refused(cache, ID[1], LATER, "the replay store is full")


def test_the_first_and_the_last_second_that_there_is() -> None:
    cache, _ = store()
    assert cache.admit(ID[0], 0)
    assert cache.admit(ID[1], 2**53 + 360)


def test_a_store_that_keeps_until_it_is_closed_does_not_look_at_the_clock() -> None:
    cache, clock = store(keep_until_closed=True, capacity=2)
    assert cache.admit(ID[0], LATER)
    for clock.now in (1e12, 0.0, float("nan"), float("inf"), NOW):
        assert not cache.admit(ID[0], LATER)
    assert cache.admit(ID[1], 360)
    assert refused(cache, ID[2], LATER, "full")
    cache.close()
    cache.close()
    assert len(cache) == 0
    for one in ID[:3]:
        assert refused(cache, one, LATER + 1e6, "this replay store is closed")


@pytest.mark.parametrize("broken", [float("nan"), float("-inf"), float("inf"), -1e300])
def test_a_clock_that_is_broken(broken: float) -> None:
    cache, clock = store()
    assert cache.admit(ID[0], LATER)
    clock.now = broken
    try:
        assert not cache.admit(ID[0], LATER)
    except ac.ReplayStoreError:
        assert broken == float("inf")
    clock.now = NOW
    for _ in range(2):
        assert refused(cache, ID[0], LATER) if broken == float("inf") else not cache.admit(ID[0], LATER)


@pytest.mark.parametrize("birth", [float("nan"), float("inf")])
def test_a_store_whose_birth_is_not_known_admits_nothing(birth: float) -> None:
    cache = ac.MemoryReplayCache(clock=Clock(birth))
    assert refused(cache, ID[0], 2**53)


def test_arguments() -> None:
    cache, _ = store()
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: ac.MemoryReplayCache(capacity=0), ValueError, "capacity must be at least 1"),
        (lambda: ac.MemoryReplayCache(capacity=1.0), TypeError, "capacity must be int"),  # type: ignore[arg-type] # tested
        (lambda: ac.MemoryReplayCache(clock=5), TypeError, "clock must be a function"),  # type: ignore[arg-type] # tested
        (lambda: cache.admit("0" * 32, LATER), TypeError, "request_id must be bytes"),  # type: ignore[arg-type] # tested
        (lambda: cache.admit(bytes(31), LATER), ValueError, "request_id must be 32 bytes, not 31"),
        (lambda: cache.admit(ID[0], "1"), TypeError, "expires_at must be a number"),  # type: ignore[arg-type] # tested
        (lambda: cache.admit(ID[0], True), TypeError, "expires_at must be a number"),
        *[
            (lambda value=value: cache.admit(ID[0], value), ValueError, "expires_at must be seconds since 1970")
            for value in (float("nan"), float("inf"), -1, 2**53 + 361)
        ],
    ]
    for call, error, text in wrong:
        with pytest.raises(error, match=text):
            call()
    assert len(cache) == 0


def test_a_store_is_not_copied_and_shows_nothing() -> None:
    with store()[0] as cache:
        cache.admit(ID[1], LATER)
        assert repr(cache) == "<MemoryReplayCache>"
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="not to be pickled or copied"):
                make(cache)
    assert repr(cache) == "<MemoryReplayCache closed>"


# ---- any order ------------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Any clock movement, against the whole history: each id has one expiry, as its envelope has one `sent_at`."""

    @initialize(fresh=st.booleans(), keeps=st.booleans(), capacity=st.sampled_from([2, 100]))
    def begin(self, fresh: bool, keeps: bool, capacity: int) -> None:
        self.cache, self.clock = store(fresh_key=fresh, keep_until_closed=keeps, capacity=capacity)
        self.history: set[bytes] = set()
        self.fresh, self.keeps, self.capacity = fresh, keeps, capacity
        self.latest = NOW  # that the clock has ever told when it was asked

    @rule(to=st.sampled_from([-1e9, -400.0, -60.0, -1.0, 0.0, 1.0, 59.0, 61.0, 300.0, 361.0, 1e9, float("nan")]))
    def the_clock_is_set(self, to: float) -> None:
        self.clock.now = NOW + to

    @rule(seconds=st.sampled_from([1.0, 30.0, 299.0]))
    def time_goes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(number=st.integers(0, 11))
    def admit(self, number: int) -> None:
        request_id, sent_at = ID[number], NOW - 300 + 60 * number
        self.latest = max(self.latest, self.clock.now)
        try:
            admitted = self.cache.admit(request_id, sent_at + 360)
        except ac.ReplayStoreError as error:
            told = str(error)
        else:
            assert admitted is (request_id not in self.history)
            self.history.add(request_id)
            return
        why = {
            "a store before this one may have admitted the request": not self.fresh and sent_at <= NOW + 60,
            # with a clock that was never wrong such a request is not timely
            "the request may have been admitted and forgotten": not self.keeps and sent_at + 360 <= self.latest,
            "the replay store is full": len(self.cache) == self.capacity,
        }
        assert why[told]


Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestAnyOrder = Machine.TestCase


# ---- threads, signal handlers, child processes ----------------------------------------------------------------------


def test_of_many_threads_one_is_admitted() -> None:
    cache, clock = store()
    for number in range(60):
        request_id = number.to_bytes(32, "big")
        answers: list[bool] = []
        run(lambda _: answers.append(cache.admit(request_id, clock.now + 360)))  # noqa: B023 - it ends here
        assert sorted(answers) == [False] * 7 + [True]
        clock.now += 9  # so that some are forgotten
    assert 0 < len(cache) < 60


def test_a_store_that_is_used_at_any_point_of_its_use() -> None:
    """As by a signal handler: one of the two is admitted."""
    for at in count(1):
        cache, _ = store()
        answers: list[bool] = []
        with Meanwhile(at, lambda: answers.append(cache.admit(ID[0], LATER))) as meanwhile:  # noqa: B023 - it ends here
            answers.append(cache.admit(ID[0], LATER))
        if meanwhile.left > 0:
            break
        assert sorted(answers) == [False, True]
    assert at > 50


def test_a_store_that_is_closed_at_any_point_of_its_use() -> None:
    for at in count(1):
        cache, _ = store()
        meanwhile = Meanwhile(at, cache.close)
        try:
            with meanwhile:
                assert cache.admit(ID[0], LATER)
        except ac.ReplayStoreError:
            pass
        if meanwhile.left > 0:
            break
        assert refused(cache, ID[0], LATER, "closed")
    assert at > 50


class _Late(dict[bytes, object]):
    """Where another has been between the look and the insertion."""

    def __contains__(self, _: object) -> bool:
        return False


def test_the_insertion_decides_and_not_the_look_before_it() -> None:
    """One of the points above, without a tracer; and another."""
    cache, clock = store()
    cache._seen = _Late()
    assert [cache.admit(ID[0], LATER) for _ in range(2)] == [True, False]
    cache._seen = None
    clock.now = LATER
    assert refused(cache, ID[1], LATER + 1, "closed")


FORKED: Final = """
import os, sys, threading
import atoma_crypto as ac

key = ac.SecretKey.generate()
cache = key.replay_cache
assert cache.admit(bytes(32), 1e10)
inside, leave = threading.Event(), threading.Event()

def stay():
    with cache._lock:  # as a thread that is admitting
        inside.set()
        leave.wait()

thread = threading.Thread(target=stay)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    for number in (b"0", b"1"):
        try:
            cache.admit(number * 32, 1e10)
        except ac.ReplayStoreError as error:
            assert "before fork()" in str(error)
        else:
            os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
leave.set()
thread.join()
assert not cache.admit(bytes(32), 1e10) and cache.admit(b"0" * 32, 1e10)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_store_refuses_to_work_in_a_child() -> None:
    ran = subprocess.run([sys.executable, "-W", "error", "-c", FORKED], text=True, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


def test_a_child_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, in one process."""
    cache, _ = store()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert refused(cache, ID[0], LATER, "before fork")


# ---- keys have stores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_a_key_has_a_store_of_its_own(suite: Any) -> None:
    new, loaded = ac.SecretKey.generate(suite), ac.SecretKey.from_bytes(bytes(range(32)), suite)
    assert new.replay_cache.admit(ID[0], 360)
    assert refused(loaded.replay_cache, ID[0], 360)
    for key in (new, loaded):
        chosen = key.select(key.public_key.key_id)
        assert chosen is not None
        assert chosen.replay_cache is key.replay_cache
        assert key.select(bytes(8)) is None
        key.close()
        assert refused(chosen.replay_cache, ID[1], 2**40, "closed")
        with pytest.raises(ac.SessionClosedError):
            key.select(bytes(8))
