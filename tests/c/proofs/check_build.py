"""What gcc says of the core as it is built: its stack, its symbols, what of it can be written to.

    check_build.py EXPECTED HEADER EXTENSION DIRECTORY...     the first directory is the level that setup ships
    check_build.py --planted EXPECTED HEADER DIRECTORY        a file with one fault of each kind: all must be found

A directory holds objects, and beside each what `-fstack-usage` (.su) and `-fcallgraph-info=su` (.ci) have written.
EXPECTED is JSON: bounds, and lists with reasons. What is not on a list fails, and so does what is there in vain. The
bounds are those of one gcc: another one's stack is measured, and not judged.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Expected = dict[str, Any]
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"\\]*(?:\\n[^"\\]*)*?\\n(\d+) bytes')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
CONTRACT = re.compile(r"^[\w ]+?[ *](ac_\w+)\(", re.MULTILINE)
INDIRECT = "__indirect_call"
PLANTED = {
    "a large frame": "planted.c:keeps_much uses 8",
    "an unbounded frame": "planted.c:keeps_any uses stack without a bound",
    "a recursion": "planted.c:calls_itself calls itself",
    "a foreign name": "planted.o exports planted_helper",
    "an undeclared public name": "ac_undeclared is not declared",
    "an import": "malloc is imported",
    "global state": "planted.c:counter is writable",
}


class Frame(NamedTuple):
    """What one function puts on the stack."""

    name: str  # file:function
    size: int
    kind: str  # static; dynamic,bounded; dynamic


def frames(directory: Path) -> Iterator[Frame]:
    for path in sorted(directory.glob("*.su")):
        for line in path.read_text(encoding="utf-8").splitlines():
            place, size, kind = line.split("\t")
            # without what the optimiser hangs on: .part.0, .constprop.0
            yield Frame(f"{path.stem}.c:{place.rsplit(':', 1)[1].split('.')[0]}", int(size), kind)


def check_frames(directory: Path, expected: Expected, *, shipped: bool) -> list[str]:
    """Every frame is bounded; at the level that is shipped the large ones are listed, each with its bound."""
    bad, seen, listed = [], set(), expected["functions"]
    for frame in frames(directory):
        most = listed.get(frame.name, expected["small"]) if shipped else expected["levels"][directory.name]
        seen.add(frame.name)
        if frame.kind == "dynamic":
            bad.append(f"{frame.name} uses stack without a bound")
        elif frame.size > most:
            bad.append(f"{frame.name} uses {frame.size} bytes of stack, and may use {most}")
    if shipped:
        bad += [f"{name} is listed, and is not there" for name in sorted(listed.keys() - seen)]
    return bad


# ---- the worst chain of calls ---------------------------------------------------------------------------------------


class Graph(NamedTuple):
    """Functions by the names that gcc gives them: those of one file carry its path."""

    size: dict[str, int]
    calls: dict[str, set[str]]


def graph_of(directory: Path, expected: Expected) -> Graph:
    graph = Graph({}, {})
    for path in sorted(directory.glob("*.ci")):
        text = path.read_text(encoding="utf-8")
        # who is called through a pointer: our own functions in some files, libsodium's in all others
        targets = expected["indirect"].get(f"{path.stem}.c", [])
        graph.size.update((name, int(size)) for name, size in NODE.findall(text))
        for source, target in EDGE.findall(text):
            called = targets if target == INDIRECT else [target]
            graph.calls.setdefault(source, set()).update(called)
    by_end = {f"{Path(name.split(':')[0]).name}:{name.split(':')[1]}": name for name in graph.size if ":" in name}
    for source, called in graph.calls.items():  # the list names a file's function, gcc its path
        graph.calls[source] = {by_end.get(name, name) for name in called}
    return graph


def deepest(graph: Graph, name: str, above: tuple[str, ...], done: dict[str, int], loops: set[str]) -> int:
    """Bytes of stack from here down. A function that calls itself, in however many steps, is put into `loops`."""
    if name in above:
        loops.add(name)
        return 0
    if name not in done:
        below = [deepest(graph, called, (*above, name), done, loops) for called in sorted(graph.calls.get(name, ()))]
        done[name] = graph.size.get(name, 0) + max(below, default=0)
    return done[name]


class Chains(NamedTuple):
    """The public function that reaches deepest, its depth, that of ac_init, and functions that call themselves."""

    worst: str
    depth: int
    init: int
    loops: set[str]


def chains_of(graph: Graph) -> Chains:
    done: dict[str, int] = {}
    loops: set[str] = set()
    for name in sorted(graph.size):
        deepest(graph, name, (), done, loops)
    public = {name: depth for name, depth in done.items() if name.startswith("ac_") and ":" not in name}
    init = public.pop("ac_init", 0)
    worst = max(public, key=public.__getitem__)
    return Chains(worst, public[worst], init, loops)


def check_chains(directory: Path, expected: Expected) -> list[str]:
    graph = graph_of(directory, expected)
    chains = chains_of(graph)
    bad = [f"{Path(name).name} calls itself" for name in sorted(chains.loops)]
    known = {Path(name).name for name in graph.size}
    missing = {target for targets in expected["indirect"].values() for target in targets} - known
    bad += [f"{name} is said to be called through a pointer, and is not there" for name in sorted(missing)]
    for name, depth, most in [("ac_init", chains.init, "init"), (chains.worst, chains.depth, "chain")]:
        if depth > expected[most]:
            bad.append(f"{name} and what it calls use {depth} bytes of stack, and may use {expected[most]}")
    return bad


# ---- symbols --------------------------------------------------------------------------------------------------------


class Symbol(NamedTuple):
    """A line of nm."""

    name: str
    kind: str
    section: str


def symbols(path: Path, *options: str) -> list[Symbol]:
    command = [shutil.which("nm") or "nm", "-f", "sysv", *options, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [[field.strip() for field in line.split("|")] for line in told.splitlines() if line.count("|") == 6]
    return [Symbol(row[0], row[2], row[6]) for row in rows if row[0] != "Name"]


def declared(header: Path) -> set[str]:
    """The functions of the contract: what stands between its two marks, comments and function pointers left out."""
    text = header.read_text(encoding="utf-8").split("/* === contract begins === */")[1].split("/* === contract ends")[0]
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return set(CONTRACT.findall(text))


def check_symbols(directory: Path, expected: Expected, header: Path) -> list[str]:
    bad, public, writable = [], set(), set()
    for path in sorted(directory.glob("*.o")):
        for symbol in symbols(path, "--defined-only"):
            # .data.rel.ro is written by the loader alone, and read-only from then on
            if re.match(r"\.(data|bss|tdata|tbss)", symbol.section) and not symbol.section.startswith(".data.rel.ro"):
                writable.add(f"{path.stem}.c:{symbol.name.split('.')[0]}")
            if symbol.kind.isupper():
                if not symbol.name.startswith(("ac_", "aci_")):
                    bad.append(f"{path.name} exports {symbol.name}, which is neither ac_ nor aci_")
                if symbol.name.startswith("ac_"):
                    public.add(symbol.name)
    allowed = expected["writable"].keys()
    bad += [f"{name} is writable, and no reason is given" for name in sorted(writable - allowed)]
    bad += [f"{name} may be writable, and is not there" for name in sorted(allowed - writable)]
    bad += [f"{name} is not declared in the header" for name in sorted(public - declared(header))]
    bad += [f"{name} is declared in the header, and is not there" for name in sorted(declared(header) - public)]
    return bad


def check_imports(directory: Path, expected: Expected) -> list[str]:
    """What the core takes from elsewhere: nothing that allocates, opens, prints or ends the process."""
    own: set[str] = set()
    used: set[str] = set()
    for path in directory.glob("*.o"):
        for symbol in symbols(path):
            (used if symbol.kind == "U" else own).add(symbol.name)
    found, allowed = used - own - {"_GLOBAL_OFFSET_TABLE_"}, set(expected["imports"])
    return [f"{name} is imported, and is on no list" for name in sorted(found - allowed)]


def check_extension(extension: Path, expected: Expected) -> list[str]:
    found = {symbol.name for symbol in symbols(extension, "-D", "--defined-only")}
    if found == set(expected["extension"]):
        return []
    return [f"{extension.name} exports {sorted(found)}, and should export {expected['extension']}"]


# ---- all of it ------------------------------------------------------------------------------------------------------


def gcc_version() -> str:
    command = [shutil.which("gcc") or "gcc", "-dumpversion"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(".")[0]


def check_planted(expected: Expected, header: Path, directory: Path) -> list[str]:
    """Which of the planted faults were not found."""
    found = "\n".join(
        [
            *check_frames(directory, expected, shipped=True),
            *check_chains(directory, expected),
            *check_symbols(directory, expected, header),
            *check_imports(directory, expected),
        ]
    )
    return [f"{fault} was planted, and not found" for fault, said in PLANTED.items() if said not in found]


def main(arguments: list[str]) -> int:
    planted = arguments[0] == "--planted"
    expected_path, header, *rest = map(Path, arguments[planted:])
    expected: Expected = json.loads(expected_path.read_text(encoding="utf-8"))
    if planted:
        bad = check_planted(expected, header, rest[0])
    else:
        extension, shipped, *others = rest
        bad = [
            *check_symbols(shipped, expected, header),
            *check_imports(shipped, expected),
            *check_extension(extension, expected),
        ]
        if gcc_version() == expected["gcc"]:
            bad += [*check_frames(shipped, expected, shipped=True), *check_chains(shipped, expected)]
            for other in others:
                bad += check_frames(other, expected, shipped=False)
        else:
            sys.stdout.write(f"stack is judged by gcc {expected['gcc']} alone: this is {gcc_version()}\n")
        chains = chains_of(graph_of(shipped, expected))
        sys.stdout.write(
            f"stack, without libsodium's and libc's own: {chains.depth} bytes by {chains.worst}, {chains.init} by "
            f"ac_init; {len(declared(header))} public functions; {len(expected['writable'])} variables of state\n"
        )
    sys.stdout.writelines(f"{line}\n" for line in bad)
    return len(bad) != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
