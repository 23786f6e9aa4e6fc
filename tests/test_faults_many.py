"""A hundred thousand sessions open at once: each works, and their memory comes back."""

from __future__ import annotations

import sys
from multiprocessing import get_context

import pytest

import memory


def many(count: int) -> None:
    """Client and node make two of each exchange, of v1 and v2 in turn."""
    memory.one_round(memory.both, ["v1", "v2"], 100)
    before = memory.resident()
    first = memory.one_round(memory.both, ["v1", "v2"], count // 2)
    grown = first.opened - before
    assert first.left - before < grown / 5, (before, first)
    again = count // 10
    second = memory.one_round(memory.both, ["v1", "v2"], again)
    # what is left of the first round is used again, or a fifth as much was left for good
    assert second.opened - before < grown * 2 * again / count + grown / 5, (before, first, second)
    assert second.left - before < grown / 5, (before, first, second)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is asked for as Linux tells it")
def test_a_hundred_thousand_sessions_at_once() -> None:
    process = get_context("spawn").Process(target=many, args=(100_000,))
    process.start()
    process.join()
    assert process.exitcode == 0
