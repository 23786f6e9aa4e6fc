"""The locks of a node: what is granted, and which requests one lets in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

import atoma_crypto as ac
from atoma_crypto.server.locks import LockTable
from atoma_crypto.server.model import Answer
from oracle import OracleClient
from serving import (
    CHAT,
    LOCK,
    Client,
    Clock,
    ScriptedModel,
    error_of,
    node,
    request_body,
)


@pytest.fixture(scope="module")
def plain_node() -> Iterator[Client]:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        yield client


# What a lock says


def test_a_lock_has_the_reply_of_the_deployed_proxy() -> None:
    key = ac.SecretKey.generate()
    public = key.public_key.to_base64()
    with node(ScriptedModel(), key=key) as client:
        response = client.lock(max_num_tokens=8192, timeout=5)
    told = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert list(told) == ["public_key", "node_small_id", "stack_entry_digest", "stack_small_id", "keys"]
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
        b'{"model":"another","model":"scripted"}',
        b'{"model":"scripted","timeout":1,"timeout":1}',
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


def test_units_that_are_null_are_8192() -> None:
    with node(ScriptedModel([Answer(b"{}")])) as client:
        oracle = OracleClient.lock(client.url, model="scripted")
        client.lock(max_num_tokens=8191)
        sealed = oracle.seal_request(request_body(), num_compute_units=None)
        assert client.http.post(CHAT, content=sealed).status_code == 200
        assert client.http.post(CHAT, content=sealed).status_code == 425
