"""Programs of their own, for what is not to be done to the process that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent


def unmeasured() -> dict[str, str]:
    """The environment without coverage, which waits for ever where a signal has struck it while it held its lock."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}


def run_program(
    *arguments: str, path: Path = TESTS, env: dict[str, str] | None = None, timeout: int = 110
) -> subprocess.CompletedProcess[str]:
    """`python` with these arguments. It is not measured: coverage would be struck by what strikes here."""
    mine = unmeasured() | {"PYTHONPATH": str(path)} | (env or {})
    return subprocess.run([sys.executable, *arguments], text=True, capture_output=True, env=mine, timeout=timeout)


def in_child(work: Callable[[], object]) -> None:
    """In such a program: fork, and see that the child ends well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
