"""Mutants of the C core: each change of csrc/ that is listed in c/*.txt is made alone, and the checks must notice.

    mutants_c.py [--only NAME]... [--resume]

A list is made of entries:

    [v1-nonce-stands-still]
    file: ac_stream.c
    - if (++sealer->next_nonce[i] != 0) break;
    + if (sealer->next_nonce[i] != 0) break;
    also: stack, ct, python tests/test_stream.py
    survives: why no check can notice

Lines with `-` are the old text, which must stand in the file exactly once: a list that no longer fits fails loudly. Lines
with `+` are the new text; none is a text left out. Every mutant meets the C harness first, the fast tests before the slow
ones, then what `also` names. One that nothing notices must say in `survives` why that is right, and one that says so must
survive. What runs out of its time is killed, too: an endless loop is noticed.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from checks import Checks, Killed

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
CACHE = TOP / ".cache" / "mutants"


@dataclass
class Mutant:
    name: str
    where: str  # place in the list
    file: str = ""
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    survives: str = ""

    def digest(self) -> str:
        text = repr((self.file, self.old, self.new, self.also, self.survives))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(path: Path) -> Iterator[Mutant]:
    mutant: Mutant | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        if line.startswith("[") and line.endswith("]"):
            if mutant is not None:
                yield mutant
            mutant = Mutant(line[1:-1], where)
        elif line == "" or line.startswith("#"):
            continue
        elif mutant is None:
            sys.exit(f"{where}: no [name] before this")
        elif line == "+" or line.startswith("+ "):
            mutant.new.append(line[2:])
        elif line == "-" or line.startswith("- "):
            mutant.old.append(line[2:])
        elif line.startswith("file: "):
            mutant.file = line.removeprefix("file: ")
        elif line.startswith("also: "):
            mutant.also = line.removeprefix("also: ").split(", ")
        elif line.startswith("survives: "):
            mutant.survives = line.removeprefix("survives: ")
        elif mutant.survives and line.startswith("  "):
            mutant.survives += " " + line.strip()
        else:
            sys.exit(f"{where}: what is this?")
    if mutant is not None:
        yield mutant


def mutated(mutant: Mutant) -> str:
    text = (TOP / "csrc" / mutant.file).read_text(encoding="utf-8")
    old, new = "\n".join(mutant.old), "\n".join(mutant.new)
    times = text.count(old) if old else 0
    if times != 1:
        sys.exit(f"{mutant.where}: {mutant.name}: the old text stands {times} times in csrc/{mutant.file}, not once")
    if old == new:
        sys.exit(f"{mutant.where}: {mutant.name}: nothing is changed")
    return text.replace(old, new)


def read_lists() -> list[Mutant]:
    mutants = [mutant for path in sorted((HERE / "c").glob("*.txt")) for mutant in parse(path)]
    names = [mutant.name for mutant in mutants]
    for name in names:
        if names.count(name) != 1:
            sys.exit(f"two mutants are called {name}")
    for mutant in mutants:
        mutated(mutant)  # before the first is run: the list must fit as a whole
    return mutants


def run(mutant: Mutant, checks: Checks) -> dict[str, object]:
    csrc = CACHE / "csrc"
    shutil.rmtree(csrc, ignore_errors=True)
    shutil.copytree(TOP / "csrc", csrc, ignore=shutil.ignore_patterns("__pycache__"))
    (csrc / mutant.file).write_text(mutated(mutant), encoding="utf-8")
    begin = time.monotonic()
    killed = ""
    try:
        checks.harness(csrc, mutant.file)
        for check in mutant.also:
            checks.named(check, csrc, mutant.file)
    except Killed as by:
        killed = str(by)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{mutant.name} cannot be built:\n{error.stderr}")
    return {"killed": killed, "seconds": round(time.monotonic() - begin, 1), "digest": mutant.digest()}


def verdict(mutant: Mutant, result: dict[str, object]) -> tuple[str, bool]:
    if result["killed"] and mutant.survives:
        return f"killed by {result['killed']}, though it is said to survive", False
    if result["killed"]:
        return f"killed by {result['killed']}", True
    if mutant.survives:
        return f"survived, explained: {mutant.survives}", True
    return "SURVIVED", False


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutants of the C core.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this one; may be repeated")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts of the last run where nothing changed")
    options = parser.parse_args()
    mutants = read_lists()
    if unknown := set(options.only) - {mutant.name for mutant in mutants}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    CACHE.mkdir(parents=True, exist_ok=True)
    store = CACHE / "c.json"
    results: dict[str, dict[str, object]] = {}
    if (options.resume or options.only) and store.exists():
        results = json.loads(store.read_text(encoding="utf-8"))
    checks = Checks(TOP, CACHE)
    checks.control()
    bad, by = 0, dict.fromkeys(("killed", "explained", "bad"), 0)
    for mutant in mutants:
        if options.only and mutant.name not in options.only:
            continue
        result = results.get(mutant.name, {})
        if not options.resume or result.get("digest") != mutant.digest():
            result = results[mutant.name] = run(mutant, checks)
            store.write_text(json.dumps(results, indent=1), encoding="utf-8")
        text, good = verdict(mutant, result)
        by["bad" if not good else "killed" if result["killed"] else "explained"] += 1
        bad += not good
        sys.stdout.write(f"{mutant.file:18} {mutant.name:40} {result['seconds']:6} s  {text}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{sum(by.values())} mutants of the C core: {by['killed']} killed, {by['explained']} explained, {bad} bad\n")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
