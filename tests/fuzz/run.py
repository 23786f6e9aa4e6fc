"""Runs the targets one after the other, each on one core, and says what came of it in one line.

python -m fuzz.run check SECONDS TARGET...      a finding is a failure; its input is kept
python -m fuzz.run controls SECONDS TARGET...   with the planted fault: no finding is a failure
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

# What the target's input can be; longer ones make few executions, and say no more.
OPTIONS: Final = ("-max_len=1024", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1")


def run(target: str, seconds: int, *, planted: bool) -> tuple[bool, str]:
    """Whether the target ended without a finding, and what it had to say."""
    name = f"{target}-control" if planted else target
    corpus = Path("corpus", name)
    if planted:  # a corpus that has grown before would be no control of what is found within seconds
        for old in (*corpus.glob("*"), *Path().glob(f"finding-{name}-*")):
            old.unlink()
    corpus.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"fuzz.{target}", *OPTIONS, f"-artifact_prefix=finding-{name}-"]
    environment = os.environ | ({"ATOMA_CRYPTO_FUZZ_FAULT": "1"} if planted else {})
    log = Path(f"{name}.log")
    with log.open("w", encoding="utf-8") as output:
        ended = subprocess.run(
            [*command, f"-max_total_time={seconds}", str(corpus)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return ended.returncode == 0, log.read_text(encoding="utf-8", errors="replace")


def figure(pattern: str, log: str) -> str:
    found = re.findall(pattern, log)
    return found[-1] if found else "?"


def check(target: str, seconds: int) -> bool:
    began = time.monotonic()
    good, log = run(target, seconds, planted=False)
    count = figure(r"stat::number_of_executed_units: *(\d+)", log)
    speed = figure(r"stat::average_exec_per_sec: *(\d+)", log)
    covered, inputs = figure(r" cov: (\d+)", log), figure(r" corp: (\d+)", log)
    verdict = "ok" if good else "FINDING"
    print(
        f"{target:<11}{verdict}: {count} executions in {time.monotonic() - began:.0f} s, {speed} a second, "
        f"{covered} edges, {inputs} inputs",
        flush=True,
    )
    if not good:
        print("\n".join(log.splitlines()[-60:]))
    return good


def control(target: str, seconds: int) -> bool:
    began = time.monotonic()
    good, log = run(target, seconds, planted=True)
    found = not good and "Uncaught Python exception" in log and "planted" in log
    said = re.findall(r"AssertionError: (.*)", log)
    print(
        f"{target:<11}{'found' if found else 'NOT FOUND'} after {time.monotonic() - began:.0f} s: "
        f"{said[0] if said else log.splitlines()[-1:]}",
        flush=True,
    )
    return found


def main() -> int:
    command, seconds, *targets = sys.argv[1:]
    ask = {"check": check, "controls": control}[command]
    return 0 if all([ask(target, int(seconds)) for target in targets]) else 1


if __name__ == "__main__":
    sys.exit(main())
