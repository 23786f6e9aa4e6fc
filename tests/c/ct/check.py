"""Run the check for constant time on every AES backend, and see that each planted fault is found.

    check.py PROGRAM...

A program whose name begins with `msan` watches itself; the others run under valgrind, which does not have every
instruction, so a backend may be missing there. One that no program can run is missing on this CPU.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOUND = 99  # the exit status where something was reported
NO_BACKEND = 4


def command(program: Path) -> list[str]:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        sys.exit("valgrind is not installed")
    watcher = [] if program.name.startswith("msan") else [valgrind, "-q", f"--error-exitcode={FOUND}"]
    return [*watcher, str(program)]


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(program), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "MSAN_OPTIONS": f"exit_code={FOUND}"},
        check=False,
    )


def names(program: Path, kind: str) -> list[str]:
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


def judge(program: Path, backend: str, faults: Sequence[str]) -> tuple[str, list[str]]:
    """What can be said of a backend, and what is wrong with it."""
    clean = run(program, backend)
    if clean.returncode == NO_BACKEND:
        return "not there", []
    wrong = [] if clean.returncode == 0 else [f"status {clean.returncode}\n{clean.stderr[:4000]}"]
    for fault in faults:
        planted = run(program, backend, fault)
        if planted.returncode != FOUND:
            wrong.append(f"{fault} was not found: status {planted.returncode}\n{planted.stderr[:2000]}")
    return f"nothing reported, {len(faults)} planted faults found", wrong


def main(programs: Sequence[Path]) -> int:
    faults = names(programs[0], "fault")
    jobs = [(program, backend) for program in programs for backend in names(program, "backend")]
    if not faults or not jobs:
        sys.exit("nothing to check")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: judge(job[0], job[1], faults), jobs))
    failed = False
    ran = set()
    for (program, backend), (verdict, wrong) in zip(jobs, results, strict=True):
        sys.stdout.write(f"{program.name:10} {backend:10} {'FAILED' if wrong else verdict}\n")
        sys.stdout.writelines(f"  {text}\n" for text in wrong)
        failed |= bool(wrong)
        if verdict != "not there":
            ran.add(backend)
    for backend in dict.fromkeys(backend for _, backend in jobs if backend not in ran):
        sys.stdout.write(f"this CPU has no backend {backend}: it was not checked\n")
    if "portable" not in ran:
        sys.exit("not even the portable backend was checked")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main([Path(name).resolve() for name in sys.argv[1:]]))
