"""What the transports of httpx and httpx2 share, blocking and not: all but the names of the classes.

One text serves both ways of waiting. It is written as coroutines; over a blocking transport they never wait, and are
run to their end where they are called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import NonceReuse, Protocol, Suite
from atoma_crypto.adapters._exchange import TURN_PAUSE, Exchange
from atoma_crypto.adapters._lock import MAX_LOCK_BYTES
from atoma_crypto.adapters._replies import is_lock_gone, is_refusal, write_error
from atoma_crypto.adapters._targets import Paths, Route
from atoma_crypto.adapters._terms import DEFAULT_SUITES, EXTENSION, Origin, Terms
from atoma_crypto.adapters._wire import WORKER_BYTES, Async, Blocking, Wire, run_now
from atoma_crypto.attestation import Verifier

if TYPE_CHECKING:
    import httpx  # for its types alone; httpx2 has the same classes under the same names

_PAUSES: Final = (0.1, 0.4)
"""Seconds before each further attempt, where the lock was gone or its stack busy."""
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around the base64 of an answer
_JSON: Final = b"application/json"
_STREAM: Final = b"text/event-stream"

# What a request's headers say of the plaintext, and what each attempt says for itself. The hashes would betray it.
_OF_THE_BODY: Final = frozenset(
    (
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "transfer-encoding"),
        *("content-digest", "content-md5", "digest", "repr-digest", "expect", "idempotency-key", "te", "trailer"),
    )
)
# What an answer's headers say of the sealed body, or of the connection that it came over.
_OF_THE_ANSWER: Final = frozenset(
    (
        *("content-encoding", "content-length", "content-type", "transfer-encoding", "content-range", "etag"),
        *("content-digest", "content-md5", "digest", "repr-digest", "accept-ranges", "content-disposition"),
        *("connection", "keep-alive", "last-modified", "location", "te", "trailer", "upgrade"),
    )
)

_Inner = TypeVar("_Inner")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Made = TypeVar("_Made", bound="_Transport[Any]")


class _Transport(Generic[_Inner]):
    """What both ways share: all but the waiting."""

    _http: ClassVar[Any]
    """The library: the module `httpx` or `httpx2`."""
    _default_inner: ClassVar[str]
    _events: ClassVar[Any]
    """The class of a stream's body in clear, made of the sealed one and the exchange."""

    def __init__(
        self,
        inner: _Inner | None = None,
        *,
        protocol: Protocol = "v1",
        verify: Verifier | None = None,
        suites: Sequence[Suite] = DEFAULT_SUITES,
        allow_plaintext: Collection[str] = (),
        limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
        nonce_reuse: NonceReuse = "warn",
        pad_to: PadTo = None,
        retry_unknown_key: bool = True,
    ) -> None:
        terms = Terms(
            protocol=protocol,
            verify=verify,
            suites=suites,
            limits=limits,
            nonce_reuse=nonce_reuse,
            pad_to=pad_to,
            retry_unknown_key=retry_unknown_key,
        )
        paths = Paths(allow_plaintext)
        self._begin(getattr(self._http, self._default_inner)() if inner is None else inner, terms, paths)

    @classmethod
    def of_terms(cls: type[_Made], inner: _Inner, terms: Terms) -> _Made:
        """One on terms that are shared with others; for this package only."""
        transport = cls.__new__(cls)
        transport._begin(inner, terms, Paths())
        return transport

    def _begin(self, inner: Any, terms: Terms, paths: Paths) -> None:
        self._inner, self._terms, self._paths = inner, terms, paths

    async def _handle(self, request: httpx.Request, wire: Wire) -> httpx.Response:
        if "target" in request.extensions:  # it would replace the path that is looked at here
            raise ac.LocalProtocolError("the extension 'target' names another path than the URL")
        route = self._paths.route(request.method, request.url.raw_path.decode("ascii"))
        if route is None:
            return self._in_clear(await wire.send(request))
        limit = self._terms.limits.max_request_bytes
        body = await wire.read(request.stream, limit)
        if body is None:
            raise ac.LocalProtocolError(f"the body is longer than {limit} bytes")
        exchange = Exchange(route.endpoint, body, self._terms)
        try:
            return await self._attempts(exchange, route, request, wire)
        except BaseException:
            exchange.close()
            raise

    async def _attempts(self, exchange: Exchange, route: Route, request: httpx.Request, wire: Wire) -> httpx.Response:
        """Ask until there is an answer, or a refusal that a new lock does not help against."""
        pauses = iter(_PAUSES)
        unknown: httpx.Response | None = None  # a refusal that says that the key is not known
        while True:
            await self._wait(exchange, wire)
            asked = self._request(request, route.lock_path, exchange.lock_body(), accept="application/json")
            locked = await wire.send(asked)
            if await self._refused(locked, wire):
                exchange.close()
                return self._refusal(locked)
            reply = await self._read(locked, MAX_LOCK_BYTES, wire)
            await wire.work(exchange.take_lock, reply, long=len(reply) >= WORKER_BYTES)
            if unknown is not None and exchange.offers_same_key:
                exchange.close()
                return unknown
            if exchange.needs_challenge:
                await self._wait(exchange, wire)
                if exchange.needs_challenge:  # nobody else has verified the key in the meantime
                    continue
            sealed = await wire.work(exchange.seal, long=len(exchange.body) >= WORKER_BYTES or not exchange.knows_key)
            accept = "text/event-stream" if exchange.stream else "application/json"
            answer = await wire.send(
                self._request(request, route.sealed_path, sealed, accept=accept, more=exchange.headers)
            )
            taken, refusal = await self._take(exchange, answer, wire)
            if refusal is not None and exchange.knows_not_key(taken.status_code, refusal):
                unknown = taken
                continue
            unknown = None
            # An answer has status 200; with another one it is an error, in clear or, of v2, sealed.
            again = is_lock_gone(taken.status_code) and (refusal is None or exchange.heeds_refusals)
            pause = next(pauses, None) if again else None
            if pause is None:
                return taken
            await wire.close(taken.stream)
            await wire.sleep(pause)

    async def _wait(self, exchange: Exchange, wire: Wire) -> None:
        while not exchange.may_ask():
            await wire.sleep(TURN_PAUSE)

    async def _refused(self, answer: httpx.Response, wire: Wire) -> bool:
        """Whether a lock is refused."""
        try:
            return self._is_refusal(answer, "v1")
        except BaseException:
            await wire.close(answer.stream)
            raise

    def _is_refusal(self, answer: httpx.Response, protocol: Protocol) -> bool:
        if is_refusal(answer.status_code, protocol):
            return True
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise ac.EnvelopeError("the answer is compressed, which was not asked for")
        return False

    async def _take(
        self, exchange: Exchange, answer: httpx.Response, wire: Wire
    ) -> tuple[httpx.Response, bytes | None]:
        """An answer, or a sealed error, in clear, and None; or a refusal that was in clear, and what it says.

        A refusal of v1 is not read here, for it is never sealed.
        """
        try:
            refused = self._is_refusal(answer, self._terms.protocol)
            if refused and self._terms.protocol == "v1":
                exchange.close()
                return self._refusal(answer), b""
            if exchange.has_events(answer.status_code, answer.headers.get("content-type", "")):
                return self._opened(exchange, answer, _STREAM, self._events(answer.stream, exchange)), None
        except BaseException:
            await wire.close(answer.stream)
            raise
        limits = self._terms.limits
        limit = limits.max_event_bytes if exchange.stream else limits.max_response_bytes // 3 * 4 + _REPLY_ALLOWANCE
        raw = await self._read(answer, limit, wire)
        status = 200
        try:
            plain = await wire.work(exchange.answer, answer.status_code, raw, long=len(raw) >= WORKER_BYTES)
        except ac.RemoteAbortError as abort:
            status, plain = abort.status, write_error(abort)
        if plain is not None:
            return self._opened(exchange, answer, _JSON, plain, status), None
        told: httpx.Response = self._http.Response(
            answer.status_code,
            headers=[(name, value) for name, value in answer.headers.raw if name.lower() != b"transfer-encoding"],
            stream=self._http.ByteStream(raw),
            extensions=answer.extensions,
        )
        return self._refusal(told), raw

    def _opened(
        self, exchange: Exchange, answer: httpx.Response, kind: bytes, body: Any, status: int = 200
    ) -> httpx.Response:
        """A response in clear; its `body` is bytes, or a stream of events."""
        headers = [
            (name, value) for name, value in answer.headers.raw if name.decode("latin-1").lower() not in _OF_THE_ANSWER
        ]
        if isinstance(body, bytes):
            headers.append((b"Content-Length", b"%d" % len(body)))
            body = self._http.ByteStream(body)
        opened: httpx.Response = self._http.Response(
            status,
            headers=[*headers, (b"Content-Type", kind)],
            stream=body,
            extensions={**answer.extensions, EXTENSION: exchange.origin},
        )
        return opened

    def _refusal(self, answer: httpx.Response) -> httpx.Response:
        """One in clear, which nobody unpacks: that was not asked for, and anybody's few bytes could become any size."""
        answer.headers.pop("content-encoding", None)
        return self._in_clear(answer)

    def _in_clear(self, answer: httpx.Response) -> httpx.Response:
        answer.extensions[EXTENSION] = Origin(sealed=False, protocol=self._terms.protocol)
        return answer

    async def _read(self, answer: httpx.Response, limit: int, wire: Wire) -> bytes:
        try:
            raw = await wire.read(answer.stream, limit)
        finally:
            await wire.close(answer.stream)
        if raw is None:
            raise ac.MessageTooLargeError(f"the answer is longer than {limit} bytes")
        return raw

    def _request(
        self, request: httpx.Request, path: str, body: bytes, *, accept: str, more: Mapping[str, str] | None = None
    ) -> httpx.Request:
        """One of our own requests: the caller's headers and time-outs, but what they say of the plaintext."""
        ours = {"Content-Type": "application/json", "Accept": accept, "Accept-Encoding": "identity", **(more or {})}
        taken = _OF_THE_BODY | {name.lower() for name in ours}
        kept = [(name, value) for name, value in request.headers.raw if name.decode("latin-1").lower() not in taken]
        made: httpx.Request = self._http.Request(
            "POST",
            request.url.copy_with(raw_path=path.encode("ascii")),
            headers=[*kept, *((name.encode(), value.encode()) for name, value in ours.items())],
            content=body,
            extensions=dict(request.extensions),
        )
        return made


class BlockingTransport(_Transport[_Inner], Generic[_Inner, _Request, _Response]):
    """The part of a `BaseTransport` that is the same in both libraries."""

    _default_inner: ClassVar[str] = "HTTPTransport"

    def handle_request(self, request: _Request) -> _Response:
        """Seal a request, send it, and open its answer."""
        handled: Any = run_now(self._handle(request, Blocking(self._inner)))  # type: ignore[arg-type] # httpx or httpx2: their requests are alike
        answer: _Response = handled
        return answer

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


class AsyncTransport(_Transport[_Inner], Generic[_Inner, _Request, _Response]):
    """The part of an `AsyncBaseTransport` that is the same in both libraries."""

    _default_inner: ClassVar[str] = "AsyncHTTPTransport"

    async def handle_async_request(self, request: _Request) -> _Response:
        """Seal a request, send it, and open its answer."""
        handled: Any = await self._handle(request, Async(self._inner))  # type: ignore[arg-type] # httpx or httpx2: their requests are alike
        answer: _Response = handled
        return answer

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
