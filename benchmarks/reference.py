"""The straightforward Python way: what we compare ourselves with in the same process, and what checks our output."""

import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def hashed(plaintext: bytes) -> bytes:
    return hashlib.blake2b(plaintext, digest_size=32).digest()


def seal(aes: AESGCM, plaintext: bytes) -> bytes:
    """One v1 event, with a key that is kept."""
    nonce = os.urandom(12)
    event = {
        "ciphertext": encode(aes.encrypt(nonce, plaintext, None)),
        "nonce": encode(nonce),
        "signature": "",
        "response_hash": encode(hashed(plaintext)),
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def open_event(aes: AESGCM, event: bytes) -> bytes:
    members = json.loads(event.removeprefix(b"data: "))
    plaintext = aes.decrypt(decode(members["nonce"]), decode(members["ciphertext"]), None)
    if hashed(plaintext) != decode(members["response_hash"]):
        raise ValueError
    return plaintext


def derive(secret: X25519PrivateKey, public: bytes, salt: bytes) -> AESGCM:
    shared = secret.exchange(X25519PublicKey.from_public_bytes(public))
    return AESGCM(HKDF(hashes.SHA256(), 32, salt, b"").derive(shared))


def seal_request(node: bytes, body: bytes) -> bytes:
    """A client's set-up: key pair, exchange, key schedule, and the sealed request."""
    if json.loads(body).get("stream", False) is not True:
        raise ValueError
    secret, salt, nonce = X25519PrivateKey.generate(), os.urandom(16), os.urandom(12)
    envelope = {
        "ciphertext": encode(derive(secret, node, salt).encrypt(nonce, body, None)),
        "client_dh_public_key": encode(secret.public_key().public_bytes_raw()),
        "model_name": "m",
        "node_dh_public_key": encode(node),
        "nonce": encode(nonce),
        "plaintext_body_hash": encode(hashed(body)),
        "salt": encode(salt),
        "stack_small_id": 1,
        "stream": True,
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def open_request(secret: X25519PrivateKey, raw: bytes) -> tuple[AESGCM, bytes]:
    """A node's set-up: the key, and the body of the request."""
    envelope = json.loads(raw)
    aes = derive(secret, decode(envelope["client_dh_public_key"]), decode(envelope["salt"]))
    body = aes.decrypt(decode(envelope["nonce"]), decode(envelope["ciphertext"]), None)
    if hashed(body) != decode(envelope["plaintext_body_hash"]) or json.loads(body).get("stream", False) is not True:
        raise ValueError
    return aes, body
