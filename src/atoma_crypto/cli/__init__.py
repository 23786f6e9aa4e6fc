"""The command `atoma-crypto`: one file for each sub-command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from atoma_crypto.cli import attest, demo, doctor, gateway, inspect, keygen, node, vectors

# What a sub-command imports only when it runs; the extra that brings all it needs is its own to name.
_OF_EXTRAS = frozenset(("anyio", "h11", "httpx", "prometheus_client", "rich", "starlette", "tomli", "uvicorn"))
_OWN_EXTRAS = {"redis": "redis"}  # that no sub-command needs, but one of its options
_INTERRUPTED, _BROKEN_PIPE = 128 + 2, 128 + 13  # as shells report SIGINT and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; return its exit status.

    It is 2 when it was asked wrongly or an extra is missing, 130 when it was interrupted, and 141 when what reads
    its output has left.
    """
    parser = argparse.ArgumentParser(
        prog="atoma-crypto",
        description="End-to-end encrypted chat completions: a node, its keys, a gateway, tools, a demonstration.",
    )
    subparsers = parser.add_subparsers(metavar="command", required=True)
    node.add_parser(subparsers)
    gateway.add_parser(subparsers)
    attest.add_parser(subparsers)
    keygen.add_parser(subparsers)
    inspect.add_parser(subparsers)
    doctor.add_parser(subparsers)
    vectors.add_parser(subparsers)
    demo.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in _OF_EXTRAS and package not in _OWN_EXTRAS:
            raise
        extra = _OWN_EXTRAS.get(package, arguments.extra)
        sys.stderr.write(f"atoma-crypto: {package} is missing: pip install 'atoma-crypto[{extra}]'\n")
        return 2
    except ImportError as missing:
        if missing.name is not None:
            raise
        sys.stderr.write(f"atoma-crypto: {missing}\n")  # our own, of a suite or a verifier, which says what to install
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # what is buffered still would be written at exit, and fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return status
