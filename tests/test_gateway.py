"""The gateway: plaintext OpenAI on one side, sealed requests on the other."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from typing import Any

import httpx2
import openai
import pytest

import atoma_crypto as ac
from atoma_crypto._typing import NonceReuse
from atoma_crypto.adapters._routes import DEFAULT_TOKENS
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.gateway import RequestMetadata, create_app
from gateways import (
    CHAT,
    CHUNKS,
    COMPLETION,
    SEALED_CHAT,
    ScriptedNode,
    body,
    events_of,
    gateway,
    oracle_node,
    replying,
    streaming,
)
from oracle import Behaviour, unb64
from serving import NO_CAS, error_of, node

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
ELIZA = json.dumps({"model": "eliza", "messages": [{"role": "user", "content": "Hello"}]})
JSON = ("-H", "Content-Type: application/json", "-H", "Authorization: Bearer any")


# With curl


@needs_curl
def test_curl_asks_our_node() -> None:
    with node(ElizaModel(seed=1)) as client, gateway(client.url) as gate:
        status, out = gate.curl(CHAT, *JSON, "-d", ELIZA)
        assert status == 0
        said = json.loads(out)["choices"][0]["message"]["content"]
        status, out = gate.curl(CHAT, *JSON, "-d", json.dumps(json.loads(ELIZA) | {"stream": True}))
        assert status == 0
        *chunks, done = events_of(out)
        assert done == "[DONE]"
        choices = [json.loads(chunk)["choices"] for chunk in chunks]
        assert "".join(choice[0]["delta"].get("content", "") for choice in choices if choice) == said
        assert gate.curl("/health") == (0, '{"status":"ok"}')


@needs_curl
def test_curl_asks_a_foreign_node() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        status, out = gate.curl(CHAT, *JSON, "-d", json.dumps(body()))
        assert (status, json.loads(out)) == (0, COMPLETION)
        status, out = gate.curl(CHAT, *JSON, "-d", json.dumps(body(stream=True)))
        assert (status, events_of(out)) == (0, [*(chunk.decode() for chunk in CHUNKS), "[DONE]"])
        assert [json.loads(side.body) for side in foreign.opened] == [body(), body(stream=True)]


@needs_curl
def test_curl_notices_a_stream_that_was_cut() -> None:
    with oracle_node(behaviour=Behaviour(nonces="fresh", cut=700)) as foreign, gateway(foreign.base_url) as gate:
        status, out = gate.curl(CHAT, *JSON, "-d", json.dumps(body(stream=True)))
        assert status == 18  # transfer closed with outstanding read data remaining
        assert "[DONE]" not in out
        assert "Hé" in out


# With the openai package


def test_openai_asks_our_node() -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    with node(ElizaModel(seed=1)) as client, gateway(client.url + "/v1/") as gate, gate.openai() as ai:
        whole = ai.chat.completions.create(model="eliza", messages=messages)
        parts = [
            chunk.choices[0].delta.content or ""
            for chunk in ai.chat.completions.create(model="eliza", messages=messages, stream=True)
            if chunk.choices
        ]
        assert len(parts) > 3
        assert "".join(parts) == whole.choices[0].message.content
        assert len(gate.seen) == 2


def test_openai_asks_all_four_endpoints_of_a_foreign_node() -> None:
    reply = COMPLETION | {"data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    with oracle_node(reply) as foreign, gateway(foreign.base_url) as gate, gate.openai() as ai:
        completion = ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], max_tokens=9)
        assert completion.choices[0].message.content == "Héllo"
        assert ai.completions.create(model="m", prompt="Hi").id == "chatcmpl-1"
        [embedding] = ai.embeddings.create(model="m", input="Hi", encoding_format="float").data
        assert embedding.embedding == [0.5]
        assert ai.images.generate(model="m", prompt="Hi", n=2, size="512x512").created == 1
        paths = ["chat/completions", "completions", "embeddings", "images/generations"]
        assert [seen.endpoint for seen in gate.seen] == [f"/v1/confidential/{path}" for path in paths]
        units = [9, DEFAULT_TOKENS, DEFAULT_TOKENS, 2 * 512 * 512]
        assert [seen.num_compute_units for seen in gate.seen] == units


def test_the_async_client_streams_both_ways_at_once() -> None:
    async def ask(ai: openai.AsyncOpenAI, name: str) -> str:
        messages: Any = [{"role": "user", "content": name}]
        stream = await ai.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def run(url: str) -> list[str]:
        http = httpx2.AsyncClient(verify=NO_CAS, trust_env=False)
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", http_client=http) as ai:
            return await asyncio.gather(*(ask(ai, str(number)) for number in range(20)))

    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        assert asyncio.run(run(gate.url)) == ["Héllo"] * 20
        assert len({seen.salt for seen in gate.seen}) == 20


def test_openai_raises_where_a_stream_was_cut() -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    behaviour = Behaviour(nonces="fresh", cut=700)
    with (
        oracle_node(behaviour=behaviour) as foreign,
        gateway(foreign.base_url) as gate,
        gate.openai() as ai,
        pytest.raises(openai.APIConnectionError),
    ):
        list(ai.chat.completions.create(model="m", messages=messages, stream=True))


# What is known of a request


def test_the_metadata_is_what_the_node_was_sent() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url + "/v1") as gate:
        assert gate.post(body(max_completion_tokens=77)).status_code == 200
        assert gate.post(body(stream=True)).status_code == 200
        assert len(gate.seen) == len(foreign.opened) == 2
        for seen, side, units in zip(gate.seen, foreign.opened, (77, 8192), strict=True):
            assert seen == RequestMetadata(
                endpoint=SEALED_CHAT,
                node_address=foreign.base_url,
                node_id=7,
                num_compute_units=units,
                selected_stack_small_id=42,
                salt=unb64(side.members["salt"]),
                node_x25519_public_key=ac.PublicKey.from_bytes(foreign.public),
                model_name="m",
            )
            assert len(seen.salt) == 16
        assert foreign.opened[0].members["num_compute_units"] == 77


def test_the_metadata_is_frozen_and_has_exactly_its_members() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        gate.post()
    [seen] = gate.seen
    names = ["endpoint", "node_address", "node_id", "num_compute_units", "selected_stack_small_id"]
    names += ["salt", "node_x25519_public_key", "model_name", "protocol", "enc", "claims", "expires_at"]
    assert [member.name for member in dataclasses.fields(seen)] == names
    assert not hasattr(seen, "__dict__")
    for name in names:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(seen, name, None)


# The two paths


def test_the_confidential_path_wants_a_boolean_stream() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        wrong_ones: list[object] = [None, 1, 0, "true", [], {}]
        of_no_boolean = [body() | {"stream": wrong} for wrong in wrong_ones]
        for wrong in (body(), *of_no_boolean, b"{", b"[]", b""):
            assert error_of(gate.post(wrong, SEALED_CHAT)) == (
                *(400, "INVALID_BODY"),
                "'stream' of the body is missing or not a boolean",
            )
        assert gate.post(body(stream=False), SEALED_CHAT).json() == COMPLETION
        assert events_of(gate.post(body(stream=True), SEALED_CHAT).text)[-1] == "[DONE]"
        assert len(foreign.opened) == len(gate.seen) == 2


def test_on_the_plaintext_path_a_missing_stream_is_false() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        for asked in (body(), body() | {"stream": None}, body(stream=False)):
            response = gate.post(asked)
            assert response.json() == COMPLETION
            assert response.headers["content-type"] == "application/json"
        assert [side.members["stream"] for side in foreign.opened] == [False] * 3


WRONG_BODIES = {
    "not JSON": b"{",
    "not an object": b"[]",
    "empty": b"",
    "not UTF-8": b'{"model":"\xff"}',
    "no model": b'{"messages":[]}',
    "model no text": b'{"model":1}',
    "half a surrogate": b'{"model":"\\ud800"}',
    "twice": b'{"model":"m","model":"n"}',
    "stream no boolean": b'{"model":"m","stream":1}',
}


@pytest.mark.parametrize("path", [CHAT, "/v1/confidential/embeddings", "/v1/images/generations"])
def test_a_wrong_body_is_a_400_and_no_node_is_asked(path: str) -> None:
    scripted = ScriptedNode([])
    with scripted.running() as url, gateway(url) as gate:
        for what, wrong in WRONG_BODIES.items():
            assert error_of(gate.post(wrong, path))[:2] == (400, "INVALID_BODY"), what
    assert scripted.requests == []


def test_what_does_not_stream_is_not_streamed() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        assert error_of(gate.post(body(stream=True), "/v1/embeddings"))[:2] == (400, "INVALID_BODY")
    assert foreign.opened == []


def test_a_body_that_is_too_long() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url, limits=ac.Limits(max_request_bytes=1000)) as gate:
        assert error_of(gate.post(body(padding="x" * 1000)))[:2] == (413, "TOO_LARGE")
        assert gate.post(body(padding="x" * 500)).status_code == 200
    assert len(foreign.opened) == 1


def test_there_are_no_other_paths() -> None:
    with oracle_node() as foreign, gateway(foreign.base_url) as gate:
        for path in ("/", "/v1", "/v1/nodes/lock", "/v1/chat/completions/", "/v1/models", "/metrics"):
            assert error_of(gate.post(body(), path))[0] == 404
            assert error_of(gate.http.get(path))[0] == 404
        assert error_of(gate.http.get(CHAT))[0] == 405


def test_large_bodies_and_answers_go_through_workers() -> None:
    large = COMPLETION | {"padding": "y" * 3_000_000}
    scripted = ScriptedNode([replying(json.dumps(large).encode()), streaming(*CHUNKS)])
    with scripted.running() as url, gateway(url) as gate:
        assert gate.post(body(padding="x" * 3_000_000)).json() == large
        assert len(events_of(gate.post(body(stream=True, padding="x" * 300_000)).text)) == 3
    assert len(scripted.opened[0].body) > 3_000_000


def test_json_on_several_lines_stays_one_event() -> None:
    pretty = json.dumps(json.loads(CHUNKS[1]), indent=2).encode()
    scripted = ScriptedNode([streaming(CHUNKS[0], pretty)])
    with scripted.running() as url, gateway(url) as gate:
        _, event, done = gate.post(body(stream=True)).text.strip().split("\n\n")
    assert done == "data: [DONE]"
    lines = event.split("\n")
    assert all(line.startswith("data: ") for line in lines)
    assert "\n".join(line.removeprefix("data: ") for line in lines).encode() == pretty


@pytest.mark.parametrize(("nonce_reuse", "ends_well"), [("warn", True), ("error", False)])
@pytest.mark.filterwarnings("ignore::atoma_crypto.NonceReuseWarning")
def test_a_stream_that_repeats_a_nonce(nonce_reuse: NonceReuse, *, ends_well: bool) -> None:
    with (
        oracle_node(behaviour=Behaviour(nonces="repeat")) as foreign,
        gateway(foreign.base_url, nonce_reuse=nonce_reuse) as gate,
    ):
        status, out = gate.curl(CHAT, *JSON, "-d", json.dumps(body(stream=True)))
        assert (status == 0) is ends_well
        assert ("[DONE]" in out) is ends_well


WRONG_NODES = ["", "localhost", "ftp://h", "http://", "http://u:p@h", "http://h/?a", "http://h/#a", "http://h:x"]


def test_what_is_no_node() -> None:
    for url in WRONG_NODES:
        with pytest.raises(ValueError, match="a node is http"):
            create_app([url])
    with pytest.raises(ValueError, match="no node is named"):
        create_app([])


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "é"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty or has characters"):
        create_app(["http://h"], token=token)
