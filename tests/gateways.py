"""A gateway on loopback for the tests, and nodes for it that do what a test says."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import openai
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, LOCK_PATH
from atoma_crypto.server.gateway import RequestMetadata, create_app
from oracle import Behaviour, OracleNode
from serving import NO_CAS, serving

CHAT = "/v1/chat/completions"
SEALED_CHAT = "/v1/confidential/chat/completions"
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Héllo"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def chat_chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    members = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps(members, ensure_ascii=False).encode()


CHUNKS = (chat_chunk("Hé"), chat_chunk("llo", "stop"))
FRESH = Behaviour(nonces="fresh")


def body(*, stream: object = None, **more: object) -> dict[str, object]:
    asked: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more}
    return asked if stream is None else asked | {"stream": stream}


def oracle_node(
    reply: object = COMPLETION, chunks: Sequence[bytes] = CHUNKS, behaviour: Behaviour = FRESH
) -> OracleNode:
    return OracleNode(json.dumps(reply).encode(), chunks, behaviour)


@dataclass
class Gateway:
    """A running one, how it is asked, and what it told of each request."""

    url: str
    http: httpx.Client
    seen: list[RequestMetadata] = field(default_factory=list)

    def post(self, asked: object = None, path: str = CHAT, **headers: str) -> httpx.Response:
        content = asked if isinstance(asked, bytes) else json.dumps(body() if asked is None else asked).encode()
        return self.http.post(path, content=content, headers=headers)

    def openai(self) -> openai.OpenAI:
        http = httpx2.Client(verify=NO_CAS, trust_env=False)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, http_client=http)

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        """Exit status and output of the real program."""
        command = ["curl", "--silent", "--no-buffer", "--max-time", "30", f"{self.url}{path}", *options]
        done = subprocess.run(command, capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode()


@contextlib.contextmanager
def gateway(*nodes: str, **more: Any) -> Iterator[Gateway]:
    seen: list[RequestMetadata] = []
    with (
        serving(create_app(nodes, seen=seen.append, tls=NO_CAS, **more)) as url,
        httpx.Client(
            base_url=url, headers={"Authorization": "Bearer any"}, trust_env=False, timeout=60, verify=NO_CAS
        ) as http,
    ):
        yield Gateway(url, http, seen)


Answering = Callable[[Request, ac.NodeSession, ac.Request], Any]


@dataclass
class ScriptedNode:
    """A node whose locks are real, and whose answers a test makes with the opened session in hand.

    `lock` is what it answers instead of a lock, as long as there is one; both are asked in order of the requests.
    """

    answers: list[Answering | Response]
    locks: list[Response] = field(default_factory=list)
    key: ac.SecretKey = field(default_factory=ac.SecretKey.generate)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # the path and the headers
    opened: list[ac.Request] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    async def lock(self, request: Request) -> Response:
        self.requests.append((request.url.path, dict(request.headers)))
        if self.locks:
            return self.locks.pop(0)
        key = self.key.public_key.to_base64()
        return JSONResponse({"public_key": key, "node_small_id": 7, "stack_small_id": 42, "stack_entry_digest": "AbC"})

    async def infer(self, request: Request) -> Response:
        self.requests.append((request.url.path, dict(request.headers)))
        answer = self.answers.pop(0)
        if isinstance(answer, Response):
            return answer
        session = ac.NodeSession(self.key, protocols=("v1",))
        self.opened.append(session.open_request(await request.body()))
        response = answer(request, session, self.opened[-1])
        assert isinstance(response, Response)
        return response

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        routes = [Route(path, self.infer, methods=["POST"]) for path in BY_CONFIDENTIAL]
        with serving(Starlette(routes=[Route(LOCK_PATH, self.lock, methods=["POST"]), *routes])) as url:
            yield url


def replying(plaintext: bytes) -> Answering:
    def answer(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        return Response(session.seal_response(plaintext), media_type="application/json")

    return answer


def streaming(*chunks: bytes) -> Answering:
    """One event each, and each by itself on the wire."""

    def answer(_request: Request, session: ac.NodeSession, _opened: ac.Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield session.seal_chunk(chunk)

        return StreamingResponse(events(), media_type="text/event-stream")

    return answer


def events_of(text: str) -> list[str]:
    """The data of each event of a whole stream, `[DONE]` included."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]
