"""`atoma-crypto gateway`: plaintext OpenAI for local apps, confidential to the nodes."""

from __future__ import annotations

import argparse
import ipaddress
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol, Suite
from atoma_crypto.adapters._terms import DEFAULT_SUITES
from atoma_crypto.attestation import PinnedKeys, Unverified, UnverifiedWarning, Verifier
from atoma_crypto.attestation.policy_file import load_policy
from atoma_crypto.cli._config import (
    BOOLEAN,
    FILE,
    INTEGER,
    PADDING,
    PORT,
    PROTOCOL,
    PUBLIC_KEY,
    SECONDS,
    SUITE,
    TEXT,
    Option,
    add_options,
    load,
)
from atoma_crypto.cli._serve import serve, url_of
from atoma_crypto.server.listener import listen

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command is told."""

    nodes: Annotated[
        tuple[str, ...], Option(TEXT, "nodes, or proxies before them, that are asked in turn", "URL", many=True)
    ] = ()
    host: Annotated[str, Option(TEXT, "loopback address to listen on")] = "127.0.0.1"
    port: Annotated[int, Option(PORT, "port to listen on, 0 for a free one")] = 8081
    token: Annotated[
        str | None,
        Option(TEXT, "the bearer token for the nodes; without it the local app's own is passed on", secret=True),
    ] = field(default=None, repr=False)
    allow_remote: Annotated[
        bool, Option(BOOLEAN, "listen on an address that is not loopback: plaintext then crosses that network")
    ] = False
    pass_models: Annotated[bool, Option(BOOLEAN, "pass /v1/models on to a node, in clear")] = False
    protocol: Annotated[
        Protocol, Option(PROTOCOL, "what the nodes speak; v2 needs --pin, --pin-file, --policy or --unverified")
    ] = "v1"
    pin: Annotated[
        tuple[ac.PublicKey, ...],
        Option(PUBLIC_KEY, "the keys that may be sealed to, whole, as `keygen` prints them", "KEY", many=True),
    ] = ()
    pin_file: Annotated[Path | None, Option(FILE, "a file of such keys, one a line; # begins a comment", "FILE")] = None
    policy: Annotated[
        Path | None, Option(FILE, "a TOML file that says whose evidence is accepted (docs/attestation.md)", "FILE")
    ] = None
    unverified: Annotated[
        bool, Option(BOOLEAN, "v2: seal to whatever key is offered, though whoever can offer one can then read all")
    ] = False
    suites: Annotated[
        tuple[Suite, ...],
        Option(
            SUITE, "v2: suites that are accepted, the preferred one first; to require one, name it alone", many=True
        ),
    ] = DEFAULT_SUITES
    retry_unknown_key: Annotated[
        bool, Option(BOOLEAN, "v2: ask once more where a node does not know the key and has another one")
    ] = True
    pad_to: Annotated[PadTo, Option(PADDING, "pad requests: auto, or to a multiple of that many bytes", "N")] = None
    refuse_nonce_reuse: Annotated[
        bool, Option(BOOLEAN, "break off a stream that repeats a nonce, as those of deployed nodes do")
    ] = False
    max_request_bytes: Annotated[int, Option(INTEGER, "longest request", "N")] = ac.Limits().max_request_bytes
    timeout_seconds: Annotated[int, Option(SECONDS, "how long a node may be silent", "N")] = 600
    shutdown_seconds: Annotated[
        int, Option(SECONDS, "how long a stream may go on once the gateway was told to stop", "N")
    ] = 30


def add_parser(subparsers: SubParsers) -> None:
    """Add `gateway` to the sub-commands."""
    parser = subparsers.add_parser(
        "gateway",
        help="let local apps speak plaintext OpenAI to confidential nodes",
        description="Serve OpenAI's plaintext API on loopback, to apps in any language. Each request is sealed for "
        "a node, and what comes back is opened.",
    )
    add_options(parser, Settings)
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted. Says first where it listens, which nodes it asks, and with whose token."""
    import uvicorn  # noqa: F401, PLC0415 - the extra may be missing, and then main() says so before it listens

    from atoma_crypto.server.gateway import create_app  # noqa: PLC0415 - needs the extra too

    with ExitStack() as held:
        try:
            settings = load(Settings, arguments)
            remote = not _is_loopback(settings.host)
            if remote and not settings.allow_remote:
                raise ValueError("host is not loopback, so others could use this gateway: see --allow-remote")
            policy, trusted = _policy(settings)
            app = create_app(
                settings.nodes,
                token=settings.token,
                pass_models=settings.pass_models,
                any_host=remote,
                protocol=settings.protocol,
                verify=policy,
                suites=settings.suites,
                retry_unknown_key=settings.retry_unknown_key,
                pad_to=settings.pad_to,
                limits=ac.Limits(max_request_bytes=settings.max_request_bytes),
                timeout=settings.timeout_seconds,
                nonce_reuse="error" if settings.refuse_nonce_reuse else "warn",
            )
            listener = held.enter_context(listen(settings.host, settings.port))
        except (OSError, ValueError) as error:
            sys.stderr.write(f"atoma-crypto gateway: {error}\n")
            return 2
        said = (
            f"listening on {url_of(listener)}/v1 ({'others can reach it' if remote else 'loopback only'})\n"
            f"sealed requests go to {', '.join(settings.nodes)}\n"
            f"the bearer token is {'what the app sends' if settings.token is None else 'the one of the settings'}\n"
            f"{trusted}"
        )
        in_clear = [url for url in settings.nodes if _is_remote_http(url)]
        if in_clear:
            said += f"no TLS to {', '.join(in_clear)}: whoever is on the way can put in a key of its own, and read\n"
        serve(app, listener, said, shutdown_seconds=settings.shutdown_seconds)
    return 0


def _policy(settings: Settings) -> tuple[Verifier | None, str]:
    """Whose keys are sealed to, and the line that says so; in v1 perhaps none. ValueError, OSError."""
    pins = settings.pin + (() if settings.pin_file is None else _pins(settings.pin_file))
    ways = sum((bool(pins), settings.policy is not None, settings.unverified))
    if settings.protocol == "v1":
        if settings.unverified or settings.suites != DEFAULT_SUITES:
            raise ValueError("--unverified and --suites are for --protocol v2: v1 has one suite, and verifies no key")
        if not ways:
            return None, ""
    if ways != 1:
        raise ValueError(
            f"--protocol {settings.protocol} takes keys (--pin, --pin-file), a --policy, or in v2 --unverified: "
            "one of them, and not two"
        )
    said = "protocol v1; " if settings.protocol == "v1" else f"protocol v2, suites {', '.join(settings.suites)}; "
    if pins:
        return PinnedKeys(pins), f"{said}only to keys that are pinned: {len(set(pins))}\n"
    if settings.policy is not None:
        return load_policy(settings.policy), f"{said}only to keys whose evidence satisfies {settings.policy}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnverifiedWarning)  # this command warns in its own words
        policy = Unverified()
    return policy, f"{said}to any key that is offered: whoever can offer one can read all\n"


def _pins(path: Path) -> tuple[ac.PublicKey, ...]:
    found = []
    with path.open(encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = line.partition("#")[0].strip()
            if text:
                try:
                    found.append(PUBLIC_KEY.read(text))
                except ValueError:
                    raise ValueError(f"{path}: line {number}: {PUBLIC_KEY.said}") from None
    if not found:
        raise ValueError(f"{path} holds no key")
    return tuple(found)


def _is_remote_http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
