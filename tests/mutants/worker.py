"""Runs tests in children that it forks, so that what does not change is imported once. It runs where the tests do.

It is told on standard input, a line of JSON each time: the tests, and the seconds that they may take. It answers
"killed", "survived" or "timeout". What is mutated must not be imported here.
"""

import importlib
import json
import os
import resource
import signal
import sys

# What the tests import, but for what stands on the package itself.
HEAVY = "pytest hypothesis cffi nacl.bindings cryptography.hazmat.primitives.ciphers.aead httpx redis anyio"
KILLED_BY_CLOCK = {signal.SIGKILL, signal.SIGXCPU, signal.SIGALRM}


def child(tests: list[str], seconds: int) -> int:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    signal.alarm(2 * seconds)  # one that only waits
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    options = ["-q", "-x", "-m", "not long", "-p", "no:benchmark", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-o", "timeout=0"]  # pytest's own clock would make a failure of one that waits
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # they were imported
    return int(pytest.main([*options, *tests]))


def main() -> None:
    for name in HEAVY.split():
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                status = child(order["tests"], order["seconds"])
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            answer = "timeout" if os.WTERMSIG(status) in KILLED_BY_CLOCK else "killed"
        else:
            answer = "survived" if os.WEXITSTATUS(status) == 0 else "killed"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
