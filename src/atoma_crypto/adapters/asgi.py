"""One line before any ASGI application that serves OpenAI's plaintext routes makes a confidential node of it.

`app.add_middleware(ConfidentialMiddleware)`, or `ConfidentialMiddleware(app)`, or on a command line
`vllm serve --middleware atoma_crypto.adapters.asgi.ConfidentialMiddleware`. Extra `asgi`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from anyio import create_task_group
from starlette.types import ASGIApp, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._inprocess import AppModel, Caller, caller
from atoma_crypto.adapters._paths import route_of, takes_plaintext
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, KEYS_PATH, LOCK_PATH
from atoma_crypto.attestation import EvidenceProvider
from atoma_crypto.server._evidence import open_provider
from atoma_crypto.server._http import error_response
from atoma_crypto.server._keys import YOUNG_STORE, open_replay_cache
from atoma_crypto.server.coalesce import Coalesce
from atoma_crypto.server.keyfile import read_secret_key
from atoma_crypto.server.node import create_app

_log = logging.getLogger("atoma_crypto.adapters.asgi")

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class ConfidentialMiddleware:
    """Answers the lock and the four confidential endpoints by calling the application's own plaintext routes.

    From outside those routes are refused with 403, and with them what else is known to us to take prompts at vLLM,
    SGLang and llama.cpp's servers, and each path of `refuse` with all that is below it; all of that passes with
    `allow_plaintext`. Websockets by these paths are refused, too. Every other route goes to the application untouched.

    What is not given is read from the environment: `keys` (a SecretKey, or a NodeKeyring, which then rotates when
    somebody asks for a lock or for keys) from the file that `ATOMA_CRYPTO_KEY_FILE` names (32 bytes, as they are, in
    hexadecimal or in base64, for both protocols; without it keys are made that live in memory only: one for v1, whose
    fingerprint is logged at INFO, and each hour one for v2), `token` (the one bearer token to accept; None takes any)
    from `ATOMA_CRYPTO_TOKEN`, `allow_plaintext` from `ATOMA_CRYPTO_ALLOW_PLAINTEXT`, `replay_cache` from
    `ATOMA_CRYPTO_REPLAY`, a `redis://` URL (extra `redis`; None: in memory), `evidence` of who holds the keys (a
    provider of `atoma_crypto.attestation`) from `ATOMA_CRYPTO_NODE_EVIDENCE` and `ATOMA_CRYPTO_EVIDENCE_COLLATERAL`,
    which are the node command's options; it is first made when somebody asks for keys. `signing_key` (an Ed25519 key or
    its seed) signs what is sent in v1. `pad_to` and `coalesce` hide lengths (docs/length-hiding.md). `timeout` is how
    many seconds the application may take for each thing that it sends. Locks, and a key that is made, belong to one
    process: run one worker. Several that share a key need a replay store that they share. Raises ValueError and OSError
    for what cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ac.SecretKey | ac.NodeKeyring | None = None,
        protocols: Sequence[Protocol] = ("v1", "v2"),
        replay_cache: ac.ReplayCache | None = None,
        evidence: EvidenceProvider | None = None,
        signing_key: ac.SigningKey | bytes | None = None,
        token: str | None = None,
        allow_plaintext: bool | None = None,
        refuse: Sequence[str] = (),
        pad_to: PadTo = None,
        coalesce: Coalesce | None = None,
        limits: ac.Limits | None = None,
        timeout: float = 600.0,
    ) -> None:
        if isinstance(refuse, str):
            raise TypeError("refuse is a sequence of paths, not one")
        if any(not path.startswith("/") or set(path) & set("{}*") for path in refuse):
            raise ValueError("refuse takes what paths begin with, such as /agents: no templates")
        limits = ac.Limits() if limits is None else limits
        self._app = app
        self._refuse = tuple(refuse)
        self._allow_plaintext = _allowed() if allow_plaintext is None else allow_plaintext
        replay = os.environ.get("ATOMA_CRYPTO_REPLAY")
        if replay_cache is None and replay is not None:
            replay_cache = open_replay_cache(replay)
        self._node = create_app(
            _keys(remembered=replay_cache is not None) if keys is None else keys,
            AppModel(app, limits, timeout),
            token=os.environ.get("ATOMA_CRYPTO_TOKEN") if token is None else token,
            protocols=protocols,
            signing_key=signing_key,
            replay_cache=replay_cache,
            evidence=_evidence() if evidence is None else evidence,
            pad_to=pad_to,
            coalesce=coalesce,
            limits=limits,
        )
        self._routes = {LOCK_PATH, *BY_CONFIDENTIAL, *((KEYS_PATH,) if "v2" in protocols else ())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        if scope["type"] != "http":
            if scope["type"] == "websocket" and not self._allow_plaintext and takes_plaintext(scope, self._refuse):
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403 to the client
                return
            await self._app(scope, receive, send)
            return
        prefix, route = route_of(scope)
        if route in self._routes:
            await self._answer(scope, prefix, route, receive, send)
        elif not self._allow_plaintext and takes_plaintext(scope, self._refuse):
            refused = error_response(403, "FORBIDDEN", "Plaintext is not taken here: seal it for a confidential path")
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, prefix: str, route: str, receive: Receive, send: Send) -> None:
        failure: Exception | None = None
        async with create_task_group() as group:  # the application may go on behind its answer
            named = caller.set(Caller(scope, prefix, group))
            try:
                await self._node({**scope, "path": route, "raw_path": route.encode(), "root_path": ""}, receive, send)
            except Exception as error:  # noqa: BLE001 - raised below, for a task group would wrap it
                failure = error
            finally:
                caller.reset(named)
        if failure is not None:
            raise failure


def _keys(*, remembered: bool) -> ac.SecretKey | ac.NodeKeyring:
    path = os.environ.get("ATOMA_CRYPTO_KEY_FILE")
    if path is not None:
        if not remembered:
            _log.warning(YOUNG_STORE)
        return read_secret_key(path)
    keys = ac.NodeKeyring(rotate_after=None)
    _log.info("made keys that live in memory only: v1's public key is %s", keys.public_key.fingerprint())
    return keys


def _evidence() -> EvidenceProvider | None:
    source = os.environ.get("ATOMA_CRYPTO_NODE_EVIDENCE")
    collateral = os.environ.get("ATOMA_CRYPTO_EVIDENCE_COLLATERAL")
    if source is None:
        return None
    return open_provider(source, None if collateral is None else Path(collateral))


def _allowed() -> bool:
    said = os.environ.get("ATOMA_CRYPTO_ALLOW_PLAINTEXT", "0").strip().lower()
    if said not in _FLAGS:
        raise ValueError("ATOMA_CRYPTO_ALLOW_PLAINTEXT is 1 or 0")
    return _FLAGS[said]
