"""What evidence has to contain to speak for a key, and what a client asks of every offer that it is shown for."""

import hashlib
import math
from typing import Final

from atoma_crypto._errors import AttestationError
from atoma_crypto._keys import SUITES
from atoma_crypto.attestation._values import Evidence
from atoma_crypto.keyring import KeyOffer

_LABEL: Final = b"atoma node key\x00"
_VERSIONS: Final = {"v1": 1, "v2": 2}
_ENDLESS: Final = 1 << 53  # no integer of protocol v2 is larger
_YEAR_10000: Final = 253_402_300_800
CHALLENGE_BYTES: Final = 32
UNCHALLENGED_SECONDS: Final = 24 * 3600  # how far ahead `not_after` may be where no challenge was answered


def report_data(offer: KeyOffer, challenge: bytes = b"") -> bytes:
    """The 64 bytes that a CPU's TEE has to sign for an offer (docs/protocol-v2.md, section 2).

    `challenge` is empty, or the 32 bytes that a client has sent. A key of protocol v1 has version 1 and `not_after` 0.
    ValueError: a challenge of another length, or an offer of v2 that does not say when it ends.
    """
    if len(challenge) not in (0, CHALLENGE_BYTES):
        raise ValueError(f"a challenge has {CHALLENGE_BYTES} bytes, or none")
    not_after = 0 if offer.protocol == "v1" else offer.not_after
    if not_after is None or not 0 <= not_after < _ENDLESS:
        raise ValueError("an offer of protocol v2 has a not_after, in seconds since 1970")
    key = bytes(offer.public_key)
    return hashlib.sha512(
        _LABEL
        + bytes([_VERSIONS[offer.protocol], SUITES[offer.public_key.suite].id])
        + len(key).to_bytes(2, "big")
        + key
        + not_after.to_bytes(8, "big")
        + len(challenge).to_bytes(2, "big")
        + challenge
    ).digest()


def nvidia_nonce(public_key: bytes, *, contract_nonce: int, device_slot: int = 300) -> bytes:
    """The 32 bytes that an NVIDIA device has to sign in Atoma's evidence.

    BLAKE3 of the contract's nonce (u64, little-endian), the raw public key and the device's slot (u16, little-endian;
    300 for GPUs and switches). Needs the extra `nvidia`.
    """
    try:
        import blake3  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise ImportError("NVIDIA's evidence needs blake3: install atoma-crypto[nvidia]") from error
    preimage = contract_nonce.to_bytes(8, "little") + public_key + device_slot.to_bytes(2, "little")
    return blake3.blake3(preimage).digest()


def check_offer(offer: KeyOffer, challenge: bytes, now: float) -> float:
    """When the offer ends, infinite if it does not.

    AttestationError: it is over, or ends so late that old evidence would serve. ValueError: no challenge, or no time.
    """
    if len(challenge) not in (0, CHALLENGE_BYTES):
        raise ValueError(f"a challenge has {CHALLENGE_BYTES} bytes, or none")
    if not 0 <= now < _YEAR_10000:
        raise ValueError("now must be in seconds since 1970")
    if offer.protocol == "v1":
        return math.inf
    if offer.not_after is None or not 0 <= offer.not_after < _ENDLESS:
        raise AttestationError("the offer does not say when its key ends")
    if now > offer.not_after:
        raise AttestationError("the offered key is over: its not_after has passed")
    if not challenge and offer.not_after > now + UNCHALLENGED_SECONDS:
        raise AttestationError("the offered key holds for more than 24 hours, and no challenge was answered")
    return float(offer.not_after)


def evidence_of(evidence: Evidence | None, kind: str) -> Evidence:
    """The one piece of evidence of this kind. AttestationError: there is none, or there are several."""
    pieces = () if evidence is None else evidence.parts or (evidence,)
    fitting = [piece for piece in pieces if piece.kind == kind]
    if len(fitting) != 1:
        given = ", ".join(sorted({repr(piece.kind) for piece in pieces})) or "none"
        raise AttestationError(f"one piece of evidence of kind {kind!r} is needed; given: {given}")
    return fitting[0]


def check_binding(said: bytes, offer: KeyOffer, challenge: bytes) -> None:
    """What the evidence says is what it has to. AttestationError."""
    if said == report_data(offer, challenge):
        return
    if challenge and said == report_data(offer):
        raise AttestationError("the evidence is for this key, but does not answer the challenge")
    raise AttestationError("the evidence is not for this key, its end and this challenge")


def bound(offer: KeyOffer, challenge: bytes) -> str:
    """What such evidence is bound to, in words, for the claims."""
    parts = ["this key", *(["its end"] if offer.protocol == "v2" else ()), *(["this challenge"] if challenge else ())]
    return ", ".join(parts)


def freshness(offer: KeyOffer, challenge: bytes) -> str:
    """How new evidence is that has passed, in words, for the claims."""
    if challenge:
        return "made for this challenge"
    return "not known" if offer.protocol == "v1" else "made for a key that ends within 24 hours"
