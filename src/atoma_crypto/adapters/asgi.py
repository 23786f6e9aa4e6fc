"""One line before any ASGI application that serves OpenAI's plaintext routes makes a confidential node of it.

`app.add_middleware(ConfidentialMiddleware)`, or `ConfidentialMiddleware(app)`, or on a command line
`vllm serve --middleware atoma_crypto.adapters.asgi.ConfidentialMiddleware`. Extra `asgi`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from anyio import create_task_group
from starlette.types import ASGIApp, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto.adapters._inprocess import AppModel, Caller, caller
from atoma_crypto.adapters._paths import route_of, takes_plaintext
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, LOCK_PATH
from atoma_crypto.server._http import error_response
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
    somebody asks for a lock) from the file that `ATOMA_CRYPTO_KEY_FILE` names (32 bytes, as they are, in hexadecimal or
    in base64; without it a key is made that lives in memory only, and its fingerprint is logged at INFO), `token` (the
    one bearer token to accept; None takes any) from `ATOMA_CRYPTO_TOKEN`, `allow_plaintext` from
    `ATOMA_CRYPTO_ALLOW_PLAINTEXT`. `signing_key` (an Ed25519 key or its seed) signs what is sent. `timeout` is how many
    seconds the application may take for each thing that it sends. Locks, and a key that is
    made, belong to one process: run one worker. Raises ValueError and OSError for what cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ac.SecretKey | ac.NodeKeyring | None = None,
        signing_key: ac.SigningKey | bytes | None = None,
        token: str | None = None,
        allow_plaintext: bool | None = None,
        refuse: Sequence[str] = (),
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
        self._node = create_app(
            _keys() if keys is None else keys,
            AppModel(app, limits, timeout),
            token=os.environ.get("ATOMA_CRYPTO_TOKEN") if token is None else token,
            signing_key=signing_key,
            limits=limits,
        )

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
        if route == LOCK_PATH or route in BY_CONFIDENTIAL:
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


def _keys() -> ac.SecretKey:
    path = os.environ.get("ATOMA_CRYPTO_KEY_FILE")
    if path is not None:
        return read_secret_key(path)
    keys = ac.SecretKey.generate()
    _log.info("made a key that lives in memory only: public key %s", keys.public_key.fingerprint())
    return keys


def _allowed() -> bool:
    said = os.environ.get("ATOMA_CRYPTO_ALLOW_PLAINTEXT", "0").strip().lower()
    if said not in _FLAGS:
        raise ValueError("ATOMA_CRYPTO_ALLOW_PLAINTEXT is 1 or 0")
    return _FLAGS[said]
