"""The oracle's client against our node: what is opened, what is refused and how, and what is sealed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core
from oracle import (
    ABSENT,
    OracleClient,
    b64,
    body_hash,
    compact,
    derive_key,
    unb64,
    verify_sui_signature,
)
from test_interop_oracle import ANSWERS, REPLY, THREE, USAGE, printed

BODY: Final = b'{"model":"m","messages":[]}'
STREAM_BODY: Final = b'{"model":"m","messages":[],"stream":true}'


@pytest.fixture
def key() -> Iterator[ac.SecretKey]:
    with ac.SecretKey.generate() as secret:
        yield secret


def refused(key: ac.SecretKey, raw: bytes, error: type[Exception]) -> None:
    with ac.NodeSession(key) as node:
        with pytest.raises(error) as caught:
            node.open_request(raw)
        assert type(caught.value) is error
        assert caught.value.__cause__ is None
        with pytest.raises(ac.LocalProtocolError):  # failed for good
            node.open_request(raw)


@pytest.mark.parametrize("units", [ABSENT, None, 0, 1, 8192, 2**64 - 1])
@pytest.mark.parametrize("stream", [ABSENT, None, False])
@pytest.mark.parametrize("shown", [b"", b',"stream":false'])
def test_what_may_be_absent_or_null(key: ac.SecretKey, shown: bytes, stream: object, units: object) -> None:
    body = BODY[:-1] + shown + b"}"
    client = OracleClient(bytes(key.public_key))
    with ac.NodeSession(key) as node:
        request = node.open_request(client.seal_request(body, stream=stream, num_compute_units=units))
        expected = units if isinstance(units, int) else None
        assert request == ac.Request(body, "m", 42, expected, False, None, "v1")
        assert client.open_reply(node.seal_response(REPLY, usage=USAGE)).plaintext == REPLY


@pytest.mark.parametrize(
    "dump",
    [
        lambda members: json.dumps(members, indent=2),
        lambda members: json.dumps(members, indent="\t").replace("\n", "\r\n"),
        lambda members: json.dumps(dict(reversed(members.items()))),
        lambda members: " " + compact(members) + "\n",
        lambda members: compact(members | {"extra": {"deep": [1, None, {"nonce": "x"}]}, "": 1.5e300}),
        lambda members: json.dumps(members).replace("/", "\\/").replace("m", "\\u006d"),
    ],
    ids=["indented", "tabs and CRLF", "reversed", "white space around", "unknown members", "escapes"],
)
def test_json_in_any_shape(key: ac.SecretKey, dump: Callable[[dict[str, Any]], str]) -> None:
    client = OracleClient(bytes(key.public_key))
    with ac.NodeSession(key) as node:
        assert node.open_request(dump(client.envelope(BODY, num_compute_units=7)).encode()).body == BODY


@pytest.mark.parametrize("model", ["", "ü/世界 🌍", 'a"b\\c\n', "m" * 10_000])
def test_names_of_models(key: ac.SecretKey, model: str) -> None:
    client = OracleClient(bytes(key.public_key), model=model, stack_small_id=2**64 - 1)
    with ac.NodeSession(key) as node:
        request = node.open_request(client.seal_request(BODY))
    assert (request.model, request.stack_small_id) == (model, 2**64 - 1)
    ours = ac.ClientSession(key.public_key, model=model, stack_small_id=2**64 - 1, protocol="v1")
    with ours, ac.NodeSession(key) as node:
        sealed = ours.seal_request(BODY, stream=False, num_compute_units=5)
        assert compact(json.loads(sealed)).encode() == sealed  # raw UTF-8 and no white space
        assert node.open_request(sealed).model == model


SEALED_MEMBERS: Final = {
    "ciphertext": 0,
    "nonce": 12,
    "salt": 16,
    "client_dh_public_key": 32,
    "node_dh_public_key": 32,
    "plaintext_body_hash": 32,
}


@pytest.mark.parametrize("value", [ABSENT, None, 1.5, True, [], {}])
@pytest.mark.parametrize("name", [*SEALED_MEMBERS, "model_name", "stack_small_id"])
def test_members_that_are_missing_or_of_another_type(key: ac.SecretKey, name: str, value: object) -> None:
    members = OracleClient(bytes(key.public_key)).envelope(BODY)
    refused(key, compact(members | {name: value}).encode(), ac.EnvelopeError)


@pytest.mark.parametrize("name", [*SEALED_MEMBERS, "model_name", "stack_small_id", "stream"])
def test_members_that_stand_twice(key: ac.SecretKey, name: str) -> None:
    members = OracleClient(bytes(key.public_key)).envelope(BODY)
    again = compact({name: members[name]}).removeprefix("{")
    refused(key, f"{compact(members)[:-1]},{again}".encode(), ac.EnvelopeError)


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, True, "42", 2**64, 10**400, [42], {}])
@pytest.mark.parametrize("name", ["stack_small_id", "num_compute_units"])
def test_numbers_that_are_no_u64(key: ac.SecretKey, name: str, value: object) -> None:
    members = OracleClient(bytes(key.public_key)).envelope(BODY)
    refused(key, compact(members | {name: value}).encode(), ac.EnvelopeError)


@pytest.mark.parametrize("value", [0, 1, "false", "true", [], {}])
def test_stream_that_is_no_boolean(key: ac.SecretKey, value: object) -> None:
    client = OracleClient(bytes(key.public_key))
    refused(key, client.seal_request(BODY, stream=value), ac.EnvelopeError)
    body = printed({"model": "m", "stream": value})
    refused(key, client.seal_request(body, stream=bool(value)), ac.EnvelopeError)
    refused(key, client.seal_request(body, stream=False), ac.EnvelopeError)


@pytest.mark.parametrize(("body", "stream"), [(BODY, True), (STREAM_BODY, False), (STREAM_BODY, ABSENT)])
def test_stream_that_differs_within_and_without(key: ac.SecretKey, body: bytes, stream: object) -> None:
    refused(key, OracleClient(bytes(key.public_key)).seal_request(body, stream=stream), ac.EnvelopeError)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:5] + " " + text[5:],
        lambda text: text[:5] + "-" + text[6:],
        lambda text: text[:5] + "_" + text[6:],
        lambda text: text[:5] + "é" + text[6:],
        lambda text: text[:5] + "\0" + text[6:],
        lambda text: text[:-1],
        lambda text: text + "AAAA=AAA",
        lambda text: "=" * len(text),
    ],
)
@pytest.mark.parametrize("name", SEALED_MEMBERS)
def test_base64_that_is_not_strict(key: ac.SecretKey, name: str, spoil: Callable[[str], str]) -> None:
    client = OracleClient(bytes(key.public_key))
    members = client.envelope(BODY)
    refused(key, compact(members | {name: spoil(str(members[name]))}).encode(), ac.EnvelopeError)


@pytest.mark.parametrize("name", ["salt", "client_dh_public_key", "node_dh_public_key", "plaintext_body_hash"])
def test_base64_with_padding_taken_away_or_spare_bits_set(key: ac.SecretKey, name: str) -> None:
    members = OracleClient(bytes(key.public_key)).envelope(BODY)
    text = str(members[name])
    refused(key, compact(members | {name: text.rstrip("=")}).encode(), ac.EnvelopeError)
    last = text.rstrip("=")[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text.rstrip("=")[:-1] + alphabet[alphabet.index(last) + 1] + "=" * text.count("=")
    refused(key, compact(members | {name: other}).encode(), ac.EnvelopeError)


@pytest.mark.parametrize(("name", "size"), SEALED_MEMBERS.items())
def test_members_of_another_length(key: ac.SecretKey, name: str, size: int) -> None:
    members = OracleClient(bytes(key.public_key)).envelope(BODY)
    for length in {0, 1, 11, 13, 15, 17, 31, 33, 64} if size else {0, 1, 15}:
        value = b64(os.urandom(length))
        refused(key, compact(members | {name: value}).encode(), ac.EnvelopeError)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"null", b"[]", b"1", b'"x"', b"{", b"{}", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000,
        b'{"a":' * 100_000, b"{}" * 2, b"NaN", b'{"ciphertext":"' + b"A" * 1000, b"\0" * 64,
    ],
)  # fmt: skip
def test_what_is_no_envelope_at_all(key: ac.SecretKey, raw: bytes) -> None:
    refused(key, raw, ac.EnvelopeError)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'"x"', b"null", b"{", b"\xff", b'{"stream":false', b"{}{}"])
def test_a_body_that_is_no_json_object(key: ac.SecretKey, body: bytes) -> None:
    refused(key, OracleClient(bytes(key.public_key)).seal_request(body), ac.EnvelopeError)


def test_every_cryptographic_failure_looks_the_same(key: ac.SecretKey) -> None:
    client = OracleClient(bytes(key.public_key))
    members = client.envelope(BODY)
    zero = OracleClient(bytes(key.public_key))
    zero.public = bytes(32)
    sealed = unb64(members["ciphertext"])
    bad: dict[str, dict[str, object]] = {
        "hash": members | {"plaintext_body_hash": b64(body_hash(b"other"))},
        "zero key": zero.envelope(BODY, key=derive_key(bytes(32), zero.salt)),
        "another node": OracleClient(os.urandom(32)).envelope(BODY),
        "key of the node": members | {"node_dh_public_key": b64(os.urandom(32))},
        "tag": members | {"ciphertext": b64(sealed[:-1] + bytes([sealed[-1] ^ 1]))},
        "cut": members | {"ciphertext": b64(sealed[1:])},
        "tag alone": members | {"ciphertext": b64(bytes(16))},
        "nonce": members | {"nonce": b64(os.urandom(12))},
        "salt": members | {"salt": b64(os.urandom(16))},
        "client": members | {"client_dh_public_key": b64(os.urandom(32))},
    }
    messages = set()
    for spoiled in bad.values():
        raw = compact(spoiled).encode()
        refused(key, raw, ac.AuthenticationError)
        with ac.NodeSession(key) as node, pytest.raises(ac.AuthenticationError) as caught:
            node.open_request(raw)
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize("top", [0, 0x80])
def test_the_top_bit_of_a_clients_key_is_ignored(key: ac.SecretKey, top: int) -> None:
    """As RFC 7748 says: a client that sets it is a client."""
    client = OracleClient(bytes(key.public_key))
    client.public = client.public[:31] + bytes([client.public[31] | top])
    with ac.NodeSession(key) as node:
        assert node.open_request(client.seal_request(BODY)).body == BODY


def test_every_nonce_of_a_stream_is_another(key: ac.SecretKey) -> None:
    client = OracleClient(bytes(key.public_key))
    raw = client.seal_request(STREAM_BODY, stream=True)
    nonces = [client.nonce]
    for _ in range(20):  # the request replayed: the key is the same each time
        with ac.NodeSession(key) as node:
            node.open_request(raw)
            sent = b"".join(node.seal_chunk(THREE[0]) for _ in range(50))
            sent += node.seal_chunks([THREE[1]] * 50) + node.seal_chunk(THREE[2], usage=USAGE) + node.finish()
        events = client.open_events(sent)
        assert [event.plaintext for event in events] == THREE[:1] * 50 + THREE[1:2] * 50 + THREE[2:]
        assert [event.members.get("usage") for event in events] == [None] * 100 + [USAGE]
        nonces += [event.nonce for event in events]
    raw = client.seal_request(BODY)
    for _ in range(20):
        with ac.NodeSession(key) as node:
            node.open_request(raw)
            nonces.append(client.open_reply(node.seal_response(REPLY)).nonce)
    assert len(set(nonces)) == len(nonces) == 1 + 20 * 101 + 20


@pytest.mark.parametrize(
    ("own", "start", "expected"),
    [
        (5, 3, [3, 4, 6, 7]),
        (5, 5, [6, 7, 8, 9]),
        (2**96 - 1, 2**96 - 2, [2**96 - 2, 0, 1, 2]),
        (0, 2**96 - 2, [2**96 - 2, 2**96 - 1, 1, 2]),
        (0, 2**40 - 1, [2**40 - 1, 2**40, 2**40 + 1, 2**40 + 2]),
    ],
)
def test_nonces_count_up_around_the_requests_own(key: ac.SecretKey, own: int, start: int, expected: list[int]) -> None:
    """No caller chooses where a sealer begins: that is written into its memory here."""
    client = OracleClient(bytes(key.public_key), nonce=own.to_bytes(12, "big"))
    with ac.NodeSession(key) as node:
        node.open_request(client.seal_request(STREAM_BODY, stream=True))
        _core.ffi.memmove(node._sealer._native.next_nonce, start.to_bytes(12, "big"), 12)
        sent = node.seal_chunk(THREE[0]) + node.seal_chunks(THREE)
    assert [int.from_bytes(event.nonce, "big") for event in client.open_events(sent)] == expected


def test_signatures_are_suis(key: ac.SecretKey) -> None:
    with ac.SigningKey.generate() as signing:
        client = OracleClient(bytes(key.public_key))
        with ac.NodeSession(key, signing_key=signing) as node:
            node.open_request(client.seal_request(STREAM_BODY, stream=True))
            opened = client.open_events(node.seal_chunk(THREE[0]) + node.seal_chunks(THREE))
        with ac.NodeSession(key, signing_key=signing) as node:
            node.open_request(client.seal_request(BODY))
            opened.append(client.open_reply(node.seal_response(REPLY, usage=USAGE)))
        assert len(opened) == 5
        for sealed in opened:
            digest = unb64(sealed.members["response_hash"])
            assert digest == body_hash(sealed.plaintext)
            assert verify_sui_signature(str(sealed.members["signature"]), digest) == bytes(signing.public_key)


def test_without_a_key_the_signature_is_empty(key: ac.SecretKey) -> None:
    client = OracleClient(bytes(key.public_key))
    with ac.NodeSession(key) as node:
        node.open_request(client.seal_request(STREAM_BODY, stream=True))
        (event,) = client.open_events(node.seal_chunk(THREE[0]))
    with ac.NodeSession(key) as node:
        node.open_request(client.seal_request(BODY))
        reply = client.open_reply(node.seal_response(REPLY))
    for sealed in (event, reply):
        assert sealed.members["signature"] == ""
        assert unb64(sealed.members["response_hash"]) == body_hash(sealed.plaintext)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_oracle_reads_our_answers(key: ac.SecretKey, name: str) -> None:
    client = OracleClient(bytes(key.public_key))
    with ac.NodeSession(key) as node:
        node.open_request(client.seal_request(STREAM_BODY, stream=True))
        one_by_one = b"".join(map(node.seal_chunk, ANSWERS[name]))
        together = node.seal_chunks(ANSWERS[name])
    for sent in (one_by_one, together):
        assert [event.plaintext for event in client.open_events(sent)] == ANSWERS[name]
