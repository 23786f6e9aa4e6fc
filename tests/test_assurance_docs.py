"""docs/assurance.md: each claim has a command that is there, and a figure."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "assurance.md").read_text(encoding="utf-8")
BESIDE: Final = {"readers", "macos", "windows"}  # one of a command's own targets, and other words for its last
TOOLS: Final = ".cache/tools/bin/"
LOCKED_TOOLS: Final = (ROOT / "requirements" / "tools.txt").read_text(encoding="utf-8")


def rows(page: str, first: str = "claim") -> list[list[str]]:
    """The cells of each row of the tables whose heading begins so, but for headings and the lines below them."""
    tables = re.findall(rf"^\| {first} \|.*\n\|[-: |]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def wrong(command: str) -> list[str]:
    """What of a command is not there, or has no meaning here: no word of it is passed over."""
    first, *words = shlex.split(command)
    if first == "make":
        return wrong_targets(words)
    if first == "pytest":
        return wrong_tests(words)
    if first in ("bash", ".venv/bin/python"):
        return [] if len(words) == 1 and (ROOT / words[0]).is_file() else [command]
    if first.startswith(TOOLS):
        tool = first.removeprefix(TOOLS)
        return [] if f"\n{tool}==" in LOCKED_TOOLS else [tool]
    return [] if command in BESIDE else [command]


def wrong_targets(words: list[str]) -> list[str]:
    folder = ROOT
    if words[:1] == ["-C"]:
        folder, words = ROOT / words[1], words[2:]
    if not (folder / "Makefile").is_file():
        return [str(folder.relative_to(ROOT))]
    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    known = [word for word in words if re.search(rf"^{re.escape(word)}:(?!=)", makefile, re.MULTILINE)]
    return [word for word in words if word not in known] if words else ["no target"]


def wrong_tests(words: list[str]) -> list[str]:
    """`-m` is all that may stand beside files; and it has to choose something."""
    chosen: list[str] = []
    if words[:1] == ["-m"]:
        chosen, words = re.findall(r"\w+", words[1]), words[2:]
    there = [path for path in words if re.fullmatch(r"tests/test_\w+\.py", path) and (ROOT / path).is_file()]
    tests = "".join((ROOT / path).read_text(encoding="utf-8") for path in there)
    return [
        *(word for word in chosen if word not in ("and", "not", "or") and f"mark.{word}" not in tests),
        *(word for word in words if word not in there),
        *([] if words else ["no file"]),
    ]


def test_every_row_has_three_cells() -> None:
    assert len(rows(PAGE)) >= 30
    for cells in rows(PAGE):
        assert len(cells) == 3, cells
        assert all(cells), cells


def test_each_table_is_looked_at() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    tables = [line for line in lines if re.fullmatch(r"\|[-: |]+", line)]
    assert len(rows(PAGE)) + len(rows(PAGE, "target")) == len(lines) - 2 * len(tables)


def test_each_fuzz_target_has_its_row() -> None:
    told = rows(PAGE, "target")
    for cells in told:
        names, executions = re.findall(r"`(\w+)`", cells[0]), cells[-1].split(", ")
        assert len(names) == len(executions)
        assert all(float(each) > 0 for each in executions)
    targets: list[str] = []
    for folder in ("tests/c/fuzz", "tests/fuzz"):
        (line,) = re.findall(
            r"^TARGETS :?= (.*)$", (ROOT / folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
        )
        targets += line.split()
    assert len(set(targets)) == len(targets)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells[0] for cells in told))) == sorted(targets)


@pytest.mark.parametrize("row", rows(PAGE), ids=lambda row: row[0][:40])
def test_its_command_is_there(row: list[str]) -> None:
    commands = re.findall(r"`([^`]+)`", row[1])
    assert set(commands) - BESIDE
    for command in commands:
        assert not wrong(command), command


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("make tset", "tset"),
        ("make -C requirements toools", "toools"),
        ("pytest tests/test_nothing.py", "tests/test_nothing.py"),
        (".cache/tools/bin/nothing --strict", "nothing"),
        ("make ct nothing-else", "nothing-else"),
        ("make", "no target"),
        ("make -C tests/nothing check", "tests/nothing"),
        ("make PYTEST", "PYTEST"),
        ("pytest -m lung tests/test_faults_many.py", "lung"),
        ("pytest -m long tests/test_errors.py", "long"),
        ("pytest -m long", "long"),
        ("pytest", "no file"),
        ("pytest -k nothing", "-k"),
        ("pytest tests/helpers.py", "tests/helpers.py"),
        (".venv/bin/python -m nothing", ".venv/bin/python -m nothing"),
        ("bash nothing.sh", "bash nothing.sh"),
        ("bash", "bash"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_not_there_is_found(command: str, what: str) -> None:
    assert what in wrong(command)
