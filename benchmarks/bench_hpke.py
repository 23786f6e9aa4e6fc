"""HPKE's first message, which is what sets up a request of protocol v2, beside `cryptography`'s one-shot HPKE."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._typing import Suite
from conftest import Run

SUITES: tuple[Suite, ...] = ("X25519", "X-Wing")
ENC_BYTES = {"X25519": 32, "X-Wing": 1120}
BODY = bytes(32 + i % 90 for i in range(300))
INFO = b"atoma/2 request\x00" + bytes(8)
EXPORT = b"atoma/2 response"


class Theirs:
    """`cryptography`, with a key of its own."""

    def __init__(self, name: Suite) -> None:
        kem = {"X25519": hpke.KEM.X25519, "X-Wing": hpke.KEM.MLKEM768_X25519}[name]
        self.suite = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        x25519 = X25519PrivateKey.generate()
        self.secret: Any = x25519
        if name == "X-Wing":
            self.secret = hpke.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.generate(), x25519)
        self.public = self.secret.public_key()

    def send(self) -> bytes:
        return self.suite.encrypt(BODY, self.public, INFO)

    def receive(self, message: bytes) -> bytes:
        return self.suite.decrypt(message, self.secret, INFO)


class Ours:
    """The same, and the secret for the answer, which `cryptography` cannot export."""

    def __init__(self, name: Suite) -> None:
        self.name: Suite = name
        self.secret = ac.SecretKey.generate(name)
        self.public = bytes(self.secret.public_key)

    def send(self) -> tuple[bytes, bytes]:
        enc, context = hazmat.hpke_setup_sender(self.public, INFO, suite=self.name)
        return enc + context.seal(BODY), context.export(EXPORT, 32)

    def receive(self, message: bytes) -> tuple[bytes, bytes]:
        cut = ENC_BYTES[self.name]
        context = hazmat.hpke_setup_recipient(message[:cut], self.secret, INFO, suite=self.name)
        return context.open(message[cut:]), context.export(EXPORT, 32)


@pytest.mark.parametrize("name", SUITES)
def test_send_theirs(run: Run, name: Suite) -> None:
    theirs = Theirs(name)
    assert theirs.receive(theirs.send()) == BODY
    run(f"HPKE's first message, {name}", "cryptography", theirs.send)


@pytest.mark.parametrize("name", SUITES)
def test_send(run: Run, name: Suite) -> None:
    ours = Ours(name)
    message, exported = ours.send()
    assert ours.receive(message) == (BODY, exported)
    run(f"HPKE's first message, {name}", "atoma-crypto", ours.send)


@pytest.mark.parametrize("name", SUITES)
def test_open_theirs(run: Run, name: Suite) -> None:
    theirs = Theirs(name)
    message = theirs.send()
    assert theirs.receive(message) == BODY
    run(f"HPKE's first message received, {name}", "cryptography", lambda: theirs.receive(message))


@pytest.mark.parametrize("name", SUITES)
def test_open(run: Run, name: Suite) -> None:
    ours = Ours(name)
    message, exported = ours.send()
    assert ours.receive(message) == (BODY, exported)
    run(f"HPKE's first message received, {name}", "atoma-crypto", lambda: ours.receive(message))
