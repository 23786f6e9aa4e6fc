"""What a token costs: v1 events, sealed and opened, one at a time and 32 to a call."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import atoma_crypto as ac
import reference
from conftest import Run

Pair = tuple[ac.ClientSession, ac.NodeSession]
SIZES = [16, 64, 300, 1024, 4096]
BATCH = 32
MANY = 640  # events that one timed call opens: a nonce comes once, so that each has to be a new one
AES = AESGCM(bytes(range(32)))

sizes = pytest.mark.parametrize("size", SIZES)


def text_of(size: int) -> bytes:
    return bytes(32 + i % 90 for i in range(size))


def opened(client: ac.ClientSession, raw: bytes) -> list[bytes]:
    client.receive_data(raw)
    return [event.plaintext for event in client.events() if isinstance(event, ac.Chunk)]


@sizes
def test_seal_reference(run: Run, size: int) -> None:
    text = text_of(size)
    assert reference.open_event(AES, reference.seal(AES, text)) == text
    run(f"seal {size}", "reference", lambda: reference.seal(AES, text))


@sizes
def test_seal_one(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    text = text_of(size)
    assert opened(client, node.seal_chunk(text)) == [text]
    run(f"seal {size}", "atoma-crypto", lambda: node.seal_chunk(text))


@sizes
def test_seal_many(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    texts = [text_of(size)] * BATCH
    assert opened(client, node.seal_chunks(texts)) == texts
    run(f"seal {size}", "atoma-crypto, 32 to a call", lambda: node.seal_chunks(texts), per=BATCH)


@sizes
def test_open_reference(run: Run, size: int) -> None:
    text = text_of(size)
    assert reference.open_event(AES, reference.seal(AES, text)) == text

    def open_each(events: list[bytes]) -> None:
        for event in events:
            reference.open_event(AES, event)

    fresh = lambda: [reference.seal(AES, text) for _ in range(MANY)]  # noqa: E731 - shorter so
    run(f"open {size}", "reference", open_each, per=MANY, fresh=fresh)


@sizes
def test_open_one(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    text = text_of(size)
    assert opened(client, node.seal_chunk(text)) == [text]

    def open_each(events: list[bytes]) -> None:
        for event in events:
            client.receive_data(event)
            client.next_event()

    fresh = lambda: [node.seal_chunk(text) for _ in range(MANY)]  # noqa: E731 - shorter so
    run(f"open {size}", "atoma-crypto", open_each, per=MANY, fresh=fresh)


@sizes
def test_open_many(run: Run, pair: Pair, size: int) -> None:
    client, node = pair
    texts = [text_of(size)] * BATCH
    assert opened(client, node.seal_chunks(texts)) == texts

    def open_all(batches: list[bytes]) -> None:
        for batch in batches:
            client.receive_data(batch)
            for _ in client.events():
                pass

    fresh = lambda: [node.seal_chunks(texts) for _ in range(MANY // BATCH)]  # noqa: E731 - shorter so
    run(f"open {size}", "atoma-crypto, 32 received at once", open_all, per=MANY, fresh=fresh)
