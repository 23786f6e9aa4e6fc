"""What a node answers to a gateway: the plaintext, or a failure that the local app can be told."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from functools import partial
from http import HTTPStatus

import httpx

import atoma_crypto as ac
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto.adapters._exchange import Exchange, is_lock_gone
from atoma_crypto.server._http import RefusalError
from atoma_crypto.server._json import read_object
from atoma_crypto.server._work import run_work

_MAX_ERROR_BYTES = 64 << 10
_WORKER_BYTES = 64 << 10  # from this size on opening takes longer than the way to a worker thread and back
_RETRY_AFTER = re.compile(r"[0-9]{1,10}")
_MAX_MESSAGE_CHARS = 1000


class FailedError(RefusalError):
    """No answer came of a request: the status, code and message that the local app gets.

    `at_lock`: the node refused the lock, so the request itself was never sent. `next_node`: another may do better,
    and `new_lock`: this one may, with a new lock.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: str | None = None, at_lock: bool = False
    ) -> None:
        headers = {"Retry-After": retry_after} if retry_after and _RETRY_AFTER.fullmatch(retry_after) else None
        super().__init__(status, code, message, headers=headers)
        self.at_lock = at_lock
        self.next_node = False
        self.new_lock = False

    def __str__(self) -> str:
        return f"{self.status_code} {self.code}"  # and no message: a node's may quote the prompt, and this is for logs


class Answer:
    """A node's answer to one sealed request, to be read once: `whole`, or as `events` if it is a `stream`."""

    def __init__(self, exchange: Exchange, response: httpx.Response, limits: ac.Limits) -> None:
        self.stream = exchange.stream
        self._exchange = exchange
        self._response = response
        self._max_bytes = limits.max_response_bytes // 3 * 4 + _MAX_ERROR_BYTES  # base64, and what stands around it

    async def whole(self) -> bytes:
        """The plaintext, a JSON object. FailedError."""
        sealed = await read(self._response, self._max_bytes)
        opened = None
        try:
            open_it = partial(self._exchange.open, sealed)
            opened = await run_work(open_it) if len(sealed) >= _WORKER_BYTES else open_it()
        except AtomaCryptoError as error:
            failure = not_opened(error)
        if opened is None:
            raise failure
        return opened

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events in clear as they come, `data: [DONE]` at last. FailedError, then none of that is a clean end."""
        failure = None
        try:
            async for received in self._response.aiter_raw():
                events = self._exchange.receive(received)
                if events:
                    yield events
                if self._exchange.faulty:  # a node that falls silent now would put it off
                    self._exchange.receive(b"")
            yield self._exchange.end()
        except httpx.HTTPError as error:
            failure = unreachable(error)
        except AtomaCryptoError as error:
            failure = not_opened(error)
        if failure is not None:
            raise failure


async def read(response: httpx.Response, limit: int) -> bytes:
    """The body, of at most `limit` bytes. FailedError."""
    received = bytearray()
    failure = None
    try:
        async for part in response.aiter_raw():
            received += part
            if len(received) > limit:
                failure = FailedError(502, "BAD_GATEWAY", "The node's answer is too large")
                break
    except httpx.HTTPError as error:
        failure = unreachable(error)
    if failure is not None:
        raise failure
    return bytes(received)


async def refused(response: httpx.Response) -> FailedError:
    """A node's refusal, handed on with its status, and with what it says if that is of the shape of all errors."""
    status = response.status_code
    if not 400 <= status <= 599:  # a redirect, say, which is never followed
        return FailedError(502, "BAD_GATEWAY", f"The node answered with status {status}")
    code = {known.value: known.name for known in HTTPStatus}.get(status, "INTERNAL_ERROR")
    message = f"The node refused the request with status {status}"
    try:
        told = read_object(await read(response, _MAX_ERROR_BYTES)).get("error")
    except (FailedError, ValueError):
        told = None
    if isinstance(told, dict):
        if isinstance(told.get("code"), str):
            code = _told(told["code"])
        if isinstance(told.get("message"), str):
            message = _told(told["message"])
    failure = FailedError(status, code, message, retry_after=response.headers.get("retry-after"))
    failure.new_lock = is_lock_gone(status)
    failure.next_node = failure.new_lock or status == 503
    return failure


def _told(text: str) -> str:
    """What a node says, in characters that can be written: JSON may hold half of a surrogate pair."""
    return text[:_MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()


# These take the error only to look at it: what is raised must not lead to it, for it holds the request and its token.


def unreachable(error: httpx.HTTPError) -> FailedError:
    """What the local app is told of a connection that failed."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return FailedError(504, "GATEWAY_TIMEOUT", "The node did not answer in time")
    failure = FailedError(502, "BAD_GATEWAY", "The node could not be reached, or broke off")
    failure.next_node = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return failure


def not_opened(error: AtomaCryptoError) -> FailedError:
    """What the local app is told of an answer, or of a lock, that does not hold."""
    return FailedError(502, "BAD_GATEWAY", f"The node's answer is not to be trusted: {error}")
