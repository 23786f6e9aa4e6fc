"""Policies out of TOML files: what they accept, and that nothing in them is passed over."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Final

import pytest

import atoma_crypto as ac
from amd_pki import MEASUREMENT, amd_maker, chip
from atoma_crypto.attestation import AllOf, AnyOf, Evidence, PinnedKeys, TdxVerifier, nvidia_nonce, report_data
from atoma_crypto.attestation.policy_file import PolicyFileError, load_policy
from atoma_crypto.keyring import KeyOffer
from attestation_pki import MR_TD, RT_MR, gpu_maker, maker
from certificates import HOUR, NOW
from helpers import node_key

KEY: Final = node_key().public_key
OFFER: Final = KeyOffer("v2", KEY, HOUR, NOW + HOUR)
TDX: Final = f"""
[tdx]
root = "root.der"
[[tdx.measurements]]
mr_td = "{MR_TD.hex()}"
rt_mr1 = "{RT_MR[1].hex().upper()}"
[[tdx.measurements]]
mr_td = "{"00" * 48}"
rt_mr2 = "{"00" * 48}"
"""
NVIDIA: Final = """
[nvidia]
contract_nonce = "18446744073709551615"
root = "gpu.der"
"""
PINNED: Final = f"""
[[pinned.keys]]
public_key = "{KEY.to_base64()}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "root.der").write_bytes(maker().root.der)
    (tmp_path / "gpu.der").write_bytes(gpu_maker().root.der)
    return tmp_path / "policy.toml"


def evidence(**quote: object) -> Evidence:
    tdx = Evidence("tdx", maker().quote(report_data(OFFER), **quote), maker().collateral())  # type: ignore[arg-type]  # a test's
    gpus = [gpu_maker().device(nvidia_nonce(bytes(KEY), contract_nonce=2**64 - 1))]
    return Evidence.together(tdx, Evidence("nvidia", zlib.compress(json.dumps(gpus).encode())))


def test_a_table_is_its_verifier(file: Path) -> None:
    file.write_text(TDX)
    verifier = load_policy(file)
    assert isinstance(verifier, TdxVerifier)
    claims = verifier.verify(evidence(), OFFER, now=NOW).claims
    assert claims["measurements_checked"] is True
    with pytest.raises(ac.AttestationError, match="measurements"):
        verifier.verify(evidence(mr_td=bytes(48)), OFFER, now=NOW)
    file.write_text(PINNED)
    assert isinstance(load_policy(str(file)), PinnedKeys)


def test_all_and_any(file: Path) -> None:
    file.write_text('require = "all"\n' + TDX + NVIDIA + PINNED)
    verifier = load_policy(file)
    assert isinstance(verifier, AllOf)
    verifier.verify(evidence(), OFFER, now=NOW)
    with pytest.raises(ac.AttestationError):
        verifier.verify(None, OFFER, now=NOW)
    file.write_text('require = "any"\n' + TDX + NVIDIA + PINNED)
    verifier = load_policy(file)
    assert isinstance(verifier, AnyOf)
    assert verifier.verify(None, OFFER, now=NOW).claims["policy"] == "pinned"


def test_statuses_advisories_and_evaluation(file: Path) -> None:
    file.write_text('[tdx]\nany_measurement = true\nroot = "root.der"\nstatuses = ["OutOfDate"]\n')
    with pytest.raises(ac.AttestationError, match="UpToDate"):
        load_policy(file).verify(evidence(), OFFER, now=NOW)
    file.write_text(
        '[tdx]\nany_measurement = true\nroot = "root.der"\nadvisories = ["INTEL-SA-1"]\nmin_evaluation = 18\n'
    )
    with pytest.raises(ac.AttestationError, match="evaluation"):
        load_policy(file).verify(evidence(), OFFER, now=NOW)


def test_collateral_is_fetched_by_the_function_that_is_given(file: Path) -> None:
    file.write_text(TDX)
    bare = Evidence("tdx", evidence().parts[0].data)
    with pytest.raises(ac.AttestationError, match="no collateral"):
        load_policy(file).verify(bare, OFFER, now=NOW)
    load_policy(file, fetch_collateral=lambda _: maker().collateral()).verify(bare, OFFER, now=NOW)


def test_snp(file: Path) -> None:
    (file.parent / "amd.der").write_bytes(amd_maker().root)
    shown = Evidence("snp", chip().report(report_data(OFFER)), chip().collateral)
    begin = '[snp]\nroot = "amd.der"\nmin_tcb = {bootloader = 3, snp = %d}\n'
    guest = f'[[snp.measurements]]\nmeasurement = "{MEASUREMENT.hex()}"\n'
    file.write_text(begin % 8 + guest)
    load_policy(file).verify(shown, OFFER, now=NOW)
    file.write_text(begin % 8 + "any_measurement = true\nmax_vmpl = 1\n")
    load_policy(file).verify(
        Evidence("snp", chip().report(report_data(OFFER), vmpl=1), shown.collateral), OFFER, now=NOW
    )
    for text, match in (
        (begin % 9 + guest, "snp"),
        (begin % 8 + guest + f'host_data = "{"00" * 32}"\n', "measurement"),
    ):
        file.write_text(text)
        with pytest.raises(ac.AttestationError, match=match):
            load_policy(file).verify(shown, OFFER, now=NOW)


def test_pins_of_both_suites(file: Path) -> None:
    wide = ac.SecretKey.generate("X-Wing").public_key
    file.write_text(PINNED + f'[[pinned.keys]]\nsuite = "X-Wing"\npublic_key = "{wide.to_base64()}"\n')
    for key in (KEY, wide):
        load_policy(file).verify(None, OFFER._replace(public_key=key), now=NOW)


REFUSED: Final = {
    "": "tables",
    "require = 1": "require",
    'require = "none"': "require",
    'require = "all"': "tables",
    "tdx = 1": "dict|table",
    "[tdx]": "measurement",
    "[tdx]\nany_measurement = 1": "bool",
    "[tdx]\nany_measurement = false": "measurement",
    '[tdx]\nany_measurement = true\nstatuses = "UpToDate"': "list",
    "[tdx]\nany_measurement = true\nstatuses = [1]": "strings",
    '[tdx]\nany_measurement = true\nstatuses = ["Revoked"]': "statuses",
    '[tdx]\nany_measurement = true\nmin_evaluation = "1"': "int",
    '[tdx]\nany_measurement = true\nmr_td = "00"': r"unknown: tdx\.mr_td",
    "[tdx]\nany_measurement = true\nmin_evaluation = true": "int",
    TDX.replace("rt_mr1", "rt_mr4"): r"unknown: tdx\.measurements\[0\]\.rt_mr4",
    TDX.replace('rt_mr2 = "00', 'rt_mr2 = "'): "rt_mr2",
    TDX.replace('root = "root.der"', "any_measurement = true"): "not both",
    "[tdx]\nmeasurements = [1]": "table",
    '[tdx]\n[[tdx.measurements]]\nrt_mr1 = "' + "00" * 48 + '"': "names mr_td",
    '[snp]\nmin_tcb = {}\nany_measurement = true\n[[snp.measurements]]\nmeasurement = "' + "00" * 48 + '"': "not both",
    TDX + NVIDIA: "require",
    "[snp]\nany_measurement = true": r"snp\.min_tcb",
    "[snp]\nmin_tcb = {}": "measurement",
    "[snp]\nany_measurement = true\nmin_tcb = {ucode = 1}": r"unknown: snp\.min_tcb\.ucode",
    "[snp]\nany_measurement = true\nmin_tcb = {}\nmax_vmpl = 4": "max_vmpl",
    "[snp]\nmin_tcb = {}\n[[snp.measurements]]": "measurement",
    '[snp]\nmin_tcb = {}\n[[snp.measurements]]\nmeasurement = "00"\nx = 1': "measurement",
    "[nvidia]": "contract_nonce",
    "[nvidia]\ncontract_nonce = 1": "str",
    '[nvidia]\ncontract_nonce = "-1"': "contract_nonce",
    '[nvidia]\ncontract_nonce = "18446744073709551616"': "64 bits",
    f'[nvidia]\ncontract_nonce = "{"9" * 5000}"': "integer",
    '[nvidia]\ncontract_nonce = "1"\ndevice_slot = 65536': "16",
    '[nvidia]\ncontract_nonce = "1"\nroot = "policy.toml"': "root",
    "[pinned]": "PublicKey",
    "[[pinned.keys]]": "public_key",
    '[[pinned.keys]]\npublic_key = "AAAA"': "32 bytes",
    '[[pinned.keys]]\npublic_key = "AAAA"\nsuite = "P-256"': "suite",
    PINNED + 'key = ""': "unknown",
    PINNED + "[other]": "unknown: other",
    "unverified = true": "unknown: unverified",
    "x = ": "TOML",
    "x = \x00": "TOML",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_makes_no_sense(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(PolicyFileError, match=REFUSED[text]) as caught:
        load_policy(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_files_that_are_not_there(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_policy(file)
    file.write_text('[tdx]\nany_measurement = true\nroot = "none.der"')
    with pytest.raises(FileNotFoundError):
        load_policy(file)
    file.write_bytes(b"\xff")
    with pytest.raises(PolicyFileError, match="TOML"):
        load_policy(file)


def test_the_docs_own_files(file: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "attestation.md").read_text(encoding="utf-8")
    kinds = (AllOf, AnyOf)
    for text, kind in zip(re.findall(r"```toml\n(.*?)```", page, re.DOTALL), kinds, strict=True):
        file.write_text(text)
        assert isinstance(load_policy(file), kind)
