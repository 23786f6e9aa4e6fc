"""A router between client and node that is not to be trusted: it keeps all that it sees and answers as a test says."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from atoma_crypto.adapters._routes import LOCK_PATH
from serving import NO_CAS, serving


@dataclass(frozen=True)
class Passed:
    """A node's answer, about to be passed on; `abort` ends the connection before the body has ended."""

    request: bytes
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    abort: bool = False

    @property
    def events(self) -> list[bytes]:
        return [block + b"\n\n" for block in self.body.split(b"\n\n") if block.startswith(b"data:")]

    def but(self, body: bytes | Iterable[bytes] | None = None, **more: Any) -> Passed:
        joined = self.body if body is None else body if isinstance(body, bytes) else b"".join(body)
        return replace(self, body=joined, **more)


Attack = Callable[[Passed], Passed]


@dataclass
class Middle:
    """`on_answer` and `on_lock` are what it does to a node's answers; nothing, unless a test says so."""

    node: str
    on_answer: Attack = lambda passed: passed
    on_lock: Attack = lambda passed: passed
    saw: bytearray = field(default_factory=bytearray)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)])

    def honest(self) -> None:
        self.on_answer = self.on_lock = lambda passed: passed
        self.paths.clear()

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        self.paths.append(request.url.path)
        self.saw += request.method.encode() + str(request.url).encode() + repr(request.headers.raw).encode() + body
        async with httpx.AsyncClient(base_url=self.node, trust_env=False, verify=NO_CAS) as client:
            headers = {"authorization": request.headers.get("authorization", "none")}
            answer = await client.request(request.method, request.url.path, content=body, headers=headers)
        self.saw += answer.content
        passed = Passed(body, answer.content, answer.status_code, answer.headers["content-type"])
        passed = (self.on_lock if request.url.path == LOCK_PATH else self.on_answer)(passed)
        return StreamingResponse(_parts(passed), passed.status, headers=passed.headers, media_type=passed.content_type)


@contextlib.contextmanager
def before(node: str) -> Iterator[Middle]:
    """One that stands before the node of this URL, and is served itself."""
    middle = Middle(node)
    with serving(middle.app()) as url:
        middle.url = url
        yield middle


async def _parts(passed: Passed) -> AsyncIterator[bytes]:
    yield passed.body
    if passed.abort:
        raise ConnectionAbortedError


# ---- what it may do to sealed JSON ------------------------------------------------------------------------------


def flipped(sealed: bytes, member: str = "ciphertext", bit: int = 77) -> bytes:
    """A reply or an event with one bit of a member changed."""
    prefix, text = (b"data: ", sealed[6:]) if sealed.startswith(b"data: ") else (b"", sealed)
    members = json.loads(text)
    raw = bytearray(base64.b64decode(members[member]))
    raw[bit // 8] ^= 1 << bit % 8
    members[member] = base64.b64encode(raw).decode()
    return prefix + json.dumps(members).encode() + (b"\n\n" if prefix else b"")


def reflected(passed: Passed) -> bytes:
    """The request itself as an answer to it."""
    asked = json.loads(passed.request)
    members = {
        "ciphertext": asked["ciphertext"],
        "nonce": asked["nonce"],
        "response_hash": asked["plaintext_body_hash"],
    }
    return json.dumps(members).encode()


def as_event(text: bytes) -> bytes:
    return b"data: " + text + b"\n\n"


def without(events: Sequence[bytes], *places: int) -> list[bytes]:
    left_out = {place % len(events) for place in places}
    return [one for place, one in enumerate(events) if place not in left_out]
