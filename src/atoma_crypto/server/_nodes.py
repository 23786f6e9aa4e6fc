"""The nodes that a gateway may ask: takes one in turn, locks, seals, posts, and opens what comes back."""

from __future__ import annotations

import logging
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import count

import httpx
from anyio import CancelScope, sleep

import atoma_crypto as ac
from atoma_crypto._envelope import load_object
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._exchange import TURN_PAUSE, Exchange
from atoma_crypto.adapters._lock import MAX_LOCK_BYTES
from atoma_crypto.adapters._routes import LOCK_PATH, Endpoint
from atoma_crypto.adapters._terms import Terms
from atoma_crypto.server._node_answer import Answer, FailedError, answered, not_opened, read, refused, unreachable
from atoma_crypto.server._work import run_waiting, run_work

_log = logging.getLogger("atoma_crypto.server")

_LOCK_SECONDS = 10.0  # a lock is told at once
_CONNECT_SECONDS = 5.0
_KEPT_SECONDS = 2.0  # shorter than servers keep a connection, so that none is found closed under a request
_LOCKS = 2  # taken from one node for one request, where another client was faster
_WORKER_BYTES = 64 << 10  # from this size on reading a body takes longer than the way to a worker thread and back


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """What is known of one sealed request, and shown to whoever carries it: nothing here is secret.

    `endpoint` is the confidential path, `node_address` the node's base URL as it was configured, and `node_id` what
    the lock calls it (None if it does not say). `num_compute_units` is what the lock is charged with: the envelope's,
    or what deployed proxies take for none. `selected_stack_small_id` may be None in protocol v2.

    What is new for each request is `salt` in v1, the envelope's 16 bytes, and `enc` in v2, 32 bytes or, with suite
    X-Wing, 1120; the other one is empty. `node_x25519_public_key` is the key that it was sealed to, of whatever suite.
    `claims` and `expires_at` say what was verified of it, and until when: nothing, in v1 without a policy.
    """

    endpoint: str
    node_address: str
    node_id: int | None
    num_compute_units: int
    selected_stack_small_id: int | None
    salt: bytes
    node_x25519_public_key: ac.PublicKey
    model_name: str
    protocol: Protocol = "v1"
    enc: bytes = b""
    claims: Mapping[str, object] = field(default_factory=dict)
    expires_at: float | None = None

    @classmethod
    def of(cls, exchange: Exchange, sealed: bytes, node_address: str) -> RequestMetadata:
        """Read it from the lock that was taken and the envelope that was sealed under it."""
        lock, origin = exchange.lock, exchange.origin
        assert lock is not None  # noqa: S101 - for the types: nothing is sealed without one
        assert origin.public_key is not None  # noqa: S101 - the same
        envelope = load_object(sealed, "the envelope", ac.EnvelopeError)
        units = envelope.get("num_compute_units")
        return cls(
            endpoint=exchange.endpoint.confidential,
            node_address=node_address,
            node_id=lock.node_small_id,
            num_compute_units=exchange.endpoint.default_units if units is None else units,
            selected_stack_small_id=envelope["stack_small_id"],
            salt=b64decode(envelope.get("salt", "")),
            node_x25519_public_key=origin.public_key,
            model_name=envelope["model_name"],
            protocol=origin.protocol,
            enc=b64decode(envelope.get("enc", "")),
            claims=origin.claims,
            expires_at=origin.expires_at,
        )


class Nodes:
    """Nodes, or proxies before them, that are asked in turn. `bearer` goes with a request unless `token` is set.

    `seen` is called with the metadata of each request once it is sealed and before it is sent. Raises ValueError for
    a URL that is not plain `http(s)://host[:port][/path]`, and if there is none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str | None,
        terms: Terms,
        timeout: float,
        tls: ssl.SSLContext | None,
        seen: Callable[[RequestMetadata], object] | None,
    ) -> None:
        self._addresses = [base_url(url) for url in urls]
        if not self._addresses:
            raise ValueError("no node is named")
        self._token = token
        self._terms = terms
        self._seen = seen
        self._turn = count()
        self._lock_timeout = min(timeout, _LOCK_SECONDS)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=_KEPT_SECONDS),
            trust_env=False,
            verify=True if tls is None else tls,
            # what a node sets for one app must not go out with another's request
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # a compressed stream could be held back until a block of it is full
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def ask(self, endpoint: Endpoint, body: bytes, bearer: str | None) -> AsyncIterator[Answer]:
        """Ask for an answer to the plaintext `body`. LocalProtocolError: the body is at fault. FailedError.

        Another node is asked where one cannot be connected to, has no lock or answers 503; a request that may have
        been taken is not sent twice.
        """
        make = partial(Exchange, endpoint, body, self._terms)
        with closing(await run_work(make) if len(body) >= _WORKER_BYTES else make()) as exchange:
            answer = await self._first(exchange, self._headers(bearer))
            try:
                yield answer
            except FailedError as failure:
                _log.warning("an answer from %s failed: %d", answer.url, failure.status_code)
                raise
            finally:
                with CancelScope(shield=True):  # also when the app has left: what is cancelled must still be closed
                    await answer.aclose()

    async def models(self, bearer: str | None) -> bytes:
        """What `/v1/models` of the first node that can be reached says, in clear. FailedError."""
        failure = FailedError(503, "SERVICE_UNAVAILABLE", "No node is named")
        for address in self._in_turn():
            try:
                request = self._client.build_request("GET", f"{address}/v1/models", headers=self._headers(bearer))
                async with aclosing(await self._send(request)) as response:
                    return await read(response, self._terms.limits.max_request_bytes)
            except FailedError as error:
                failure = error
            if not failure.next_node:
                break
        raise failure

    def _headers(self, bearer: str | None) -> dict[str, str]:
        authorization = bearer if self._token is None else f"Bearer {self._token}"
        if authorization is None:
            return {}
        if not authorization.isascii():
            raise FailedError(401, "AUTH_ERROR", "A bearer token is printable ASCII", at_lock=True)
        return {"Authorization": authorization}

    def _in_turn(self) -> list[str]:
        first = next(self._turn) % len(self._addresses)
        return self._addresses[first:] + self._addresses[:first]

    async def _first(self, exchange: Exchange, headers: Mapping[str, str]) -> Answer:
        """The first answer to be had."""
        failure = FailedError(503, "SERVICE_UNAVAILABLE", "No node is named")
        for address in self._in_turn():
            locks = _LOCKS
            while locks:
                try:
                    return await self._attempt(exchange, address, headers, failure if failure.new_key else None)
                except FailedError as error:
                    failure = error
                _log.warning("no answer from %s: %d", address, failure.status_code)
                if not failure.new_key:  # which happens once to an exchange
                    locks = locks - 1 if failure.new_lock else 0
            if not failure.next_node:
                break
        raise failure

    async def _attempt(
        self, exchange: Exchange, address: str, headers: Mapping[str, str], unknown: FailedError | None
    ) -> Answer:
        """Take a lock, seal and post. `unknown`: the node has said just now that it does not know the key."""
        while True:
            await _wait(exchange)
            await self._lock(exchange, address, headers)
            if unknown is not None and exchange.offers_same_key:
                unknown.new_key = False
                raise unknown
            if exchange.needs_challenge:
                await _wait(exchange)
            if not exchange.needs_challenge:  # or somebody else has verified the key in the meantime
                break
        sealed = None
        try:
            if exchange.knows_key:
                sealed, metadata = await run_work(_sealed, exchange, address)
            else:  # the policy may ask the network
                sealed, metadata = await run_waiting(_sealed, exchange, address, size=0)
        except AtomaCryptoError as error:
            failure = not_opened(error)
        if sealed is None:
            failure.at_lock = failure.next_node = True  # as below
            raise failure
        if self._seen is not None:
            self._seen(metadata)
        accept = "text/event-stream" if exchange.stream else "application/json"
        request = self._client.build_request(
            "POST",
            metadata.node_address + metadata.endpoint,
            content=sealed,
            headers={**headers, **exchange.headers, "Accept": accept},
        )
        return await answered(exchange, await self._post(request), self._terms.limits)

    async def _lock(self, exchange: Exchange, address: str, headers: Mapping[str, str]) -> None:
        request = self._client.build_request(
            "POST",
            address + LOCK_PATH,
            content=exchange.lock_body(),
            headers={**headers, "Accept": "application/json"},
            timeout=self._lock_timeout,
        )
        failure = None
        try:
            async with aclosing(await self._send(request)) as response:
                reply = await read(response, MAX_LOCK_BYTES)
                await run_work(exchange.take_lock, reply, size=len(reply))
        except AtomaCryptoError as error:
            failure = not_opened(error)
        except FailedError as error:
            failure = error
        if failure is not None:
            failure.at_lock, failure.new_lock = True, False
            # nothing of the request was sent, so whatever this node or the network did, another node may be asked
            failure.next_node = failure.status_code >= 500
            raise failure

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer, if its status is 200; it is the caller's to close. FailedError."""
        response = await self._post(request)
        if response.status_code == httpx.codes.OK:
            return response
        async with aclosing(response):
            failure = await refused(response)
        raise failure

    async def _post(self, request: httpx.Request) -> httpx.Response:
        """The answer, whatever its status is; it is the caller's to close. FailedError."""
        response = None
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            failure = unreachable(error)
        if response is None:
            raise failure
        return response


def base_url(url: str) -> str:
    """The URL without its `/v1` and the slash at its end. ValueError."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        base = httpx.URL()
    if base.scheme not in {"http", "https"} or not base.host or base.userinfo or base.query or base.fragment:
        raise ValueError("a node is http(s)://host[:port][/path], without user name, query or fragment")
    return str(base).rstrip("/").removesuffix("/v1").rstrip("/")


async def _wait(exchange: Exchange) -> None:
    while not exchange.may_ask():
        await sleep(TURN_PAUSE)


def _sealed(exchange: Exchange, address: str) -> tuple[bytes, RequestMetadata]:
    sealed = exchange.seal()
    return sealed, RequestMetadata.of(exchange, sealed, address)
