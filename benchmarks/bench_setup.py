"""What a request costs before its first token: on the client, and on the node."""

import json

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import atoma_crypto as ac
import reference
from conftest import Run

BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 240}]}).encode()
SECRET = bytes(range(32))
KEY = ac.SecretKey.from_bytes(SECRET)
PUBLIC = KEY.public_key
THEIRS = X25519PrivateKey.from_private_bytes(SECRET)


def our_request() -> bytes:
    with ac.ClientSession(PUBLIC, model="m", stack_small_id=1, protocol="v1") as client:
        return client.seal_request(BODY, stream=True)


def our_answer(raw: bytes) -> bytes:
    with ac.NodeSession(KEY) as node:
        return node.open_request(raw).body


def test_client_reference(run: Run) -> None:
    node = bytes(PUBLIC)
    assert our_answer(reference.seal_request(node, BODY)) == BODY
    run("set-up of a client", "reference", lambda: reference.seal_request(node, BODY))


def test_client(run: Run) -> None:
    assert reference.open_request(THEIRS, our_request())[1] == BODY
    run("set-up of a client", "atoma-crypto", our_request)


def test_node_reference(run: Run) -> None:
    raw = our_request()
    assert reference.open_request(THEIRS, raw)[1] == BODY
    run("set-up of a node", "reference", lambda: reference.open_request(THEIRS, raw))


def test_node(run: Run) -> None:
    raw = reference.seal_request(bytes(PUBLIC), BODY)
    assert our_answer(raw) == BODY
    run("set-up of a node", "atoma-crypto", lambda: our_answer(raw))
