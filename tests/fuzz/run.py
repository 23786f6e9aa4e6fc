"""Runs the targets one after the other, each on one core, and says what came of it in one line.

python -m fuzz.run check SECONDS TARGET...      a finding is a failure; its input is kept
python -m fuzz.run controls SECONDS TARGET...   with faults planted, one at a time: no finding is a failure
python -m fuzz.run seeds SECONDS TARGET...      what the corpora have by now, as few inputs as reach all of it
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

# What the target's input can be; longer ones make few executions, and say no more.
OPTIONS: Final = ("-max_len=1024", "-len_control=20", "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1")
NO_SUCH_FAULT: Final = 3  # as the engine says it, which cannot be imported here: it would load libFuzzer
SEEDS: Final = Path(__file__).parent / "seeds"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what it is for


def start(target: str, name: str, *options: str, fault: str = "") -> tuple[int, str]:
    """Run a target to its end: its exit status, 0 without a finding, and what it had to say."""
    command = [sys.executable, "-m", f"fuzz.{target}", *OPTIONS, f"-artifact_prefix=finding-{name}-", *options]
    environment = os.environ | {"ATOMA_CRYPTO_FUZZ_FAULT": fault}
    log = Path(f"{name}.log")
    with log.open("w", encoding="utf-8") as output:
        ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    return ended.returncode, log.read_text(encoding="utf-8", errors="replace")


def figure(pattern: str, log: str) -> str:
    found = re.findall(pattern, log)
    return str(found[-1]) if found else "?"


def sown(target: str) -> Path:
    """The corpus, the seeds among it: one line of base64 each."""
    corpus = Path("corpus", target)
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = SEEDS / f"{target}.txt"
    for line in seeds.read_bytes().split() if seeds.exists() else ():
        seed = base64.b64decode(line)
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(
            seed
        )  # the name libFuzzer gives it
    return corpus


def check(target: str, seconds: int) -> bool:
    began = time.monotonic()
    status, log = start(target, target, f"-max_total_time={seconds}", str(sown(target)))
    count = figure(r"stat::number_of_executed_units: *(\d+)", log)
    speed = figure(r"stat::average_exec_per_sec: *(\d+)", log)
    edges, inputs = figure(r" cov: (\d+)", log), figure(r" corp: (\d+)", log)
    say(
        f"{target:<11}{'FINDING' if status else 'ok'}: {count} executions in {time.monotonic() - began:.0f} s, "
        f"{speed} a second, {edges} edges, {inputs} inputs"
    )
    if status:
        say("\n".join(log.splitlines()[-60:]))
    return status == 0


def control(target: str, seconds: int) -> bool:
    """Each fault, from nothing: neither corpus nor seeds have seen it, and may not be what finds it."""
    good, number = True, 0
    while True:
        began, name = time.monotonic(), f"{target}-control-{number}"
        for old in Path().glob(f"finding-{name}-*"):
            old.unlink()
        status, log = start(target, name, f"-max_total_time={seconds}", fault=str(number))
        if status == NO_SUCH_FAULT:
            return good and number > 0
        found = status != 0 and any(Path().glob(f"finding-{name}-crash-*"))
        said = figure(r"Uncaught Python exception: ===\n(.*)", log)
        say(f"{name:<21}{'found' if found else 'NOT FOUND'} after {time.monotonic() - began:.0f} s: {said}")
        good, number = good and found, number + 1


def seeds(target: str, _seconds: int) -> bool:
    corpus, few = sown(target), Path("few", target)
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir(parents=True)
    status, _ = start(target, f"{target}-seeds", "-set_cover_merge=1", str(few), str(corpus))
    inputs = sorted((path.read_bytes() for path in few.iterdir()), key=lambda seed: (len(seed), seed))
    SEEDS.mkdir(exist_ok=True)
    (SEEDS / f"{target}.txt").write_bytes(b"".join(base64.b64encode(seed) + b"\n" for seed in inputs))
    say(f"{target:<11}{len(inputs)} of {len(list(corpus.iterdir()))} inputs")
    return status == 0


def main() -> int:
    command, seconds, *targets = sys.argv[1:]
    ask = {"check": check, "controls": control, "seeds": seeds}[command]
    verdicts = [ask(target, int(seconds)) for target in targets]  # all of them, whatever one says
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
