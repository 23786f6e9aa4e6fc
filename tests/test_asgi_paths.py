"""No plaintext route of an application is reached from outside, however its path is written."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Receive, Scope, Send

from asgi_apps import confidential, fastapi_app, whole
from atoma_crypto.adapters._paths import route_of, takes_plaintext
from atoma_crypto.adapters._routes import ENDPOINTS
from serving import connected, error_of, read_to_end

CHAT = "/v1/chat/completions"
TRICKS = [
    *(endpoint.plaintext for endpoint in ENDPOINTS),
    CHAT + "/",
    CHAT + "//",
    "/" + CHAT,
    "/v1//chat/completions",
    "/v1/chat//completions",
    "//v1//chat//completions//",
    "/v1/./chat/completions",
    "/v1/chat/./completions/.",
    "/v1/models/../chat/completions",
    "/v1/chat/completions/../../models",
    "/../v1/chat/completions",
    "/v1%2Fchat%2Fcompletions",
    "/v1/chat%2fcompletions",
    "/%76%31/%63hat/completion%73",
    "/v1%252Fchat%252Fcompletions",
    "/v1%25252Fchat/completions",
    "/v1/models/%2e%2e/chat/completions",
    "/v1/models/..%2fchat/completions",
    "/v1/chat\\completions",
    "/v1/chat%5Ccompletions",
    "/v1/Chat/Completions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/chat/completions;a=b",
    "/v1/chat;a=b/completions",
    "/v1/chat/completions%3Fa",
    "/v1/chat/completions%23a",
    "/v1/chat/completions%20",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0a",
    "/v1/chat/comp%09letions",
    "/v1/chat/completions?stream=true",
    "/v1/chat/completions/render",
    "/llm/v1/chat/completions",
    "/v1/engines/copilot-codex/completions",
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/images/generations",
    "/v1/images/edits",
    "/v1/confidential/chat/completions/",
    "//v1/confidential/chat/completions",
    "/v1/confidential/../chat/completions",
    "http://node/v1/chat/completions",
    "http://node//v1/chat/completions",
    # other routes of vLLM, SGLang and llama.cpp
    *(f"/{name}" for name in ("generate", "invocations", "tokenize", "completion", "infill", "score", "v2/rerank")),
    *(f"/v1/{name}" for name in ("responses", "messages", "audio/transcriptions", "rerank", "score")),
]
OPEN = [
    "/",
    "/health",
    "/v1/models",
    "/v1/models/chat",
    "/docs",
    "/openapi.json",
    "/v1/chat",
    "/messages",
    "/x/generate",
]
OPEN += ["/v1/nodes/lock/", "/v1/completion-models", "/my-embeddings", "/images/logo.png", "/metrics", "*"]


class Seen:
    """Takes everything, and keeps the paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})


def asked(url: str, method: str, target: str) -> bytes:
    with connected(url) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer any\r\nConnection: close\r\n"
        connection.sendall((head + "Content-Length: 2\r\n\r\n{}").encode("latin-1"))
        return read_to_end(connection)


def test_no_way_to_write_a_path_leads_to_plaintext() -> None:
    seen = Seen()
    with confidential(seen) as client:
        for target in TRICKS:
            for method in ("POST", "GET", "PUT", "OPTIONS", "PATCH", "X-POST"):
                answer = asked(client.url, method, target)
                assert answer.startswith(b"HTTP/1.1 403 "), (method, target, answer[:100])
        assert error_of(client.http.post(CHAT, content=b"{}")) == (
            403,
            "FORBIDDEN",
            "Plaintext is not taken here: seal it for a confidential path",
        )
    assert seen.paths == []


def test_every_other_path_is_the_application_s() -> None:
    seen = Seen()
    with confidential(seen) as client:
        for target in OPEN:
            assert asked(client.url, "GET", target).startswith(b"HTTP/1.1 200 "), target
    assert seen.paths == OPEN


def test_plaintext_passes_where_it_is_allowed_and_the_sealed_paths_stay() -> None:
    with confidential(fastapi_app(whole({"clear": True})), allow_plaintext=True) as client:
        for endpoint in ENDPOINTS:
            assert client.http.post(endpoint.plaintext, content=b"{}").json() == {"clear": True}
        session, response = client.ask(b'{"model":"m"}')
        assert session.open_response(response.content) == b'{"clear":true}'


def test_further_paths_may_be_named() -> None:
    seen = Seen()
    with confidential(seen, refuse=["/agents/", "/v1/files"]) as client:
        for target in ("/agents", "/agents/7", "/v1/./files", "//AGENTS"):
            assert asked(client.url, "POST", target).startswith(b"HTTP/1.1 403 "), target
        assert asked(client.url, "POST", "/v1/agents").startswith(b"HTTP/1.1 200 ")
    assert seen.paths == ["/v1/agents"]


@pytest.mark.parametrize("path", [CHAT, "/generate", "/agents", "/v1/responses"])
@pytest.mark.parametrize("root", ["", "/llm", "/llm/", "/v1", "/llm é"])
def test_below_a_root_path(root: str, path: str) -> None:
    base = root.rstrip("/")
    for scope in (
        {"path": base + path, "root_path": root},  # a server that leaves the root in the path, as ASGI says
        {"path": path, "root_path": root},  # one that takes it out
        {"path": "/x", "raw_path": quote(base + path).encode(), "root_path": root},  # a router that reads the other
    ):
        assert takes_plaintext(scope, ["/agents"]), scope
    other: dict[str, Any] = {"path": base + "/v1/models", "raw_path": None, "root_path": root}
    assert not takes_plaintext(other, ["/agents"])
    assert route_of(other) == (base, "/v1/models")


def test_a_root_path_that_is_the_beginning_of_a_route() -> None:
    assert route_of({"path": "/v1/nodes/lock", "root_path": "/v"}) == ("", "/v1/nodes/lock")
    assert takes_plaintext({"path": "/completions", "root_path": "/v1/chat"})
    assert takes_plaintext({"path": "/v1/chat/completions", "root_path": "/v1/chat"})


def test_a_path_that_is_encoded_without_end_is_refused() -> None:
    assert takes_plaintext({"path": "/%" + "25" * 20 + "2e"})
    assert not takes_plaintext({"path": "/%" + "25" * 5 + "2e"})
