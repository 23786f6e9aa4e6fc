"""What protocol v2 costs beside v1: events of 300 bytes, and what a request needs before its first token."""

import json
from collections.abc import Iterator

import pytest

import atoma_crypto as ac
from conftest import Run

Pair = tuple[ac.ClientSession, ac.NodeSession]
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 240}]}).encode()
BATCH = 32
MANY = 640
TEXT = bytes(32 + i % 90 for i in range(300))
NODES = {
    suite: (ac.SecretKey.generate(suite), ac.MemoryReplayCache(capacity=1 << 24, fresh_key=True))
    for suite in ("X25519", "X-Wing")
}

suites = pytest.mark.parametrize("name", NODES)
size = pytest.mark.parametrize("size", [len(TEXT)])  # v1's events of this size run just before


@pytest.fixture
def pair() -> Iterator[Pair]:
    key = ac.SecretKey.generate()
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v2")
    node = ac.NodeSession(key)
    node.open_request(client.seal_request(BODY, stream=True))
    with client, node:
        yield client, node


def opened(client: ac.ClientSession, raw: bytes) -> list[bytes]:
    client.receive_data(raw)
    return [event.plaintext for event in client.events() if isinstance(event, ac.Chunk)]


def sealed_request(name: str) -> bytes:
    with ac.ClientSession(NODES[name][0].public_key, model="m", stack_small_id=1, protocol="v2") as client:
        return client.seal_request(BODY, stream=True)


def opened_request(name: str, raw: bytes) -> bytes:
    key, cache = NODES[name]
    with ac.NodeSession(key, replay_cache=cache) as node:
        return node.open_request(raw).body


def who(name: str) -> str:
    return "atoma-crypto, v2" if name == "X25519" else f"atoma-crypto, v2 with {name}"


@size
def test_seal_one(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    assert opened(client, node.seal_chunk(TEXT)) == [TEXT]
    run(f"seal {size}", "atoma-crypto, v2", lambda: node.seal_chunk(TEXT))


@size
def test_seal_many(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    texts = [TEXT] * BATCH
    assert opened(client, node.seal_chunks(texts)) == texts
    run(f"seal {size}", "atoma-crypto, v2, 32 to a call", lambda: node.seal_chunks(texts), per=BATCH)


@size
def test_open_one(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    assert opened(client, node.seal_chunk(TEXT)) == [TEXT]

    def open_each(events: list[bytes]) -> None:
        for event in events:
            client.receive_data(event)
            client.next_event()

    fresh = lambda: [node.seal_chunk(TEXT) for _ in range(MANY)]  # noqa: E731 - shorter so
    run(f"open {size}", "atoma-crypto, v2", open_each, per=MANY, fresh=fresh)


@size
def test_open_many(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    texts = [TEXT] * BATCH
    assert opened(client, node.seal_chunks(texts)) == texts

    def open_all(batches: list[bytes]) -> None:
        for batch in batches:
            client.receive_data(batch)
            for _ in client.events():
                pass

    fresh = lambda: [node.seal_chunks(texts) for _ in range(MANY // BATCH)]  # noqa: E731 - shorter so
    run(f"open {size}", "atoma-crypto, v2, 32 received at once", open_all, per=MANY, fresh=fresh)


@suites
def test_client(run: Run, name: str) -> None:
    assert opened_request(name, sealed_request(name)) == BODY
    run("set-up of a client", who(name), lambda: sealed_request(name))


@suites
def test_node(run: Run, name: str) -> None:
    """A request is admitted once, so each timed call opens one of its own."""
    assert opened_request(name, sealed_request(name)) == BODY

    def open_each(requests: list[bytes]) -> None:
        for raw in requests:
            opened_request(name, raw)

    fresh = lambda: [sealed_request(name) for _ in range(BATCH)]  # noqa: E731 - shorter so
    run("set-up of a node", who(name), open_each, per=BATCH, fresh=fresh)
