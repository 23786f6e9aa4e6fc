"""What evidence is bound to: the published vectors, which a few lines of struct and hashlib make as well."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol, Suite
from atoma_crypto.attestation import nvidia_nonce, report_data
from atoma_crypto.keyring import KeyOffer

ROOT: Final = Path(__file__).parent.parent
VECTORS: Final = json.loads((ROOT / "tests/vectors/attestation_binding.json").read_text(encoding="utf-8"))
ATOMA: Final = json.loads((ROOT / "tests/vectors/atoma_v1.json").read_text(encoding="utf-8"))
CHALLENGE: Final = bytes(range(32))


def model(version: int, suite: int, key: bytes, not_after: int, challenge: bytes) -> bytes:
    """What is hashed, written from docs/protocol-v2.md, section 2."""
    head = struct.pack(">14sxBBH", b"atoma node key", version, suite, len(key))
    return head + key + struct.pack(">QH", not_after, len(challenge)) + challenge


def offer(protocol: Protocol, suite: Suite = "X25519", not_after: int | None = None) -> KeyOffer:
    key = ac.SecretKey.from_bytes(bytes(range(32)), suite).public_key
    return KeyOffer(protocol, key, 3600.0, not_after)


def cases() -> list[dict[str, Any]]:
    """The vectors, made anew from the model."""
    found = []
    for protocol, suite, not_after, challenge in (
        ("v1", "X25519", None, b""),
        ("v1", "X25519", None, CHALLENGE),
        ("v2", "X25519", 1763812345, b""),
        ("v2", "X25519", 1763812345, CHALLENGE),
        ("v2", "X-Wing", 1763812345, CHALLENGE),
    ):
        key = bytes(offer(protocol, suite).public_key)  # type: ignore[arg-type]  # literals, out of a list
        preimage = model(int(protocol[1:]), 1 if suite == "X25519" else 2, key, not_after or 0, challenge)
        found.append(
            {
                "protocol": protocol,
                "suite": suite,
                "public_key": key.hex(),
                "not_after": not_after,
                "challenge": challenge.hex(),
                "preimage": preimage.hex(),
                "report_data": hashlib.sha512(preimage).hexdigest(),
            }
        )
    return found


def test_the_vectors_are_what_the_model_makes() -> None:
    assert VECTORS["report_data"] == cases()


@pytest.mark.parametrize(
    "vector", VECTORS["report_data"], ids=lambda v: f"{v['protocol']}-{v['suite']}-{bool(v['challenge'])}"
)
def test_report_data(vector: dict[str, Any]) -> None:
    key = ac.PublicKey.from_bytes(bytes.fromhex(vector["public_key"]), vector["suite"])
    one = KeyOffer(vector["protocol"], key, 1.0, vector["not_after"])
    assert report_data(one, bytes.fromhex(vector["challenge"])).hex() == vector["report_data"]


def test_nvidias_nonce_is_atomas() -> None:
    atoma, published = ATOMA["attestation"], VECTORS["nvidia"]
    assert published["blake3"] == atoma["blake3_hex"]
    assert published["preimage"] == atoma["preimage_hex"]
    assert (
        published["preimage"]
        == (
            struct.pack("<Q", int(published["contract_nonce"]))
            + bytes.fromhex(published["public_key"])
            + struct.pack("<H", published["device_slot"])
        ).hex()
    )
    nonce = nvidia_nonce(bytes.fromhex(published["public_key"]), contract_nonce=int(published["contract_nonce"]))
    assert nonce.hex() == published["blake3"]


def test_every_part_counts() -> None:
    """No two offers and challenges share their 64 bytes."""
    kinds: tuple[tuple[Protocol, Suite], ...] = (("v1", "X25519"), ("v2", "X25519"), ("v2", "X-Wing"))
    made = {
        report_data(offer(protocol, suite, not_after), challenge)
        for protocol, suite in kinds
        for not_after in (0, 1, 1 << 52)
        for challenge in (b"", bytes(32), CHALLENGE)
    }
    assert len(made) == 7 * 3  # v1 has no end: what an offer says of one is not looked at
    assert {len(one) for one in made} == {64}


@pytest.mark.parametrize("size", [1, 31, 33, 64])
def test_challenges_have_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        report_data(offer("v1"), bytes(size))


@pytest.mark.parametrize("not_after", [None, -1, 1 << 53, 1 << 64])
def test_v2_has_an_end(not_after: int | None) -> None:
    with pytest.raises(ValueError, match="not_after"):
        report_data(offer("v2", not_after=not_after))


def test_the_docs_have_the_vectors() -> None:
    text = (ROOT / "docs/attestation.md").read_text(encoding="utf-8")
    assert VECTORS["report_data"][3]["report_data"] in text.replace("\n", "").replace(" ", "")
    assert VECTORS["nvidia"]["blake3"] in text
