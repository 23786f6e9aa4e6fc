"""What a node answers to a gateway: the plaintext, or a failure that the local app can be told."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from http import HTTPStatus
from math import inf

import httpx

import atoma_crypto as ac
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto.adapters._exchange import Exchange
from atoma_crypto.adapters._replies import is_lock_gone
from atoma_crypto.server._http import RefusalError
from atoma_crypto.server._json import read_object
from atoma_crypto.server._work import run_work

_MAX_ERROR_BYTES = 64 << 10
_WORKER_BYTES = 64 << 10  # from this size on opening takes longer than the way to a worker thread and back
_RETRY_AFTER = re.compile(r"[0-9]{1,10}")
_MAX_MESSAGE_CHARS = 1000
_MAX_POLICY_CHARS = 200


class FailedError(RefusalError):
    """No answer came of a request: the status, code and message that the local app gets.

    `at_lock`: the node refused the lock, or its key was not accepted, so the request itself was never sent.
    `next_node`: another may do better, and `new_lock`: this one may, with a new lock. `new_key`: this one may, if it
    offers another key (protocol v2).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: str | None = None,
        should_retry: bool = True,
        at_lock: bool = False,
    ) -> None:
        headers = {"Retry-After": retry_after} if retry_after and _RETRY_AFTER.fullmatch(retry_after) else {}
        if not should_retry:
            headers["x-should-retry"] = "false"
        super().__init__(status, code, message, headers=headers or None)
        self.at_lock = at_lock
        self.next_node = False
        self.new_lock = False
        self.new_key = False

    def __str__(self) -> str:
        return f"{self.status_code} {self.code}"  # and no message: a node's may quote the prompt, and this is for logs


class Answer:
    """A node's answer to one sealed request: the whole `plaintext`, or to be read once as `events` if it is None."""

    def __init__(self, exchange: Exchange, response: httpx.Response, plaintext: bytes | None) -> None:
        self.plaintext = plaintext
        self.url = response.url
        self._exchange = exchange
        self._response = response

    @property
    def headers(self) -> dict[str, str]:
        """What the local app is told of who has answered, in JSON: by which policy the key was accepted, until when.

        Nothing, where nobody has looked at the key.
        """
        origin = self._exchange.origin
        policy = _policy(origin.claims)
        if origin.expires_at is None or origin.public_key is None or policy == "unverified":
            return {}
        until = None if origin.expires_at == inf else origin.expires_at
        told = {"policy": policy[:_MAX_POLICY_CHARS], "key": origin.public_key.fingerprint(), "until": until}
        return {"X-Atoma-Verified": json.dumps(told)}  # ASCII, with all else escaped

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._response.aclose()

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
            failure = None if self._exchange.whole else unreachable(error)
        except AtomaCryptoError as error:
            failure = not_opened(error)
        if failure is not None:
            raise failure


def _policy(claims: Mapping[str, object]) -> str:
    """The name of the policy that has accepted a key, and of those that it consists of."""
    name, parts = claims.get("policy", "unnamed"), claims.get("parts")
    if not isinstance(parts, list):
        return str(name)
    return f"{name}: {', '.join(_policy(part) for part in parts if isinstance(part, dict))}"


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


async def answered(exchange: Exchange, response: httpx.Response, limits: ac.Limits) -> Answer:
    """What a node has answered to a sealed request. FailedError, sealed by the node or not; the response is closed."""
    status, opened = response.status_code, None
    failure: FailedError
    async with AsyncExitStack() as held:
        held.push_async_exit(aclosing(response))
        try:
            if exchange.has_events(status, response.headers.get("content-type", "")):
                held.pop_all()
                return Answer(exchange, response, None)
            # what stands around base64
            raw = await _read(response, limits.max_response_bytes // 3 * 4 + _MAX_ERROR_BYTES)
            open_it = partial(exchange.answer, status, raw)
            opened = await run_work(open_it) if len(raw) >= _WORKER_BYTES else open_it()
            if opened is None:
                failure = refusal(response, raw)
                failure.new_key = exchange.knows_not_key(status, raw)
                if not exchange.heeds_refusals:
                    failure.new_lock = failure.next_node = False
        except AtomaCryptoError as error:
            failure = not_opened(error)
    if opened is None:
        raise failure
    return Answer(exchange, response, opened)


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The body; of a refusal as much as there is. FailedError."""
    try:
        return await read(response, limit)
    except FailedError as error:
        if response.status_code < 400:
            failure = error
        else:
            return b""
    raise failure


async def refused(response: httpx.Response) -> FailedError:
    """A refusal that is never sealed: of a lock, or of what goes in clear."""
    return refusal(response, await _read(response, _MAX_ERROR_BYTES))


def refusal(response: httpx.Response, raw: bytes) -> FailedError:
    """A node's refusal, handed on with its status, and with what it says if that is of the shape of all errors."""
    status = response.status_code
    if not 400 <= status <= 599:  # a redirect, say, which is never followed
        return FailedError(502, "BAD_GATEWAY", f"The node answered with status {status}")
    code = {known.value: known.name for known in HTTPStatus}.get(status, "INTERNAL_ERROR")
    message = f"The node refused the request with status {status}"
    try:  # no more of it: whoever stands between may have sent it, and JSON takes many times its length when read
        told = read_object(raw).get("error") if len(raw) <= _MAX_ERROR_BYTES else None
    except ValueError:
        told = None
    if isinstance(told, dict):
        if isinstance(told.get("code"), str):
            code = _told(told["code"])
        if isinstance(told.get("message"), str):
            message = _told(told["message"])
    failure = FailedError(
        status,
        code,
        message,
        retry_after=response.headers.get("retry-after"),
        should_retry=response.headers.get("x-should-retry") != "false",  # of REPLAYED: OpenAI's clients obey it
    )
    return _tried_again(failure)


def _tried_again(failure: FailedError) -> FailedError:
    """The same, and whether to ask for another lock or another node: its status says so, sealed or not."""
    failure.new_lock = is_lock_gone(failure.status_code)
    failure.next_node = failure.new_lock or failure.status_code == 503
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
    """What the local app is told of an error that the node has sealed, or of an answer or a lock that does not hold."""
    if isinstance(error, ac.RemoteAbortError):
        return _tried_again(FailedError(error.status, error.code, _told(error.message)))
    return FailedError(502, "BAD_GATEWAY", f"The node's answer is not to be trusted: {error}")
