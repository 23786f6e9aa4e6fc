"""Our sessions of v2 against its second writing (tests/reference_v2.py), and against its vectors."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
import reference_hpke
import reference_v2 as v2
from atoma_crypto._core import ffi
from atoma_crypto._typing import Suite
from helpers import Reading, native, new_client, random_cuts, read

VECTORS: Final = json.loads((Path(__file__).parent / "vectors" / "v2.json").read_text(encoding="utf-8"))
SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")
suites = pytest.mark.parametrize("suite", SUITES)
ERRORS: Final[dict[str, type[Exception]]] = {
    "INVALID_BODY": ac.EnvelopeError,
    "SEALED INVALID_BODY": ac.EnvelopeError,
    "KEY_UNKNOWN": ac.UnknownKeyError,
    "CLOCK_SKEW": ac.ClockSkewError,
    "DECRYPTION_FAILED": ac.AuthenticationError,
}


def node_of(suite: Suite, secret: bytes, now: float) -> ac.NodeSession:
    key = ac.SecretKey.from_bytes(secret, suite)
    return ac.NodeSession(key, clock=lambda: now, replay_cache=ac.MemoryReplayCache(fresh_key=True, clock=lambda: now))


def client_that_sent(exported: bytes, enc: bytes, *, stream: bool) -> ac.ClientSession:
    """A client in the state of one that has sent a request of which `exported` and `enc` came."""
    client = new_client(protocol="v2")
    client.seal_request(b'{"stream":true}' if stream else b"{}", stream=stream)
    waiting = native(client).key.waiting
    ffi.memmove(waiting.secret, exported, 32)
    ffi.memmove(waiting.enc, enc, len(enc))
    waiting.enc_len = len(enc)
    return client


def records_of(client: ac.ClientSession, received: bytes, *, stream: bool, cuts: int | None = None) -> Reading:
    """What a client makes of a reply, however it is cut."""
    if not stream or received.lstrip(b" \t\r\n")[:1] == b"{":
        try:
            return Reading([(client.open_response(received), 0, None)], None)
        except ac.RemoteProtocolError as error:
            return Reading([], type(error))
    return read(client, [received] if cuts is None else random_cuts(received, cuts))


# ---- vectors ----------------------------------------------------------------------------------------------------


def secret_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector.get("seed") or vector["sk_r"])


REQUESTS: Final = [vector for vector in VECTORS if "envelope" in vector]
REPLIES: Final = [vector for vector in VECTORS if "envelope" not in vector]


@pytest.mark.parametrize("vector", REQUESTS, ids=lambda vector: vector["name"])
def test_a_request(vector: dict[str, Any]) -> None:
    expect = vector["expect"]
    node = node_of(vector["suite"], secret_of(vector), vector["now"])
    envelope = vector["envelope"].encode("latin-1")
    if expect in ERRORS:
        with pytest.raises(ERRORS[expect]):
            node.open_request(envelope)
        assert (node._state.value == "refused") is expect.startswith("SEALED")
        return
    assert expect == "ok"
    request = node.open_request(envelope)
    if "body" not in vector:
        return
    metadata = vector["metadata"]
    assert request.body == vector["body"].encode("latin-1")
    assert (request.model, request.endpoint) == (metadata["model_name"], metadata["endpoint"])
    assert (request.stack_small_id, request.num_compute_units, request.stream) == (
        metadata["stack_small_id"],
        metadata["num_compute_units"],
        metadata["stream"],
    )
    for record in vector.get("records", ()):
        check_record(vector, record)
    if "event" in vector.get("records", [{}])[0]:
        received = "".join(record["event"] for record in vector["records"])
        check_reply(vector | {"received": received, "stream": request.stream})


def check_record(vector: dict[str, Any], record: dict[str, Any]) -> None:
    """By itself, wherever in the answer it stands."""
    opener = ac.Opener(*(bytes.fromhex(vector[name]) for name in ("exported", "enc", "salt")))
    opener._native.index = record["index"]  # type: ignore[union-attr] # it is open
    sealed = bytes.fromhex(record["ciphertext"])
    plaintext = opener.open(sealed, flag=record["flag"], usage=record["usage"])
    assert plaintext == record["plaintext"].encode("latin-1")


@pytest.mark.parametrize("vector", REPLIES, ids=lambda vector: vector["name"])
def test_a_reply(vector: dict[str, Any]) -> None:
    check_reply(vector)


def check_reply(vector: dict[str, Any]) -> None:
    exported, enc, stream = bytes.fromhex(vector["exported"]), bytes.fromhex(vector["enc"]), vector["stream"]
    for cuts in (None, 1, 2):
        client = client_that_sent(exported, enc, stream=stream)
        got = records_of(client, vector["received"].encode("latin-1"), stream=stream, cuts=cuts)
        if vector["expect"] == "ok":
            check_records(got, vector["records"], stream=stream)
            continue
        assert isinstance(got.end, type)
        assert (got.end is ac.TruncatedStreamError) is (vector["expect"] == "REPLY_TRUNCATED")
        assert got.end is not ac.RemoteAbortError
        texts = [record["plaintext"].encode("latin-1") for record in vector["records"] if record["plaintext"]]
        assert [text for text, _, _ in got.chunks] == texts


def check_records(got: Reading, records: list[dict[str, Any]], *, stream: bool) -> None:
    last = records[-1]
    if last["flag"] == 2:
        assert got.end is ac.RemoteAbortError
        records = records[:-1]
    elif stream:
        usage = [record["usage"] for record in records if record["usage"] is not None]
        chunks = [record for record in records if record["plaintext"]]
        assert got.end == ac.EndOfStream(len(chunks), usage[-1] if usage else None)
    else:
        assert [text for text, _, _ in got.chunks] == [last["plaintext"].encode("latin-1")]
        return
    expected = [(r["plaintext"].encode("latin-1"), i, r["usage"]) for i, r in enumerate(records) if r["plaintext"]]
    assert got.chunks == expected


# ---- both ways, at random ---------------------------------------------------------------------------------------


def some_usage(rng: random.Random) -> dict[str, int] | None:
    return None if rng.random() < 0.5 else {name: rng.randrange(2 ** rng.choice([1, 20, 53])) for name in v2.USAGE}


@suites
@pytest.mark.parametrize("seed", range(12))
def test_our_client_and_their_node(suite: Suite, seed: int) -> None:
    rng = random.Random(seed)
    secret = rng.randbytes(32)
    key = ac.PublicKey.from_bytes(reference_hpke.public_of(suite, secret), suite)
    model = rng.choice(["m", "org/модель", '"\\/\x00😀', "x" * 256])
    stream = bool(seed % 2)
    body = json.dumps({"model": model, "stream": stream, "text": "é" * rng.randrange(300)}).encode()
    client = ac.ClientSession(
        key,
        model=model,
        stack_small_id=rng.choice([None, 0, 2**53 - 1]),
        protocol="v2",
        endpoint=rng.choice(["/", "/v1/chat/completions", "/" + "x" * 127]),
    )
    raw = client.seal_request(body, stream=stream, num_compute_units=rng.choice([None, 5]))
    assert raw == v2.dumps(json.loads(raw))
    request = v2.open_request(suite, secret, raw, now=int(time.time()))
    assert request.body == body
    salt = rng.randbytes(32)
    keys = v2.reply_keys(request.exported, request.envelope.enc, salt)
    if not stream:
        record = v2.Record(3, some_usage(rng), b"an answer")
        sealed = v2.seal_record(keys, 0, record)
        assert client.open_response(v2.write_record(record, sealed, salt, event=False)) == b"an answer"
        return
    records = [v2.Record(0, some_usage(rng), rng.randbytes(rng.randrange(1, 500))) for _ in range(rng.randrange(40))]
    records.append(v2.Record(1, some_usage(rng), b""))
    events = [
        v2.write_record(record, v2.seal_record(keys, i, record), None if i else salt, event=True)
        for i, record in enumerate(records)
    ]
    got = read(client, random_cuts(b"".join(events), seed))
    assert got.chunks == [(record.plaintext, i, record.usage) for i, record in enumerate(records[:-1])]
    usage = [record.usage for record in records if record.usage is not None]
    assert got.end == ac.EndOfStream(len(records) - 1, usage[-1] if usage else None)


@suites
@pytest.mark.parametrize("seed", range(12))
def test_their_client_and_our_node(suite: Suite, seed: int) -> None:
    rng = random.Random(seed)
    secret = rng.randbytes(32)
    stream = bool(seed % 2)
    body = json.dumps({"model": "m", "stream": stream}).encode()
    metadata = {
        "endpoint": "/v1/x",
        "model_name": "m",
        "stack_small_id": rng.choice([None, 7]),
        "num_compute_units": rng.choice([None, 0, 2**53 - 1]),
        "stream": stream,
        "sent_at": 1_800_000_000,
    }
    public = reference_hpke.public_of(suite, secret)
    encapsulated = reference_hpke.encapsulate(suite, public, rng.randbytes(32))
    envelope, exported = v2.seal_request(suite, public, encapsulated, body, metadata)
    node = node_of(suite, secret, 1_800_000_007.5)
    request = node.open_request(v2.write_envelope(envelope))
    assert (request.body, request.stream, request.endpoint) == (body, stream, "/v1/x")
    enc = envelope.enc
    if not stream:
        usage = some_usage(rng)
        raw = node.seal_response(b"an answer", usage)
        assert v2.read_reply(exported, enc, False, raw) == [v2.Record(3, usage, b"an answer")]
        assert raw == v2.dumps(json.loads(raw))
        return
    expected: list[v2.Record] = []
    raw = b""
    for _ in range(rng.randrange(12)):
        texts = [rng.randbytes(rng.randrange(1, 500)) for _ in range(rng.randrange(1, 5))]
        usage = some_usage(rng)
        raw += node.seal_chunk(texts[0], usage) if len(texts) == 1 else node.seal_chunks(texts, usage)
        expected += [v2.Record(0, usage, text) for text in texts]
    if seed % 4 == 3:
        last = node.abort("BROKEN", "the upstream is gone", 502)
        told = json.dumps({"error": {"code": "BROKEN", "message": "the upstream is gone", "status": 502}})
        expected.append(v2.Record(2, None, told.replace(", ", ",").replace(": ", ":").encode()))
    else:
        usage = some_usage(rng)
        last = node.finish(usage)
        expected.append(v2.Record(1, usage, b""))
    assert v2.read_reply(exported, enc, True, raw + last) == expected
    for event in (raw + last).split(b"\n\n")[:-1]:
        text = event.removeprefix(b"data: ")
        assert text == v2.dumps(json.loads(text))
