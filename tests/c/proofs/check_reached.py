"""Lines of the core that no act reaches, against those that unreached.txt explains.

    check_reached.py DIRECTORY SOURCES

DIRECTORY holds what gcc's --coverage and a run of `reached` have left there, SOURCES are csrc/. A line is not reached
if it never ran, and also if it leaves its function (`return`, `goto`) and some part of it never ran: each way out of
each function is either run or explained. A header is looked at once in each source that includes it.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ABSENT = "absent: "
LEAVES = re.compile(r"\b(return|goto)\b")


@dataclass
class Line:
    """One line of the core, in all that gcc has made of it."""

    function: str
    text: str
    which: int  # of the lines of its function that have this text
    count: int = 0
    partly: bool = False

    def place(self) -> str:
        function = f"{self.function}(): " if self.function else ""  # not told of what is inlined always
        return f"{function}{self.text}" + (f" [{self.which}]" if self.which > 1 else "")

    def is_reached(self) -> bool:
        return self.count != 0 and not self.partly


def lines_of(notes: Path, sources: Path) -> Iterator[tuple[str, Line]]:
    """Of one object: name of the file, or `source > header`, and each line that has code."""
    command = ["gcov", "--json-format", "--stdout", notes.name]
    report = subprocess.run(command, cwd=notes.parent, capture_output=True, text=True, check=True).stdout
    source = f"{notes.stem}.c"
    for file in json.loads(report)["files"]:
        path = Path(file["file"])
        if path.parent != sources:
            continue
        text = path.read_text(encoding="utf-8").splitlines()
        found: dict[int, Line] = {}
        for row in sorted(file["lines"], key=lambda row: int(row["line_number"])):
            number, function = row["line_number"], row.get("function_name", "")
            words = text[number - 1].strip()
            if number not in found:
                before = sum((line.function, line.text) == (function, words) for line in found.values())
                found[number] = Line(function, words, before + 1)
            line = found[number]
            line.count += row["count"]
            # Of intrinsics, which are functions of several parts each, gcov knows no better.
            line.partly |= row["unexecuted_block"] and bool(LEAVES.search(line.text)) and "_x86" not in path.name
        name = source if path.name == source else f"{source} > {path.name}"
        yield from ((name, line) for line in found.values())


def explained() -> list[str]:
    """`file: *`, `file: function()` and `file: function(): line`, each under a comment that says why."""
    text = (HERE / "unreached.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in text if line and not line.startswith("#")]


def scopes(name: str, line: Line) -> set[str]:
    """All that may stand for a line."""
    source = name.partition(" > ")[0]
    return {source, f"{name}: *", f"{name}: {line.function}()", f"{name}: {line.place()}"}


def main() -> int:
    directory, sources = (Path(argument).resolve() for argument in sys.argv[1:])
    lines = [found for notes in sorted(directory.glob("ac_*.gcno")) for found in lines_of(notes, sources)]
    known = explained()
    optional = {entry.removeprefix(ABSENT) for entry in known if entry.startswith(ABSENT)}
    ran = {scope for name, line in lines if line.count != 0 for scope in scopes(name, line)}
    absent = optional - ran
    left = [(name, line) for name, line in lines if not line.is_reached() and not scopes(name, line) & absent]
    reasons = {entry for entry in known if not entry.startswith(ABSENT)}
    used = {scope for name, line in left for scope in scopes(name, line)}
    bad = [
        *(
            f"no act reaches, and unreached.txt does not explain, {name}: {line.place()}"
            for name, line in left
            if not scopes(name, line) & reasons
        ),
        *(
            f"explained in unreached.txt, but reached or gone: {reason}"
            for reason in sorted(reasons - used)
            if reason.partition(" > ")[0] not in absent
        ),
    ]
    sys.stdout.writelines(f"{text}\n" for text in bad)
    reached = sum(line.is_reached() for _, line in lines)
    sys.stdout.write(f"{reached} of {len(lines)} lines of the core are reached by acts, the others are explained\n")
    return bool(bad) or reached == 0


if __name__ == "__main__":
    sys.exit(main())
