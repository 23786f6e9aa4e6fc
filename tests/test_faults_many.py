"""A hundred thousand sessions open at once: each works, and their memory comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from programs import run_program

BENCHMARKS: Final = Path(__file__).parent.parent / "benchmarks"

# Client and node make two of each exchange, of v1 and v2 in turn. `keep` is what is to be noticed: sessions that stay.
MANY: Final = """
import memory
make, kept = memory.both, []
if {keep}:
    def make(*args):
        kept.append(memory.both(*args))
        return kept[-1]
count = {count}
memory.one_round(make, ["v1", "v2"], 100)
before = memory.resident()
first = memory.one_round(make, ["v1", "v2"], count // 2)
grown = first.opened - before
assert first.left - before < grown / 5, (before, first)
second = memory.one_round(make, ["v1", "v2"], count // 10)
assert second.opened - before < grown / 2, (before, first, second)  # for a fifth of the sessions
assert second.left - before < grown / 5, (before, first, second)
"""


def run(count: int, *, keep: bool) -> subprocess.CompletedProcess[str]:
    return run_program("-c", MANY.format(count=count, keep=keep), path=BENCHMARKS, timeout=400)


linux = pytest.mark.skipif(sys.platform != "linux", reason="the resident set is asked for as Linux tells it")


@linux
@pytest.mark.long
@pytest.mark.timeout(420)
def test_a_hundred_thousand_sessions_at_once() -> None:
    done = run(100_000, keep=False)
    assert done.returncode == 0, done.stderr


@linux
@pytest.mark.long
def test_sessions_that_stay_are_noticed() -> None:
    done = run(3_000, keep=True)
    assert "AssertionError" in done.stderr
