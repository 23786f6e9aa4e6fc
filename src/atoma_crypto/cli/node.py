"""`atoma-crypto node`: a confidential node on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import re
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atoma_crypto as ac
from atoma_crypto.server.keyfile import read_signing_key
from atoma_crypto.server.listener import listen

if TYPE_CHECKING:
    from atoma_crypto.server.model import Model

    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_SHUTDOWN_SECONDS = 5  # for the streams that are still being written


def add_parser(subparsers: SubParsers) -> None:
    """Add `node` to the sub-commands."""
    parser = subparsers.add_parser(
        "node",
        help="run a confidential node",
        description="Run a confidential node in front of an OpenAI-compatible service, or of a built-in "
        "model called eliza. Its key is made at start and kept in memory only.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on, 0 for a free one (%(default)s)")
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="OpenAI-compatible service that answers, e.g. http://127.0.0.1:8000/v1",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("ATOMA_CRYPTO_TOKEN"),
        help="the one bearer token to accept (environment: ATOMA_CRYPTO_TOKEN; without it any is accepted)",
    )
    parser.add_argument(
        "--sign-key",
        metavar="FILE",
        type=Path,
        help="Ed25519 seed that signs replies: 32 bytes, or 64 hexadecimal digits, or base64; mode 0600",
    )
    parser.add_argument(
        "--max-request-bytes",
        metavar="N",
        type=int,
        default=ac.Limits().max_request_bytes,
        help="longest sealed request (%(default)s)",
    )
    parser.add_argument("--seed", type=int, help="make eliza answer the same every time")
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted. Prints one line when it listens: its address and its key's fingerprint."""
    import uvicorn  # noqa: PLC0415 - the extra may be missing, and then main() says so

    from atoma_crypto.server.node import create_app  # noqa: PLC0415 - needs the extra too

    with ExitStack() as held:
        try:
            signing_key = (
                None if arguments.sign_key is None else held.enter_context(read_signing_key(arguments.sign_key))
            )
            listener = held.enter_context(listen(arguments.host, arguments.port))
            key = held.enter_context(ac.SecretKey.generate())
            app = create_app(
                key,
                _model(arguments),
                token=arguments.token,
                signing_key=signing_key,
                max_request_bytes=arguments.max_request_bytes,
            )
        except (OSError, ValueError) as error:
            sys.stderr.write(f"atoma-crypto node: {error}\n")
            return 2
        sys.stdout.write(f"listening on {_url(listener)} (public key {key.public_key.fingerprint()})\n")
        sys.stdout.flush()
        config = uvicorn.Config(
            app,
            log_config=_LOGGING,
            access_log=False,  # requests are not logged: they say who asks when and how much
            ws="none",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])
    return 0


class _NoAborted(logging.Filter):
    """Drops how a stream's end was forced: the server's traceback of it says nothing that is new."""

    def filter(self, record: logging.LogRecord) -> bool:
        from atoma_crypto.server._reply import StreamAbortedError  # noqa: PLC0415 - needs the extra, as run() does

        return not (record.exc_info and record.exc_info[0] is StreamAbortedError)


_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "filters": {"no_aborted": {"()": _NoAborted}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_aborted"]}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "WARNING", "propagate": False}
        for name in ("uvicorn", "atoma_crypto.server")
    },
}


def _model(arguments: argparse.Namespace) -> Model:
    if arguments.upstream is None:
        from atoma_crypto.server.eliza import ElizaModel  # noqa: PLC0415 - the server's, as in run()

        return ElizaModel(arguments.seed)
    if arguments.seed is not None:
        raise ValueError("--seed is eliza's: an upstream has its own")

    from atoma_crypto.server.upstream import HttpUpstream  # noqa: PLC0415 - needs httpx

    return HttpUpstream(arguments.upstream)


def _port(text: str) -> int:
    # as many digits as a port has: int() reads more than those, and refuses thousands of them with another error
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
