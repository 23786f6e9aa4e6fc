"""Mutants of the C core: each change of csrc/ that is listed in c/*.txt is made alone, and the checks must notice.

    python -m mutants.mutants_c [--only NAME]... [--resume]

A list is made of entries:

    [v1-nonce-stands-still]
    file: ac_stream.c
    - if (++sealer->next_nonce[i] != 0) break;
    + if (sealer->next_nonce[i] != 0) break;
    also: stack, ct, proofs, python tests/test_stream.py
    survives: why no check can notice

Lines with `-` are the old text, which must stand in the file exactly once: a list that no longer fits fails loudly.
Lines with `+` are the new text; none is a text left out. Every mutant meets those tests of the C harness that are about
its file; those that are left meet the others, and then what `also` names. One that nothing notices must say in
`survives` why that is right, and one that says so must survive. What runs out of its time is killed, too: an endless
loop is noticed.
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

from mutants.checks import Checks, Noticed

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
        text = repr((self.file, self.old, self.new, self.also))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(path: Path) -> Iterator[Mutant]:
    mutant = Mutant("", path.name)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        kind, _, rest = line.partition(" ")
        if line.startswith("["):
            if mutant.name:
                yield mutant
            mutant = Mutant(line.strip("[]"), f"{path.name}:{number}")
        elif kind == "+":
            mutant.new.append(rest)
        elif kind == "-":
            mutant.old.append(rest)
        elif kind == "file:":
            mutant.file = rest
        elif kind == "also:":
            mutant.also = rest.split(", ")
        elif kind == "survives:":
            mutant.survives = rest
        elif mutant.survives and line.startswith("  "):
            mutant.survives += f" {line.strip()}"
        elif line and kind != "#":
            sys.exit(f"{path.name}:{number}: what is this?")
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


def run(mutant: Mutant, checks: Checks, quickly: bool) -> dict[str, object]:
    csrc = CACHE / "csrc"
    shutil.rmtree(csrc, ignore_errors=True)
    shutil.copytree(TOP / "csrc", csrc, ignore=shutil.ignore_patterns("__pycache__"))
    (csrc / mutant.file).write_text(mutated(mutant), encoding="utf-8")
    begin = time.monotonic()
    killed = ""
    try:
        checks.harness(csrc, mutant.file, quickly)
        for check in [] if quickly else mutant.also:
            checks.named(check, csrc, mutant.file)
    except Noticed as by:
        killed = str(by)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{mutant.name} cannot be built:\n{error.stderr}")
    return {"killed": killed, "seconds": round(time.monotonic() - begin, 1)}


def verdict(mutant: Mutant, killed: str) -> tuple[str, str]:
    """Its kind, and what to say."""
    if killed and mutant.survives:
        return "bad", f"killed by {killed}, though it is said to survive"
    if killed:
        return "killed", f"killed by {killed}"
    if mutant.survives:
        return "explained", f"survived, explained: {mutant.survives}"
    return "bad", "SURVIVED"


def judge(mutants: list[Mutant], results: dict[str, dict[str, object]], store: Path, checks: Checks) -> dict[str, int]:
    """Run those that have no result yet; how many there are of each kind."""
    kinds = dict.fromkeys(("killed", "explained", "bad"), 0)
    for quickly in (True, False):
        left = [m for m in mutants if m.name not in results or (not quickly and results[m.name]["quickly"])]
        checks.control(quickly, [check for mutant in mutants for check in mutant.also])
        for mutant in left:
            result = run(mutant, checks, quickly)
            again = quickly and not result["killed"]
            results[mutant.name] = {**result, "quickly": again, "digest": mutant.digest(), "tests": checks.digest}
            store.write_text(json.dumps(results, indent=1), encoding="utf-8")
            if not again:
                _, text = verdict(mutant, str(result["killed"]))
                sys.stdout.write(f"{mutant.file:18} {mutant.name:44} {result['seconds']:6} s  {text}\n")
                sys.stdout.flush()
    for mutant in mutants:
        kinds[verdict(mutant, str(results[mutant.name]["killed"]))[0]] += 1
    return kinds


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
    checks = Checks(TOP, CACHE)
    results: dict[str, dict[str, object]] = {}
    if (options.resume or options.only) and store.exists():
        digests = {mutant.name: mutant.digest() for mutant in mutants}
        results = {  # one that was killed stays killed; one that survived may meet a new test
            name: result
            for name, result in json.loads(store.read_text(encoding="utf-8")).items()
            if result["digest"] == digests.get(name) and (result["killed"] or result["tests"] == checks.digest)
        }
    for name in options.only:
        results.pop(name, None)
    kinds = judge([m for m in mutants if not options.only or m.name in options.only], results, store, checks)
    sys.stdout.write(
        f"{sum(kinds.values())} mutants of the C core: "
        f"{kinds['killed']} killed, {kinds['explained']} explained, {kinds['bad']} bad\n"
    )
    return kinds["bad"] != 0


if __name__ == "__main__":
    sys.exit(main())
