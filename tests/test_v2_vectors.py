"""The vectors of protocol v2 and the reference that makes them, each held to what others have published."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any, Final

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives import hpke as oracle
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import make_v2_vectors
import reference_hpke as hpke
import reference_v2 as v2

VECTORS: Final[list[dict[str, Any]]] = json.loads(make_v2_vectors.PATH.read_text(encoding="utf-8"))
CODES: Final = {"INVALID_BODY", "KEY_UNKNOWN", "CLOCK_SKEW", "DECRYPTION_FAILED", "SEALED INVALID_BODY"}
SUITES: Final = {
    "X25519": (oracle.KEM.X25519, 0x0020, "test-vectors.json"),
    "X-Wing": (oracle.KEM.MLKEM768_X25519, 0x647A, "hpke-pq-test-vectors.json"),
}


def published(suite: str, kdf: int = 1) -> list[dict[str, Any]]:
    _, kem, name = SUITES[suite]
    with cryptography_vectors.open_vector_file(f"HPKE/{name}", "r") as file:
        found = json.load(file)
    return [v for v in found if (v["mode"], v["kem_id"], v["kdf_id"]) == (0, kem, kdf)]


def raw(vector: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(vector[name])


def test_the_file_is_what_the_script_writes() -> None:
    """Byte for byte: nothing of it is drawn anew. The reference reads each vector while it makes it."""
    assert make_v2_vectors.text() == make_v2_vectors.PATH.read_text(encoding="utf-8")


def test_the_reference_does_not_lean_on_what_it_judges() -> None:
    here = Path(__file__).parent
    names = [
        "make_v2_vectors",
        "reference_hpke",
        "reference_v2",
        "v2_refused_replies",
        "v2_refused_requests",
        "v2_taken",
    ]
    imported = set()
    for name in names:
        for node in ast.walk(ast.parse((here / f"{name}.py").read_text(encoding="utf-8"))):
            imported |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
    own = {name for name in imported if (here / f"{name}.py").exists()}
    assert own <= set(names)
    assert {name.partition(".")[0] for name in imported - own} <= {*sys.stdlib_module_names, "cryptography"}


def test_what_the_vectors_cover() -> None:
    expected = {vector["expect"] for vector in VECTORS}
    assert expected == CODES | {"ok", "REPLY_REFUSED", "REPLY_TRUNCATED"}
    assert {vector["suite"] for vector in VECTORS} == {"X25519", "X-Wing"}
    flags = {record["flag"] for vector in VECTORS for record in vector.get("records", ())}
    assert flags == {0, 1, 2, 3}


def test_the_document_names_every_member() -> None:
    text = (Path(__file__).parent.parent / "docs" / "vectors.md").read_text(encoding="utf-8")
    members = {name for vector in VECTORS for name in vector}
    members |= {name for vector in VECTORS for record in vector.get("records", ()) for name in record}
    assert {name for name in members if f"`{name}`" not in text} == set()
    assert {expect for expect in CODES if f"`{expect}`" not in text} <= {
        "KEY_UNKNOWN",
        "CLOCK_SKEW",
        "DECRYPTION_FAILED",
    }


@pytest.mark.parametrize("suite", SUITES)
def test_the_reference_against_published_vectors(suite: str) -> None:
    found = [vector for vector in published(suite) if vector["aead_id"] == 2]
    if suite == "X-Wing":  # published for other ciphers too, and its KEM is the same for all
        found = published(suite)
    assert found
    for vector in found:
        secret, enc = raw(vector, "skRm"), raw(vector, "enc")
        assert hpke.public_of(suite, secret) == raw(vector, "pkRm")
        shared = hpke.decapsulate(suite, secret, enc)
        assert shared == raw(vector, "shared_secret")
        if suite == "X25519":
            assert hpke.encapsulate(suite, raw(vector, "pkRm"), raw(vector, "skEm")) == (shared, enc)
        if vector["aead_id"] != 2:
            continue
        context = hpke.Context(suite, shared, raw(vector, "info"))
        for sequence, message in enumerate(vector["encryptions"][:3]):
            assert context.seal(raw(message, "pt"), raw(message, "aad"), sequence) == raw(message, "ct")
            assert context.open(raw(message, "ct"), raw(message, "aad"), sequence) == raw(message, "pt")
        for export in vector["exports"]:
            assert context.export(raw(export, "exporter_context"), export["L"]) == raw(export, "exported_value")


@pytest.mark.parametrize("suite", SUITES)
def test_the_reference_against_cryptography(suite: str) -> None:
    """Both ways, with its one-shot HPKE, which takes no aad."""
    theirs = oracle.Suite(SUITES[suite][0], oracle.KDF.HKDF_SHA256, oracle.AEAD.AES_256_GCM)
    secret = make_v2_vectors.SECRETS[suite]
    public = hpke.public_of(suite, secret)
    private_key: Any = X25519PrivateKey.from_private_bytes(secret)
    public_key: Any = private_key.public_key()
    if suite == "X-Wing":
        ml_kem, sk_x = hpke.xwing_parts(secret)
        private_key = oracle.MLKEM768X25519PrivateKey(ml_kem, X25519PrivateKey.from_private_bytes(sk_x))
        public_key = private_key.public_key()
    n_enc = v2.ENC_BYTES[suite]
    sealed = theirs.encrypt(b"their body", public_key, b"info")
    shared = hpke.decapsulate(suite, secret, sealed[:n_enc])
    assert hpke.Context(suite, shared, b"info").open(sealed[n_enc:], b"") == b"their body"
    shared, enc = hpke.encapsulate(suite, public, make_v2_vectors.seed("a test"))
    ours = enc + hpke.Context(suite, shared, b"info").seal(b"our body", b"")
    assert theirs.decrypt(ours, private_key, b"info") == b"our body"
