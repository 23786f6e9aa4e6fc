"""Many streams at once, and several threads."""

import threading

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import atoma_crypto as ac
import reference
from conftest import Run

SESSIONS = 1000
TEXT = bytes(32 + i % 90 for i in range(300))
LARGE = bytes(1 << 20)
LIMITS = ac.Limits(max_event_bytes=4 << 20)


def exchange(key: ac.SecretKey) -> tuple[ac.ClientSession, ac.NodeSession]:
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1", limits=LIMITS)
    node = ac.NodeSession(key, limits=LIMITS)
    node.open_request(client.seal_request(b'{"stream":true}', stream=True))
    return client, node


def opened(client: ac.ClientSession, event: bytes) -> bytes:
    client.receive_data(event)
    chunk = client.next_event()
    assert isinstance(chunk, ac.Chunk)
    return chunk.plaintext


def test_seal_in_turn(run: Run) -> None:
    key = ac.SecretKey.generate()
    pairs = [exchange(key) for _ in range(SESSIONS)]
    nodes = [node for _, node in pairs]
    assert all(opened(client, node.seal_chunk(TEXT)) == TEXT for client, node in pairs)

    def turn() -> None:
        for node in nodes:
            node.seal_chunk(TEXT)

    run("seal 300, 1,000 streams in turn", "atoma-crypto", turn, per=SESSIONS)


def test_seal_in_turn_reference(run: Run) -> None:
    keys = [AESGCM(i.to_bytes(32, "big")) for i in range(SESSIONS)]
    assert all(reference.open_event(aes, reference.seal(aes, TEXT)) == TEXT for aes in keys)

    def turn() -> None:
        for aes in keys:
            reference.seal(aes, TEXT)

    run("seal 300, 1,000 streams in turn", "reference", turn, per=SESSIONS)


def test_open_in_turn(run: Run) -> None:
    key = ac.SecretKey.generate()
    pairs = [exchange(key) for _ in range(SESSIONS)]
    assert all(opened(client, node.seal_chunk(TEXT)) == TEXT for client, node in pairs)

    def turn(events: list[bytes]) -> None:
        for (client, _), event in zip(pairs, events, strict=True):
            client.receive_data(event)
            client.next_event()

    fresh = lambda: [node.seal_chunk(TEXT) for _, node in pairs]  # noqa: E731 - shorter so
    run("open 300, 1,000 streams in turn", "atoma-crypto", turn, per=SESSIONS, fresh=fresh)


def test_one_thread(run: Run) -> None:
    client, node = exchange(ac.SecretKey.generate())
    assert opened(client, node.seal_chunk(LARGE)) == LARGE

    def work() -> None:
        for _ in range(8):
            node.seal_chunk(LARGE)

    run("seal 1 MiB chunks", "one thread", work, per=8)


def test_two_threads(run: Run) -> None:
    pairs = [exchange(ac.SecretKey.generate()) for _ in range(2)]
    assert all(opened(client, node.seal_chunk(LARGE)) == LARGE for client, node in pairs)

    def chunks(node: ac.NodeSession) -> None:
        for _ in range(8):
            node.seal_chunk(LARGE)

    def work() -> None:
        threads = [threading.Thread(target=chunks, args=(node,)) for _, node in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run("seal 1 MiB chunks", "two threads", work, per=16)
