"""What the transports of httpx and httpx2 share, blocking and not: all but the names of the classes.

One text serves both ways of waiting. It is written as coroutines; over a blocking transport they never wait, and are
run to their end where they are called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import atoma_crypto as ac
from atoma_crypto._state import CLIENT, require_protocol
from atoma_crypto._typing import NonceReuse, Protocol
from atoma_crypto.adapters._exchange import MAX_LOCK_BYTES, Exchange, is_lock_gone, is_refusal
from atoma_crypto.adapters._targets import Paths, Route
from atoma_crypto.adapters._wire import Async, Blocking, Wire, run_now

if TYPE_CHECKING:
    import httpx  # for its types alone; httpx2 has the same classes under the same names

_PAUSES: Final = (0.1, 0.4)
"""Seconds before each further attempt, where the lock was gone or its stack busy."""
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around the base64 of an answer

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
        allow_plaintext: Collection[str] = (),
        limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
        nonce_reuse: NonceReuse = "warn",
    ) -> None:
        require_protocol(protocol, CLIENT)
        if nonce_reuse not in ("warn", "error"):
            raise ValueError(f"nonce_reuse must be 'warn' or 'error', not {nonce_reuse!r}")
        if not isinstance(limits, ac.Limits):
            raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
        self._paths = Paths(allow_plaintext)
        self._protocol: Protocol = protocol
        self._limits = limits
        self._nonce_reuse: NonceReuse = nonce_reuse
        self._inner: Any = getattr(self._http, self._default_inner)() if inner is None else inner

    async def _handle(self, request: httpx.Request, wire: Wire) -> httpx.Response:
        if "target" in request.extensions:  # it would replace the path that is looked at here
            raise ac.LocalProtocolError("the extension 'target' names another path than the URL")
        route = self._paths.route(request.method, request.url.raw_path.decode("ascii"))
        if route is None:
            return await wire.send(request)
        limit = self._limits.max_request_bytes
        body = await wire.read(request.stream, limit)
        if body is None:
            raise ac.LocalProtocolError(f"the body is longer than {limit} bytes")
        exchange = Exchange(
            route.endpoint, body, protocol=self._protocol, limits=self._limits, nonce_reuse=self._nonce_reuse
        )
        try:
            return await self._attempts(exchange, route, request, wire)
        except BaseException:
            exchange.close()
            raise

    async def _attempts(self, exchange: Exchange, route: Route, request: httpx.Request, wire: Wire) -> httpx.Response:
        for pause in (*_PAUSES, None):
            asked = self._request(request, route.lock_path, exchange.lock_body(), accept="application/json")
            answer = await wire.send(asked)
            if await self._refused(answer, wire):
                return answer
            exchange.take_lock(await self._read(answer, MAX_LOCK_BYTES, wire))
            sealed = await wire.work(len(exchange.body), exchange.seal)
            accept = "text/event-stream" if exchange.stream else "application/json"
            answer = await wire.send(
                self._request(request, route.sealed_path, sealed, accept=accept, more=exchange.headers)
            )
            if not await self._refused(answer, wire):
                return await self._open(exchange, answer, wire)
            exchange.close()
            if pause is None or not is_lock_gone(answer.status_code):
                return answer
            await wire.close(answer.stream)
            await wire.sleep(pause)
        raise AssertionError  # pragma: no cover - the last pass returns

    async def _refused(self, answer: httpx.Response, wire: Wire) -> bool:
        try:
            if is_refusal(answer.status_code):
                return True
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise ac.EnvelopeError("the answer is compressed, which was not asked for")
        except BaseException:
            await wire.close(answer.stream)
            raise
        return False

    async def _open(self, exchange: Exchange, answer: httpx.Response, wire: Wire) -> httpx.Response:
        kept = [
            (name, value) for name, value in answer.headers.raw if name.decode("latin-1").lower() not in _OF_THE_ANSWER
        ]
        if not exchange.stream:
            limit = self._limits.max_response_bytes // 3 * 4 + _REPLY_ALLOWANCE
            raw = await self._read(answer, limit, wire)
            plaintext = await wire.work(len(raw), exchange.open, raw)
            whole: httpx.Response = self._http.Response(
                200,
                headers=[*kept, (b"Content-Type", b"application/json")],
                content=plaintext,
                extensions=answer.extensions,
            )
            return whole
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
            await wire.close(answer.stream)
            raise ac.FramingError("the answer is not an event stream")
        stream: httpx.Response = self._http.Response(
            200,
            headers=[*kept, (b"Content-Type", b"text/event-stream")],
            stream=self._events(answer.stream, exchange),
            extensions=answer.extensions,
        )
        return stream

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
