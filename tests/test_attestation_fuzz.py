"""Whatever a stranger sends as evidence: AttestationError, or nothing. And what the libraries behind may do."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from typing import Any, Final

import dcap_qvl  # type: ignore[import-untyped]  # it has no py.typed
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
from amd_pki import amd_maker, chip, pem
from atoma_crypto.attestation import (
    Evidence,
    NvidiaGpuVerifier,
    SnpPolicy,
    SnpTcb,
    SnpVerifier,
    TdxPolicy,
    TdxVerifier,
    Verifier,
    evidence_from_json,
    nvidia_nonce,
    report_data,
)
from atoma_crypto.attestation._guard import guarded
from atoma_crypto.keyring import KeyOffer
from attestation_pki import gpu_maker, maker
from certificates import HOUR, NOW
from helpers import node_key

OFFER: Final = KeyOffer("v2", node_key().public_key, HOUR, NOW + HOUR)
TDX: Final = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der)
NVIDIA: Final = NvidiaGpuVerifier(7, root=gpu_maker().root.der)
SNP: Final = SnpVerifier(SnpPolicy.any_measurement(SnpTcb()), root=amd_maker().root)
REPORT: Final = Evidence("snp", chip().report(report_data(OFFER)), chip().collateral)
QUOTE: Final = maker().quote(report_data(OFFER))
COLLATERAL: Final = maker().collateral()
ENTRY: Final = gpu_maker().device(nvidia_nonce(bytes(OFFER.public_key), contract_nonce=7))
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("aA0=%", max_size=20) | st.sampled_from(list(ENTRY.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*ENTRY, "kind", "data", "collateral", "parts"]), inner, max_size=4)
    ),
    max_leaves=12,
)


SOME: Final = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def judged(verifier: Verifier, evidence: Evidence) -> None:
    said = ""
    try:
        verifier.verify(evidence, OFFER, now=NOW)
    except ac.AttestationError as error:
        said = str(error)
    assert said.isprintable()


def cut_and_spliced(good: bytes) -> st.SearchStrategy[bytes]:
    """Good bytes with a stretch of them replaced."""
    at = st.integers(0, len(good))
    return st.builds(lambda a, b, new: good[: min(a, b)] + new + good[max(a, b) :], at, at, st.binary(max_size=80))


@SOME
@given(st.binary(max_size=2000) | cut_and_spliced(QUOTE), st.binary(max_size=300) | cut_and_spliced(COLLATERAL))
def test_tdx(quote: bytes, collateral: bytes) -> None:
    judged(TDX, Evidence("tdx", quote, collateral))
    judged(TDX, Evidence("tdx", QUOTE, collateral))
    judged(TDX, Evidence("tdx", quote, COLLATERAL))


@SOME
@given(st.dictionaries(st.sampled_from(sorted(json.loads(COLLATERAL))), JSON, max_size=3))
def test_tdx_collateral_of_other_types(changes: dict[str, Any]) -> None:
    judged(TDX, Evidence("tdx", QUOTE, json.dumps(json.loads(COLLATERAL) | changes).encode()))


@SOME
@given(cut_and_spliced(REPORT.data), cut_and_spliced(REPORT.collateral), cut_and_spliced(chip().vcek))
def test_snp(report: bytes, collateral: bytes, vcek: bytes) -> None:
    judged(SNP, Evidence("snp", report, REPORT.collateral))
    judged(SNP, Evidence("snp", REPORT.data, collateral))
    judged(SNP, Evidence("snp", REPORT.data, b"".join(map(pem, (vcek, *chip().above)))))


@SOME
@given(st.binary(max_size=2000), cut_and_spliced(chip().table))
def test_snp_tables(data: bytes, table: bytes) -> None:
    for collateral in (data, table):
        judged(SNP, Evidence("snp", REPORT.data, collateral))


@SOME
@given(st.binary(max_size=2000))
def test_nvidia(data: bytes) -> None:
    judged(NVIDIA, Evidence("nvidia", data))
    judged(NVIDIA, Evidence("nvidia", zlib.compress(data)))


@SOME
@given(JSON)
def test_nvidia_lists(value: object) -> None:
    for one in (value, [value], [ENTRY | (value if isinstance(value, dict) else {})]):
        judged(NVIDIA, Evidence("nvidia", zlib.compress(json.dumps(one).encode())))


@SOME
@given(cut_and_spliced(base64.b64decode(ENTRY["evidence"])), cut_and_spliced(base64.b64decode(ENTRY["certificate"])))
def test_nvidia_reports_and_certificates(report: bytes, pem: bytes) -> None:
    for changes in ({"evidence": report}, {"certificate": pem}, {"evidence": report, "certificate": pem}):
        entry = ENTRY | {name: base64.b64encode(data).decode() for name, data in changes.items()}
        judged(NVIDIA, Evidence("nvidia", zlib.compress(json.dumps([entry]).encode())))


@SOME
@given(JSON)
def test_evidence_in_json(value: Any) -> None:
    try:
        evidence_from_json(value)
    except ac.AttestationError:
        return


# ---- the libraries ----------------------------------------------------------------------------------------------

Panic: Final = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})  # as PyO3 makes it


@pytest.mark.parametrize(
    "error", [ValueError("no"), OverflowError("no"), KeyError("no"), RecursionError(), MemoryError(), Panic("no")]
)
def test_whatever_a_library_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __getattr__(self, name: str) -> Any:
            raise error

    verifier = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der)
    monkeypatch.setattr(verifier, "_library", Library())
    with pytest.raises(ac.AttestationError, match="TDX quote") as caught:
        verifier.verify(Evidence("tdx", QUOTE, COLLATERAL), OFFER, now=NOW)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


class Lenient:
    """The library as it might become: it says yes to everything that it was not told to refuse."""

    def __init__(self, **claims: Any) -> None:
        verifier = dcap_qvl.QuoteVerifier(maker().root.der)
        policy = dcap_qvl.QuotePolicy.claims_only(NOW)
        collateral = dcap_qvl.QuoteCollateralV3.from_json(COLLATERAL.decode())
        self._claims = json.loads(verifier.verify_with_policy(QUOTE, collateral, NOW, policy).to_json()) | claims

    def __getattr__(self, name: str) -> Any:
        return getattr(dcap_qvl, name)

    def QuoteVerifier(self, _: bytes) -> Lenient:  # noqa: N802 - the library's name
        return self

    def verify_with_policy(self, *_: Any) -> Lenient:
        return self

    def to_json(self) -> str:
        return json.dumps(self._claims)


def test_a_library_that_lets_more_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der)
    for claims, quote, match in (
        ({}, maker().quote(report_data(OFFER), debug=True), "debug mode"),
        ({"claims_version": 2}, QUOTE, "another kind"),
        ({"tee_type": 0}, QUOTE, "another kind"),
        ({"tcb": {}}, QUOTE, "does not verify"),
        ({"platform": None}, QUOTE, "does not verify"),
    ):
        monkeypatch.setattr(verifier, "_library", Lenient(**claims))
        with pytest.raises(ac.AttestationError, match=match):
            verifier.verify(Evidence("tdx", quote, COLLATERAL), OFFER, now=NOW)
    monkeypatch.setattr(verifier, "_library", Lenient())
    verifier.verify(Evidence("tdx", QUOTE, COLLATERAL), OFFER, now=NOW)


def test_whatever_fetching_raises() -> None:
    def fetch(_: bytes) -> bytes:
        raise ConnectionError("no way\n" + "x" * 1000)

    verifier = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der, fetch_collateral=fetch)
    with pytest.raises(ac.AttestationError, match="could not be fetched: no wayx") as caught:
        verifier.verify(Evidence("tdx", QUOTE), OFFER, now=NOW)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_not_the_librarys(error: type[BaseException]) -> None:
    def call() -> None:
        raise error

    with pytest.raises(error):
        guarded("nothing", call)


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    return ran.stdout + ran.stderr


def test_extras_are_imported_when_they_are_used() -> None:
    extras = ("dcap_qvl", "cryptography", "blake3")
    code = "import sys, atoma_crypto.attestation.policy_file"
    code = f"{code}; print([name for name in {extras} if name in sys.modules])"
    assert run(code) == "[]\n"


@pytest.mark.parametrize(
    ("missing", "use", "extra"),
    [
        ("dcap_qvl", "a.TdxVerifier(a.TdxPolicy.any_measurement())", "tdx"),
        ("cryptography", "a.NvidiaGpuVerifier(1)", "nvidia"),
        ("blake3", "a.NvidiaGpuVerifier(1)", "nvidia"),
        ("cryptography", "a.SnpVerifier(a.SnpPolicy.any_measurement(a.SnpTcb()))", "snp"),
        ("blake3", "a.nvidia_nonce(bytes(32), contract_nonce=1)", "nvidia"),
    ],
)
def test_a_missing_extra_is_named(missing: str, use: str, extra: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nimport atoma_crypto.attestation as a\n{use}"
    last = run(code).strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert last.endswith(f"install atoma-crypto[{extra}]")
