"""What every endpoint does alike: who may ask, how much may be sent, and how a refusal is written."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from anyio import CancelScope
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler, Receive

from atoma_crypto._errors import AtomaCryptoError, http_error

# OpenAI's clients obey both. No answer will ever come of the same envelope; and a store that has lost what it knew, or
# a key that is older than its store, costs a minute (docs/protocol-v2.md, section 5).
_ADVICE: Mapping[int, Mapping[str, str]] = {409: {"x-should-retry": "false"}, 503: {"Retry-After": "60"}}


_INTERNAL = ("INTERNAL_ERROR", "Internal server error occurred")


class RefusalError(HTTPException):
    """A refusal with the code that its JSON shows; `message` is fixed text, never a part of the request."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


def error_response(status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Write `{"error":{"code","message"}}`, the shape of every error."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def internal_error() -> JSONResponse:
    """Write the 500 that tells nothing: the message of deployed nodes."""
    return error_response(500, *_INTERNAL)


def inference_refusal(status: int, retry_after: str | None = None) -> RefusalError:
    """The status that inference failed with, and not a word of what failed."""
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return RefusalError(status, *_INTERNAL)
    try:
        code = HTTPStatus(status).name
    except ValueError:  # one of the many that no standard knows
        code = "UPSTREAM_ERROR"
    headers = None if retry_after is None else {"Retry-After": retry_after}
    return RefusalError(status, code, "The model did not answer this request", headers=headers)


def opening_refusal(error: AtomaCryptoError) -> RefusalError:
    """What a client is told of a request that could not be opened."""
    status, code, message = http_error(error)
    return RefusalError(status, code, message, headers=_ADVICE.get(status))


def check_bearer(request: Request, token: bytes | None) -> None:
    """Refuse with 401 without a bearer token, or with another than `token`; None takes any."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    given = given.strip(" \t")  # HTTP's white space alone: a byte of a UTF-8 token may look like another
    known = token is None or hmac.compare_digest(given.encode("latin-1"), token)
    if scheme.lower() != "bearer" or not given or not known:
        raise RefusalError(401, "AUTH_ERROR", "A valid bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


async def read_body(request: Request, limit: int) -> bytearray:
    """Read a body of at most `limit` bytes; refuse a longer one with 413 as soon as that is known."""
    # The rest is not read: the connection must end, or the server would go on reading to throw it away.
    refusal = RefusalError(413, "TOO_LARGE", f"The body is larger than {limit} bytes", headers={"Connection": "close"})
    with suppress(ValueError):
        if int(request.headers.get("content-length", "")) > limit:
            raise refusal
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > limit:
            raise refusal
        body += part
    return body


async def cancel_when_gone(receive: Receive, scope: CancelScope) -> None:
    """Cancel `scope` when the client has left. For a request whose body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - for the type: it is registered for nothing else
    # Starlette's own are 404 and 405, and the name of the status is the code
    code = error.code if isinstance(error, RefusalError) else HTTPStatus(error.status_code).name
    return error_response(error.status_code, code, error.detail, headers=error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is left to read it


async def _unexpected(_request: Request, _error: Exception) -> Response:
    return internal_error()


EXCEPTION_HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    HTTPException: _refused,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
