"""All four confidential endpoints of a node, its health and its metrics."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import atoma_crypto as ac
from atoma_crypto.adapters._routes import ENDPOINTS, Endpoint
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.model import Answer, InferenceError
from serving import CANARY, CHAT, USAGE, Client, ScriptedModel, chunk, connected, error_of, head, node, opened
from upstreams import STREAM, upstream, upstream_node

EVERY = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)
STREAMING = [endpoint for endpoint in ENDPOINTS if endpoint.streams]
WHOLE = [endpoint for endpoint in ENDPOINTS if not endpoint.streams]


class Noting(ScriptedModel):
    """Keeps which endpoint it was asked for."""

    endpoint: Endpoint | None = None

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        self.endpoint = endpoint
        return await super().complete(endpoint, body)

    async def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        self.endpoint = endpoint
        async for batch in super().stream(endpoint, body):
            yield batch


def ask(
    client: Client, endpoint: Endpoint, body: bytes, *, units: int | None = None
) -> tuple[ac.ClientSession, httpx.Response]:
    session = client.session()
    stream = json.loads(body).get("stream") or False
    sealed = session.seal_request(body, stream=stream, num_compute_units=units)
    return session, client.http.post(endpoint.confidential, content=sealed)


BODY = b'{"model":"scripted","input":"x"}'
STREAM_BODY = b'{"model":"scripted","prompt":"x","stream":true}'


@EVERY
def test_a_whole_answer_of_each_endpoint(endpoint: Endpoint) -> None:
    model = Noting([Answer(b'{"data":[1]}', USAGE)])
    with node(model) as client:
        client.lock(max_num_tokens=endpoint.default_units)
        session, response = ask(client, endpoint, BODY)
    assert session.open_response(response.content) == b'{"data":[1]}'
    assert model.endpoint == endpoint
    assert model.bodies == [BODY]
    # images never show a usage, whatever their service says
    assert response.json().get("usage") == (None if "images" in endpoint.plaintext else USAGE)


@EVERY
def test_an_answer_without_usage_is_an_answer(endpoint: Endpoint) -> None:
    with node(ScriptedModel([Answer(b'{"data":[]}')])) as client:
        client.lock(max_num_tokens=endpoint.default_units)
        session, response = ask(client, endpoint, BODY)
    assert session.open_response(response.content) == b'{"data":[]}'
    assert "usage" not in response.json()


@pytest.mark.parametrize("endpoint", STREAMING, ids=lambda endpoint: endpoint.plaintext)
def test_a_stream_of_each_endpoint_that_streams(endpoint: Endpoint) -> None:
    model = Noting([[Answer(chunk("a"))], [Answer(chunk("b"), USAGE)]])
    with node(model) as client:
        client.lock()
        session, response = ask(client, endpoint, STREAM_BODY)
    assert [event.plaintext for event in opened(session, response.content)] == [chunk("a"), chunk("b")]
    assert model.endpoint == endpoint


@pytest.mark.parametrize("endpoint", WHOLE, ids=lambda endpoint: endpoint.plaintext)
def test_a_stream_of_an_endpoint_that_does_not_is_refused_and_uses_up_no_lock(endpoint: Endpoint) -> None:
    model = ScriptedModel([Answer(b"{}")])
    with node(model) as client:
        client.lock(max_num_tokens=endpoint.default_units)
        assert error_of(ask(client, endpoint, STREAM_BODY)[1])[:2] == (400, "INVALID_BODY")
        assert model.bodies == []
        assert ask(client, endpoint, BODY)[1].status_code == 200


@EVERY
def test_units_that_are_not_named_are_those_of_the_endpoint(endpoint: Endpoint) -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock(max_num_tokens=endpoint.default_units - 1)
        assert error_of(ask(client, endpoint, BODY)[1])[:2] == (425, "UNAVAILABLE_STACK")
        assert ask(client, endpoint, BODY, units=endpoint.default_units - 1)[1].status_code == 200
        client.lock(max_num_tokens=endpoint.default_units)
        assert ask(client, endpoint, BODY)[1].status_code == 200


@EVERY
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS"])
def test_post_only(endpoint: Endpoint, method: str) -> None:
    with node(ScriptedModel()) as client:
        response = client.http.request(method, endpoint.confidential)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert client.http.request(method, endpoint.plaintext).status_code == 404


@EVERY
def test_an_upstream_is_asked_at_the_matching_path(endpoint: Endpoint) -> None:
    asked: list[bytes] = []

    async def answer(request: Request) -> Response:
        asked.append(await request.body())
        return Response(STREAM) if endpoint.streams else JSONResponse({"data": []})

    body = STREAM_BODY if endpoint.streams else BODY
    with upstream(answer, endpoint.plaintext) as url, upstream_node(url) as client:
        client.lock(max_num_tokens=endpoint.default_units)
        session, response = ask(client, endpoint, body)
        if endpoint.streams:
            assert len(opened(session, response.content)) == 3
            assert json.loads(asked[0]) == json.loads(body) | {"stream_options": {"include_usage": True}}
        else:
            assert session.open_response(response.content) == b'{"data":[]}'
            assert asked == [body]


@pytest.mark.parametrize("endpoint", ENDPOINTS[1:], ids=lambda endpoint: endpoint.plaintext)
def test_eliza_only_chats(endpoint: Endpoint) -> None:
    with node(ElizaModel()) as client:
        client.model = "eliza"
        client.lock(max_num_tokens=endpoint.default_units)
        response = ask(client, endpoint, b'{"model":"eliza"}')[1]
    assert error_of(response) == (404, "NOT_FOUND", "The model did not answer this request")


# Which errors of an upstream reach the client


@pytest.mark.parametrize("status", [400, 408, 413, 418, 422, 429, 499, 500, 502, 503, 504, 599])
def test_the_status_of_an_upstream_reaches_the_client_and_its_words_do_not(status: int) -> None:
    async def answer(_request: Request) -> Response:
        return JSONResponse({"error": {"message": CANARY}}, status, {"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"})

    with upstream(answer) as url, upstream_node(url) as client:
        response = ask(client, ENDPOINTS[0], BODY)[1]
    shown, code, message = error_of(response)
    assert shown == status
    assert re.fullmatch("[A-Z_']+", code)
    assert CANARY not in code + message + str(response.headers)
    expected = None if status == 500 else "Fri, 31 Dec 2999 23:59:59 GMT"
    assert response.headers.get("retry-after") == expected


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 404, 405, 407])
def test_what_blames_the_node_is_a_plain_500(status: int) -> None:
    async def answer(_request: Request) -> Response:
        return Response(status_code=status)

    with upstream(answer) as url, upstream_node(url) as client:
        assert error_of(ask(client, ENDPOINTS[0], BODY)[1])[:2] == (500, "INTERNAL_ERROR")


@pytest.mark.parametrize("said", [CANARY, "", "-1", "1, 2", "99999999999", "Soon, 31 Dec 2999 23:59:59 GMT"])
def test_a_retry_after_that_is_none_is_not_passed_on(said: str) -> None:
    async def answer(_request: Request) -> Response:
        return Response(status_code=429, headers={"Retry-After": said})

    with upstream(answer) as url, upstream_node(url) as client:
        response = ask(client, ENDPOINTS[0], BODY)[1]
    assert response.status_code == 429
    assert "retry-after" not in response.headers


def test_a_model_may_say_which_status_the_client_gets() -> None:
    told = InferenceError(503, passes=True, retry_after="3")
    with node(ScriptedModel([told])) as client:
        client.lock()
        response = ask(client, ENDPOINTS[0], BODY)[1]
    assert error_of(response)[:2] == (503, "SERVICE_UNAVAILABLE")
    assert response.headers["retry-after"] == "3"


# Health and metrics


def test_health_needs_no_token() -> None:
    with node(ScriptedModel(), token="sesame") as client:  # noqa: S106 - the test's
        response = httpx.get(client.url + "/health", trust_env=False)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert client.http.post("/health").status_code == 405


def test_no_metrics_unless_asked_for() -> None:
    with node(ScriptedModel()) as client:
        assert error_of(client.http.get("/metrics"))[:2] == (404, "NOT_FOUND")


def value(text: str, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_metrics_count_by_endpoint_and_status_and_tell_nothing_else() -> None:
    go_on = threading.Event()
    model = ScriptedModel([[Answer(chunk(CANARY))], go_on, [Answer(chunk("b")), Answer(chunk("c"))]])
    labels = f'endpoint="{CHAT}"'
    with node(model, metrics=True) as client:
        client.lock()
        client.lock(model=CANARY)
        client.http.post(f"/{CANARY}")
        client.http.post(CHAT, content=CANARY)
        with client.asking(STREAM_BODY) as (_, response):
            parts = response.iter_raw()
            next(parts)
            shown = client.http.get("/metrics")
            assert value(shown.text, f"atoma_crypto_streams_in_flight{{{labels}}}") == 1
            assert value(shown.text, f"atoma_crypto_events_total{{{labels}}}") == 1
            go_on.set()
            assert sum(part.count(b"\n\n") for part in parts) == 2
        client.lock()
        model.steps = [[Answer(chunk("d"))], InferenceError()]
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client, ENDPOINTS[0], STREAM_BODY)
        text = client.http.get("/metrics").text
    assert shown.headers["content-type"].startswith("text/plain")
    counts = {
        f'requests_total{{{labels},status="200"}}': 1,
        f'requests_total{{{labels},status="400"}}': 1,
        f'requests_total{{{labels},status="aborted"}}': 1,
        'requests_total{endpoint="/v1/nodes/lock",status="200"}': 2,
        'requests_total{endpoint="/v1/nodes/lock",status="503"}': 1,
        f"events_total{{{labels}}}": 4,
        f"streams_in_flight{{{labels}}}": 0,
        f"request_seconds_count{{{labels}}}": 3,
    }
    assert {name: value(text, f"atoma_crypto_{name}") for name in counts} == counts
    assert CANARY not in text
    assert "scripted" not in text


def test_a_client_that_leaves_is_counted_as_such() -> None:
    model = ScriptedModel([[Answer(chunk("a"))], threading.Event()])
    with node(model, metrics=True) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(STREAM_BODY, stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
        assert model.stopped.wait(30)
        text = ""
        while 'status="left"' not in text:
            text = client.http.get("/metrics").text
    assert value(text, f'atoma_crypto_requests_total{{endpoint="{CHAT}",status="left"}}') == 1
    assert value(text, f'atoma_crypto_streams_in_flight{{endpoint="{CHAT}"}}') == 0


def test_two_nodes_of_one_process_count_apart_and_a_token_guards_the_counts() -> None:
    sample = 'atoma_crypto_request_seconds_count{endpoint="/v1/nodes/lock"}'
    with node(ScriptedModel(), metrics=True) as one, node(ScriptedModel(), metrics=True, token="sesame") as two:  # noqa: S106 - the test's
        one.lock()
        assert value(one.http.get("/metrics").text, sample) == 1
        assert error_of(two.http.get("/metrics"))[0] == 401
        two.http.headers["Authorization"] = "Bearer sesame"
        assert value(two.http.get("/metrics").text, sample) == 0
