"""What a token costs: one v1 event of 300 bytes, sealed and opened, beside the straightforward Python pipeline.

Run it with `.venv/bin/python -m pytest benchmarks --benchmark-group-by=group`, and compare within one run only.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pytest_benchmark.fixture import BenchmarkFixture

import atoma_crypto as ac

PLAINTEXT = json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 239}}]}).encode()
AES = AESGCM(bytes(range(32)))
BATCH = 32
ROUNDS = 2_000


def reference_seal() -> bytes:
    nonce = os.urandom(12)
    event = {
        "ciphertext": base64.b64encode(AES.encrypt(nonce, PLAINTEXT, None)).decode(),
        "nonce": base64.b64encode(nonce).decode(),
        "signature": "",
        "response_hash": base64.b64encode(hashlib.blake2b(PLAINTEXT, digest_size=32).digest()).decode(),
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def reference_open(event: bytes) -> bytes:
    members = json.loads(event.removeprefix(b"data: "))
    nonce = base64.b64decode(members["nonce"], validate=True)
    plaintext = AES.decrypt(nonce, base64.b64decode(members["ciphertext"], validate=True), None)
    if hashlib.blake2b(plaintext, digest_size=32).digest() != base64.b64decode(members["response_hash"]):
        raise ValueError
    return plaintext


@pytest.fixture
def pair() -> Iterator[tuple[ac.ClientSession, ac.NodeSession]]:
    key = ac.SecretKey.generate()
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1")
    node = ac.NodeSession(key)
    node.open_request(client.seal_request(b'{"stream":true}', stream=True))
    with client, node:
        yield client, node


def opener(client: ac.ClientSession) -> Callable[[bytes], bytes]:
    def open_one(event: bytes) -> bytes:
        client.receive_data(event)
        chunk = client.next_event()
        assert isinstance(chunk, ac.Chunk)
        return chunk.plaintext

    return open_one


def test_the_plaintext_is_300_bytes() -> None:
    assert len(PLAINTEXT) == 300


@pytest.mark.benchmark(group="seal an event of 300 bytes")
def test_seal_reference(benchmark: BenchmarkFixture) -> None:
    assert reference_open(reference_seal()) == PLAINTEXT
    benchmark.pedantic(reference_seal, iterations=ROUNDS, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="seal an event of 300 bytes")
def test_seal_one(benchmark: BenchmarkFixture, pair: tuple[ac.ClientSession, ac.NodeSession]) -> None:
    client, node = pair
    assert opener(client)(node.seal_chunk(PLAINTEXT)) == PLAINTEXT
    benchmark.pedantic(node.seal_chunk, (PLAINTEXT,), iterations=ROUNDS, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group=f"seal {BATCH} events of 300 bytes")
def test_seal_reference_many(benchmark: BenchmarkFixture) -> None:
    def many() -> bytes:
        return b"".join(reference_seal() for _ in range(BATCH))

    assert reference_open(many().split(b"\n\n")[-2]) == PLAINTEXT
    benchmark.pedantic(many, iterations=ROUNDS // BATCH, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group=f"seal {BATCH} events of 300 bytes")
def test_seal_many(benchmark: BenchmarkFixture, pair: tuple[ac.ClientSession, ac.NodeSession]) -> None:
    client, node = pair
    plaintexts = [PLAINTEXT] * BATCH
    client.receive_data(node.seal_chunks(plaintexts))
    assert [chunk.plaintext for chunk in client.events() if isinstance(chunk, ac.Chunk)] == plaintexts
    benchmark.pedantic(node.seal_chunks, (plaintexts,), iterations=ROUNDS // BATCH, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="open an event of 300 bytes")
def test_open_reference(benchmark: BenchmarkFixture) -> None:
    event = reference_seal()
    assert reference_open(event) == PLAINTEXT
    benchmark.pedantic(reference_open, (event,), iterations=ROUNDS, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="open an event of 300 bytes")
def test_open_one(benchmark: BenchmarkFixture, pair: tuple[ac.ClientSession, ac.NodeSession]) -> None:
    client, node = pair
    open_one = opener(client)
    assert open_one(node.seal_chunk(PLAINTEXT)) == PLAINTEXT
    events = iter([node.seal_chunk(PLAINTEXT) for _ in range(12 * ROUNDS)])  # each opens once: a nonce is not repeated
    benchmark.pedantic(lambda: open_one(next(events)), iterations=ROUNDS, rounds=10, warmup_rounds=1)
