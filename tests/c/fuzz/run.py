"""Run the fuzz targets, one behind the other, on one core.

    run.py check BIN SECONDS TARGET...     each for so many seconds, from its corpora
    run.py regress BIN 0 TARGET...         the corpora of the tree alone
    run.py merge BIN 0 TARGET...           what reaches more lines goes from the corpora that have grown into the tree

One line for each target, and one for the sum, which also goes into .cache/fuzz/log. A crash leaves its input in
.cache/fuzz/crashes, and makes the exit status 1; the other targets still run. What it was is printed too, and the input
in hex: `xxd -r -p` makes a file of that again, for the target to be called with.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
CACHE = TOP / ".cache" / "fuzz"
# The longest input. A byte of a tape stands for a whole event or message; the others are read as they are, and a whole
# event of v1 is to be among them.
LONGEST = {"base64": 192, "json": 700, "gcm": 48, "events_v1": 160, "events_v2": 160, "requests": 160}
MOST_LINES, LONGEST_LINE, LONGEST_CRASH = 30, 200, 4096  # of what is printed of a crash
FAILURE = re.compile(r"^\w+\.c:\d+: .*|ERROR: \w+: .*|.*runtime error: .*", re.MULTILINE)
SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0:quarantine_size_mb=16:detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def seeds(target: str) -> Path:
    """What the vectors hold of real JSON, behind the byte that chooses a reader."""
    place = CACHE / "seeds" / target
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if target == "json":
        v1 = json.loads((TOP / "tests/vectors/atoma_v1.json").read_text(encoding="utf-8"))
        v2 = json.loads((TOP / "tests/vectors/v2.json").read_text(encoding="utf-8"))
        events = [chunk["sse"] + "\n\n" for chunk in v1["stream"]["chunks"]]
        events += [record["event"] for entry in v2 for record in entry.get("records", []) if "event" in record]
        texts = [v1["response"]["envelope"], *(event[6:].rstrip() for event in events)]
        for i, raw in enumerate([b"\x02" + event.encode() for event in events] + [b"\x03" + t.encode() for t in texts]):
            if len(raw) > LONGEST[target]:  # libFuzzer would cut it, and it would be JSON no more
                sys.exit(f"a seed of {target} has {len(raw)} bytes, more than {LONGEST[target]}")
            (place / f"vector-{i}").write_bytes(raw)
    return place


def tree(target: str) -> Path:
    """The corpus of the tree, a line of hex for each input, as a directory of files."""
    place = CACHE / "tree" / target
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    packed = HERE / "corpus" / f"{target}.hex"
    for i, line in enumerate(packed.read_text(encoding="ascii").splitlines() if packed.exists() else []):
        (place / f"{i:04}").write_bytes(bytes.fromhex(line))
    return place


def libfuzzer(binary: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, **SANITIZERS}
    done = subprocess.run(
        [str(binary), *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    return done.returncode, done.stderr.decode(errors="replace")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def crash(text: str) -> str:
    """What was wrong, where, and with which input: where the log is all that is left, as in CI, that is enough."""
    failure = FAILURE.search(text)
    lines = text[failure.start() :].splitlines()[:MOST_LINES] if failure else text.splitlines()[-MOST_LINES:]
    lines = [line[:LONGEST_LINE] for line in lines]
    for name in re.findall(r"Test unit written to (\S+)", text):
        raw = Path(name).read_bytes()
        cut = f", the first {LONGEST_CRASH}" if len(raw) > LONGEST_CRASH else ""
        lines += [f"{Path(name).name}, {len(raw)} bytes{cut}:", raw[:LONGEST_CRASH].hex()]
    return "\n".join(f"    {line}" for line in lines)


def number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def run(target: str, binary: Path, seconds: int) -> tuple[int, str, bool]:
    """Executions, the line to print, and whether all was well. 0 seconds: the corpora of the tree alone."""
    grown, crashes = CACHE / "corpus" / target, CACHE / "crashes"
    for place in (grown, crashes):
        place.mkdir(parents=True, exist_ok=True)
    longest = LONGEST.get(target, 200)
    arguments = ["-print_final_stats=1", f"-artifact_prefix={crashes}/{target}-", "-timeout=10", f"-max_len={longest}"]
    arguments.append("-entropic=0")  # its bookkeeping takes up to half of the time
    if target == "json":
        arguments.append(f"-dict={HERE / 'json.dict'}")
    if seconds:
        arguments += [f"-max_total_time={seconds}", str(grown), str(tree(target)), str(seeds(target))]
    else:
        arguments += ["-runs=0", str(tree(target)), str(seeds(target))]
    before = time.monotonic()
    status, text = libfuzzer(binary, *arguments)
    elapsed = time.monotonic() - before
    executions = number(r"stat::number_of_executed_units:\s+(\d+)", text)
    edges, inputs = number(r"cov: (\d+)", text), number(r"corp: (\d+)", text)
    rate = executions / max(elapsed, 1)
    line = f"{target:10} {executions:>11,} executions {rate:>8,.0f}/s {edges:>5} edges {inputs:>5} inputs"
    if status != 0:
        (crashes / f"{target}.log").write_text(text, encoding="utf-8")
        line += f"  FAILED: see {(crashes / target).relative_to(TOP)}.log\n{crash(text)}"
    return executions, line, status == 0


def merge(target: str, binary: Path) -> str:
    """Anew, by edges alone, smallest first."""
    grown = CACHE / "corpus" / target
    grown.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        status, text = libfuzzer(binary, "-merge=1", "-use_counters=0", name, str(tree(target)), str(grown))
        if status != 0:
            sys.exit(text)
        inputs = sorted((file.read_bytes() for file in Path(name).iterdir()), key=lambda raw: (len(raw), raw))
    (HERE / "corpus").mkdir(exist_ok=True)
    packed = "".join(raw.hex() + "\n" for raw in inputs if raw)
    (HERE / "corpus" / f"{target}.hex").write_text(packed, encoding="ascii")
    return f"{target:10} {len(inputs):>4} inputs, {sum(map(len, inputs)):>6} bytes"


def main() -> int:
    what, binaries, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    total, failed, lines = 0, False, []
    for target in sys.argv[4:]:
        if what == "merge":
            say(merge(target, binaries / target))
            continue
        executions, line, good = run(target, binaries / target, seconds)
        total += executions
        failed |= not good
        lines.append(line)
        say(line)
    if what == "check":
        lines.append(f"{'total':10} {total:>11,} executions, {seconds} seconds for each target")
        say(lines[-1])
        with (CACHE / "log").open("a", encoding="utf-8") as log:
            log.write("\n".join([time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), *lines, ""]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
