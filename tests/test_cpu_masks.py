"""The features of the CPU, hidden one by one: which backends are left, and that what is left works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from atoma_crypto import _core
from test_hazmat_vectors import _cavp

FEATURES: Final = _core._cpu_features()
MASKS: Final = [*FEATURES, ",".join(FEATURES)]

# What each backend needs; one that is not here needs nothing.
AESNI: Final = {"ssse3", "sse4.1", "aes", "pclmul"}
VAES: Final = AESNI | {"avx2", "vaes", "vpclmulqdq"}
NEEDS: Final = {"aesni": AESNI, "vaes": VAES, "vaes512": VAES | {"avx512"}}

# NIST's vectors on every backend, HKDF beside the standard library's HMAC, both ends of one exchange and of HPKE; then
# says which backends there are.
PROGRAM: Final = """
import hmac, json, sys
import atoma_crypto as ac
from atoma_crypto import _core, hazmat

cases = json.load(sys.stdin)
for backend in hazmat.aes_backends():
    for *fields, good in cases:
        key, nonce, plaintext, aad, sealed = map(bytes.fromhex, fields)
        aes = _core.Aes256Gcm(key, backend=backend)
        try:
            assert aes.open(nonce, sealed, aad) == plaintext and good
        except ac.AuthenticationError:
            assert not good
        assert not good or aes.seal(nonce, plaintext, aad) == sealed

for length in range(0, 300, 7):
    text = bytes(range(256))[:length] * 2
    prk = hmac.digest(text or bytes(32), text, "sha256")
    assert hazmat.hkdf_sha256(text, salt=text, info=text, length=32) == hmac.digest(prk, text + bytes([1]), "sha256")

secret = ac.SecretKey.generate()
enc, sender = hazmat.hpke_setup_sender(bytes(secret.public_key), b"info")
assert hazmat.hpke_setup_recipient(enc, secret, b"info").open(sender.seal(b"text")) == b"text"
client = ac.ClientSession(secret.public_key, model="m", stack_small_id=42, protocol="v1")
node = ac.NodeSession(secret)
body = json.dumps({"stream": True, "text": "x" * 5000}).encode()
assert node.open_request(client.seal_request(body, stream=True)).body == body
texts = [bytes(range(256)) * 3, b"", b"{}", bytes(5000)]
client.receive_data(b"".join(map(node.seal_chunk, texts)))
client.receive_eof()
assert [event.plaintext for event in client.events() if isinstance(event, ac.Chunk)] == texts
print(hazmat.aes_backend(), *hazmat.aes_backends())
"""


def python(mask: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Another interpreter, which knows nothing of what this one was told."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("ATOMA_CRYPTO_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parent.parent,
        env=told | {"ATOMA_CRYPTO_CPU_MASK": mask},
        input=text,
        text=True,
        capture_output=True,
    )


@cache
def cases() -> str:
    found = [
        (*(field.hex() for field in fields), good)
        for name in ("gcmEncryptExtIV", "gcmDecrypt")
        for *fields, good in _cavp(name)
    ]
    assert len(found) == 750
    return json.dumps(found)


@cache
def backends_under(mask: str) -> list[str]:
    done = python(mask, "-c", PROGRAM, text=cases())
    assert done.returncode == 0, done.stderr
    in_use, *usable = done.stdout.split()
    assert in_use == usable[0]
    return usable


def test_the_features_are_the_ones_that_are_needed_here() -> None:
    assert set().union(*NEEDS.values()) <= set(FEATURES)
    assert len(set(FEATURES)) == len(FEATURES)


@pytest.mark.parametrize("mask", MASKS)
def test_without_a_feature_go_the_backends_that_need_it(mask: str) -> None:
    left = [name for name in backends_under("") if not NEEDS.get(name, set()) & set(mask.split(","))]
    assert backends_under(mask) == left
    assert "portable" in left


@pytest.mark.parametrize("wrong", ["avx3", "AES", "aes,avx3", "avx3,aes", "aes avx2", "\u00e9", "\udcff"])
def test_a_name_that_nobody_knows(wrong: str) -> None:
    failed = python(wrong, "-c", "import atoma_crypto")
    assert failed.returncode != 0
    assert failed.stderr.splitlines()[-1] == (
        f"ImportError: ATOMA_CRYPTO_CPU_MASK={wrong!r}: known are {', '.join(FEATURES)}, with commas"
    )


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mask", MASKS)
def test_all_vectors_without_a_feature(mask: str) -> None:
    # Every length with every AAD belongs to the backends, and is tested on each of them where nothing is hidden.
    asked = ("-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider")
    done = python(mask, *asked, "tests/test_hazmat_vectors.py")
    assert done.returncode == 0, done.stdout
