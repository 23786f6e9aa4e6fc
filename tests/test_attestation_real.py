"""Evidence from real hardware. It is no part of the project: each test says where it looks for it, or is skipped.

ATOMA_CRYPTO_EVIDENCE is a folder with `tdx_quote`, `tdx_quote_collateral.json`, `sgx_quote` and
`sgx_quote_collateral.json` (samples of Phala-Network/dcap-qvl). ATOMA_CRYPTO_NVIDIA_WHEEL is the wheel of
nv-local-gpu-verifier 2.7.3, which has a report of a Hopper GPU in it. ATOMA_CRYPTO_SNP_EVIDENCE is a folder with
reports of AMD's chips, NAME.report, each with its VCEK, ASK and ARK, NAME.pem (samples of virtee/sev and
google/go-sev-guest). All are bound to the nonces of others, so the tests put those in the place of ours: all else is
checked as it always is.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Final

import dcap_qvl  # type: ignore[import-untyped]  # it has no py.typed
import pytest
from cryptography import x509

import atoma_crypto as ac
from atoma_crypto.attestation import (
    NVIDIA_DEVICE_ROOT,
    AttestedKey,
    Evidence,
    NvidiaGpuVerifier,
    SnpMeasurement,
    SnpPolicy,
    SnpTcb,
    SnpVerifier,
    TdxMeasurement,
    TdxPolicy,
    TdxVerifier,
    _binding,
    _nvidia,
)
from atoma_crypto.keyring import KeyOffer
from helpers import node_key
from test_attestation_flips import TDX_LENGTHS, TDX_SIGNED_END, flip_all, some_bytes

FOLDER: Final = os.environ.get("ATOMA_CRYPTO_EVIDENCE")
WHEEL: Final = os.environ.get("ATOMA_CRYPTO_NVIDIA_WHEEL")
intel: Final = pytest.mark.skipif(not FOLDER, reason="ATOMA_CRYPTO_EVIDENCE names no folder with real quotes")
SNP: Final = os.environ.get("ATOMA_CRYPTO_SNP_EVIDENCE")
amd: Final = pytest.mark.skipif(not SNP, reason="ATOMA_CRYPTO_SNP_EVIDENCE names no folder with real reports")
nvidia: Final = pytest.mark.skipif(not WHEEL, reason="ATOMA_CRYPTO_NVIDIA_WHEEL names no wheel with a real report")

OFFER: Final = KeyOffer("v1", node_key().public_key, 3600.0)
ISSUED: Final = int(datetime.datetime(2025, 6, 19, 10, 32, 27, tzinfo=datetime.timezone.utc).timestamp())
NOW: Final = ISSUED + 3600
DAY: Final = 24 * 3600


def read(name: str) -> bytes:
    return (Path(FOLDER or "") / name).read_bytes()


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The 64 bytes of the real quote, which stand in for those of our offer."""
    said: bytes = dcap_qvl.Quote.parse(read("tdx_quote")).report.report_data
    monkeypatch.setattr(_binding, "report_data", lambda *_: said)
    return said


def tdx(
    policy: TdxPolicy | None = None, *, quote: bytes | None = None, collateral: bytes | None = None, now: int = NOW
) -> AttestedKey:
    shown = Evidence("tdx", quote or read("tdx_quote"), collateral or read("tdx_quote_collateral.json"))
    return TdxVerifier(policy or TdxPolicy.any_measurement()).verify(shown, OFFER, now=now)


@intel
@pytest.mark.usefixtures("bound")
def test_a_real_tdx_quote() -> None:
    report = dcap_qvl.Quote.parse(read("tdx_quote")).report
    policy = TdxPolicy([TdxMeasurement(mr_td=report.mr_td, rt_mr1=report.rt_mr1, rt_mr2=report.rt_mr2)])
    key = tdx(policy)
    assert (key.claims["tcb_status"], key.claims["advisories"]) == ("UpToDate", [])
    assert NOW < key.expires_at < ISSUED + 30 * DAY
    changed = TdxMeasurement(mr_td=report.mr_td, rt_mr1=report.rt_mr2)
    with pytest.raises(ac.AttestationError, match="measurements"):
        tdx(TdxPolicy([changed]))


@intel
def test_a_real_quote_is_not_for_our_key() -> None:
    with pytest.raises(ac.AttestationError, match="not for this key"):
        tdx()


@intel
@pytest.mark.usefixtures("bound")
def test_real_collateral_ends() -> None:
    ends = int(tdx().expires_at)
    tdx(now=ends - 1)
    for now in (ends, ends + 1, ISSUED + 31 * DAY, ISSUED - 1, 0):
        with pytest.raises(ac.AttestationError):
            tdx(now=now)


@intel
@pytest.mark.usefixtures("bound")
def test_real_sgx_evidence_is_refused() -> None:
    quote, collateral = read("sgx_quote"), read("sgx_quote_collateral.json")
    with pytest.raises(ac.AttestationError, match="not one of TDX"):
        tdx(quote=quote, collateral=collateral)
    with pytest.raises(ac.AttestationError, match="not one of TDX"):
        tdx(quote=quote)
    with pytest.raises(ac.AttestationError, match="does not verify"):
        tdx(collateral=collateral)


@intel
@pytest.mark.usefixtures("bound")
def test_real_pieces_of_another_collateral() -> None:
    ours, theirs = json.loads(read("tdx_quote_collateral.json")), json.loads(read("sgx_quote_collateral.json"))
    for name in ("tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature"):
        assert ours[name] != theirs[name]
        with pytest.raises(ac.AttestationError, match="does not verify"):
            tdx(collateral=json.dumps(ours | {name: theirs[name]}).encode())


@intel
@pytest.mark.usefixtures("bound")
@some_bytes(37)
def test_real_quotes_with_a_byte_changed(part: tuple[int, int]) -> None:
    quote = read("tdx_quote")
    flip_all(
        quote,
        lambda data: tdx(quote=data),
        range(part[0], len(quote), part[1]),
        lambda at: at < TDX_SIGNED_END and at not in TDX_LENGTHS,
    )


@intel
@pytest.mark.usefixtures("bound")
@some_bytes(101)
def test_real_collateral_with_a_byte_changed(part: tuple[int, int]) -> None:
    collateral = read("tdx_quote_collateral.json")
    flip_all(collateral, lambda data: tdx(collateral=data), range(part[0], len(collateral), part[1]), lambda _: False)


# ---- NVIDIA -----------------------------------------------------------------------------------------------------


def sample(name: str) -> bytes:
    with zipfile.ZipFile(WHEEL or "") as wheel:
        return wheel.read(f"verifier/{name}")


def hopper() -> tuple[bytes, bytes]:
    """The report and the chain of certificates."""
    return bytes.fromhex(sample("samples/hopperAttestationReport.txt").decode()), sample("samples/hopperCertChain.txt")


def gpu(report: bytes, chain: bytes) -> AttestedKey:
    entry = {
        "evidence_type": "device",
        "certificate": base64.b64encode(chain).decode(),
        "evidence": base64.b64encode(report).decode(),
    }
    shown = Evidence("nvidia", zlib.compress(json.dumps([entry]).encode()))
    return NvidiaGpuVerifier(1).verify(shown, OFFER, now=NOW)


@pytest.fixture
def hopper_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = hopper()[0][4:36]
    monkeypatch.setattr(_nvidia, "nvidia_nonce", lambda *_, **__: nonce)


@nvidia
def test_the_root_is_the_one_of_nvidias_verifier() -> None:
    pem = sample("certs/verifier_device_root.pem")
    assert x509.load_pem_x509_certificate(pem) == x509.load_der_x509_certificate(NVIDIA_DEVICE_ROOT)


@nvidia
@pytest.mark.usefixtures("hopper_nonce")
def test_a_real_hopper_report() -> None:
    devices = gpu(*hopper()).claims["devices"]
    assert devices == [{"type": "device", "certificate": "GH100 A01 GSP FMC LF", "family": "NVIDIA GH100 Identity"}]


@nvidia
def test_a_real_report_is_not_for_our_key() -> None:
    with pytest.raises(ac.AttestationError, match="not for this key"):
        gpu(*hopper())


@nvidia
@pytest.mark.usefixtures("hopper_nonce")
@some_bytes(61)
def test_real_reports_with_a_byte_changed(part: tuple[int, int]) -> None:
    report, chain = hopper()
    flip_all(report, lambda data: gpu(data, chain), range(part[0], len(report), part[1]), lambda _: True)


@nvidia
@pytest.mark.usefixtures("hopper_nonce")
@some_bytes(61)
def test_real_chains_with_a_byte_changed(part: tuple[int, int]) -> None:
    report, chain = hopper()
    flip_all(chain, lambda data: gpu(report, data), range(part[0], len(chain), part[1]), lambda _: False)


# ---- AMD --------------------------------------------------------------------------------------------------------


ANY_GUEST: Final = SnpPolicy.any_measurement(SnpTcb())


@amd
@some_bytes(23)
def test_real_snp_reports(monkeypatch: pytest.MonkeyPatch, part: tuple[int, int]) -> None:
    """As they are, and with a byte changed. Of a guest that may be debugged: refused, all else being good."""
    files = sorted(Path(SNP or "").glob("*.report"))
    assert files
    for file in files:
        report, pem = file.read_bytes(), file.with_suffix(".pem").read_bytes()

        def judge(report: bytes = report, pem: bytes = pem, policy: SnpPolicy = ANY_GUEST) -> AttestedKey:
            return SnpVerifier(policy).verify(Evidence("snp", report, pem), OFFER, now=NOW)

        with monkeypatch.context() as patched:
            patched.setattr(_binding, "report_data", lambda *_, said=report[0x50:0x90]: said)
            if report[0x0A] & 0x08:
                with pytest.raises(ac.AttestationError, match="debugged"):
                    judge()
                continue
            measured = str(judge().claims["measurement"])
            judge(policy=SnpPolicy([SnpMeasurement(measured)], SnpTcb()))
            flip_all(report, judge, range(part[0], len(report), part[1]), lambda at: at < 0x330)
            flip_all(pem, lambda data: judge(pem=data), range(part[0], len(pem), part[1]), lambda _: False)
        with pytest.raises(ac.AttestationError, match="not for this key"):
            judge()
