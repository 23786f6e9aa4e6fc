"""Count the instructions of fixed operations under callgrind, and compare them with those that are written down.

    check.py [--update] PROGRAM EXPECTED

EXPECTED is JSON: what the counts were made with (compiler, C library, CPU), and the counts for each backend. Made with
anything else, counts say nothing about the code: that is an error in CI, and a note elsewhere.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BACKENDS = ("portable", "aesni")  # valgrind does not know VAES
TOLERANCE = 0.01

Counts = dict[str, int]


def valgrind(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("valgrind")
    if program is None:
        sys.exit("valgrind is not installed")
    # An empty environment: what lies on the stack at the start then lies at the same place on every machine.
    return subprocess.run([program, "-q", *arguments], capture_output=True, text=True, check=False, env={})


def made_with(program: Path) -> str:
    return valgrind("--tool=none", str(program)).stdout.strip()


def count(program: Path, backend: str) -> Counts:
    counts = {}
    with tempfile.TemporaryDirectory() as room:
        out = Path(room, "profile")
        done = valgrind(
            "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}", str(program), backend
        )
        if done.returncode != 0:
            sys.exit(done.stderr)
        for profile in sorted(out.parent.glob("profile.*"), key=lambda path: int(path.suffix[1:])):
            text = profile.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = int(total[1])
    return counts


def differences(expected: Counts, counts: Counts) -> list[str]:
    lines = []
    for name in dict.fromkeys((*expected, *counts)):
        before, now = expected.get(name, 0), counts.get(name, 0)
        if abs(now - before) > TOLERANCE * before:
            change = f"{(now - before) / before:+.1%}" if before else "new"
            lines.append(f"{name}: {before:,} instructions expected, {now:,} counted ({change})")
    return lines


def main(program: Path, expected: Path, *, update: bool) -> int:
    identity = made_with(program)
    pinned: dict[str, Any] = json.loads(expected.read_text()) if expected.exists() else {}
    if not update and pinned.get("made with") != identity:
        sys.stdout.write(f"no counts are pinned for {identity}, only for {pinned.get('made with')}\n")
        return int("CI" in os.environ)
    counts = {backend: count(program, backend) for backend in BACKENDS}
    if not all(counts.values()):
        sys.exit("nothing was counted")
    changed = [
        f"{backend}: {line}" for backend in BACKENDS for line in differences(pinned.get(backend, {}), counts[backend])
    ]
    sys.stdout.writelines(f"{line}\n" for line in changed)
    if update:
        expected.write_text(json.dumps({"made with": identity, **counts}, indent=2) + "\n")
        return 0
    if changed:
        sys.stdout.write("if that is as it should be: make counts-update, and commit what it writes\n")
        return 1
    operations = sum(len(of_backend) for of_backend in counts.values())
    sys.stdout.write(f"{operations} operations take the instructions that are expected, within {TOLERANCE:.0%}\n")
    return 0


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:] if argument != "--update"]
    sys.exit(main(paths[0].resolve(), paths[1], update="--update" in sys.argv))
