"""SNP reports of chips of our own: what is accepted with their root, and each thing that is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

import atoma_crypto as ac
from amd_pki import HOST_DATA, MEASUREMENT, TCB, AmdMaker, Chip, amd_maker, certificate, chip, encoded, pem
from atoma_crypto.attestation import (
    AttestedKey,
    Evidence,
    SnpMeasurement,
    SnpPolicy,
    SnpTcb,
    SnpVerifier,
    _vcek,
    report_data,
)
from atoma_crypto.keyring import KeyOffer
from certificates import DAY, HOUR, NOW
from helpers import node_key
from test_attestation_flips import flip_all, some_bytes

OFFER: Final = KeyOffer("v2", node_key().public_key, HOUR, NOW + HOUR)
CHALLENGE: Final = bytes(range(32))
POLICY: Final = SnpPolicy([SnpMeasurement(MEASUREMENT.hex(), HOST_DATA)], SnpTcb(3, 0, 8, 200))


def shown(
    one: Chip | None = None, *, said: bytes | None = None, collateral: bytes | None = None, **report: Any
) -> Evidence:
    one = one or chip()
    said = report_data(OFFER, CHALLENGE) if said is None else said
    return Evidence("snp", one.report(said, **report), one.collateral if collateral is None else collateral)


def verify(
    evidence: Evidence | None,
    offer: KeyOffer = OFFER,
    *,
    policy: SnpPolicy = POLICY,
    challenge: bytes = CHALLENGE,
    now: float = NOW,
    root: bytes | None = None,
) -> AttestedKey:
    verifier = SnpVerifier(policy, root=root or amd_maker().root)
    return verifier.verify(evidence, offer, challenge=challenge, now=now)


def refused(match: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ac.AttestationError, match=match):
        verify(*arguments, **options)


def test_a_good_report() -> None:
    for collateral in (chip().collateral, chip().table):
        key = verify(shown(collateral=collateral))
        assert (key.public_key, key.expires_at) == (node_key().public_key, NOW + HOUR)
        claims = json.loads(json.dumps(dict(key.claims)))
        assert claims["product"] == "Milan-B0"
        assert claims["tcb"] == TCB
        assert claims["measurement"] == MEASUREMENT.hex()
        assert claims["host_data"] == HOST_DATA.hex()
        assert claims["measurements_checked"] is True
        assert "revocation" in claims["not_checked"][0]


def test_later_reports() -> None:
    for version in (3, 5):
        verify(shown(version=version))
    tcb = {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 77}
    turin = amd_maker().chip(product="Turin", tcb=tcb, chip_id=bytes(range(1, 9)))
    policy = SnpPolicy(POLICY.measurements, SnpTcb(2, 3, 4, 77, fmc=1))
    assert verify(shown(turin, tcb=tcb), policy=policy).claims["tcb"] == tcb
    refused("fmc", shown(turin, tcb=tcb), policy=SnpPolicy(POLICY.measurements, SnpTcb(fmc=2)))


def test_a_key_of_v1_ends_with_the_certificates() -> None:
    offer = KeyOffer("v1", OFFER.public_key, HOUR)
    key = verify(shown(said=report_data(offer)), offer, challenge=b"")
    assert (key.expires_at, key.claims["fresh"]) == (NOW + 365 * DAY, "not known")


def test_another_root() -> None:
    refused("another root", shown(), root=AmdMaker().root)
    with pytest.raises(ac.AttestationError, match="another root"):
        SnpVerifier(POLICY).verify(shown(), OFFER, challenge=CHALLENGE, now=NOW)
    other = AmdMaker()
    mixed = pem(other.chip().vcek) + b"".join(map(pem, chip().above))
    refused("not signed by the ASK", shown(collateral=mixed))
    mixed = pem(chip().vcek) + pem(other.chip().above[0]) + pem(chip().above[1])
    refused("not signed by its issuer", shown(collateral=mixed))


def test_binding() -> None:
    refused("not for this key", shown(said=bytes(64)))
    refused("does not answer", shown(said=report_data(OFFER)))
    refused("not for this key", shown(), challenge=b"")
    refused("not for this key", shown(), OFFER._replace(not_after=NOW + 2 * HOUR))
    refused("not for this key", shown(), OFFER._replace(public_key=ac.SecretKey.generate().public_key))
    late = OFFER._replace(not_after=NOW + DAY + 1)
    refused("24 hours", shown(said=report_data(late)), late, challenge=b"")


def test_another_guest() -> None:
    refused("measurement", shown(measurement=bytes(48)))
    refused("measurement", shown(), policy=SnpPolicy([SnpMeasurement(MEASUREMENT, bytes(32))], SnpTcb()))
    any_guest = SnpPolicy.any_measurement(SnpTcb())
    assert verify(shown(measurement=bytes(48)), policy=any_guest).claims["measurements_checked"] is False


def test_debug_migration_and_privilege() -> None:
    refused("debugged", shown(policy=0x30000 | 1 << 19))
    refused("migrated", shown(policy=0x30000 | 1 << 18))
    refused("level 1", shown(vmpl=1))
    refused("level", shown(vmpl=0xFFFFFFFF), policy=SnpPolicy.any_measurement(SnpTcb(), max_vmpl=3))
    assert verify(shown(vmpl=1), policy=SnpPolicy.any_measurement(SnpTcb(), max_vmpl=1)).claims["vmpl"] == 1


@pytest.mark.parametrize("name", TCB)
def test_old_firmware(name: str) -> None:
    least = SnpTcb(**(TCB | {name: TCB[name] + 1}))
    refused(name, shown(), policy=SnpPolicy(POLICY.measurements, least))


def test_chip_and_certificate_belong_together() -> None:
    refused("firmware versions", shown(tcb=TCB | {"snp": 9}))  # a chip signs for other firmware with another key
    refused("firmware versions", shown(amd_maker().chip(left_out="3.8")))
    refused("another chip", shown(chip_id=bytes(64)))
    refused("another chip", shown(amd_maker().chip(chip_id=b"")))
    refused("product", shown(amd_maker().chip(product="Naples")))
    other = amd_maker().chip()
    refused("not signed by the chip", shown(other, collateral=chip().collateral))


def test_certificates() -> None:
    maker = amd_maker()
    refused("expired", shown(maker.chip(ends=NOW - 1)))
    refused("not valid yet", shown(maker.chip(begins=NOW + 1)))
    refused("critical", shown(maker.chip(critical=True)))
    refused("RSASSA-PSS", shown(maker.chip(salt=32)))
    for arc in ("2", "4"):
        refused("malformed", shown(maker.chip(left_out=arc)))
    with pytest.raises(ac.AttestationError, match="not signed by the chip"):
        verify(shown(maker.chip(key=ec.generate_private_key(ec.SECP256R1()))))
    assert verify(shown(maker.chip(ends=NOW + 60))).expires_at == NOW + 60
    for odd, match in ((AmdMaker(ark_ends=NOW - 1), "expired"), (AmdMaker(ask_ca=False), "may not")):
        refused(match, shown(odd.chip()), root=odd.root)


def resigned(change: Callable[[list[bytes]], None], *, unused: int = 0, algorithm: bytes | None = None) -> Evidence:
    """A report with a certificate of its chip in which fields are changed, signed by AMD all the same."""
    one = chip()
    (whole,) = _vcek._items(one.vcek)
    signed, said, _ = _vcek._items(_vcek._content(whole, 0x30))
    fields = list(_vcek._items(_vcek._content(signed, 0x30)))
    change(fields)
    body = b"".join(fields)
    signed = bytes([0x30, 0x82]) + len(body).to_bytes(2, "big") + body
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    signature = bytes([unused]) + amd_maker().ask.key.sign(signed, pss, hashes.SHA384())
    bits = bytes([0x03, 0x82]) + len(signature).to_bytes(2, "big") + signature
    whole = signed + (algorithm or said) + bits
    vcek = bytes([0x30, 0x82]) + len(whole).to_bytes(2, "big") + whole
    return shown(collateral=b"".join(map(pem, (vcek, *one.above))))


def replaced(at: int, value: bytes) -> Callable[[list[bytes]], None]:
    return lambda fields: fields.__setitem__(at, value)


def test_certificates_of_another_form() -> None:
    def nothing(_: list[bytes]) -> None:
        return

    verify(resigned(nothing))
    verify(resigned(replaced(1, bytes.fromhex("020100"))))  # AMD's number of each VCEK
    refused("not made of bytes", resigned(nothing, unused=1))
    refused("RSASSA-PSS", resigned(nothing, algorithm=bytes.fromhex("3000")))
    refused("version 3", resigned(list.pop))  # type: ignore[arg-type]  # takes away the extensions
    refused("version 3", resigned(replaced(0, bytes.fromhex("a003020101"))))
    refused("version 3", resigned(replaced(7, bytes.fromhex("a200"))))
    refused("not issued", resigned(replaced(2, bytes.fromhex("3000"))))
    refused("not issued", resigned(replaced(3, bytes.fromhex("3000"))))
    for at, value in ((4, "3000"), (4, "300413003000"), (4, "3080"), (6, "3000"), (7, "a3023000"), (7, "a300")):
        refused("malformed", resigned(replaced(at, bytes.fromhex(value))))


def test_an_ask_of_another_kind() -> None:
    maker = AmdMaker()
    key = ec.generate_private_key(ec.SECP384R1())
    ask = encoded(certificate("SEV-Test", key, maker.ark))
    collateral = b"".join(map(pem, (chip().vcek, ask, maker.root)))
    refused("RSA key", shown(collateral=collateral), root=maker.root)


def test_reports_that_are_none() -> None:
    for evidence in (shown(version=1), shown(version=6), shown(algorithm=2)):
        refused("unknown", evidence)
    refused("VCEK", shown(flags=1 << 2))  # a cloud provider's key
    for data in (b"", bytes(1183), bytes(1185)):
        refused("1184 bytes", Evidence("snp", data, chip().collateral))
    for other in (None, Evidence("tdx", shown().data)):
        refused("of kind 'snp' is needed", other)


def test_collateral_that_is_none() -> None:
    whole = chip().collateral
    short, cut = pem(chip().vcek), chip().table[:-1]
    for collateral in (b"", bytes(500), whole[:-30], short, whole + short, cut, pem(b"x") * 3):
        refused("SNP c", shown(collateral=collateral))
    refused("longer", shown(collateral=bytes(1 << 17)))


def test_collateral_of_many_beginnings_takes_no_time() -> None:
    begun = time.process_time()
    refused("not the three", shown(collateral=b"-----BEGIN CERTIFICATE-----" * 2400))
    assert time.process_time() - begun < 0.3  # with a search for an end from each of them: seconds


def test_policies_that_make_no_sense() -> None:
    for make in (
        lambda: SnpPolicy([], SnpTcb()),
        lambda: SnpMeasurement(b""),
        lambda: SnpMeasurement("xy"),
        lambda: SnpMeasurement(MEASUREMENT, bytes(31)),
        lambda: SnpPolicy.any_measurement(SnpTcb(), max_vmpl=4),
    ):
        with pytest.raises(ValueError, match=r"measurement|host_data|max_vmpl"):
            make()
    for wrong in (
        lambda: SnpPolicy([MEASUREMENT], SnpTcb()),  # type: ignore[list-item]  # that is what is tested
        lambda: SnpPolicy([], 3),  # type: ignore[arg-type]  # the same
        lambda: SnpVerifier(None),  # type: ignore[arg-type]  # the same
    ):
        with pytest.raises(TypeError, match="must be"):
            wrong()


@some_bytes(17)
def test_reports_with_a_byte_changed(part: tuple[int, int]) -> None:
    good = shown()

    def judge(data: bytes) -> AttestedKey:
        return verify(Evidence("snp", data, good.collateral))

    flip_all(good.data, judge, range(part[0], len(good.data), part[1]), lambda at: at < 0x330)


@some_bytes(17)
def test_chips_certificates_with_a_byte_changed(part: tuple[int, int]) -> None:
    good = shown()

    def judge(vcek: bytes) -> AttestedKey:
        return verify(Evidence("snp", good.data, b"".join(map(pem, (vcek, *chip().above)))))

    vcek = chip().vcek
    flip_all(vcek, judge, range(part[0], len(vcek), part[1]), lambda _: True)


@some_bytes(97)
def test_collateral_with_a_byte_changed(part: tuple[int, int]) -> None:
    good = shown()

    def judge(collateral: bytes) -> AttestedKey:
        return verify(Evidence("snp", good.data, collateral))

    for collateral in (chip().collateral, chip().table):
        flip_all(collateral, judge, range(part[0], len(collateral), part[1]), lambda _: False)
