"""Who may ask a gateway, whose token it shows to nodes, and what it keeps to itself."""

from __future__ import annotations

import contextlib
import json
import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import atoma_crypto as ac
from gateways import (
    CHAT,
    SEALED_CHAT,
    ScriptedNode,
    body,
    chat_chunk,
    gateway,
    oracle_node,
    replying,
    streaming,
)
from oracle import Behaviour
from serving import CANARY, connected, error_of, read_to_end, serving

OK = json.dumps({"choices": []}).encode()
TOKEN = "gateway-token-canary-9"  # noqa: S105 - the test's


# DNS rebinding, and pages of other origins

LOOPBACK = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:65535", "127.8.9.1:1", "[::1]", "[::1]:8081"]
FOREIGN = [
    *("evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:80:80"),
    *("0.0.0.0", "192.168.1.2", "[::]", "[::ffff:127.0.0.1]", "128.0.0.1", "localhost.", "127.1", "2130706433"),  # noqa: S104 - a name
    *("127.0.0.1:", "127.0.0.1:x", "user@localhost", "localhost/", "1127.0.0.1", "", "127.0.0.1 evil.example"),
]


def test_only_loopback_names_are_taken_for_this_host() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        for host in LOOPBACK:
            assert gate.post(Host=host).status_code == 200, host
        served = len(foreign.opened)
        for host in FOREIGN:
            for response in (gate.post(Host=host), gate.http.get("/health", headers={"Host": host})):
                assert error_of(response)[:2] == (403, "FORBIDDEN"), host
        assert len(foreign.opened) == served
        for origin in ("http://localhost:3000", "http://127.0.0.1", "https://[::1]:8"):
            assert gate.post(Origin=origin).status_code == 200, origin
        served = len(foreign.opened)
        for origin in ("https://evil.example", "null", "http://localhost.evil.example", "localhost", "http://[", ""):
            assert error_of(gate.post(Origin=origin))[:2] == (403, "FORBIDDEN"), origin
        assert len(foreign.opened) == served


@pytest.mark.parametrize(
    "lines",
    [
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
        b"POST %s HTTP/1.0\r\n",
        b"POST http://localhost%s HTTP/1.1\r\nHost: evil.example\r\n",
    ],
    ids=["two", "none", "in the target"],
)
def test_what_no_client_sends_is_no_loopback_name(lines: bytes) -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate, connected(gate.url) as connection:
        content = json.dumps(body()).encode()
        head = lines % CHAT.encode() + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content)
        connection.sendall(head + content)
        assert read_to_end(connection).split()[1] in {b"400", b"403"}
        assert foreign.opened == []


def test_any_host_is_taken_where_that_was_asked_for() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url, any_host=True) as gate:
        assert gate.post(Host="box.example").status_code == 200
        assert error_of(gate.post(Host="box.example", Origin="http://box.example"))[0] == 403


# Tokens


def test_the_apps_token_is_passed_on() -> None:
    scripted = ScriptedNode([replying(OK)] * 2)
    with scripted.running() as url, gateway(url) as gate:
        assert gate.post(Authorization="Bearer of the app").status_code == 200
        del gate.http.headers["Authorization"]
        assert gate.post().status_code == 200  # this node wants none
    tokens = [headers.get("authorization") for _, headers in scripted.requests]
    assert tokens == ["Bearer of the app"] * 2 + [None] * 2


def test_the_configured_token_goes_in_place_of_the_apps() -> None:
    scripted = ScriptedNode([replying(OK)] * 2)
    with scripted.running() as url, gateway(url, token=TOKEN) as gate:
        assert gate.post(Authorization="Bearer of the app").status_code == 200
        del gate.http.headers["Authorization"]
        assert gate.post().status_code == 200
    assert [headers["authorization"] for _, headers in scripted.requests] == [f"Bearer {TOKEN}"] * 4


def test_a_token_that_no_header_may_have() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        for path in (CHAT, SEALED_CHAT):
            response = gate.http.post(
                path, content=json.dumps(body(stream=False)).encode(), headers=[(b"Authorization", b"Bearer \xe9")]
            )
            assert error_of(response)[:2] == (401, "AUTH_ERROR")
    assert foreign.opened == []


def test_nothing_else_of_the_apps_headers_or_cookies_goes_out() -> None:
    scripted = ScriptedNode([Response(OK, 429, {"set-cookie": "a=b"}), replying(OK)])
    with scripted.running() as url, gateway(url) as gate:
        for _ in range(2):
            gate.post(Cookie="c=d", X_Mine="secret", User_Agent=CANARY)
    for _, headers in scripted.requests:
        assert "cookie" not in headers
        assert "secret" not in str(headers)
        assert CANARY not in str(headers)
        assert headers["accept-encoding"] == "identity"


# What is passed in clear


def test_the_list_of_models_is_passed_on_only_where_that_was_asked_for() -> None:
    asked: list[dict[str, str]] = []

    async def models(request: Request) -> Response:
        asked.append(dict(request.headers))
        return JSONResponse({"object": "list", "data": []}, 200 if len(asked) == 1 else 401)

    with serving(Starlette(routes=[Route("/v1/models", models)])) as url:
        with gateway(url) as gate:
            assert error_of(gate.http.get("/v1/models"))[0] == 404
        with gateway("http://127.0.0.1:1", url, pass_models=True, token=TOKEN) as gate:
            assert gate.http.get("/v1/models").json() == {"object": "list", "data": []}
            assert error_of(gate.http.get("/v1/models"))[0] == 401
            assert error_of(gate.post(path="/v1/models"))[0] == 405
    assert [headers["authorization"] for headers in asked] == [f"Bearer {TOKEN}"] * 2


def test_no_word_leaves_in_clear() -> None:
    """All bytes that the node was sent, looked through for what was said."""
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        real, sent = foreign.answer, []

        def recording(path: str, raw: bytes) -> tuple[int, str, bytes]:
            sent.append(raw)
            return real(path, raw)

        foreign.answer = recording  # type: ignore[method-assign] # to see what it sees
        for path in (CHAT, SEALED_CHAT, "/v1/completions", "/v1/embeddings", "/v1/images/generations"):
            assert gate.post(body(stream=False, prompt=CANARY), path).status_code == 200
        assert len(sent) == 10
        assert CANARY.encode() not in b"".join(sent)
        assert all(CANARY in side.body.decode() for side in foreign.opened)


# What is logged


@pytest.mark.filterwarnings("ignore::atoma_crypto.NonceReuseWarning")
def test_neither_plaintext_nor_token_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    chunks = [chat_chunk(CANARY), chat_chunk(CANARY, "stop")]
    behaviours = [Behaviour(nonces="fresh"), Behaviour(nonces="fresh", cut=700), Behaviour(flip=-240)]
    behaviours += [Behaviour(nonces="reflect"), Behaviour(cut=30), Behaviour()]

    def ask_all(*nodes: str) -> None:
        with gateway(*nodes, token=TOKEN) as gate:
            for path in (CHAT, SEALED_CHAT):
                for stream in (False, True):
                    with contextlib.suppress(httpx.RemoteProtocolError):
                        gate.post(body(stream=stream, note=CANARY), path)
                gate.post(json.dumps(body(note=CANARY)).encode()[:-1], path)
                gate.post(body(stream=CANARY), path)
            gate.post(body(note=CANARY), Host="evil.example")

    for behaviour in behaviours:
        with oracle_node({"choices": [], "said": CANARY}, chunks, behaviour) as foreign:
            ask_all(foreign.base_url)
    echoing = ScriptedNode([JSONResponse({"error": {"code": CANARY, "message": CANARY}}, 500)] * 4)
    with echoing.running() as url:
        ask_all(url)
    ask_all("http://127.0.0.1:1")
    not_json = ScriptedNode([streaming(CANARY.encode())] * 4)
    with not_json.running() as url:
        ask_all(url)

    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "no answer from http://127.0.0.1:1: 502" in logged
    assert "failed: 502" in logged
    assert "StreamAbortedError" in logged
    assert "canary" not in logged


def test_what_is_raised_leads_to_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's own errors have neither cause nor context: httpx's hold the request and its token."""
    from atoma_crypto.server import _node_answer

    made: list[_node_answer.FailedError] = []
    real = _node_answer.FailedError.__init__

    def recording(error: _node_answer.FailedError, *args: object, **more: object) -> None:
        real(error, *args, **more)  # type: ignore[arg-type] # handed on as they are
        made.append(error)

    monkeypatch.setattr(_node_answer.FailedError, "__init__", recording)
    with gateway("http://127.0.0.1:1", token=TOKEN) as gate:
        gate.post()
    for behaviour in (Behaviour(nonces="fresh", cut=700), Behaviour(nonces="reflect"), Behaviour(cut=0)):
        with oracle_node(behaviour=behaviour) as foreign, gateway(foreign.base_url, token=TOKEN) as gate:
            for stream in (False, True):
                with contextlib.suppress(httpx.RemoteProtocolError):
                    gate.post(body(stream=stream))
    assert len(made) >= 6
    for error in made:
        assert error.__cause__ is None
        assert error.__context__ is None or isinstance(error.__context__, ac.AtomaCryptoError)
        assert not isinstance(error.__context__, httpx.HTTPError)
