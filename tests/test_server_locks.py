"""The lock table against a clock that the test moves."""

import pytest

from atoma_crypto.server.locks import MAX_TIMEOUT_SECONDS, LockTable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lock_is_used_up_by_one_request(clock: Clock) -> None:
    table = LockTable(clock=clock)
    assert table.acquire()
    assert table.consume(table.stack_small_id, 8192)
    assert not table.consume(table.stack_small_id, 8192)
    assert len(table) == 0


def test_a_lock_must_be_large_enough_and_stays_when_it_is_not(clock: Clock) -> None:
    table = LockTable(clock=clock)
    table.acquire(max_num_tokens=10)
    assert not table.consume(table.stack_small_id, 11)
    assert table.consume(table.stack_small_id, 10)


def test_the_smallest_lock_that_is_large_enough_is_taken(clock: Clock) -> None:
    table = LockTable(clock=clock)
    for size in (100, 10, 1000):
        table.acquire(max_num_tokens=size)
    assert table.consume(table.stack_small_id, 11)  # takes 100
    assert not table.consume(table.stack_small_id, 1001)
    assert table.consume(table.stack_small_id, 1000)
    assert table.consume(table.stack_small_id, 0)
    assert len(table) == 0


def test_of_two_locks_of_one_size_the_one_that_ends_first_is_taken(clock: Clock) -> None:
    table = LockTable(clock=clock)
    table.acquire(timeout=50)
    table.acquire(timeout=5)
    assert table.consume(table.stack_small_id, 8192)
    clock.now += 49
    assert table.consume(table.stack_small_id, 8192)


def test_a_lock_ends_at_its_timeout_and_not_before(clock: Clock) -> None:
    table = LockTable(clock=clock)
    table.acquire(timeout=5)
    table.acquire(timeout=6)
    clock.now += 4.999
    assert table.consume(table.stack_small_id, 1)
    clock.now += 1.001
    assert not table.consume(table.stack_small_id, 1)
    assert len(table) == 0


def test_a_lock_without_time_is_none(clock: Clock) -> None:
    table = LockTable(clock=clock)
    assert table.acquire(timeout=0)
    assert not table.consume(table.stack_small_id, 1)


def test_no_lock_lives_longer_than_the_longest_timeout(clock: Clock) -> None:
    table = LockTable(clock=clock)
    table.acquire(timeout=2**64 - 1)
    table.acquire(timeout=2**64 - 1)
    clock.now += MAX_TIMEOUT_SECONDS - 1
    assert table.consume(table.stack_small_id, 1)
    clock.now += 1
    assert not table.consume(table.stack_small_id, 1)


def test_a_lock_is_good_for_its_own_stack_alone(clock: Clock) -> None:
    table, other = LockTable(clock=clock), LockTable(clock=clock)
    table.acquire()
    assert table.stack_small_id != other.stack_small_id
    assert not table.consume(other.stack_small_id, 1)
    assert table.consume(table.stack_small_id, 1)


def test_the_stack_id_is_a_number_that_javascript_keeps() -> None:
    ids = {LockTable().stack_small_id for _ in range(50)}
    assert len(ids) == 50
    assert all(0 < stack_id < 2**53 for stack_id in ids)


def test_a_full_table_takes_no_more_until_a_lock_ends_or_is_used(clock: Clock) -> None:
    table = LockTable(capacity=2, clock=clock)
    assert table.acquire(timeout=5)
    assert table.acquire(timeout=500)
    assert not table.acquire()
    assert len(table) == 2
    clock.now += 5
    assert table.acquire(timeout=500)
    assert not table.acquire()
    assert table.consume(table.stack_small_id, 1)
    assert table.acquire()


def test_one_client_cannot_hold_a_table_for_longer_than_a_minute(clock: Clock) -> None:
    table = LockTable(capacity=1, clock=clock)
    assert table.acquire(timeout=600)
    clock.now += 60
    assert table.acquire()
