"""A node that speaks protocol v2 over HTTP beside v1: what it publishes, answers, seals, and refuses."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
import reference_hpke as hpke
import reference_v2 as v2
from atoma_crypto._offers import read_offers
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, ENDPOINTS, KEYS_PATH, Endpoint
from atoma_crypto.server.model import Answer
from serving import (
    CANARY,
    CHAT,
    Client,
    Clock,
    ScriptedModel,
    error_of,
    node,
    request_body,
    sealed_error,
)

EVERY = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.plaintext)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ANSWER = Answer(b'{"choices":[]}')


def ask(client: Client, endpoint: Endpoint, body: bytes, **more: Any) -> tuple[ac.ClientSession, httpx.Response]:
    session = client.session(endpoint=endpoint.plaintext, **more)
    sealed = session.seal_request(body, stream=json.loads(body).get("stream") or False)
    return session, client.http.post(endpoint.confidential, content=sealed)


@pytest.fixture(scope="module")
def plain_node() -> Iterator[Client]:
    with node(ScriptedModel([ANSWER]), protocol="v2") as client:
        yield client


# Both protocols on one port


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_both_protocols_and_suites_on_one_port(suite: Any) -> None:
    if suite == "X-Wing":
        pytest.importorskip("cryptography", reason="the extra pq is not there")
    with ac.NodeKeyring(suites=(suite,)) as keys, node(ScriptedModel([ANSWER]), key=keys) as client:
        client.suite = suite
        for protocol in ("v1", "v2", "v1"):
            client.protocol = protocol
            client.lock()
            session, response = client.ask(request_body())
            assert session.open_response(response.content) == ANSWER.plaintext
            assert (response.json().get("v") == 2) is (protocol == "v2")
        named = [client.told["public_key"], client.told["keys"][0]["public_key"]]
        assert len(set(named)) == 2


@EVERY
def test_each_endpoint_is_asked_by_the_name_in_the_envelope(plain_node: Client, endpoint: Endpoint) -> None:
    for wrong in ENDPOINTS:
        plain_node.lock(max_num_tokens=endpoint.default_units)
        body = b'{"model":"scripted","input":"x"}'
        session = plain_node.session(endpoint=endpoint.plaintext)
        response = plain_node.http.post(wrong.confidential, content=session.seal_request(body, stream=False))
        if wrong is endpoint:
            assert session.open_response(response.content) == ANSWER.plaintext
        else:  # and the lock is there still, as the next round's own would be too large for who asks for tokens
            assert sealed_error(session, response)[:2] == (400, "INVALID_BODY")
            session, response = ask(plain_node, endpoint, body)
            assert session.open_response(response.content) == ANSWER.plaintext


def test_an_endpoint_that_is_not_served_is_refused(plain_node: Client) -> None:
    plain_node.lock()
    for name in ("/v1/other", "/v1/confidential/chat/completions", "/"):
        session = plain_node.session(endpoint=name)
        for path in BY_CONFIDENTIAL:
            response = plain_node.http.post(path, content=session.seal_request(request_body(), stream=False))
            assert sealed_error(session, response)[:2] == (400, "INVALID_BODY")
            session = plain_node.session(endpoint=name)
    assert plain_node.ask(request_body())[1].status_code == 200


# What is published


def test_offers_are_the_same_at_the_lock_and_at_their_own_path() -> None:
    before = int(time.time())
    with ac.NodeKeyring() as keys, node(ScriptedModel(), key=keys) as client:
        client.lock()
        response = httpx.get(client.url + KEYS_PATH, trust_env=False)  # and no token
        assert response.json() == {"keys": client.told["keys"]}
        assert response.headers["cache-control"] == "no-store"
        (offer,) = read_offers(response.json()["keys"])
        assert offer.not_after is not None
        assert before + 3590 <= offer.not_after <= time.time() + 3600
        new = keys.rotate("v2")
        assert read_offers(client.lock().json()["keys"])[0].public_key == new
        assert client.http.post(KEYS_PATH).status_code == 405


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_a_key_that_stays_is_offered_for_an_hour_at_a_time(suite: Any) -> None:
    if suite == "X-Wing":
        pytest.importorskip("cryptography", reason="the extra pq is not there")
    now, hour = Clock(), 1763805600
    key = ac.SecretKey.generate(suite)
    with node(ScriptedModel(), key=key, wall_clock=now, protocols=("v2",)) as client:
        for later, ends in ((0, 3600), (1.5, 3600), (1799.5, 3600), (1800, 5400)):  # whose verdicts hold that long
            now.now = hour + later
            (offer,) = read_offers(client.http.get(KEYS_PATH).json()["keys"])
            assert (offer.public_key, offer.not_after) == (key.public_key, hour + ends)


def test_a_node_of_v1_alone_says_nothing_of_v2() -> None:
    with node(ScriptedModel([ANSWER]), protocols=("v1",)) as client, ac.SecretKey.generate() as key:
        assert list(client.lock().json()) == ["public_key", "node_small_id", "stack_entry_digest", "stack_small_id"]
        assert error_of(client.http.get(KEYS_PATH))[:2] == (404, "NOT_FOUND")
        assert client.ask(request_body())[1].status_code == 200
        client.lock()
        with ac.ClientSession(key.public_key, model="scripted", stack_small_id=None, protocol="v2") as session:
            sealed = session.seal_request(request_body(), stream=False)
        assert error_of(client.http.post(CHAT, content=sealed))[:2] == (400, "INVALID_BODY")


def test_a_node_of_v2_alone_gives_v1_no_key() -> None:
    key = ac.SecretKey.generate()
    with node(ScriptedModel([ANSWER]), key=key, protocols=("v2",), protocol="v2") as client:
        assert list(client.lock().json()) == ["node_small_id", "stack_entry_digest", "stack_small_id", "keys"]
        old = ac.ClientSession(key.public_key, model="scripted", stack_small_id=1, protocol="v1")
        refused = client.http.post(CHAT, content=old.seal_request(request_body(), stream=False))
        assert error_of(refused)[:2] == (400, "INVALID_BODY")
        assert client.ask(request_body())[1].status_code == 200


def test_a_key_that_cannot_speak_v1_is_refused_at_once() -> None:
    pytest.importorskip("cryptography", reason="the extra pq is not there")
    key = ac.SecretKey.generate("X-Wing")
    with pytest.raises(ValueError, match="X-Wing is not for protocol v1"), node(ScriptedModel(), key=key):
        pass


# Refusals before admission: in clear, and nothing is used up


def tampered(sealed: bytes, **members: object) -> bytes:
    return json.dumps(json.loads(sealed) | members).encode()


def test_what_is_refused_before_admission_is_refused_in_clear_and_burns_nothing(plain_node: Client) -> None:
    plain_node.lock()
    session = plain_node.session()
    good = session.seal_request(request_body(), stream=False)
    envelope = json.loads(good)
    raw = bytearray(base64.b64decode(envelope["ciphertext"]))
    raw[0] ^= 1
    enc = bytearray(base64.b64decode(envelope["enc"]))
    enc[31] |= 128  # which X25519 does not look at
    now = envelope["sent_at"]
    for sealed, code in (
        (tampered(good, key_id=base64.b64encode(bytes(8)).decode()), (422, "KEY_UNKNOWN")),
        (tampered(good, ciphertext=base64.b64encode(raw).decode()), (400, "DECRYPTION_FAILED")),
        (tampered(good, enc=base64.b64encode(enc).decode()), (400, "DECRYPTION_FAILED")),
        (tampered(good, model_name="cheap"), (400, "DECRYPTION_FAILED")),
        (tampered(good, num_compute_units=1), (400, "DECRYPTION_FAILED")),
        (tampered(good, endpoint="/v1/embeddings"), (400, "DECRYPTION_FAILED")),
        (tampered(good, sent_at=now - 1), (400, "DECRYPTION_FAILED")),
        (tampered(good, sent_at=now - 301), (400, "CLOCK_SKEW")),
        (tampered(good, sent_at=now + 120), (400, "CLOCK_SKEW")),
        (tampered(good, endpoint="v1"), (400, "INVALID_BODY")),
        (good[:-1], (400, "INVALID_BODY")),
    ):
        assert error_of(plain_node.http.post(CHAT, content=sealed))[:2] == code
    response = plain_node.http.post(CHAT, content=good)  # on the one lock that there is
    assert session.open_response(response.content) == ANSWER.plaintext
    assert plain_node.ask(request_body())[1].status_code == 425


@BOTH
def test_the_same_envelope_twice_is_refused_and_not_to_be_tried_again(plain_node: Client, stream: bool) -> None:
    plain_node.lock()
    plain_node.lock()
    sealed = plain_node.session().seal_request(request_body(stream=stream), stream=stream)
    plain_node.http.post(CHAT, content=sealed)
    for again in (sealed, tampered(sealed, more="than was sent")):
        refused = plain_node.http.post(CHAT, content=again)
        assert error_of(refused)[:2] == (409, "REPLAYED")
        assert refused.headers["x-should-retry"] == "false"
    assert plain_node.ask(request_body())[1].status_code == 200  # on the second lock
    assert plain_node.ask(request_body())[1].status_code == 425


@pytest.mark.parametrize(("ahead", "served"), [(-301, False), (-300, False), (-299, True), (60, True), (62, False)])
def test_a_clock_that_is_wrong_is_told_in_clear(ahead: int, served: bool) -> None:
    with node(ScriptedModel([ANSWER]), protocol="v2", wall_clock=lambda: 1763808745.9) as client:
        client.lock()
        session = client.session(clock=lambda: 1763808745 + ahead)
        response = client.http.post(CHAT, content=session.seal_request(request_body(), stream=False))
        if served:
            assert session.open_response(response.content) == ANSWER.plaintext
        else:
            assert error_of(response)[:2] == (400, "CLOCK_SKEW")


def test_a_store_that_began_after_its_key_refuses_for_a_minute() -> None:
    """As after a restart with a saved key: whoever began before may have admitted the request."""
    key = ac.SecretKey.from_bytes(bytes(range(32)))
    now = Clock()
    now.now = time.time()
    with node(ScriptedModel([ANSWER]), key=key, protocol="v2", wall_clock=now) as client:
        client.lock(timeout=60)
        for later, status in ((0, 503), (59, 503), (63, 200)):
            at = now.now + later
            session = client.session(clock=lambda at=at: at)
            with pytest.MonkeyPatch.context() as moved:
                moved.setattr(now, "now", at)
                response = client.http.post(CHAT, content=session.seal_request(request_body(), stream=False))
            assert response.status_code == status
            if status == 503:
                assert error_of(response)[1] == "REPLAY_STORE_UNAVAILABLE"
                assert response.headers["retry-after"] == "60"
        # v1 is not remembered, and not refused
        client.protocol = "v1"
        client.lock()
        assert client.ask(request_body())[1].status_code == 200


def test_bearer_and_size_come_before_any_opening() -> None:
    with node(ScriptedModel([ANSWER]), protocol="v2", token="sesame", max_request_bytes=1000) as client:  # noqa: S106
        client.http.headers["Authorization"] = "Bearer sesame"
        client.lock()
        session = client.session()
        sealed = session.seal_request(request_body(), stream=False)
        client.http.headers["Authorization"] = "Bearer other"
        assert error_of(client.http.post(CHAT, content=sealed))[:2] == (401, "AUTH_ERROR")
        client.http.headers["Authorization"] = "Bearer sesame"
        assert error_of(client.http.post(CHAT, content=sealed + b" " * 1000))[:2] == (413, "TOO_LARGE")
        response = client.http.post(CHAT, content=sealed)  # neither has burnt it
        assert session.open_response(response.content) == ANSWER.plaintext


# Refusals after admission: sealed


@BOTH
def test_what_is_refused_after_admission_is_sealed(plain_node: Client, stream: bool) -> None:
    plain_node.lock()
    plain_node.model = "another"
    session, response = plain_node.ask(request_body(model="another", stream=stream))
    assert sealed_error(session, response)[:2] == (400, "INVALID_BODY")
    plain_node.model = "scripted"
    session = plain_node.session(stack_small_id=7)
    response = plain_node.http.post(CHAT, content=session.seal_request(request_body(stream=stream), stream=stream))
    assert sealed_error(session, response)[:2] == (425, "UNAVAILABLE_STACK")
    assert CANARY not in response.text
    if stream:
        session, response = ask(plain_node, ENDPOINTS[2], request_body(stream=True))
        assert sealed_error(session, response)[:2] == (400, "INVALID_BODY")
    assert plain_node.ask(request_body())[1].status_code == 200
    session, response = plain_node.ask(request_body(stream=stream))
    assert sealed_error(session, response)[:2] == (425, "UNAVAILABLE_STACK")


@pytest.mark.parametrize("body", [b'{"model":"dear"}', b'{"stream":true}', b'{"model":"scripted","model":"m"}', b"[]"])
def test_a_body_that_the_envelope_belies_is_refused_sealed(plain_node: Client, body: bytes) -> None:
    """Sealed by the tests' own implementation, as ours would not seal it."""
    plain_node.lock()
    public = base64.b64decode(plain_node.told["keys"][0]["public_key"])
    metadata = {
        "endpoint": "/v1/chat/completions",
        "model_name": "scripted",
        "stack_small_id": None,
        "num_compute_units": None,
        "stream": False,
        "sent_at": int(time.time()),
    }
    encapsulated = hpke.encapsulate("X25519", public, os.urandom(32))
    envelope, exported = v2.seal_request("X25519", public, encapsulated, body, metadata)
    response = plain_node.http.post(CHAT, content=v2.write_envelope(envelope))
    assert response.status_code == 400
    (record,) = v2.read_reply(exported, envelope.enc, False, response.content)
    assert v2.abort_of(record.plaintext)["code"] == "INVALID_BODY"
    assert plain_node.ask(request_body())[1].status_code == 200  # on the lock that it has not used up


def test_no_stack_at_all_means_the_one_that_there_is(plain_node: Client) -> None:
    plain_node.lock()
    for status in (200, 425):
        session = plain_node.session(stack_small_id=None)
        response = plain_node.http.post(CHAT, content=session.seal_request(request_body(), stream=False))
        assert response.status_code == status
