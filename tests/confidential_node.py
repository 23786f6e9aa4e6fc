"""A real node for all four endpoints, made of our sessions, that does as a test says; and clients that ask it."""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from types import ModuleType
from typing import Any, Final, Literal

import httpx
import httpx2
import openai
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto._errors import http_error
from atoma_crypto._offers import write_offer
from atoma_crypto.adapters import httpx as with_httpx
from atoma_crypto.adapters import httpx2 as with_httpx2
from atoma_crypto.adapters._routes import ENDPOINTS, LOCK_PATH
from atoma_crypto.attestation import PinnedKeys
from serving import NO_CAS, serving

USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
KINDS: Final = ("httpx", "httpx async", "httpx2", "httpx2 async")
PIXELS: Final = base64.b64encode(b"an image of few pixels").decode()
Answer = dict[str, Any] | Iterable[bytes] | AsyncIterable[bytes]


@dataclass(frozen=True)
class Seen:
    """A sealed request as it came, and what was in it."""

    path: str
    headers: dict[str, str]
    envelope: dict[str, Any]
    body: dict[str, Any]


class Abort(Exception):  # noqa: N818 - what a node does, not what goes wrong in a test
    """Raised instead of an answer, or of its rest: sealed, and with another status around it if `shown` says so."""

    def __init__(self, code: str = "OVERLOADED", message: str = "too busy", status: int = 503, shown: int = 0) -> None:
        super().__init__(code)
        self.arguments = (code, message, status)
        self.shown = shown or status


@dataclass
class Node:
    """`refusals`: statuses and headers that sealed requests get first; `lock_refusals` likewise for locks.

    With `v2` it speaks that alone: it offers `key` and `more_keys`, and knows those and `old_keys`.
    """

    answer: Callable[[str, dict[str, Any]], Answer] = field(default_factory=lambda: typical)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    lock_refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    digest: str | None = None
    prefix: str = ""
    batch: int = 1  # events of a stream that are written at once
    seen: list[Seen] = field(default_factory=list)
    locks: list[dict[str, Any]] = field(default_factory=list)
    lock_headers: list[dict[str, str]] = field(default_factory=list)
    left: int = 0  # streams that their reader has left
    key: ac.SecretKey = field(default_factory=ac.SecretKey.generate)
    v2: bool = False
    more_keys: list[ac.SecretKey] = field(default_factory=list)
    old_keys: list[ac.SecretKey] = field(default_factory=list)
    small_id: int | None = 42
    not_after: float = 3600  # seconds from now
    status: int = 200  # of answers
    pad_to: Literal["auto"] | None = None

    @property
    def policy(self) -> PinnedKeys:
        return PinnedKeys([key.public_key for key in (self.key, *self.more_keys, *self.old_keys)])

    def app(self) -> Starlette:
        sealed = [Route(self.prefix + e.confidential, self._ask, methods=["POST"]) for e in ENDPOINTS]
        clear = Route(self.prefix + "/v1/models", self._models)
        return Starlette(routes=[Route(self.prefix + LOCK_PATH, self._lock, methods=["POST"]), *sealed, clear])

    async def _models(self, _request: Request) -> Response:
        model = {"id": "m", "object": "model", "created": 1, "owned_by": "node"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _lock(self, request: Request) -> Response:
        self.locks.append(json.loads(await request.body()))
        self.lock_headers.append(dict(request.headers))
        if self.lock_refusals:
            return refusal(*self.lock_refusals.pop(0))
        told: dict[str, Any] = {"public_key": self.key.public_key.to_base64(), "node_small_id": 7}
        if self.v2:
            until = int(time.time() + self.not_after)
            offers = [ac.KeyOffer("v2", key.public_key, inf, until) for key in (self.key, *self.more_keys)]
            told = {
                "keys": [write_offer(offer) for offer in offers],
                "node_small_id": 7,
                "stack_small_id": self.small_id,
            }
            return JSONResponse(told | {"stack_entry_digest": self.digest})
        return JSONResponse(told | {"stack_entry_digest": self.digest, "stack_small_id": 2**53 + 1})

    async def _ask(self, request: Request) -> Response:
        raw = await request.body()
        session = ac.NodeSession(self._key_of(raw), protocols=("v2",) if self.v2 else ("v1",), pad_to=self.pad_to)
        try:
            opened = session.open_request(raw)
        except ac.RemoteProtocolError as error:
            status, code, message = http_error(error)
            return JSONResponse({"error": {"code": code, "message": message}}, status)
        body = json.loads(opened.body)
        path = request.url.path.removeprefix(self.prefix)
        self.seen.append(Seen(path, dict(request.headers), json.loads(raw), body))
        if self.refusals:
            return refusal(*self.refusals.pop(0))
        default = 1024 * 1024 if "images" in path else 8192
        if (opened.num_compute_units or default) > self.locks[-1].get("max_num_tokens", 8192):
            return refusal(425, {})
        try:
            answer = self.answer(path, body)
            if isinstance(answer, dict):
                sealed = session.seal_response(json.dumps(answer).encode())
                return Response(sealed, self.status, media_type="application/json")
        except Abort as abort:
            return Response(session.abort(*abort.arguments), abort.shown, media_type="application/json")
        return StreamingResponse(self._stream(session, answer), self.status, media_type="text/event-stream")

    def _key_of(self, raw: bytes) -> ac.SecretKey:
        """The key that a request names, or one that it does not."""
        name = json.loads(raw).get("key_id")
        for key in (self.key, *self.more_keys, *self.old_keys):
            if base64.b64encode(key.public_key.key_id).decode() == name:
                return key
        return self.key

    async def _stream(
        self, session: ac.NodeSession, chunks: Iterable[bytes] | AsyncIterable[bytes]
    ) -> AsyncIterator[bytes]:
        yield b": keep-alive\n\n"
        try:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    yield session.seal_chunk(chunk)
            else:
                rest = iter(chunks)
                while batch := list(islice(rest, self.batch)):
                    yield session.seal_chunks(batch)
            yield session.finish()
        except Abort as abort:
            yield session.abort(*abort.arguments)
        except BaseException:
            self.left += 1
            raise


def refusal(status: int, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": {"code": "REFUSED", "message": "not now"}}, status, headers)


# ---- answers ----------------------------------------------------------------------------------------------------


def event(**members: Any) -> bytes:
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **members}).encode()


def delta(content: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    said = {} if content is None else {"content": content}
    return event(choices=[{"index": index, "delta": said | more, "finish_reason": finish}])


USAGE_EVENT: Final = event(choices=[], usage=USAGE)
CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"in": "Oslo"}'}}


def typical(path: str, body: dict[str, Any]) -> Answer:
    """What OpenAI's own service would answer, about."""
    base = {"id": "c", "created": 1, "model": body["model"], "usage": USAGE}
    if path.endswith("/embeddings"):
        return base | {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]}
    if path.endswith("/images/generations"):
        return {"created": 1, "data": [{"b64_json": PIXELS}] * body.get("n", 1)}
    if path.endswith("/chat/completions"):
        return _chat(base, body)
    if body.get("stream"):
        return [
            event(object="text_completion", choices=[{"index": 0, "text": text, "finish_reason": finish}])
            for text, finish in (("one ", None), ("two", "stop"))
        ]
    choice = {"index": 0, "text": f"after {body['prompt']}", "finish_reason": "stop", "logprobs": None}
    return base | {"object": "text_completion", "choices": [choice]}


def _chat(base: dict[str, Any], body: dict[str, Any]) -> Answer:
    called = {"tool_calls": [CALL]} if body.get("tools") else {}
    finish = "tool_calls" if called else "stop"
    if not body.get("stream"):
        message = {"role": "assistant", "content": None if called else "Hello é", **called}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return base | {"object": "chat.completion", "choices": [choice]}
    if called:
        pieces: list[bytes] = [delta(tool_calls=[{"index": 0, **CALL}])]
    else:
        pieces = [delta(word) for word in ("Hel", "lo ", "é")]
    return [delta("", role="assistant"), *pieces, delta(finish=finish), USAGE_EVENT]


# ---- clients ----------------------------------------------------------------------------------------------------

Client = openai.OpenAI | openai.AsyncOpenAI


def transport(kind: str, *, connections: int | None = 100, **options: Any) -> tuple[ModuleType, Any]:
    """The library, and our transport around its own, which has at most so many connections."""
    library: ModuleType = httpx2 if kind.startswith("httpx2") else httpx
    ours: Any = with_httpx2 if library is httpx2 else with_httpx
    inner = {
        "verify": NO_CAS,
        "trust_env": False,
        "limits": library.Limits(max_connections=connections, max_keepalive_connections=20),
    }
    if kind.endswith("async"):
        return library, ours.AsyncConfidentialTransport(library.AsyncHTTPTransport(**inner), **options)
    return library, ours.ConfidentialTransport(library.HTTPTransport(**inner), **options)


@contextlib.asynccontextmanager
async def openai_client(kind: str, url: str, *, retries: int = 0, **options: Any) -> AsyncIterator[Any]:
    """The real package on our transport."""
    library, ours = transport(kind, **options)
    more: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "the-token", "max_retries": retries}
    if kind.endswith("async"):
        async with openai.AsyncOpenAI(http_client=library.AsyncClient(transport=ours), **more) as client:
            yield client
    else:
        with openai.OpenAI(http_client=library.Client(transport=ours), **more) as blocking:
            yield blocking


async def result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def items(stream: Any) -> list[Any]:
    return [item async for item in stream] if hasattr(stream, "__aiter__") else list(stream)


async def chat(client: Any, *, said: str = "Hello", **more: Any) -> Any:
    """A chat completion: whole, or all chunks of a streamed one."""
    messages = more.pop("messages", [{"role": "user", "content": said}])
    answer = await result(client.chat.completions.create(model="m", messages=messages, **more))
    return await items(answer) if more.get("stream") else answer


@contextlib.contextmanager
def running(node: Node) -> Iterator[str]:
    with node.key, serving(node.app()) as url:
        yield url + node.prefix


async def the_other_endpoints(client: Any) -> None:
    """Ask for one of each, and a stream, of an OpenAI client; the answers are those of `typical`."""
    found = await result(client.embeddings.create(model="m", input="a text"))
    assert found.data[0].embedding == [0.5, -1.0]
    drawn = await result(client.images.generate(model="m", prompt="a cat", size="512x512", n=2))
    assert [image.b64_json for image in drawn.data] == [PIXELS] * 2
    said = await result(client.completions.create(model="m", prompt="once"))
    assert said.choices[0].text == "after once"
    pieces = await items(await result(client.completions.create(model="m", prompt="once", stream=True)))
    assert "".join(piece.choices[0].text for piece in pieces) == "one two"
