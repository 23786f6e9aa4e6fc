"""Policies made of policies, evidence of several kinds, and evidence in JSON."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._offers import read_offers, write_offer
from atoma_crypto._typing import Suite
from atoma_crypto.attestation import (
    AllOf,
    AnyOf,
    AttestedKey,
    Evidence,
    NvidiaGpuVerifier,
    PinnedKeys,
    TdxMeasurement,
    TdxPolicy,
    TdxVerifier,
    Verifier,
    evidence_from_json,
    evidence_to_json,
    nvidia_nonce,
    report_data,
)
from atoma_crypto.keyring import KeyOffer
from attestation_pki import MR_TD, gpu_maker, maker
from certificates import HOUR, NOW
from helpers import node_key

KEY: Final = node_key().public_key
OFFER: Final = KeyOffer("v2", KEY, HOUR, NOW + HOUR)
OTHER: Final = ac.SecretKey.generate().public_key
CHALLENGE: Final = bytes(range(32))


class Says:
    """A verifier that has made up its mind."""

    def __init__(self, name: str, expires_at: float = math.inf, *, key: ac.PublicKey = KEY, no: bool = False) -> None:
        self.name, self.expires_at, self.key, self.no = name, expires_at, key, no
        self.asked: list[tuple[Any, ...]] = []

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        self.asked.append((evidence, offer, challenge, now))
        if self.no:
            raise ac.AttestationError(f"{self.name} says no")
        return AttestedKey(self.key, {"policy": self.name}, self.expires_at)


def ask(verifier: Verifier, offer: KeyOffer = OFFER) -> AttestedKey:
    return verifier.verify(None, offer, challenge=CHALLENGE, now=NOW)


def test_all_of() -> None:
    evidence = Evidence("x", b"y")
    parts = (Says("a", 30.0), Says("b", 20.0), Says("c"))
    key = AllOf(*parts).verify(evidence, OFFER, challenge=CHALLENGE, now=NOW)
    assert (key.public_key, key.expires_at) == (KEY, 20.0)
    assert json.loads(json.dumps(dict(key.claims))) == {
        "policy": "all of",
        "parts": [{"policy": "a"}, {"policy": "b"}, {"policy": "c"}],
    }
    assert all(part.asked == [(evidence, OFFER, CHALLENGE, NOW)] for part in parts)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_all_of_needs_all(who: int) -> None:
    with pytest.raises(ac.AttestationError, match=f"^{who} says no$"):
        ask(AllOf(*(Says(str(i), no=i == who) for i in range(3))))
    with pytest.raises(ac.AttestationError, match="another key"):
        ask(AllOf(*(Says(str(i), key=OTHER if i == who else KEY) for i in range(3))))


def test_any_of_takes_the_first() -> None:
    last = Says("c", 3.0)
    key = ask(AnyOf(Says("a", 1.0, no=True), Says("b", 2.0), last))
    assert (key.expires_at, dict(key.claims), last.asked) == (2.0, {"policy": "b"}, [])


def test_any_of_says_why_each_did_not() -> None:
    with pytest.raises(ac.AttestationError) as caught:
        ask(AnyOf(Says("a", no=True), PinnedKeys(OTHER), Says("b", no=True)))
    said = str(caught.value)
    assert "Says: a says no" in said
    assert "PinnedKeys: the key" in said
    assert "Says: b says no" in said


def test_other_errors_are_not_a_refusal() -> None:
    """A bug in one policy is no reason to ask the next."""

    class Broken(Says):
        def verify(self, *_: Any, **__: Any) -> AttestedKey:
            raise RuntimeError("broken")

    for made in (AnyOf, AllOf):
        with pytest.raises(RuntimeError, match="broken"):
            ask(made(Broken("x"), Says("a")))
        with pytest.raises(ValueError, match="one"):
            made()


def both(challenge: bytes = CHALLENGE, **quote: Any) -> Evidence:
    tdx = Evidence("tdx", maker().quote(report_data(OFFER, challenge), **quote), maker().collateral())
    gpus = [gpu_maker().device(nvidia_nonce(bytes(KEY), contract_nonce=7))]
    return Evidence.together(tdx, Evidence("nvidia", zlib.compress(json.dumps(gpus).encode())))


def test_a_cpu_and_gpus_at_once() -> None:
    tdx = TdxVerifier(TdxPolicy([TdxMeasurement(mr_td=MR_TD)]), root=maker().root.der)
    nvidia = NvidiaGpuVerifier(7, root=gpu_maker().root.der)
    key = AllOf(tdx, nvidia).verify(both(), OFFER, challenge=CHALLENGE, now=NOW)
    policies = [part["policy"] for part in json.loads(json.dumps(dict(key.claims)))["parts"]]
    assert (policies, key.expires_at) == (["tdx", "nvidia"], NOW + HOUR)
    with pytest.raises(ac.AttestationError, match="measurements"):
        AllOf(tdx, nvidia).verify(both(mr_td=bytes(48)), OFFER, challenge=CHALLENGE, now=NOW)
    with pytest.raises(ac.AttestationError, match="of kind 'nvidia' is needed; given: 'tdx'"):
        AllOf(tdx, nvidia).verify(both().parts[0], OFFER, challenge=CHALLENGE, now=NOW)
    assert AnyOf(nvidia, tdx).verify(both().parts[0], OFFER, challenge=CHALLENGE, now=NOW).claims["policy"] == "tdx"


def test_a_time_or_a_challenge_that_is_none() -> None:
    verifiers: tuple[Verifier, ...] = (
        TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der),
        NvidiaGpuVerifier(7, root=gpu_maker().root.der),
    )
    for verifier in verifiers:
        for now in (-1.0, math.nan, math.inf, 1e12):
            with pytest.raises(ValueError, match="now"):
                verifier.verify(both(), OFFER, challenge=CHALLENGE, now=now)
        with pytest.raises(ValueError, match="32 bytes"):
            verifier.verify(both(), OFFER, challenge=b"x", now=NOW)


def test_policies_that_make_no_sense() -> None:
    for make in (
        lambda: TdxPolicy([]),
        TdxMeasurement,
        lambda: TdxMeasurement(mr_td=bytes(47)),
        lambda: TdxMeasurement(mr_owner=bytes(48)),  # the host chooses it
        lambda: TdxMeasurement(rt_mr1=bytes(48), rt_mr2=bytes(48)),  # any firmware can extend them so
        lambda: TdxMeasurement(rt_mr0="xy" * 48),
        lambda: TdxMeasurement(rt_mr0="ab" * 47),
        lambda: TdxPolicy.any_measurement(statuses=[]),
        lambda: TdxPolicy.any_measurement(statuses=["uptodate"]),
    ):
        with pytest.raises(ValueError, match=r"measurement|mr|statuses"):
            make()
    for wrong in (
        lambda: TdxPolicy([MR_TD]),  # type: ignore[list-item]  # that is what is tested
        lambda: TdxPolicy.any_measurement(statuses="UpToDate"),
        lambda: TdxPolicy.any_measurement(advisories="INTEL-SA-00615"),
        lambda: TdxVerifier(None),  # type: ignore[arg-type]  # the same
    ):
        with pytest.raises(TypeError, match=r"must|lists"):
            wrong()


# ---- in JSON ----------------------------------------------------------------------------------------------------


def test_evidence_in_json() -> None:
    for one in (Evidence("tdx", b"\x00quote", b"{}"), Evidence("nvidia", b""), both()):
        value = json.loads(json.dumps(evidence_to_json(one)))
        assert evidence_from_json(value) == one
    assert evidence_to_json(Evidence("tdx", b"\xff")) == {"kind": "tdx", "data": "/w=="}
    assert evidence_from_json(None) is None
    assert evidence_from_json({"kind": "tdx", "data": "", "later": 1}) == Evidence("tdx", b"")


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "tdx",
        {"kind": "tdx"},
        {"kind": 1, "data": ""},
        {"kind": "", "data": ""},
        {"kind": "k" * 33, "data": ""},
        {"kind": "several", "data": ""},
        {"kind": "tdx", "data": None},
        {"kind": "tdx", "data": "%"},
        {"kind": "tdx", "data": "AA"},
        {"kind": "tdx", "data": "é"},
        {"kind": "tdx", "data": "", "collateral": None},
        {"kind": "tdx", "data": base64.b64encode(bytes(1 << 22)).decode()},
        {"kind": "tdx", "parts": [{"kind": "tdx", "data": ""}]},
        {"kind": "several", "parts": []},
        {"kind": "several", "parts": {}},
        {"kind": "several", "parts": [1]},
        {"kind": "several", "parts": [{"kind": "tdx", "data": ""}] * 9},
        {"kind": "several", "parts": [{"kind": "several", "parts": [{"kind": "tdx", "data": ""}]}]},
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_is_no_evidence(value: Any) -> None:
    with pytest.raises(ac.AttestationError, match="evidence"):
        evidence_from_json(value)


# ---- the docs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_from_a_keyring_to_a_client(suite: Suite) -> None:
    """A node's offer with its evidence, over JSON, checked by the docs' client."""
    page = (Path(__file__).parent.parent / "docs" / "attestation.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "attestation.md", "exec"), names)  # noqa: S102 - that is the test
    registers = names["policy"].measurements[0].registers()

    class Machine:
        def evidence(self, binding: bytes) -> Evidence:
            rt_mr = (bytes(48), registers["rt_mr1"], registers["rt_mr2"], bytes(48))
            quote = maker().quote(binding, mr_td=registers["mr_td"], rt_mr=rt_mr)
            return Evidence("tdx", quote, maker().collateral())

    keys = ac.NodeKeyring(suites=(suite,), wall_clock=lambda: NOW)
    challenge = bytes(range(32))
    offers = [
        offer._replace(evidence=evidence_to_json(Machine().evidence(report_data(offer, challenge))))
        for offer in keys.offers()
        if offer.protocol == "v2"
    ]
    (offer,) = read_offers(json.loads(json.dumps([write_offer(one) for one in offers])))
    names["verifier"] = TdxVerifier(names["policy"], root=maker().root.der)
    names["time"] = SimpleNamespace(time=lambda: NOW)
    assert names["accepted"](offer, challenge) == offer.public_key
    with pytest.raises(ac.AttestationError, match="not for this key"):
        names["accepted"](offer._replace(not_after=NOW), challenge)
    with pytest.raises(ac.AttestationError, match="not for this key"):
        names["accepted"](offer._replace(public_key=KEY), challenge)
