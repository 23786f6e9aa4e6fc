"""docs/assurance.md: each claim has a command that is there, and a figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "assurance.md").read_text(encoding="utf-8")
MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
LOCKED_TOOLS: Final = (ROOT / "requirements" / "tools.txt").read_text(encoding="utf-8")


def rows(page: str) -> list[list[str]]:
    """The cells of each row, but for headings and the lines below them."""
    found = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return [cells for cells in found if cells[0] != "claim" and not set(cells[0]) <= {"-", " ", "|"}]


def wrong(command: str) -> list[str]:
    """What a command names that is not there."""
    paths = re.findall(r"(?:tests|benchmarks|\.ci)/[\w./-]+", command)
    folder = re.search(r"make -C (\S+)", command)
    makefile = (ROOT / folder[1] / "Makefile").read_text(encoding="utf-8") if folder else MAKEFILE
    targets = re.findall(r"make (?:-C \S+ )?([a-z][\w-]*)", command)
    tools = re.findall(r"tools/bin/([\w-]+)", command)
    return [
        *(path for path in paths if not (ROOT / path).exists()),
        *(target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)),
        *(tool for tool in tools if f"\n{tool}==" not in LOCKED_TOOLS),
    ]


def test_every_row_has_three_cells() -> None:
    assert len(rows(PAGE)) >= 30
    for cells in rows(PAGE):
        assert len(cells) == 3, cells
        assert all(cells), cells


@pytest.mark.parametrize("row", rows(PAGE), ids=lambda row: row[0][:40])
def test_its_command_is_there(row: list[str]) -> None:
    commands = re.findall(r"`([^`]+)`", row[1])
    assert any(re.match(r"make|pytest|bash|\.venv/bin/python|\.cache/tools", command) for command in commands)
    for command in commands:
        assert not wrong(command), command


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("make tset", "tset"),
        ("make -C requirements toools", "toools"),
        ("pytest tests/test_nothing.py", "tests/test_nothing.py"),
        (".cache/tools/bin/nothing --strict", "nothing"),
    ],
)
def test_what_is_not_there_is_found(command: str, what: str) -> None:
    assert wrong(command) == [what]
