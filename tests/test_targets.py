"""Which paths are sealed, which go in clear, and that all others go nowhere."""

from __future__ import annotations

import pytest

import atoma_crypto as ac
from atoma_crypto.adapters._routes import ENDPOINTS, Endpoint
from atoma_crypto.adapters._targets import Paths

OPEN = Paths(("/v1/models", "/healthz"))


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b.c/d", "/v1/models"])
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)
def test_a_sealed_path_keeps_its_prefix(prefix: str, endpoint: Endpoint) -> None:
    route = OPEN.route("POST", prefix + endpoint.plaintext)
    assert route is not None
    assert route.endpoint is endpoint
    assert route.lock_path == f"{prefix}/v1/nodes/lock"
    assert route.sealed_path == prefix + endpoint.confidential


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models", "/v1/models?limit=3", "/healthz", "/x/healthz"])
def test_a_path_that_is_named_goes_in_clear(method: str, path: str) -> None:
    assert OPEN.route(method, path) is None
    with pytest.raises(ac.LocalProtocolError):
        Paths().route(method, path)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "post", "Post", "QUERY", ""])
def test_a_sealed_path_takes_post_alone(method: str) -> None:
    with pytest.raises(ac.LocalProtocolError, match="POST"):
        OPEN.route(method, "/v1/chat/completions")


@pytest.mark.parametrize("query", ["?", "?api-version=1", "?secret"])
def test_and_no_query(query: str) -> None:
    with pytest.raises(ac.LocalProtocolError, match="query"):
        OPEN.route("POST", "/v1/embeddings" + query)


NEAR = [
    "/v1/chat/completions/",
    "//v1/chat/completions/",
    "/v1//chat/completions",
    "/v1/chat/completions//",
    "/V1/chat/completions",
    "/v1/CHAT/completions",
    "/v1/chat/./completions",
    "/v1/x/../chat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%252Fcompletions",
    "/v1/%63hat/completions",
    "/v1/chat\\completions",
    "/v1/chat/completions;jsessionid=1",
    "/v1;x/chat;y/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%20",
    "/v1/chat/completions/42",
    "/v1/confidential/chat/completions",
    "/v1/embeddings.json",
]


@pytest.mark.parametrize("tail", ["", "/v1/models", "/healthz", "/../v1/models", "/%2e%2e/x/healthz"])
@pytest.mark.parametrize("path", NEAR)
def test_what_only_looks_like_a_sealed_path_goes_nowhere(path: str, tail: str) -> None:
    with pytest.raises(ac.LocalProtocolError):
        OPEN.route("POST", path + ("" if tail.startswith("/..") or "%2e" in tail else tail))
    with pytest.raises(ac.LocalProtocolError):
        OPEN.route("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "/v1",
            "/v1/responses",
            "/chat/completions",
            "/v1/model",
            "/v1/models/",
            "/v1/models/x",
            "/V1/models",
        ),
        *("/v1/models%20", "/v1/%6dodels", "/v1//models", "/v1/nodes/lock", "/healthz/../admin", "/v1/audio/speech"),
        *("models", "/xhealthz", "/v1/models?x#/healthz/"),
    ][:-1],
)
def test_what_nobody_named_goes_nowhere(path: str) -> None:
    with pytest.raises(ac.LocalProtocolError, match="nothing goes in clear"):
        OPEN.route("POST", path)


def test_encoded_without_end() -> None:
    path = "/v1/models"
    for _ in range(20):
        path = path.replace("%", "%25").replace("m", "%6d")
    with pytest.raises(ac.LocalProtocolError):
        OPEN.route("GET", path + "/v1/models")


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "v1/models", "/v1/models/", "/v1//models", "/v1/models?x", "/v1/%6dodels", "/v1/../models", "/v1/."),
        *("/v1/mo dels", "/v1/chat/completions", "/completions", "/chat/completions", "/V1/Embeddings"),
        *("/v1/confidential/embeddings", "/v1/chat/completions/v1/models", "/v1/images/generations", "/generations"),
    ],
)
def test_such_names_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="allow_plaintext"):
        Paths((name,))


def test_one_string_is_no_collection_of_paths() -> None:
    with pytest.raises(TypeError, match="collection"):
        Paths("/v1/models")
