"""What atoma-sdk needs for 300 bytes of Atoma's protocol v1, and for its set-up: the functions that it calls itself.

Prints JSON: who: operation: ns. What was sealed must open to the same before anything is timed. Both operations leave
out what atoma-sdk does elsewhere and what would make it slower: "open 300" begins after the event was read from the
stream and from JSON, and "set-up" ends before the request is written as JSON. It never seals an answer.
"""

import base64
import hashlib
import os
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from atoma_sdk import crypto_utils, models
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from timing import TEXT, measure, report

Operations = dict[str, float]
NODE = X25519PrivateKey.generate()


def encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def derive(public: X25519PublicKey, salt: bytes) -> AESGCM:
    """The node's side."""
    return AESGCM(HKDF(SHA256(), 32, salt, b"").derive(NODE.exchange(public)))


class Nodes:
    """In place of the SDK's, which asks for the node's key over the network: the answer is there at once."""

    locked = models.NodesCreateLockResponse(
        node_small_id=1, public_key=encode(NODE.public_key().public_bytes_raw()), stack_small_id=1
    )

    def __init__(self, _configuration: object) -> None:
        pass

    def nodes_create_lock(self, **_asked: object) -> Any:
        return self.locked


def open_one() -> Operations:
    """The exchange and the key schedule are part of it: the SDK does them for each event."""
    client, node, salt, nonce = X25519PrivateKey.generate(), NODE.public_key(), os.urandom(16), os.urandom(12)
    event = models.ConfidentialComputeResponse(
        ciphertext=encode(derive(client.public_key(), salt).encrypt(nonce, TEXT, None)),
        nonce=encode(nonce),
        response_hash=encode(hashlib.blake2b(TEXT, digest_size=32).digest()),
    )
    assert crypto_utils.decrypt_message(client, node, salt, event) == TEXT
    return {"open 300": measure(lambda: crypto_utils.decrypt_message(client, node, salt, event))}


def set_up() -> Operations:
    """Key pair, exchange, key schedule, and sealing a body of 300 bytes, whose object is there already."""
    sdk = SimpleNamespace(sdk_configuration=None)
    message = models.ChatCompletionMessage(role="user", content="x" * 231)
    body = models.CreateChatCompletionStreamRequest(model="m", messages=[message], stream=True)
    assert len(body.model_dump_json()) == len(TEXT)

    def sealed() -> Any:
        return crypto_utils.encrypt_message(sdk, X25519PrivateKey.generate(), body, "m")[2]

    crypto_utils.Nodes = Nodes
    request = sealed()
    aes = derive(X25519PublicKey.from_public_bytes(decode(request.client_dh_public_key)), decode(request.salt))
    opened = aes.decrypt(decode(request.nonce), decode(request.ciphertext), None)
    assert opened == body.model_dump_json().encode()
    return {"set-up": measure(sealed)}


if __name__ == "__main__":
    report({f"atoma-sdk {version('atoma-sdk')}": open_one() | set_up()})
