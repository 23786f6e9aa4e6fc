"""`atoma-crypto node`: a confidential node on this machine."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol, Suite
from atoma_crypto.cli._config import (
    BOOLEAN,
    FILE,
    INTEGER,
    MILLISECONDS,
    PADDING,
    PORT,
    PROTOCOL,
    SECONDS,
    SUITE,
    TEXT,
    Option,
    add_options,
    load,
)
from atoma_crypto.cli._serve import serve, url_of
from atoma_crypto.server.keyfile import read_secret_key, read_signing_key
from atoma_crypto.server.listener import listen

if TYPE_CHECKING:
    from atoma_crypto.attestation import EvidenceProvider
    from atoma_crypto.server._keys import Keys
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
    protocols: Annotated[tuple[Protocol, ...], Option(PROTOCOL, "protocols to speak", "P", many=True)] = ("v1", "v2")
    suites: Annotated[tuple[Suite, ...], Option(SUITE, "suites of v2 to have keys for", "S", many=True)] = ("X25519",)
    sign_key: Annotated[
        Path | None,
        Option(
            FILE, "Ed25519 seed that signs replies: 32 bytes, or 64 hexadecimal digits, or base64; mode 0600", "FILE"
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        Option(FILE, "v1's secret key, as `keygen` writes it; without it a new one is made", "FILE"),
    ] = None
    static: Annotated[
        bool,
        Option(
            BOOLEAN,
            "the key of --key-file is v2's too, and stays: for who pins or shares it",
        ),
    ] = False
    rotate_seconds: Annotated[
        int,
        Option(
            SECONDS,
            "replace keys so often; what was sealed to one is opened 300 seconds longer; 0: v2's each hour, v1's never",
            "N",
        ),
    ] = 0
    replay: Annotated[
        str | None,
        Option(TEXT, "redis:// URL of what remembers v2's requests; without it, this process", "URL", secret=True),
    ] = field(default=None, repr=False)
    evidence: Annotated[
        str | None,
        Option(
            TEXT,
            "offer no key without evidence of who holds it: tsm (what Linux makes on TDX and SEV-SNP), or a file of it "
            "in JSON (docs/attestation.md); in the environment: ATOMA_CRYPTO_NODE_EVIDENCE",
            "tsm|FILE",
            variable="ATOMA_CRYPTO_NODE_EVIDENCE",
        ),
    ] = None
    evidence_collateral: Annotated[
        Path | None,
        Option(FILE, "what goes with tsm's evidence, such as Intel's collateral for it; read each time", "FILE"),
    ] = None
    pad_to: Annotated[PadTo, Option(PADDING, "pad what is sealed: auto, or a multiple of that many bytes", "N")] = None
    coalesce_milliseconds: Annotated[
        int, Option(MILLISECONDS, "join the text of streams for so long, 256 characters at most; 0: do not", "N")
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

    from atoma_crypto.server._keys import Keys, open_replay_cache  # noqa: PLC0415 - needs the extra too
    from atoma_crypto.server.coalesce import Coalesce  # noqa: PLC0415 - the same
    from atoma_crypto.server.node import create_app  # noqa: PLC0415 - the same

    with ExitStack() as held:
        try:
            settings = load(Settings, arguments)
            sign_key = settings.sign_key
            signing_key = None if sign_key is None else held.enter_context(read_signing_key(sign_key))
            keys = _keys(settings)
            held.callback(keys.close)
            replay_cache = None if settings.replay is None else open_replay_cache(settings.replay)
            if replay_cache is not None:
                held.callback(replay_cache.close)
            own = Keys(keys, settings.protocols, time.time)
            evidence, shown = _evidence(settings, own)
            joined = settings.coalesce_milliseconds
            listener = held.enter_context(listen(settings.host, settings.port))
            app = create_app(
                keys,
                _model(settings),
                token=settings.token,
                protocols=settings.protocols,
                signing_key=signing_key,
                replay_cache=replay_cache,
                evidence=evidence,
                pad_to=settings.pad_to,
                coalesce=Coalesce(joined / 1000) if joined else None,
                max_request_bytes=settings.max_request_bytes,
                metrics=settings.metrics,
            )
        except (OSError, ValueError) as error:
            sys.stderr.write(f"atoma-crypto node: {error}\n")
            return 2
        said = (
            f"listening on {url_of(listener)} {_named(own)}\n"
            f"answers come from {settings.upstream or 'eliza, the built-in model'}\n"
            f"a bearer token is needed, and {'any will do' if settings.token is None else 'only one will do'}; "
            f"replies are {'not signed' if signing_key is None else 'signed'}; {_rotation(settings)}\n"
            f"{_remembered(settings)}{shown}"
        )
        serve(app, listener, said, shutdown_seconds=settings.shutdown_seconds)
    return 0


def _keys(settings: Settings) -> ac.SecretKey | ac.NodeKeyring:
    path = settings.key_file
    if "v2" in settings.protocols and not settings.suites:
        raise ValueError("v2 needs a suite")
    if settings.static:
        if path is None or settings.rotate_seconds or len(settings.suites) != 1:
            raise ValueError("--static needs a --key-file, one suite, and no --rotate-seconds")
        return read_secret_key(path, settings.suites[0])
    rotate_after = settings.rotate_seconds or None
    if path is None:
        return ac.NodeKeyring(rotate_after=rotate_after, suites=settings.suites)
    if "v1" not in settings.protocols:
        raise ValueError("without --static a --key-file is v1's alone")
    return ac.NodeKeyring.from_key(read_secret_key(path), rotate_after=rotate_after, suites=settings.suites)


def _evidence(settings: Settings, own: Keys) -> tuple[EvidenceProvider | None, str]:
    """The provider, which has been tried, and what is said of it."""
    from atoma_crypto.server._evidence import make_evidence, open_provider  # noqa: PLC0415 - as in run()

    if settings.evidence is None:
        if settings.evidence_collateral is not None:
            raise ValueError("--evidence-collateral goes with --evidence tsm")
        return None, ""
    provider = open_provider(settings.evidence, settings.evidence_collateral)
    made = make_evidence(provider, own.offers()[0])
    return provider, f"keys are offered with evidence of kind {made['kind']}\n"


def _named(own: Keys) -> str:
    """The keys by their fingerprints, which are for people to compare; a line for each of v2."""
    offers = own.offers()
    lines = [f"(public key {offers[0].public_key.fingerprint()})"]
    lines += [
        f"v2's public key is {offer.public_key.fingerprint()} ({offer.public_key.suite})"
        for offer in offers
        if offer.protocol == "v2"
    ]
    return "\n".join(lines)


def _rotation(settings: Settings) -> str:
    if settings.static:
        return "the key stays"
    if settings.rotate_seconds:
        return f"the keys are replaced after {settings.rotate_seconds} s"
    return " and ".join(said for protocol, said in _STAYS.items() if protocol in settings.protocols)


_STAYS = {"v1": "v1's key stays", "v2": "v2's are replaced each hour"}


def _remembered(settings: Settings) -> str:
    """What is to be known of v2's requests at the start."""
    if "v2" not in settings.protocols:
        return ""
    if settings.replay is not None:
        return "requests of v2 are remembered in Redis: 503 until 90 seconds after it was started\n"
    if settings.static:
        return "the key is older than what remembers v2's requests: 503 for a minute to all of them\n"
    return ""


def _model(settings: Settings) -> Model:
    if settings.upstream is None:
        from atoma_crypto.server.eliza import ElizaModel  # noqa: PLC0415 - the server's, as in run()

        return ElizaModel(settings.seed)
    if settings.seed is not None:
        raise ValueError("--seed is eliza's: an upstream has its own")

    from atoma_crypto.server.upstream import HttpUpstream  # noqa: PLC0415 - needs httpx

    return HttpUpstream(settings.upstream)
