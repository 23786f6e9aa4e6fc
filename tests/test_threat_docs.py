"""docs/threat-model.md: each adversary has a table, each cell a verdict with a test or an argument, and those exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
ADVERSARIES: Final = (
    *("Router", "Network", "Malicious node", "Malicious client", "Co-tenant", "Thief of a node's key"),
    "Quantum recorder",
)
VERDICT: Final = re.compile(r"\*\*(no|seen|bounded|yes|moot)\*\*")
TEST: Final = re.compile(r"`(tests/\w+\.py)::(\w+)`")
C_TEST: Final = re.compile(r"`(tests/c/\w+\.c): (\w+)`")
ARGUMENT: Final = re.compile(r"\bA\d+\b")
NAMED: Final = re.compile(r"^\* \*\*(A\d+)\*\* ", re.MULTILINE)


def sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """The cells of its tables, without their heads."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {at for at, row in enumerate(cells) if is_rule(row)}
    return [row for at, row in enumerate(cells) if not {at, at + 1} & rules]


def is_rule(row: list[str]) -> bool:
    return bool(row) and all(set(cell) == {"-"} for cell in row)


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.exists():
        return frozenset()
    text = file.read_text(encoding="utf-8")
    if path.endswith(".c"):
        return frozenset(re.findall(r"^(?:static )?void (\w+)\([^;]*\) \{$", text, flags=re.MULTILINE))
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(n.name for n in found)


def problems(page: str) -> list[str]:
    """All that is wrong with a page."""
    found: list[str] = []
    parts = sections(page)
    named = NAMED.findall(parts.get("Arguments", ""))
    if named != [f"A{number}" for number in range(1, len(named) + 1)]:
        found.append(f"arguments are not numbered in order: {named}")
    for name in ADVERSARIES:
        table = rows(parts.get(name, ""))
        if len(table) < 5:
            found.append(f"{name} has no table to speak of")
        tried = [row[0] for row in table]
        found += [f"{name}: twice: {what}" for what in {what for what in tried if tried.count(what) > 1}]
        for row in table:
            if len(row) != 3 or not row[0]:
                found.append(f"{name}: not three cells: {row}")
                continue
            for cell in row[1:]:
                if not VERDICT.match(cell):
                    found.append(f"{name}: no verdict: {cell}")
                if not any(shown.search(cell) for shown in (TEST, C_TEST, ARGUMENT)):
                    found.append(f"{name}: nothing behind it: {cell}")
    used = set(ARGUMENT.findall(NAMED.sub("", page)))
    found += [f"no such argument: {each}" for each in used - set(named)]
    found += [f"an argument for nothing: {each}" for each in set(named) - used]
    for path, function in TEST.findall(page) + C_TEST.findall(page):
        if function not in functions_of(path) or not (function.startswith("test_") or path.endswith(".c")):
            found.append(f"no such test: {path}: {function}")
    # whatever looks like a test is one of these, or a file that is there
    for text in re.findall(r"`(tests/[^`]*)`", page):
        if not TEST.fullmatch(f"`{text}`") and not C_TEST.fullmatch(f"`{text}`") and not (ROOT / text).is_file():
            found.append(f"no test, no file: {text}")
    return found


def test_the_page_holds() -> None:
    assert problems(PAGE) == []
    assert sum(len(rows(sections(PAGE)[name])) for name in ADVERSARIES) > 100


ROW: Final = "| deny service | **yes** (A12) | **yes** (A12) |\n"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("## Network\n", "## Networks\n", "Network has no table"),
        (ROW, "| deny service | | **yes** (A12) |\n", "no verdict: "),
        (ROW, "| deny service | **yes** | **yes** (A12) |\n", "nothing behind it: **yes**"),
        (ROW, "| deny service | **maybe** (A12) | **yes** (A12) |\n", "no verdict: **maybe**"),
        (ROW, "| deny service | **yes** (A12) |\n", "not three cells"),
        (ROW, ROW + ROW, "twice: deny service"),
        (ROW, "| deny service | **yes** (A99) | **yes** (A12) |\n", "no such argument: A99"),
        ("* **A20** ", "* **A21** ", "not numbered in order"),
        ("(A19)", "(A18)", "an argument for nothing: A19"),
        ("::test_a_key_that_gives_no_secret`", "::test_a_key`", "no such test: tests/test_exchange.py: test_a_key"),
        ("`tests/test_exchange.py::", "`tests/test_exchanges.py::", "no such test: tests/test_exchanges.py"),
        ("test_request.c: keys_of_small_order", "test_request.c: keys_of_no_order", "no such test: tests/c"),
        ("test_stack.c: test_stack`", "test_stack.c test_stack`", "no test, no file"),
    ],
)
def test_what_is_wrong_is_found(before: str, after: str, told: str) -> None:
    assert before in PAGE
    assert any(told in problem for problem in problems(PAGE.replace(before, after)))
