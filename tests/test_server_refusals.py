"""Whom a node refuses, and with which status: each refusal in JSON, and no lock used up by it."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.server.model import Answer
from atoma_crypto.server.node import create_app
from oracle import ABSENT, OracleClient, compact
from serving import (
    CHAT,
    INTERNAL_ERROR,
    LOCK,
    Client,
    ScriptedModel,
    connected,
    error_of,
    head,
    node,
    read_to_end,
    request_body,
)


@pytest.fixture(scope="module")
def plain_node() -> Iterator[Client]:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        yield client


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
    # the last letter ends in a byte that is a white space in Latin-1
    with node(ScriptedModel([Answer(b"{}")]), token="sésameà") as client:  # noqa: S106 - the test's
        client.http.headers = httpx.Headers({b"Authorization": f"{scheme} sésameà".encode()})
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
    "plaintext's model twice": holding(b'{"model":"another","model":"scripted"}'),
    "plaintext's messages twice": holding(b'{"model":"scripted","messages":[],"messages":[]}'),
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


# What is elsewhere


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


UNSERVABLE: tuple[dict[str, Any], ...] = (
    *({"token": token} for token in ("", " ", "sesame ", "\tsesame", "sesame\n")),
    *({"max_request_bytes": limit} for limit in (0, 63, (1 << 40) + 1)),
    {"signing_key": bytes(31)},
)


@pytest.mark.parametrize("more", UNSERVABLE, ids=repr)
def test_an_application_that_could_serve_nobody_is_not_made(more: dict[str, Any]) -> None:
    with (
        ac.SecretKey.generate() as key,
        pytest.raises(ValueError, match=r"64 to 2\^40 bytes|the token is empty or has white space|signing key"),
    ):
        create_app(key, ScriptedModel(), **more)


# Bodies that are work


def test_no_more_bodies_are_opened_at_once_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    at_it = Counter[str]()
    most: list[int] = []
    lock = threading.Lock()
    real = ac.NodeSession.open_request

    def opening(session: ac.NodeSession, sealed: bytes) -> ac.Request:
        with lock:
            at_it["now"] += 1
            most.append(at_it["now"])
        time.sleep(0.05)  # the others come meanwhile
        try:
            return real(session, sealed)
        finally:
            with lock:
                at_it["now"] -= 1

    monkeypatch.setattr(ac.NodeSession, "open_request", opening)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with node(ScriptedModel()) as client, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(client.http.post, CHAT, content=b"garbage" * 5000) for _ in range(8)]
        assert [response.result().status_code for response in asked] == [400] * 8
    assert len(most) == 8
    assert max(most) == 2
