"""`atoma-crypto node`: a confidential node on this machine."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import atoma_crypto as ac
from atoma_crypto.cli._config import BOOLEAN, FILE, INTEGER, PORT, SECONDS, TEXT, Option, add_options, load
from atoma_crypto.cli._serve import serve, url_of
from atoma_crypto.server.keyfile import read_secret_key, read_signing_key
from atoma_crypto.server.listener import listen

if TYPE_CHECKING:
    from atoma_crypto.server.model import Model

    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command is told."""

    host: Annotated[str, Option(TEXT, "address to listen on")] = "127.0.0.1"
    port: Annotated[int, Option(PORT, "port to listen on, 0 for a free one")] = 8080
    upstream: Annotated[
        str | None, Option(TEXT, "OpenAI-compatible service that answers, e.g. http://127.0.0.1:8000/v1", "URL")
    ] = None
    token: Annotated[
        str | None,
        Option(TEXT, "the one bearer token to accept; without it any is accepted", secret=True),
    ] = field(default=None, repr=False)
    sign_key: Annotated[
        Path | None,
        Option(
            FILE, "Ed25519 seed that signs replies: 32 bytes, or 64 hexadecimal digits, or base64; mode 0600", "FILE"
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        Option(FILE, "the node's X25519 secret key, as `keygen` writes it; without it a new one is made", "FILE"),
    ] = None
    rotate_seconds: Annotated[
        int,
        Option(SECONDS, "replace the key so often, and open what was sealed to it for 300 seconds more; 0: never", "N"),
    ] = 0
    max_request_bytes: Annotated[int, Option(INTEGER, "longest sealed request", "N")] = ac.Limits().max_request_bytes
    metrics: Annotated[bool, Option(BOOLEAN, "answer GET /metrics in Prometheus' text")] = False
    seed: Annotated[int | None, Option(INTEGER, "make eliza answer the same every time", "N")] = None
    shutdown_seconds: Annotated[
        int, Option(SECONDS, "how long a stream may go on once the node was told to stop", "N")
    ] = 30


def add_parser(subparsers: SubParsers) -> None:
    """Add `node` to the sub-commands."""
    parser = subparsers.add_parser(
        "node",
        help="run a confidential node",
        description="Run a confidential node in front of an OpenAI-compatible service, or of a built-in "
        "model called eliza. Its key is made at start and kept in memory only, unless --key-file names one.",
    )
    add_options(parser, Settings)
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted. Says first where it listens, its key's fingerprint, who answers and who may ask."""
    import uvicorn  # noqa: F401, PLC0415 - the extra may be missing, and then main() says so before it listens

    from atoma_crypto.server.node import create_app  # noqa: PLC0415 - needs the extra too

    with ExitStack() as held:
        try:
            settings = load(Settings, arguments)
            sign_key = settings.sign_key
            signing_key = None if sign_key is None else held.enter_context(read_signing_key(sign_key))
            keys = held.enter_context(_keys(settings))
            listener = held.enter_context(listen(settings.host, settings.port))
            app = create_app(
                keys,
                _model(settings),
                token=settings.token,
                signing_key=signing_key,
                max_request_bytes=settings.max_request_bytes,
                metrics=settings.metrics,
            )
        except (OSError, ValueError) as error:
            sys.stderr.write(f"atoma-crypto node: {error}\n")
            return 2
        said = (
            f"listening on {url_of(listener)} (public key {keys.public_key.fingerprint()})\n"
            f"answers come from {settings.upstream or 'eliza, the built-in model'}\n"
            f"a bearer token is needed, and {'any will do' if settings.token is None else 'only one will do'}; "
            f"replies are {'not signed' if signing_key is None else 'signed'}; "
            f"the key {f'is replaced after {settings.rotate_seconds} s' if settings.rotate_seconds else 'stays'}\n"
        )
        serve(app, listener, said, shutdown_seconds=settings.shutdown_seconds)
    return 0


def _keys(settings: Settings) -> ac.NodeKeyring:
    rotate_after = settings.rotate_seconds or None
    if settings.key_file is None:
        return ac.NodeKeyring(rotate_after=rotate_after)
    return ac.NodeKeyring.from_key(read_secret_key(settings.key_file), rotate_after=rotate_after)


def _model(settings: Settings) -> Model:
    if settings.upstream is None:
        from atoma_crypto.server.eliza import ElizaModel  # noqa: PLC0415 - the server's, as in run()

        return ElizaModel(settings.seed)
    if settings.seed is not None:
        raise ValueError("--seed is eliza's: an upstream has its own")

    from atoma_crypto.server.upstream import HttpUpstream  # noqa: PLC0415 - needs httpx

    return HttpUpstream(settings.upstream)
