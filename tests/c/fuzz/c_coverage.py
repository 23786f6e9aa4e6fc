"""Lines of the core that the harness and the corpora of the fuzz targets reach, together.

    c_coverage.py LIBSODIUM TARGET...

Prints lines for each file, and fails under LEAST percent in all, for a line that none reaches and unreached.txt does
not explain, and for an explanation of a line that is reached after all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from c.fuzz.run import CACHE, HERE, TOP, say, seeds, tree

LEAST = 95
HARNESS = HERE.parent
CSRC = TOP / "csrc"
OUT = CACHE / "coverage"
COUNT = ["-fprofile-instr-generate", "-fcoverage-mapping"]
SHARED = ["fuzz.c", "oracle.c", "exchange.c"]


def call(*command: str, judged: bool = True, **environment: str) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, cwd=OUT, check=False)
    if judged and done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stdout.decode()[-2000:]}{done.stderr.decode(errors='replace')[-3000:]}")
    return done.stdout.decode()


def compile_all(sodium: Path, targets: list[str]) -> list[Path]:
    """The core is compiled once, with counters; who calls it, without. Returns what is to be run."""
    flags = ["clang", "-std=c11", "-O1", "-g", "-pthread", f"-I{CSRC}", f"-I{OUT}", "-isystem", f"{sodium}/include"]
    for version, name in (("atoma_v1.json", "vectors.h"), ("v2.json", "vectors_v2.h")):
        call(
            sys.executable, str(HARNESS / "gen_vectors.py"), str(HARNESS.parent / "vectors" / version), str(OUT / name)
        )
    core = sorted(CSRC.glob("ac_*.c"))
    call(*flags, *COUNT, "-c", *map(str, core))
    objects = [f"{file.stem}.o" for file in core]
    library = f"{sodium}/lib/libsodium.a"
    call(*flags, *COUNT, "-o", "harness", *map(str, sorted(HARNESS.glob("*.c"))), *objects, library)
    for target in targets:
        mine = [str(HERE / name) for name in (f"{target}.c", *SHARED)]
        call(*flags, *COUNT, "-fsanitize=fuzzer", "-o", target, *mine, *objects, library)
    return [OUT / "harness", *(OUT / target for target in targets)]


def lines_reached(programs: list[Path]) -> dict[str, dict[int, int]]:
    """File, line, how often."""
    version = call("clang", "-dumpversion").partition(".")[0]
    profdata, cov = (shutil.which(f"{name}-{version}") or name for name in ("llvm-profdata", "llvm-cov"))
    call(profdata, "merge", "-sparse", "-o", "all.profdata", *(f"{p.name}.profraw" for p in programs))
    others = [f"-object={program}" for program in programs[1:]]
    report = call(cov, "export", "-format=lcov", "-instr-profile=all.profdata", str(programs[0]), *others)
    files: dict[str, dict[int, int]] = {}
    name = ""
    for line in report.splitlines():
        kind, _, rest = line.partition(":")
        if kind == "SF":
            name = Path(rest).name if Path(rest).parent == CSRC else ""
        elif kind == "DA" and name:
            number, count = (int(part) for part in rest.split(",")[:2])
            counts = files.setdefault(name, {})
            counts[number] = max(counts.get(number, 0), count)  # a header is in many
    return files


def unreached_lines(files: dict[str, dict[int, int]]) -> set[str]:
    unreached = set()
    for name, counts in files.items():
        text = (CSRC / name).read_text(encoding="utf-8").splitlines()
        unreached |= {f"{name}: {text[number - 1].strip()}" for number, count in counts.items() if count == 0}
    return unreached


def explained_lines() -> set[str]:
    """Blocks of lines `file: text`, each under a comment that says why."""
    text = (HERE / "unreached.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in text if line and not line.startswith("#")}


def main() -> int:
    sodium, targets = Path(sys.argv[1]), sys.argv[2:]
    OUT.mkdir(parents=True, exist_ok=True)
    programs = compile_all(sodium, targets)
    for program in programs:
        inputs = [] if program.name == "harness" else ["-runs=0", str(tree(program.name)), str(seeds(program.name))]
        # The harness judges under its own flags (make test-c): its look for keys on the stack depends on them. What it
        # does not come to shows below as lines that none reaches.
        judged = program.name != "harness"
        call(str(program), *inputs, judged=judged, LLVM_PROFILE_FILE=f"{program.name}.profraw")
    files = lines_reached(programs)
    for name, counts in sorted(files.items()):
        say(f"{name:24} {sum(map(bool, counts.values())):>5} of {len(counts):>5} lines")
    reached = sum(bool(count) for counts in files.values() for count in counts.values())
    total = sum(map(len, files.values()))
    say(f"{'all':24} {reached:>5} of {total:>5} lines, {100 * reached / total:.2f} %")
    unreached, explained = unreached_lines(files), explained_lines()
    for line in sorted(unreached - explained):
        say(f"not reached, and not explained in unreached.txt: {line}")
    for line in sorted(explained - unreached):
        say(f"explained in unreached.txt, but reached or gone: {line}")
    return int(unreached != explained or 100 * reached < LEAST * total)


if __name__ == "__main__":
    sys.exit(main())
