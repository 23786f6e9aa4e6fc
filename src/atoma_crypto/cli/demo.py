"""``atoma-crypto demo``: a confidential chat, seen from both sides."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: SubParsers) -> None:
    """Add ``demo`` to the sub-commands."""
    parser = subparsers.add_parser(
        "demo",
        help="hold a confidential chat and show what a router sees of it",
        description="Start a node on loopback and hold a streamed conversation with it, three turns of protocol v2 and "
        "then one of v1, through a proxy that records every byte. Show side by side what the client reads and what the "
        "router between the two sees. Fails if a word of the conversation is among the recorded bytes.",
    )
    parser.add_argument("--chat", action="store_true", help="keep the prompt open afterwards")
    parser.set_defaults(run=run, extra="cli")


def run(arguments: argparse.Namespace) -> int:
    """Show it. Returns 1 if a word of the conversation was found in the recorded bytes, else 0."""
    from atoma_crypto.cli._show import show  # noqa: PLC0415 - the extra may be missing, and then main() says so

    return show(chat=arguments.chat)
