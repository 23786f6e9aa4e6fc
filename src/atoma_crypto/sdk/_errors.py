"""What a proxy or a node answers instead of a result."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import httpx


class APIError(Exception):
    """The proxy or the node answered with a status of 4XX or 5XX.

    `body` is at most its first 64 KiB; the text of the exception shows no more of it than the error's code. Unless
    `sealed`, status and body came in clear and nothing vouches for them. `sealed` says that the node has sealed both
    for this request (protocol v2): they are authentic, and it has admitted the request. `headers` never are.
    """

    def __init__(self, status_code: int, body: str, headers: httpx.Headers, sealed: bool = False) -> None:
        super().__init__(status_code, body, headers, sealed)
        self.status_code = status_code
        self.body = body
        self.headers = headers
        self.sealed = sealed

    @property
    def code(self) -> str | None:
        """The code of the error, such as `UNAVAILABLE_STACK`, if the body has the shape that all of them share."""
        code: object = None
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            code = json.loads(self.body)["error"]["code"]
        return code if isinstance(code, str) and re.fullmatch("[A-Za-z_]{1,64}", code) else None

    def __str__(self) -> str:
        return f"status {self.status_code}" + (f", {self.code}" if self.code else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class APIClientError(APIError):
    """4XX: the request was refused. A 425 means that its lock was gone: a retry takes a new one."""


class APIServerError(APIError):
    """5XX: the proxy, the node or the model failed."""


def api_error(status_code: int, body: str, headers: httpx.Headers, *, sealed: bool) -> APIError:
    """The error of the class that the status, of 400 or more, belongs to."""
    return (APIClientError if status_code < 500 else APIServerError)(status_code, body, headers, sealed)
