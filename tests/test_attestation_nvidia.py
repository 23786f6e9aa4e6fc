"""Atoma's evidence of NVIDIA devices, from a maker of our own: what is accepted with its root, and what is not."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import atoma_crypto as ac
from atoma_crypto.attestation import NVIDIA_DEVICE_ROOT, AttestedKey, Evidence, NvidiaGpuVerifier, nvidia_nonce
from atoma_crypto.keyring import KeyOffer
from attestation_pki import GpuMaker, gpu_maker
from certificates import DAY, HOUR, NOW, Authority, new_root, raw_signature
from helpers import node_key

CONTRACT_NONCE: Final = 1234567890123456789
OFFER: Final = KeyOffer("v1", node_key().public_key, HOUR)
Entry = dict[str, Any]


def nonce(key: ac.PublicKey = OFFER.public_key, contract_nonce: int = CONTRACT_NONCE, slot: int = 300) -> bytes:
    return nvidia_nonce(bytes(key), contract_nonce=contract_nonce, device_slot=slot)


def device(**options: Any) -> Entry:
    return gpu_maker().device(options.pop("said", nonce()), **options)


def packed(entries: object) -> bytes:
    return zlib.compress(json.dumps(entries).encode())


def verify(entries: object, offer: KeyOffer = OFFER, *, now: float = NOW, **options: Any) -> AttestedKey:
    verifier = NvidiaGpuVerifier(options.pop("contract_nonce", CONTRACT_NONCE), root=gpu_maker().root.der, **options)
    shown = Evidence("nvidia", entries if isinstance(entries, bytes) else packed(entries))
    return verifier.verify(shown, offer, now=now)


def refused(match: str, entries: object, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ac.AttestationError, match=match) as caught:
        verify(entries, *arguments, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_the_root_is_nvidias() -> None:
    """As its subject says, and with the hash that stands beside it."""
    root = x509.load_der_x509_certificate(NVIDIA_DEVICE_ROOT)
    assert root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "NVIDIA Device Identity CA"
    digest = hashlib.sha256(NVIDIA_DEVICE_ROOT).hexdigest()
    assert digest == "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"


def test_gpus_and_switches() -> None:
    key = verify([device(), device(), device(kind="nvswitch")])
    assert key.public_key == OFFER.public_key
    claims = json.loads(json.dumps(dict(key.claims)))
    assert [one["type"] for one in claims["devices"]] == ["device", "device", "nvswitch"]
    assert claims["devices"][0] == {"type": "device", "certificate": "Test GSP FMC", "family": "Test GH100 Identity"}
    assert claims["fresh"] == "not known"
    said = " ".join(claims["not_checked"])
    for word in ("measurements", "revocation", "freshness", "who holds the key", "type of a device"):
        assert word in said
    assert key.expires_at == NOW + 365 * DAY


def test_a_key_of_v2_ends_with_its_offer() -> None:
    offer = KeyOffer("v2", OFFER.public_key, HOUR, NOW + HOUR)
    assert verify([device()], offer).expires_at == NOW + HOUR
    refused("over", [device()], offer, now=NOW + HOUR + 1)


def test_a_challenge_that_is_not_answered_lets_no_key_hold_for_long() -> None:
    offer = KeyOffer("v2", OFFER.public_key, HOUR, NOW + DAY + 1)
    verifier = NvidiaGpuVerifier(CONTRACT_NONCE, root=gpu_maker().root.der)
    shown = Evidence("nvidia", packed([device()]))
    for challenge in (b"", bytes(32)):
        with pytest.raises(ac.AttestationError, match="24 hours"):
            verifier.verify(shown, offer, challenge=challenge, now=NOW)
        verifier.verify(shown, offer, challenge=challenge, now=NOW + 1)


def test_the_same_evidence_does_for_every_challenge_and_every_end() -> None:
    """The nonce is of the contract and the key alone: docs/threat-model.md says what a router can do with that."""
    verifier = NvidiaGpuVerifier(CONTRACT_NONCE, root=gpu_maker().root.der)
    shown = Evidence("nvidia", packed([device()]))
    for challenge in (b"", bytes(32), bytes([9]) * 32):
        for end in (NOW + 60, NOW + HOUR, NOW + DAY):
            offer = KeyOffer("v2", OFFER.public_key, HOUR, end)
            assert verifier.verify(shown, offer, challenge=challenge, now=NOW).expires_at == end
        assert verifier.verify(shown, OFFER, challenge=challenge, now=NOW).expires_at == NOW + 365 * DAY


def test_the_root_may_be_left_out() -> None:
    maker = gpu_maker()
    leaf = maker.provisioner.issue("Test GSP FMC")
    verify([device(chain=(leaf, maker.provisioner, maker.identity))])


def test_what_stands_in_the_roots_place_does_not_count() -> None:
    """Another certificate of the root's own key: what is found is the same, whether or not it would hold."""
    maker = gpu_maker()
    leaf = maker.provisioner.issue("Test GSP FMC")
    good = verify([device(chain=(leaf, maker.provisioner, maker.identity, maker.root))])
    for ends in (NOW - 1, NOW + 1):
        again = maker.root.issue("Another name", ca=True, ends=ends, key=maker.root.key)
        assert verify([device(chain=(leaf, maker.provisioner, maker.identity, again))]) == good


def test_another_root() -> None:
    evidence = Evidence("nvidia", packed([device()]))
    with pytest.raises(ac.AttestationError, match="root"):
        NvidiaGpuVerifier(CONTRACT_NONCE).verify(evidence, OFFER, now=NOW)
    refused("root|signed", [GpuMaker().device(nonce())])  # of the same names, and another key
    with pytest.raises(ValueError, match="root is not"):
        NvidiaGpuVerifier(CONTRACT_NONCE, root=b"none")


def test_another_nonce() -> None:
    refused("not for this key", [device()], OFFER._replace(public_key=ac.SecretKey.generate().public_key))
    refused("not for this key", [device()], contract_nonce=CONTRACT_NONCE + 1)
    refused("not for this key", [device()], device_slot=100)
    refused("not for this key", [device(), device(said=bytes(32))])


def test_one_device_twice() -> None:
    one = device()
    refused("twice", [one, one])
    again = device()
    refused("twice", [one, again, one])


def test_a_report_of_another_device() -> None:
    refused("not signed", [device() | {"evidence": device()["evidence"]}])


def chains() -> dict[str, tuple[str, Sequence[Authority]]]:
    """Chains that do not hold, and what is said of them."""
    maker = gpu_maker()
    good = maker.provisioner.issue("good")
    rest = (maker.provisioner, maker.identity, maker.root)
    short = maker.identity.issue("Short", ca=True, path_length=0)
    under_short = short.issue("Under short", ca=True)
    old = maker.identity.issue("Old", ca=True, ends=NOW - 1)
    unknown = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    other_curve = maker.provisioner.issue("P-256", key=ec.generate_private_key(ec.SECP256R1()))
    stranger = new_root("Stranger", ec.SECP384R1())
    return {
        "nothing but the root": ("no certificate|not signed|issuer's", (maker.root,)),
        "one is missing": ("does not lead", (good, maker.identity, maker.root)),
        "the wrong order": ("issued another|does not lead", (good, maker.identity, maker.provisioner, maker.root)),
        "the root in the middle": (
            "issued another|does not lead",
            (good, maker.provisioner, maker.root, maker.identity),
        ),
        "over": ("expired", (maker.provisioner.issue("over", ends=NOW - 1), *rest)),
        "early": ("not valid yet", (maker.provisioner.issue("early", begins=NOW + 1), *rest)),
        "an old issuer": ("expired", (old.issue("x"), old, maker.identity, maker.root)),
        "an issuer that may not": ("may not", (good.issue("x"), good, *rest)),
        "an issuer as the signer": ("issuer's", rest),
        "too long a path": ("longer", (under_short.issue("x"), under_short, short, maker.identity, maker.root)),
        "an unknown critical extension": ("not understood", (maker.provisioner.issue("x", extensions=unknown), *rest)),
        "not for signing": ("not for signing", (maker.provisioner.issue("x", signs=False), *rest)),
        "another hash": ("hash", (maker.provisioner.issue("x", algorithm=hashes.SHA3_384()), *rest)),
        "another curve": ("not signed", (other_curve, *rest)),
        "a stranger": ("does not lead", (stranger.issue("x"), stranger)),
        "very long": ("more than 10", (good, *[maker.provisioner] * 10)),
    }


@pytest.mark.parametrize("name", chains())
def test_chains(name: str) -> None:
    match, chain = chains()[name]
    refused(match, [device(chain=chain)])


def test_dates_at_their_ends() -> None:
    maker = gpu_maker()
    leaf = maker.provisioner.issue("x", begins=NOW - 10, ends=NOW + 10)
    one = device(chain=(leaf, maker.provisioner, maker.identity))
    for now in (NOW - 10, NOW, NOW + 10):
        assert verify([one], now=now).expires_at == NOW + 10
    for now in (NOW - 11, NOW + 11):
        refused("expired", [one], now=now)


def test_reports_have_their_form() -> None:
    """Signed by a device, but not what was asked for."""
    leaf = gpu_maker().provisioner.issue("x")
    chain = (leaf, gpu_maker().provisioner, gpu_maker().identity)
    good = gpu_maker().device(nonce(), chain=chain)
    signed = base64.b64decode(good["evidence"])[:-96]
    verify([good])
    for name, message in {
        "another version": b"\x12" + signed[1:],
        "another request": signed[:1] + b"\x83" + signed[2:],
        "another response": signed[:38] + b"\x03" + signed[39:],
        "blocks that are longer": signed[:42] + b"\xff" + signed[43:],
        "opaque data that is longer": signed + b"\x00",
        "cut": signed[:-1],
        "two requests": signed[:37] + signed,
        "nearly nothing": signed[:40],
        "nothing": b"",
    }.items():
        entry = good | {"evidence": base64.b64encode(resigned(leaf, message)).decode()}
        found = outcome([entry])
        assert found == "the report of an NVIDIA device is malformed", name


def outcome(entries: object) -> str:
    try:
        verify(entries)
    except ac.AttestationError as error:
        return str(error)
    return "accepted"


def resigned(leaf: Authority, message: bytes) -> bytes:
    return message + raw_signature(leaf.key, message, hashes.SHA384())


def test_lists_that_are_none() -> None:
    refused("not a list", [])
    refused("not a list", {})
    refused("not a list", [device()] * 65)
    refused("lacks", [1])
    refused("lacks", [device() | {"evidence": None}])
    refused("lacks", [{"evidence_type": "device"}])
    refused("neither", [device() | {"evidence_type": "cpu"}])
    refused("not base64", [device() | {"evidence": "%"}])
    refused("malformed", [device() | {"certificate": ""}])
    refused("not JSON", zlib.compress(b"[" * 100_000))
    refused("not JSON", zlib.compress(b"\xff"))
    refused("not zlib", b"nothing")
    good = packed([device()])
    refused("cut", good[:-1])
    refused("followed", good + b"\x00")
    refused("longer", bytes(1 << 21))


def test_a_bomb() -> None:
    """A few kilobytes that become many megabytes."""
    refused("too long when unpacked", zlib.compress(b" " * (16 << 20)))


def test_numbers_out_of_range() -> None:
    for contract_nonce, slot in ((-1, 300), (1 << 64, 300), (1, -1), (1, 1 << 16)):
        with pytest.raises(ValueError, match="bits"):
            NvidiaGpuVerifier(contract_nonce, device_slot=slot)


def test_evidence_of_another_kind() -> None:
    verifier = NvidiaGpuVerifier(CONTRACT_NONCE, root=gpu_maker().root.der)
    for shown in (None, Evidence("tdx", packed([device()]))):
        with pytest.raises(ac.AttestationError, match="of kind 'nvidia' is needed"):
            verifier.verify(shown, OFFER, now=NOW)
