"""The command `atoma-crypto`: one file for each sub-command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from atoma_crypto.cli import demo, node

# What a sub-command imports only when it runs, and the extra that brings it.
_EXTRAS = {"anyio": "server", "httpx": "server", "starlette": "server", "uvicorn": "server", "rich": "cli"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; return its exit status, 2 when it was asked wrongly or an extra is missing."""
    parser = argparse.ArgumentParser(
        prog="atoma-crypto", description="End-to-end encrypted chat completions: a node, and a demonstration."
    )
    subparsers = parser.add_subparsers(metavar="command", required=True)
    node.add_parser(subparsers)
    demo.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ModuleNotFoundError as missing:
        extra = _EXTRAS.get((missing.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"atoma-crypto: {missing.name} is missing: pip install 'atoma-crypto[{extra}]'\n")
        return 2
    return status
