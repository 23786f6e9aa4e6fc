"""Mutants of the Python: cosmic-ray's, of the modules where a wrong line is a hole, against the tests that must notice.

    python -m mutants.mutants_py PYTHON [--only MODULE]... [--resume]

PYTHON runs the tests; this program runs where cosmic-ray is installed. It works on a copy of the tree, in .cache. A
mutant that survives must be explained in python/MODULE.txt:

    - the line
    + what the mutant makes of it; further such lines may follow
    survives: why no test can notice

A line that stands in the module more than once is given with its place among its likes: `- return False (2 of 2)`. An
explanation of what does not survive, or is no mutant, is an error: the lists must not rot.

Not every mutant that cosmic-ray knows is made. OPERATORS says which: of each comparison its negation and its neighbour,
of each arithmetic operation one other, numbers by one up and down, conditions, `and` and `or`, truth values, loops,
exceptions. Type annotations, strings, what stands in f-strings (error texts, reprs), `strict=` of
zip() (an assertion) and decorators are left alone.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast  # type: ignore[import-not-found] # in an environment of its own
from cosmic_ray.mutating import mutate_code  # type: ignore[import-not-found] # as above
from cosmic_ray.plugins import get_operator, operator_names  # type: ignore[import-not-found] # as above

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
COPY = TOP / ".cache" / "mutants" / "python"
SECONDS = 60  # of CPU for the tests of one mutant; they take one to six

OPERATORS = re.compile(
    r"core/(ReplaceComparisonOperator_"
    r"(Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_GtE|LtE_Gt|Gt_LtE|GtE_Lt|Is_IsNot|IsNot_Is|In_NotIn|NotIn_In)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Add|Div_Mul|FloorDiv_Mul|Mod_Mul|LShift_RShift|Pow_Mul)"
    r"|NumberReplacer|AddNot|ReplaceOrWithAnd|ReplaceAndWithOr|ReplaceFalseWithTrue|ReplaceTrueWithFalse"
    r"|ExceptionReplacer|ZeroIterationForLoop|ReplaceContinueWithBreak|ReplaceBreakWithContinue)"
)

# The most important first; of each the tests that should notice first, the most likely first.
MODULES = {
    "_state": "test_state test_client test_node test_v2_node test_interrupts test_threads_fork test_v2_threads_fork",
    "_opener_v1": "test_stream test_client test_stream_limits",
    "_opener_v2": "test_v2_streams test_v2_client test_v2_answers test_v2_secrets test_xwing",
    "_opener": "test_stream test_v2_streams test_client test_v2_client test_interleavings test_stream_limits "
    "test_v2_answers",
    "_sealer_v1": "test_stream test_node",
    "_sealer_v2": "test_v2_streams test_v2_node test_v2_answers test_free_threading",
    "_sealer": "test_stream test_v2_streams test_node test_v2_node test_v2_answers test_stream_limits",
    "_v2": "test_v2_client test_v2_node test_v2_records",
    "_envelope": "test_envelope test_client test_node",
    "_envelope_v2": "test_v2_envelope test_v2_client test_v2_node test_v2_answers",
    "node": "test_node test_v2_node test_replay_sessions test_keyring test_v2_answers test_length_hiding test_padding",
    "client": "test_client test_v2_client test_v2_answers test_length_hiding test_padding",
    "replay": "test_replay test_replay_sessions",
    "records": "test_v2_records",
    "_sse": "test_sse test_stream test_v2_streams",
    "_padding": "test_padding test_length_hiding",
    "_offers": "test_offers test_keyring test_keyring_v2",
    "keyring": "test_keyring test_keyring_states test_keyring_rings test_keyring_candidates test_keyring_v2",
}
KILLED = {"killed", "timeout"}
# Those that survive unexplained meet what looks at all: interruption, threads, secrets, vectors, no memory.
WIDER = (
    "test_interleavings test_trust test_v2_secrets test_secrets test_wiped test_xwing test_v2_vectors "
    "test_v2_reference test_v1_vectors test_v2_envelope test_v2_agreement test_stream_agreement test_core "
    "test_interrupts test_threads_fork test_v2_threads_fork test_keyring_threads test_threads_keys test_faults_memory "
    "test_attested_clients"
)

Place = tuple[int, int]  # line and column


def left_alone(source: str) -> list[tuple[Place, Place]]:
    """From where to where type annotations, texts with values in them, and `strict=` of zip() go."""
    nodes: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        parts = (getattr(node, "annotation", None), getattr(node, "returns", None), node)
        nodes += [part for part in parts[:2] if isinstance(part, ast.expr)]
        nodes += [part for part in parts[2:] if isinstance(part, ast.JoinedStr)]
        if isinstance(node, ast.keyword) and node.arg == "strict":
            nodes.append(node.value)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)) for node in nodes
    ]


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """The name of each mutant, and its text; no text twice."""
    seen, ranges, tree = {source}, left_alone(source), get_ast(source)
    for name in sorted(filter(OPERATORS.fullmatch, operator_names())):
        operator = get_operator(name)()
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for occurrence, (at, _) in enumerate(places):
            if any(begin <= tuple(at) < end for begin, end in ranges):
                continue
            text = mutate_code(source, operator, occurrence)
            if text is not None and text not in seen:
                seen.add(text)
                yield f"{name.removeprefix('core/')}:{occurrence}", text


def difference(old: str, new: str) -> tuple[str, str]:
    """The line that differs, before (and which of its likes it is) and after: a mutant changes one."""
    before, after = ([line.strip() for line in text.splitlines()] for text in (old, new))
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), -1)
    line, likes = before[at], [i for i, like in enumerate(before) if like == before[at]]
    which = f" ({likes.index(at % len(before)) + 1} of {len(likes)})" if len(likes) > 1 else ""
    return line + which, after[at]


def explanations(module: str) -> dict[tuple[str, str], str]:
    path = HERE / "python" / f"{module}.txt"
    found: dict[tuple[str, str], str] = {}
    old, new = "", list[str]()
    known: list[tuple[str, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1):
        if line.startswith("- "):
            old, new = line[2:], []
        elif line.startswith("+ "):
            new.append(line[2:])
        elif line.startswith("survives: "):
            known = [(old, each) for each in new]
            found.update(dict.fromkeys(known, line.removeprefix("survives: ")))
        elif line.startswith("  ") and known:
            found.update({key: f"{found[key]} {line.strip()}" for key in known})
        elif line and not line.startswith("#"):
            sys.exit(f"{path.name}:{number}: what is this?")
    return found


class Worker:
    def __init__(self, python: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(COPY / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        script = [python, str(HERE / "worker.py")]
        pipe = subprocess.PIPE
        process = subprocess.Popen(script, stdin=pipe, stdout=pipe, text=True, cwd=COPY, env=environment)
        if process.stdin is None or process.stdout is None:
            sys.exit("no pipes")
        self.orders, self.answers = process.stdin, process.stdout

    def run(self, tests: list[str]) -> str:
        self.orders.write(json.dumps({"tests": tests, "seconds": SECONDS}) + "\n")
        self.orders.flush()
        return self.answers.readline().strip() or sys.exit("the worker has ended")


def copy_tree() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    for name in ("src", "tests", "docs", "examples", "csrc"):
        shutil.copytree(TOP / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__", "mutants", "_native.c"))
    shutil.copy(TOP / "pyproject.toml", COPY)


def check(module: str, worker: Worker, store: Path, resume: bool) -> tuple[int, int, int]:
    """Killed, explained and bad ones."""
    path = COPY / "src" / "atoma_crypto" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    lots = [[f"tests/{name}.py" for name in lot.split()] for lot in (MODULES[module], WIDER)]
    stamp = hashlib.sha256(source.encode()).hexdigest()
    judges = hashlib.sha256(b"".join((COPY / test).read_bytes() for test in chain(*lots))).hexdigest()
    old = json.loads(store.read_text(encoding="utf-8")) if resume and store.exists() else {}
    results: dict[str, str] = old["results"] if old.get("stamp") == stamp else {}
    unchanged = old.get("tests") == judges
    if not unchanged:  # one that was killed stays killed; one that survived may meet a new test
        results = {name: result for name, result in results.items() if result in KILLED}
    if not (results and unchanged) and any(worker.run(lot) != "survived" for lot in lots):
        sys.exit(f"{module} itself does not pass its tests")
    explained = explanations(module)
    unused, begin = set(explained), time.monotonic()
    killed = good = bad = 0
    for name, text in mutants(source):
        change = difference(source, text)
        if name not in results or (results[name] == "explained" and change not in explained):
            path.write_text(text, encoding="utf-8")
            results[name] = worker.run(lots[0])
            if results[name] == "survived":
                results[name] = "explained" if change in explained else worker.run(lots[1])
            path.write_text(source, encoding="utf-8")
            store.write_text(json.dumps({"stamp": stamp, "tests": judges, "results": results}), encoding="utf-8")
        if results[name] in KILLED:
            killed += 1
            continue
        unused.discard(change)
        if change in explained:
            good += 1
        else:
            bad += 1
            sys.stdout.write(f"{module}: SURVIVED {name}\n- {change[0]}\n+ {change[1]}\n")
            sys.stdout.flush()
    for old_line, new_line in sorted(unused):
        bad += 1
        sys.stdout.write(f"{module}: explained, but it does not survive, or is no mutant\n- {old_line}\n+ {new_line}\n")
    total = killed + good + bad - len(unused)
    sys.stdout.write(
        f"{module}: {total} mutants, {killed} killed ({list(results.values()).count('timeout')} by the clock), "
        f"{good} explained, {bad} bad, {time.monotonic() - begin:.0f} s\n"
    )
    sys.stdout.flush()
    return killed, good, bad


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutants of the Python.")
    parser.add_argument("python", help="the interpreter of the environment that the tests run in")
    parser.add_argument("--only", action="append", default=[], choices=sorted(MODULES), metavar="MODULE")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts of the last run where nothing changed")
    options = parser.parse_args()
    copy_tree()
    worker = Worker(str(Path(options.python).absolute()))
    counts = [0, 0, 0]
    for module in MODULES:
        if not options.only or module in options.only:
            store = COPY.parent / f"python-{module}.json"
            counts = [a + b for a, b in zip(counts, check(module, worker, store, options.resume), strict=True)]
    sys.stdout.write(
        f"{sum(counts)} mutants of the Python: {counts[0]} killed, {counts[1]} explained, {counts[2]} bad\n"
    )
    return counts[2] != 0


if __name__ == "__main__":
    sys.exit(main())
