"""The node under a real server, asked by our client and by the oracle's, over loopback."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

import atoma_crypto as ac
from atoma_crypto.server._reply import StreamAbortedError
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.locks import LockTable
from atoma_crypto.server.model import Answer, InferenceError, Model
from atoma_crypto.server.node import create_app
from oracle import ABSENT, OracleClient, body_hash, compact, verify_sui_signature
from serving import CHAT, LOCK, Client, connected, error_of, head, opened, read_to_end, request_body, serving

CANARY = "xylophone-canary-7731"
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
MORE_USAGE = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
INTERNAL_ERROR = (500, "INTERNAL_ERROR", "Internal server error occurred")


def chunk(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


@dataclass
class ScriptedModel:
    """Does what its steps say: an answer, a batch of them, an error to raise, or an event to wait for."""

    steps: Sequence[Answer | list[Answer] | Exception | threading.Event] = ()
    bodies: list[bytes] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)  # what it was asked is over, in any way
    closed: threading.Event = field(default_factory=threading.Event)

    def serves(self, model: str) -> bool:
        return model == "scripted"

    async def complete(self, body: bytes) -> Answer:
        try:
            async with contextlib.aclosing(self._run(body)) as results:
                async for result in results:
                    assert isinstance(result, Answer)
                    return result
        finally:
            self.stopped.set()
        raise AssertionError

    async def stream(self, body: bytes) -> AsyncIterator[list[Answer]]:
        try:
            async with contextlib.aclosing(self._run(body)) as results:
                async for result in results:
                    assert isinstance(result, list)
                    yield result
        finally:
            self.stopped.set()

    async def _run(self, body: bytes) -> AsyncGenerator[Answer | list[Answer], None]:
        self.bodies.append(body)
        self.asked.set()
        for step in self.steps:
            if isinstance(step, threading.Event):
                while not step.is_set():
                    await anyio.sleep(0.005)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    async def aclose(self) -> None:
        self.closed.set()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def node(model: Model, *, key: ac.SecretKey | None = None, **more: Any) -> Iterator[Client]:
    """A node that serves `model`, and a client of it."""
    with (
        key or ac.SecretKey.generate() as secret,
        serving(create_app(secret, model, **more)) as url,
        Client(url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def plain_node() -> Iterator[Client]:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        yield client


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.NodeSession]:
    """Every session that a node makes in this test."""
    made: list[ac.NodeSession] = []
    real = ac.NodeSession

    def recording(*args: Any, **more: Any) -> ac.NodeSession:
        made.append(real(*args, **more))
        return made[-1]

    monkeypatch.setattr(ac, "NodeSession", recording)
    return made


def wiped(session: ac.NodeSession) -> bool:
    try:
        session.seal_chunk(b"{}")
    except ac.SessionClosedError:
        return True
    except ac.LocalProtocolError:
        return False
    return False


# What a lock says


def test_a_lock_has_the_reply_of_the_deployed_proxy() -> None:
    key = ac.SecretKey.generate()
    public = key.public_key.to_base64()
    with node(ScriptedModel(), key=key) as client:
        response = client.lock(max_num_tokens=8192, timeout=5)
    told = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert list(told) == ["public_key", "node_small_id", "stack_entry_digest", "stack_small_id"]
    assert told["public_key"] == public
    assert told["stack_entry_digest"] is None
    assert isinstance(told["node_small_id"], int)
    assert isinstance(told["stack_small_id"], int)


@pytest.mark.parametrize("more", [{}, {"max_num_tokens": None, "timeout": None}, {"unknown": [1]}])
def test_a_lock_is_for_8192_tokens_and_5_seconds_unless_told(more: dict[str, object]) -> None:
    clock = Clock()
    model = ScriptedModel([Answer(b"{}")])
    with node(model, clock=clock) as client:
        client.lock(**more)
        clock.now += 4.9
        assert error_of(client.ask(request_body(), num_compute_units=8193)[1])[0] == 425
        assert client.ask(request_body(), num_compute_units=8192)[1].status_code == 200
        client.lock(**more)
        clock.now += 5
        assert error_of(client.ask(request_body(), num_compute_units=1)[1])[0] == 425


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"scripted"',
        b"{}",
        b'{"model":null}',
        b'{"model":7}',
        b'{"model":"scripted","max_num_tokens":-1}',
        b'{"model":"scripted","max_num_tokens":1.0}',
        b'{"model":"scripted","max_num_tokens":true}',
        b'{"model":"scripted","max_num_tokens":"1"}',
        b'{"model":"scripted","max_num_tokens":18446744073709551616}',
        b'{"model":"scripted","timeout":-1}',
        b'{"model":"scripted","timeout":NaN}',
        b'{"model":"scripted","timeout":[5]}',
        b'{"model":"scripted\xff"}',
        b"[" * 10_000,
    ],
)
def test_a_malformed_lock_request_is_refused(plain_node: Client, body: bytes) -> None:
    response = plain_node.http.post(LOCK, content=body)
    assert error_of(response)[:2] == (400, "INVALID_BODY")


def test_the_largest_numbers_of_the_format_are_good() -> None:
    with node(ScriptedModel()) as client:
        assert client.lock(max_num_tokens=2**64 - 1, timeout=2**64 - 1).status_code == 200
        assert client.lock(max_num_tokens=0, timeout=0).status_code == 200


def test_no_lock_for_a_model_that_is_not_served() -> None:
    with node(ScriptedModel()) as client:
        assert error_of(client.lock(model="another"))[:2] == (503, "SERVICE_UNAVAILABLE")


def test_no_lock_when_the_table_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoma_crypto.server.node.LockTable", partial(LockTable, capacity=2))
    with node(ScriptedModel([Answer(b"{}")])) as client:
        assert [client.lock().status_code for _ in range(2)] == [200, 200]
        assert error_of(client.lock())[:2] == (503, "SERVICE_UNAVAILABLE")
        assert client.ask(request_body())[1].status_code == 200
        assert client.lock().status_code == 200


# Answers


def test_a_whole_answer() -> None:
    plaintext = json.dumps({"id": "é", "usage": USAGE}, ensure_ascii=False).encode()
    model = ScriptedModel([Answer(plaintext, USAGE)])
    body = b'{"model": "scripted"}'
    with node(model) as client:
        client.lock()
        session, response = client.ask(body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert session.open_response(response.content) == plaintext
    assert response.json()["usage"] == USAGE
    assert response.json()["signature"] == ""
    assert model.bodies == [body]


def test_a_streamed_answer() -> None:
    plaintexts = [chunk(word) for word in ("one", "two", "three", "four", "five", "six")]
    steps = [
        [Answer(plaintexts[0])],
        [Answer(plaintexts[1]), Answer(plaintexts[2]), Answer(plaintexts[3], USAGE)],
        [Answer(plaintexts[4])],
        [Answer(plaintexts[5], MORE_USAGE)],
    ]
    model = ScriptedModel(steps)
    body = request_body(stream=True)
    with node(model) as client:
        client.lock()
        session, response = client.ask(body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    chunks = opened(session, response.content)
    assert [event.plaintext for event in chunks] == plaintexts
    # not before it is told, on every event afterwards, and then the last that was told
    assert [event.usage for event in chunks] == [None, None, None, USAGE, USAGE, MORE_USAGE]
    assert b"[DONE]" not in response.content
    assert model.bodies == [body]


def test_the_stream_is_framed_for_clients_of_any_make_and_repeats_no_nonce() -> None:
    plaintexts = [chunk(str(number)) for number in range(40)]
    with node(ScriptedModel([[Answer(plaintext) for plaintext in plaintexts]])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        status, raw = oracle.chat(client.url, request_body(stream=True), stream=True)
    assert status == 200
    events = oracle.open_events(raw)
    assert [event.plaintext for event in events] == plaintexts
    assert len({event.nonce for event in events} | {oracle.nonce}) == 41
    assert {tuple(event.members) for event in events} == {("ciphertext", "nonce", "signature", "response_hash")}


def test_a_whole_answer_is_readable_by_a_client_of_another_make() -> None:
    with node(ScriptedModel([Answer(b'{"a":1}', USAGE)])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        status, raw = oracle.chat(client.url, request_body())
    assert status == 200
    reply = oracle.open_reply(raw)
    assert reply.plaintext == b'{"a":1}'
    assert list(reply.members) == ["nonce", "ciphertext", "response_hash", "signature", "usage"]


def test_a_node_with_a_signing_key_signs_what_it_sends() -> None:
    seed = bytes(range(32))
    with ac.SigningKey.from_bytes(seed) as signing_key:
        public = signing_key.public_key
        model = ScriptedModel([[Answer(b'{"a":1}')], [Answer(b'{"a":2}')]])
        with node(model, signing_key=signing_key) as client:
            oracle = OracleClient.lock(client.url, model="scripted")
            _, raw = oracle.chat(client.url, request_body(stream=True), stream=True)
    events = oracle.open_events(raw)
    signers = [verify_sui_signature(str(event.members["signature"]), body_hash(event.plaintext)) for event in events]
    assert signers == [public, public]


def test_eliza_answers_behind_a_node() -> None:
    with node(ElizaModel(seed=7)) as client:
        client.model = "eliza"
        client.lock()
        session, response = client.ask(request_body(model="eliza"))
        completion = json.loads(session.open_response(response.content))
        client.lock()
        session, response = client.ask(request_body(model="eliza", stream=True))
        chunks = opened(session, response.content)
    said = [json.loads(event.plaintext)["choices"] for event in chunks]
    text = "".join(choices[0]["delta"].get("content", "") for choices in said if choices)
    assert text == completion["choices"][0]["message"]["content"] != ""
    assert chunks[-1].usage == completion["usage"] == response_usage(completion)


def response_usage(completion: dict[str, Any]) -> dict[str, int]:
    usage: dict[str, int] = completion["usage"]
    return usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


def test_events_go_out_while_the_model_is_still_at_it() -> None:
    go_on = threading.Event()
    with node(ScriptedModel([[Answer(b'{"n":1}')], go_on, [Answer(b'{"n":2}')]])) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_raw()
            while (event := session.next_event()) is ac.NEED_DATA:
                session.receive_data(next(parts))
            assert isinstance(event, ac.Chunk)
            assert event.plaintext == b'{"n":1}'  # and the model waits for this test
            go_on.set()
            rest = opened(session, b"".join(parts))
    assert [event.plaintext for event in rest] == [b'{"n":2}']


@pytest.mark.parametrize("size", [(64 << 10) - 1, 64 << 10, 300_000])
def test_large_plaintexts(size: int) -> None:
    plaintext = json.dumps({"text": "x" * (size - 12)}).encode()
    assert len(plaintext) == size
    with node(ScriptedModel([Answer(plaintext)])) as client:
        client.lock()
        session, response = client.ask(request_body(padding="y" * size))
        assert session.open_response(response.content) == plaintext
    with node(ScriptedModel([[Answer(plaintext), Answer(plaintext)]])) as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [plaintext] * 2


def test_what_a_proxy_adds_is_ignored() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock()
        headers = {"X-Signature": "not a signature", "X-User-Id": "-1", "Content-Type": "text/plain"}
        session = client.session()
        sealed = session.seal_request(request_body(), stream=False)
        response = client.http.post(CHAT, content=sealed, headers=headers)
    assert session.open_response(response.content) == b"{}"


# Who may ask


@pytest.mark.parametrize("path", [LOCK, CHAT])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dG9rZW4=", "token", "Bearertoken"])
def test_no_bearer_token_no_answer(plain_node: Client, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = httpx.post(plain_node.url + path, content=b"malformed", headers=headers, trust_env=False)
    assert error_of(response)[:2] == (401, "AUTH_ERROR")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", [LOCK, CHAT])
@pytest.mark.parametrize("wrong", ["sesame", "sesamé!", "Sesame!", "sesame!!", "any"])
def test_a_node_with_a_token_takes_no_other(path: str, wrong: str) -> None:
    with node(ScriptedModel(), token="sesame!") as client:  # noqa: S106 - the test's
        headers = {b"Authorization": f"Bearer {wrong}".encode()}
        response = httpx.post(client.url + path, content=b"malformed", headers=headers, trust_env=False)
    assert error_of(response)[:2] == (401, "AUTH_ERROR")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_node_with_a_token_takes_it(scheme: str) -> None:
    with node(ScriptedModel([Answer(b"{}")]), token="sésame") as client:  # noqa: S106 - the test's
        client.http.headers = httpx.Headers({b"Authorization": f"{scheme} sésame".encode()})
        assert client.lock().status_code == 200
        assert client.ask(request_body())[1].status_code == 200


# What is refused with 400


def spoiled(**members: object) -> Callable[[OracleClient], bytes]:
    """A good envelope with these members replaced."""
    return lambda oracle: compact(oracle.envelope(request_body()) | members).encode()


def without(member: str) -> Callable[[OracleClient], bytes]:
    return spoiled(**{member: ABSENT})


def holding(body: bytes, stream: object = False) -> Callable[[OracleClient], bytes]:
    """A good envelope around a plaintext that is not good."""
    return lambda oracle: oracle.seal_request(body, stream=stream)


def b64(size: int) -> str:
    return base64.b64encode(bytes(range(1, size + 1))).decode()


REQUIRED = (
    "ciphertext",
    "client_dh_public_key",
    "model_name",
    "node_dh_public_key",
    "nonce",
    "plaintext_body_hash",
    "salt",
    "stack_small_id",
)
SIZES = {
    "client_dh_public_key": 32,
    "node_dh_public_key": 32,
    "nonce": 12,
    "plaintext_body_hash": 32,
    "salt": 16,
}
MALFORMED: dict[str, Callable[[OracleClient], bytes]] = {
    "empty": lambda _: b"",
    "not json": lambda _: b"garbage",
    "cut": lambda oracle: oracle.seal_request(request_body())[:-1],
    "array": lambda _: b"[]",
    "not utf-8": lambda oracle: oracle.seal_request(request_body()) + b"\xff",
    **{f"no {name}": without(name) for name in REQUIRED},
    **{f"{name} null": spoiled(**{name: None}) for name in REQUIRED},
    **{f"{name} too long": spoiled(**{name: b64(size + 1)}) for name, size in SIZES.items()},
    **{f"{name} too short": spoiled(**{name: b64(size - 1)}) for name, size in SIZES.items()},
    **{f"{name} not base64": spoiled(**{name: "*" * len(b64(size))}) for name, size in SIZES.items()},
    "ciphertext not base64": spoiled(ciphertext="*"),
    "ciphertext shorter than a tag": spoiled(ciphertext=b64(15)),
    "negative stack": spoiled(stack_small_id=-1),
    "fractional stack": spoiled(stack_small_id=1.5),
    "stack too large": spoiled(stack_small_id=2**64),
    "negative units": spoiled(num_compute_units=-1),
    "stream a number": spoiled(stream=0),
    "stream a string": spoiled(stream="false"),
    "envelope streams, plaintext does not": holding(request_body(), stream=True),
    "plaintext streams, envelope does not": holding(request_body(stream=True), stream=False),
    "plaintext's stream a number": holding(b'{"model":"scripted","stream":0}'),
    "plaintext's stream a string": holding(b'{"model":"scripted","stream":"false"}'),
    "plaintext not json": holding(b"garbage"),
    "plaintext empty": holding(b""),
    "plaintext an array": holding(b"[]"),
    "plaintext a string": holding(b'"scripted"'),
    "plaintext not utf-8": holding(b'{"model":"scripted","x":"\xff"}'),
    "plaintext with NaN": holding(b'{"model":"scripted","x":NaN}'),
    "plaintext without model": holding(b"{}"),
    "plaintext's model null": holding(b'{"model":null}'),
    "plaintext's model a number": holding(b'{"model":7}'),
    "plaintext's model another": holding(b'{"model":"another"}'),
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_refused_and_uses_up_no_lock(
    plain_node: Client, make: Callable[[OracleClient], bytes]
) -> None:
    oracle = OracleClient.lock(plain_node.url, model="scripted")
    response = plain_node.http.post(CHAT, content=make(oracle))
    assert error_of(response)[0] == 400
    assert response.json()["error"]["code"] != "DECRYPTION_FAILED"
    # the lock is still there, and no other is
    assert oracle.chat(plain_node.url, request_body())[0] == 200
    assert oracle.chat(plain_node.url, request_body())[0] == 425


def flipped(oracle: OracleClient) -> bytes:
    envelope = oracle.envelope(request_body())
    raw = bytearray(base64.b64decode(str(envelope["ciphertext"])))
    raw[-1] ^= 1
    return compact(envelope | {"ciphertext": base64.b64encode(raw).decode()}).encode()


UNDECRYPTABLE: dict[str, Callable[[OracleClient], bytes]] = {
    "tag": flipped,
    "another salt": spoiled(salt=b64(16)),
    "another nonce": spoiled(nonce=b64(12)),
    "another client key": spoiled(client_dh_public_key=b64(32)),
    "zero client key": spoiled(client_dh_public_key=base64.b64encode(bytes(32)).decode()),
    "another node key": spoiled(node_dh_public_key=b64(32)),
    "another aes key": lambda oracle: compact(oracle.envelope(request_body(), key=bytes(32))).encode(),
    "another hash": spoiled(plaintext_body_hash=b64(32)),
}


def test_every_cryptographic_failure_gets_one_answer_and_uses_up_no_lock(plain_node: Client) -> None:
    oracle = OracleClient.lock(plain_node.url, model="scripted")
    responses = {name: plain_node.http.post(CHAT, content=make(oracle)) for name, make in UNDECRYPTABLE.items()}
    answers = {name: error_of(response) for name, response in responses.items()}
    assert {answer[0] for answer in answers.values()} == {400}
    assert len(set(answers.values())) == 1, answers
    assert oracle.chat(plain_node.url, request_body())[0] == 200
    assert oracle.chat(plain_node.url, request_body())[0] == 425


# What is refused with 413


@pytest.mark.parametrize(("path", "limit"), [(CHAT, 5000), (LOCK, 5000)])
def test_a_body_over_the_limit_is_refused_by_its_announced_length(path: str, limit: int) -> None:
    with node(ScriptedModel(), max_request_bytes=limit) as client, connected(client.url) as connection:
        connection.sendall(head(path, f"Content-Length: {limit + 1}"))  # and not one byte of it
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":{"code":"TOO_LARGE",' in answer


@pytest.mark.parametrize("path", [CHAT, LOCK])
def test_a_body_over_the_limit_is_refused_when_it_gets_there_and_no_later(path: str) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with node(ScriptedModel(), max_request_bytes=5000) as client:
        response = client.http.post(path, content=endless())
    assert error_of(response)[:2] == (413, "TOO_LARGE")


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact(over: int) -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        sealed = oracle.seal_request(request_body())
    key = ac.SecretKey.generate()
    with node(ScriptedModel([Answer(b"{}")]), key=key, max_request_bytes=len(sealed) - over) as client:
        client.lock()
        response = client.http.post(CHAT, content=b" " * len(sealed))
        chunked = client.http.post(CHAT, content=iter([b" " * (len(sealed) - 1), b" "]))
    assert error_of(response)[0] == error_of(chunked)[0] == (413 if over else 400)


def test_a_lock_request_is_small_whatever_the_limit() -> None:
    with node(ScriptedModel()) as client:
        largest = b"x" * (64 << 10)
        assert error_of(client.http.post(LOCK, content=largest))[0] == 400
        for content in (largest + b"x", iter([largest, b"x"])):
            assert error_of(client.http.post(LOCK, content=content))[:2] == (413, "TOO_LARGE")


# What is refused with 425


def test_each_request_needs_a_lock_of_its_own() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock()
        assert client.ask(request_body())[1].status_code == 200
        assert error_of(client.ask(request_body())[1])[:2] == (425, "UNAVAILABLE_STACK")


def test_a_request_without_any_lock_is_refused() -> None:
    key = ac.SecretKey.generate()
    with node(ScriptedModel([Answer(b"{}")]), key=key) as client:
        client.told = {"public_key": key.public_key.to_base64(), "stack_small_id": 1}
        assert error_of(client.ask(request_body())[1])[:2] == (425, "UNAVAILABLE_STACK")


def test_a_lock_on_another_stack_is_none() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock()
        client.told["stack_small_id"] ^= 1
        assert error_of(client.ask(request_body())[1])[:2] == (425, "UNAVAILABLE_STACK")


def test_an_expired_lock_is_none() -> None:
    clock = Clock()
    with node(ScriptedModel([Answer(b"{}")]), clock=clock) as client:
        client.lock(timeout=7)
        client.lock(timeout=7)
        clock.now += 6.9
        assert client.ask(request_body())[1].status_code == 200
        clock.now += 0.1
        assert error_of(client.ask(request_body())[1])[:2] == (425, "UNAVAILABLE_STACK")


@pytest.mark.parametrize("asked", [None, 8192])
def test_a_lock_that_is_too_small_is_none(asked: int | None) -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        client.lock(max_num_tokens=8191)
        response = client.ask(request_body(), num_compute_units=asked)[1]
        assert error_of(response)[:2] == (425, "UNAVAILABLE_STACK")
        # and it is there still for who asks for less
        assert client.ask(request_body(), num_compute_units=8191)[1].status_code == 200


@pytest.mark.parametrize("stream", [None, ABSENT], ids=["null", "absent"])
def test_a_stream_that_is_not_told_is_none(plain_node: Client, stream: object) -> None:
    oracle = OracleClient.lock(plain_node.url, model="scripted")
    sealed = oracle.seal_request(b'{"model":"scripted"}', stream=stream)
    response = plain_node.http.post(CHAT, content=sealed)
    assert oracle.open_reply(response.content).plaintext == b"{}"


def test_units_that_are_null_are_8192() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        client.lock(max_num_tokens=8191)
        sealed = oracle.seal_request(request_body(), num_compute_units=None)
        assert client.http.post(CHAT, content=sealed).status_code == 200
        assert client.http.post(CHAT, content=sealed).status_code == 425


# Inference that fails


FAILURES: dict[str, Sequence[Any]] = {
    "refuses": [InferenceError(429)],
    "raises": [ValueError(CANARY)],
    "answers nothing": [],
    "usage that is no JSON": [[Answer(b"{}", {"a": object()})]],
}


@pytest.mark.parametrize("steps", FAILURES.values(), ids=FAILURES.keys())
def test_inference_that_fails_before_its_first_batch_is_a_plain_500(
    steps: Sequence[Any], sessions: list[ac.NodeSession]
) -> None:
    model = ScriptedModel(steps)
    with node(model) as client:
        client.lock()
        assert error_of(client.ask(request_body(stream=True))[1]) == INTERNAL_ERROR
        # and the connection and the node go on
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize(
    "step",
    [InferenceError(), ValueError(CANARY), Answer(b"{}", {"a": object()})],
    ids=["refuses", "raises", "usage"],
)
def test_inference_of_a_whole_answer_that_fails_is_a_plain_500(
    step: Answer | Exception, sessions: list[ac.NodeSession]
) -> None:
    with node(ScriptedModel([step])) as client:
        client.lock()
        assert error_of(client.ask(request_body())[1]) == INTERNAL_ERROR
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize(
    "failure",
    [InferenceError(), ValueError(CANARY), [Answer(b"{}", {"a": object()})]],
    ids=["ends", "raises", "usage"],
)
def test_a_stream_that_breaks_off_has_no_clean_end(
    failure: Exception | list[Answer], sessions: list[ac.NodeSession]
) -> None:
    go_on = threading.Event()
    model = ScriptedModel([[Answer(b'{"n":1}')], go_on, failure])
    with node(model) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            assert response.status_code == 200
            parts = response.iter_raw()
            received = next(parts)
            go_on.set()
            with pytest.raises(httpx.RemoteProtocolError):
                received += b"".join(parts)
            assert [event.plaintext for event in opened(session, received)] == [b'{"n":1}']
        assert client.lock().status_code == 200
    assert received.count(b"\n\n") == 1
    assert received.endswith(b"\n\n")
    assert [wiped(session) for session in sessions] == [True]


def test_a_stream_that_breaks_off_ends_without_the_last_chunk_of_http() -> None:
    with node(ScriptedModel([[Answer(b'{"n":1}')], InferenceError()])) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"data: {" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_the_application_itself_raises_when_a_stream_breaks_off() -> None:
    raised: list[BaseException] = []
    key = ac.SecretKey.generate()
    app = create_app(key, ScriptedModel([[Answer(b"{}")], InferenceError()]))

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except BaseException as error:
            raised.append(error)
            raise

    with key, serving(watched) as url, Client(url) as client:
        client.lock()
        with pytest.raises(httpx.RemoteProtocolError):
            client.ask(request_body(stream=True))
    assert [type(error) for error in raised] == [StreamAbortedError]
    assert raised[0].__context__ is None  # nothing that could quote the model


def test_a_model_whose_stream_needs_no_closing() -> None:
    class Plain:
        """An iterator, but not a generator."""

        def __init__(self) -> None:
            self.left = [b'{"n":1}', b'{"n":2}']

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> list[Answer]:
            if not self.left:
                raise StopAsyncIteration
            return [Answer(self.left.pop(0))]

    class PlainModel(ScriptedModel):
        def stream(self, body: bytes) -> AsyncIterator[list[Answer]]:  # noqa: ARG002 - the interface's
            return Plain()

    with node(PlainModel()) as client:
        client.lock()
        session, response = client.ask(request_body(stream=True))
        assert [event.plaintext for event in opened(session, response.content)] == [b'{"n":1}', b'{"n":2}']


def test_only_a_disconnect_means_that_the_client_has_left() -> None:
    key = ac.SecretKey.generate()
    app = create_app(key, ScriptedModel([Answer(b"{}")]))

    async def repeating(scope: Scope, receive: Receive, send: Send) -> None:
        said: list[Message] = []

        async def receive_twice() -> Message:
            if said:
                return {**said.pop(), "body": b""}
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                said.append(message)
            return message

        await app(scope, receive_twice, send)

    with key, serving(repeating) as url, Client(url) as client:
        client.lock()
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == b"{}"


# Clients that leave


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "waiting"])
def test_a_client_that_leaves_stops_the_model_and_its_session_is_wiped(
    stream: bool, begun: bool, sessions: list[ac.NodeSession]
) -> None:
    never = threading.Event()
    model = ScriptedModel([[Answer(b"{}")], never] if stream and begun else [never])
    with node(model) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=stream), stream=stream)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            if stream and begun:
                assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert model.asked.wait(30)
            assert not model.stopped.is_set()
        assert model.stopped.wait(30)
        assert client.lock().status_code == 200
    assert [wiped(session) for session in sessions] == [True]


def test_a_client_that_does_not_read_is_waited_for_and_may_leave(sessions: list[ac.NodeSession]) -> None:
    class ClosesSlowly(ScriptedModel):
        async def stream(self, body: bytes) -> AsyncIterator[list[Answer]]:  # noqa: ARG002 - the interface's
            try:
                for batch in batches:
                    yield batch
            finally:
                await anyio.sleep(0.01)  # must be let finish, although the client has left
                self.stopped.set()

    batches = [[Answer(chunk("x" * 100_000))] for _ in range(400)]  # more than any buffer between takes
    model = ClosesSlowly()
    with node(model) as client:
        client.lock()
        with client.session() as session, connected(client.url) as connection:
            sealed = session.seal_request(request_body(stream=True), stream=True)
            connection.sendall(head(CHAT, f"Content-Length: {len(sealed)}") + sealed)
            assert connection.recv(17).startswith(b"HTTP/1.1 200 ")
            assert not model.stopped.wait(0.3)
        assert model.stopped.wait(30)
    assert [wiped(session) for session in sessions] == [True]


@pytest.mark.parametrize("path", [LOCK, CHAT])
def test_a_client_that_leaves_while_it_asks_is_no_error(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with node(ScriptedModel()) as client:
        with connected(client.url) as connection:
            connection.sendall(head(path, "Content-Length: 100") + b'{"model":')
        assert client.lock().status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Sessions, shutting down, other paths


def test_the_session_of_every_request_is_wiped(sessions: list[ac.NodeSession]) -> None:
    with node(ScriptedModel([[Answer(b"{}")]])) as client:
        client.lock()
        assert client.http.post(CHAT, content=b"garbage").status_code == 400
        assert client.ask(request_body(stream=True))[1].status_code == 200
        assert client.ask(request_body(stream=True))[1].status_code == 425
        assert client.http.get(CHAT).status_code == 405
    assert [wiped(session) for session in sessions] == [True, True, True]


def test_the_model_is_closed_when_the_node_shuts_down() -> None:
    model = ScriptedModel()
    with node(model) as client:
        client.lock()
        assert not model.closed.is_set()
    assert model.closed.is_set()


@pytest.mark.parametrize("path", ["/", "/v1/nodes", "/v1/nodes/lock/", "/v1/chat/completions", CHAT + "/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found(plain_node: Client, method: str, path: str) -> None:
    assert error_of(plain_node.http.request(method, path))[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", [LOCK, CHAT])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(plain_node: Client, method: str, path: str) -> None:
    response = plain_node.http.request(method, path)
    assert error_of(response)[:2] == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "POST"


def test_a_fault_of_the_node_itself_is_a_plain_500() -> None:
    class Faulty(ScriptedModel):
        def serves(self, model: str) -> bool:
            raise RuntimeError(model)

    with node(Faulty()) as client:
        assert error_of(client.lock()) == INTERNAL_ERROR


@pytest.mark.parametrize("more", [{"token": ""}, {"max_request_bytes": 0}])
def test_an_application_that_could_serve_nobody_is_not_made(more: dict[str, Any]) -> None:
    with (
        ac.SecretKey.generate() as key,
        pytest.raises(ValueError, match=r"at least 1|empty token"),
    ):
        create_app(key, ScriptedModel(), **more)


# What is logged


def test_neither_plaintext_nor_keys_are_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, seed = b"secret-canary-of-32-bytes-000001", b"seed-canary-of-32-bytes-00000001"
    question = request_body(stream=True, note=CANARY)
    answer = chunk(CANARY)
    scripts: list[list[Any]] = [
        [[Answer(answer)]],
        [[Answer(answer)], ValueError(CANARY)],
        [ValueError(CANARY)],
        [[Answer(answer, {"a": object(), "canary": CANARY})]],
    ]
    for steps in scripts:
        key = ac.SecretKey.from_bytes(secret)
        with node(ScriptedModel(steps), key=key, signing_key=seed) as client:
            for model in ("scripted", CANARY):
                client.lock()
                client.model = model
                with contextlib.suppress(httpx.RemoteProtocolError):
                    client.ask(json.dumps(json.loads(question) | {"model": model}).encode())
                client.model = "scripted"
            client.http.post(LOCK, json={"model": CANARY})
            client.http.post(LOCK, content=b'{"model":' + CANARY.encode())
            client.http.post(CHAT, content=CANARY.encode())
    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "inference failed: ValueError" in logged
    assert "StreamAbortedError" in logged
    assert "canary" not in logged
    for raw in (secret, seed):
        for text in (raw.hex(), base64.b64encode(raw).decode()[:-4], str(list(raw))[1:-1]):
            assert text not in logged


def test_what_the_node_holds_shows_no_plaintext() -> None:
    assert CANARY not in repr(Answer(CANARY.encode()))
    assert str(InferenceError(429)) == "inference failed with status 429"
