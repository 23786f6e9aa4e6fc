"""`atoma-crypto vectors`: check this library against a file of protocol v2's test vectors (docs/vectors.md)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atoma_crypto.cli._vectors import differences

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


class Outcome(NamedTuple):
    """Of one vector: what does not hold, or why it was not looked at."""

    name: str
    expect: str
    differs: list[str]
    skipped: str | None


def add_parser(subparsers: SubParsers) -> None:
    """Add `vectors` to the sub-commands."""
    parser = subparsers.add_parser(
        "vectors",
        help="check this library against test vectors",
        description="Check this library against a file of test vectors of protocol v2, as tests/vectors/v2.json and "
        "docs/vectors.md have them: key schedules, requests that open or are refused, records, and whole replies. "
        "Print a line for each. The exit status is 0 if all hold, 1 if one does not, 2 if the file cannot be read.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the vectors: a JSON list")
    parser.add_argument("--json", action="store_true", help="print a JSON list with an object for each vector")
    parser.set_defaults(run=run, extra="pq")


def run(arguments: argparse.Namespace) -> int:
    """Check them, and show what came of it."""
    try:
        vectors = json.loads(arguments.file.read_text(encoding="utf-8"))
        if not isinstance(vectors, list) or not vectors:
            raise ValueError("the file is not a list of vectors")
    except (OSError, ValueError, RecursionError) as error:
        sys.stderr.write(f"atoma-crypto vectors: {error}\n")
        return 2
    outcomes = [_outcome(vector) for vector in vectors]
    lines = [_json(outcomes)] if arguments.json else _lines(outcomes)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if any(outcome.differs for outcome in outcomes) else 0


def _outcome(vector: Any) -> Outcome:
    if not isinstance(vector, dict):
        return Outcome("?", "?", ["the vector is not an object"], None)
    name, expect = str(vector.get("name", "?")), str(vector.get("expect", "?"))
    try:
        return Outcome(name, expect, differences(vector), None)
    except ImportError as error:
        return Outcome(name, expect, [], str(error))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return Outcome(name, expect, [f"the vector is malformed: {error!r}"], None)


def _lines(outcomes: list[Outcome]) -> Iterator[str]:
    for name, _, differs, skipped in outcomes:
        # as ASCII JSON where it is no plain text: what a stranger wrote must not reach the terminal as it is
        shown = name if name.isascii() and name.isprintable() else json.dumps(name)
        if skipped:
            yield f"skip  {shown}: {skipped}"
        elif differs:
            yield f"FAIL  {shown}: {'; '.join(differs)}"
        else:
            yield f"ok    {shown}"
    failed = sum(bool(outcome.differs) for outcome in outcomes)
    left_out = sum(bool(outcome.skipped) for outcome in outcomes)
    yield f"{len(outcomes) - failed - left_out} hold, {failed} do not" + (f", {left_out} skipped" if left_out else "")


def _json(outcomes: list[Outcome]) -> str:
    found = [
        {"name": name, "expect": expect, "holds": not differs and not skipped, "differs": differs, "skipped": skipped}
        for name, expect, differs, skipped in outcomes
    ]
    return json.dumps(found, indent=1)
