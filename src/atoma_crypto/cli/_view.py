"""Draws the demo: on the left what the client reads, on the right what the router between them sees."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from atoma_crypto._typing import Protocol
from atoma_crypto.cli._leak import DECODED_LETTERS, RAW_LETTERS, Search
from atoma_crypto.cli._wire import Sight, parsed

CLIENT, ROUTER, CLEAR, QUIET = "green", "red", "yellow", "dim"

_MAX_WIDTH = 100  # wider lines are harder to read, on a screen as in a log
_FLOW_LINES = 7  # of the newest events: a turn fits a terminal of 24 lines


# What a terminal can show whose encoding lacks our characters: one for one, so that columns stay columns.
_ASCII = {"◀": "<", "▶": ">", "─": "-", "…": "~", "µ": "u"}
LEGIBLE = "atoma_crypto.legible"
"""The name of an error handler for an encoding: it writes the nearest thing in ASCII."""


def _legible(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(char, "?") for char in lacking), error.end


codecs.register_error(LEGIBLE, _legible)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to who runs the command: rich would exit with 1, which says something else here."""
        raise BrokenPipeError from None


def console() -> Console:
    """Make the console: colours and redrawing on a terminal, plain lines elsewhere."""
    plain = _Console(highlight=False)
    return plain if plain.width <= _MAX_WIDTH else _Console(highlight=False, width=_MAX_WIDTH)


def opening() -> RenderableType:
    """Say what will be seen."""
    way = Text.assemble(
        ("client", CLIENT),
        (" ◀──────────▶ ", QUIET),
        ("router", ROUTER),
        (" ◀──────────▶ ", QUIET),
        ("node\n", CLIENT),
        ("seals, opens        records all         opens, answers, seals", QUIET),
    )
    title = "atoma-crypto: one confidential chat, seen from both sides"
    return Panel(way, title=title, title_align="left", box=box.ROUNDED, style="bold", border_style=QUIET)


def locked(offer: Mapping[str, object], stack_small_id: object, fingerprint: str) -> RenderableType:
    """Show the lock: the one exchange that is wholly in clear."""
    return Text.assemble(
        ("lock  ", "bold"),
        ("the router sees ", QUIET),
        (f"public_key {_shown(str(offer.get('public_key')))}", CLEAR),
        ("\n      and ", QUIET),
        (f"key_id {_shown(str(offer.get('key_id')))}, suite {_shown(str(offer.get('suite')))}", CLEAR),
        (f", stack_small_id {_shown(str(stack_small_id))}", CLEAR),
        ("\n      the client knows this key by its fingerprint: ", QUIET),
        (f"{fingerprint[:24]}…\n", CLIENT),
    )


def turn(title: str, prompt: str, answer: str, sight: Sight) -> RenderableType:
    """Draw one turn, finished or on its way."""
    table = Table(box=box.ROUNDED, expand=True, show_lines=True)
    table.add_column("the client reads", ratio=11, header_style=f"bold {CLIENT}", overflow="fold")
    table.add_column("the router sees", ratio=13, header_style=f"bold {ROUTER}", overflow="fold")
    table.add_row(_said("you", prompt), _request(sight))
    table.add_row(_said("eliza", answer), _reply(sight))
    return Group(Text(title, "bold"), table)


def event(data: bytes, plaintext: bytes) -> RenderableType:
    """Show one event as it was recorded, and what the client made of it."""
    return Group(
        Panel(
            _coloured(data.decode()),
            title="the data of one event, byte for byte as the router recorded it",
            title_align="left",
            border_style=ROUTER,
        ),
        Panel(
            Text(_shown(plaintext.decode()), CLIENT, overflow="fold"),
            title="the same event, as the client opened it",
            title_align="left",
            border_style=CLIENT,
        ),
    )


_IN_CLEAR = {
    "v2": (
        "In clear in v2: ",
        "endpoint, model_name, stack_small_id, key_id, sent_at, usage, every length and moment. No hash of a text "
        "stands there. Order and end are sealed: whoever changes, moves or cuts an event is found out.",
    ),
    "v1": (
        "In clear in v1: ",
        "model_name, stack_small_id, every length and moment, usage, and an unkeyed hash of each plaintext "
        "(plaintext_body_hash, response_hash): who guesses a text can confirm it.",
    ),
}


def in_clear(protocol: Protocol) -> RenderableType:
    """Say what a protocol does not hide."""
    title, told = _IN_CLEAR[protocol]
    return Text.assemble((title, f"bold {CLEAR}"), (told, CLEAR))


def older() -> RenderableType:
    """Say that what follows is v1."""
    return Text("\nThe same node serves clients of protocol v1 beside it, with a key of its own:\n", QUIET)


def verdict(result: Search, recorded_len: int) -> RenderableType:
    """Say what the search through the recorded bytes found."""
    if result.found:
        return Text.assemble(
            ("Checked: these words crossed the wire readably: ", f"bold {ROUTER}"),
            (_shown(" ".join(sorted(result.found))), ROUTER),
        )
    return Text.assemble(
        ("Checked: ", f"bold {CLIENT}"),
        (
            f"{result.word_count} different words were said, the protocol's own aside. In the "
            f"{recorded_len:,} recorded bytes none of them stands as a word outside of base64, none of "
            f"{RAW_LETTERS} letters or more stands anywhere, and none of {DECODED_LETTERS} or more is in what "
            "base64 decodes to.",
            CLIENT,
        ),
    )


def _said(who: str, text: str) -> Text:
    return Text.assemble((f"{who}\n", QUIET), (_shown(text), CLIENT))


def _request(sight: Sight) -> Text:
    seen = sight.request
    v1 = "plaintext_body_hash" in seen
    by = f"hash {_head(seen.get('plaintext_body_hash'), 15)}" if v1 else f"sent_at {seen.get('sent_at', '')}"
    return Text.assemble(
        (f"{sight.line}\n", CLEAR),
        (_shown(f"model_name {seen.get('model_name', '')}\n"), CLEAR),
        (_shown(f"stack_small_id {seen.get('stack_small_id', '')}\n"), CLEAR),
        (_shown(f"{sight.request_len:,} bytes, {by}\n"), CLEAR),
        (_head(seen.get("ciphertext"), 112), ROUTER),
    )


def _reply(sight: Sight) -> Text:
    total = sum(map(len, sight.events))
    lines = Text.assemble((f"{len(sight.events)} events, {total:,} bytes\n", CLEAR))
    for data in sight.events[-_FLOW_LINES:]:
        lines.append(_head(parsed(data).get("ciphertext"), 24), ROUTER)
        lines.append(f" {len(data)} bytes\n", CLEAR)
    lines.append("\n" * max(0, _FLOW_LINES - len(sight.events)))  # the picture keeps its height from the start
    usage = sight.usage or {}
    lines.append(", ".join(f"{name} {count}" for name, count in usage.items() if name != "total_tokens"), CLEAR)
    return lines


def _coloured(event_line: str) -> Text:
    """Colour what is sealed, and all the rest as readable."""
    text = Text(event_line, CLEAR, overflow="fold")
    for value in re.finditer(r'"ciphertext":"([^"]*)"', event_line):
        text.stylize(ROUTER, *value.span(1))
    return text


def _head(value: object, length: int) -> str:
    text = value if isinstance(value, str) else ""
    return _shown(text if len(text) <= length else f"{text[:length]}…")


def _shown(text: str) -> str:
    """Leave out what would steer the terminal: the other side has written this."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
