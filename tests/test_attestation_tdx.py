"""TDX quotes of a maker of our own: what is accepted with its root, and each thing that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import dcap_qvl  # type: ignore[import-untyped]  # it has no py.typed
import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.attestation import AttestedKey, Evidence, TdxMeasurement, TdxPolicy, TdxVerifier, report_data
from atoma_crypto.keyring import KeyOffer
from attestation_pki import FMSPC, MR_TD, RT_MR, Maker, maker, tcb_level
from certificates import DAY, HOUR, NOW, iso, new_root
from helpers import node_key

CHALLENGE: Final = bytes(range(32))
POLICY: Final = TdxPolicy([TdxMeasurement(mr_td=MR_TD, rt_mr1=RT_MR[1].hex(), rt_mr2=RT_MR[2])])
FOREIGN: Final = TdxMeasurement(mr_td=bytes(48))


def offer(protocol: Protocol = "v2", *, not_after: int | None = NOW + HOUR) -> KeyOffer:
    return KeyOffer(protocol, node_key().public_key, HOUR, not_after)


def evidence(
    one: KeyOffer | None = None, challenge: bytes = CHALLENGE, *, collateral: bytes | None = None, **quote: Any
) -> Evidence:
    data = maker().quote(report_data(one or offer(), challenge), **quote)
    return Evidence("tdx", data, maker().collateral() if collateral is None else collateral)


def verify(
    shown: Evidence | None,
    one: KeyOffer | None = None,
    *,
    policy: TdxPolicy = POLICY,
    challenge: bytes = CHALLENGE,
    now: float = NOW,
    root: bytes | None = None,
    fetch: Callable[[bytes], bytes] | None = None,
) -> AttestedKey:
    verifier = TdxVerifier(policy, root=root or maker().root.der, fetch_collateral=fetch)
    return verifier.verify(shown, one or offer(), challenge=challenge, now=now)


def refused(match: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ac.AttestationError, match=match) as caught:
        verify(*arguments, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# ---- what is accepted -------------------------------------------------------------------------------------------


def test_a_good_quote() -> None:
    key = verify(evidence())
    assert key.public_key == node_key().public_key
    assert key.expires_at == NOW + HOUR
    claims = json.loads(json.dumps(dict(key.claims)))
    assert claims["tcb_status"] == "UpToDate"
    assert claims["advisories"] == []
    assert claims["fmspc"] == FMSPC.hex()
    assert claims["measurements"]["mr_td"] == MR_TD.hex()
    assert claims["measurements"]["rt_mr3"] == RT_MR[3].hex()
    assert (claims["measurements_checked"], claims["registers_checked"]) == (True, ["mr_td", "rt_mr1", "rt_mr2"])
    assert claims["fresh"] == "made for this challenge"
    assert claims["binding"] == "this key, its end, this challenge"
    assert claims["collateral_until"] == NOW + 29 * DAY


def test_a_key_of_v1() -> None:
    one = offer("v1", not_after=None)
    key = verify(evidence(one), one)
    assert key.expires_at == NOW + 29 * DAY  # a key of v1 has no end of its own
    unchallenged = verify(evidence(one, b""), one, challenge=b"")
    assert unchallenged.claims["fresh"] == "not known"
    assert unchallenged.claims["binding"] == "this key"


def test_tdx_15_in_a_quote_of_version_5() -> None:
    assert verify(evidence(version_15=True)).claims["measurements"] == verify(evidence()).claims["measurements"]


def test_no_challenge_and_a_near_end() -> None:
    key = verify(evidence(challenge=b""), challenge=b"")
    assert key.claims["fresh"] == "made for a key that ends within 24 hours"


def test_one_of_several_measurements() -> None:
    assert verify(evidence(), policy=TdxPolicy([FOREIGN, TdxMeasurement(MR_TD, RT_MR[0])])).expires_at == NOW + HOUR


def test_any_measurement_is_said_in_the_claims() -> None:
    claims = verify(evidence(), policy=TdxPolicy.any_measurement()).claims
    assert (claims["measurements_checked"], claims["registers_checked"]) == (False, [])


def test_collateral_is_fetched_where_there_is_none() -> None:
    asked: list[bytes] = []

    def fetch(quote: bytes) -> bytes:
        asked.append(quote)
        return maker().collateral()

    bare = evidence(collateral=b"")
    verify(bare, fetch=fetch)
    assert asked == [bare.data]
    verify(evidence(), fetch=fetch)
    assert asked == [bare.data]
    refused("no collateral", bare)


# ---- what is not ------------------------------------------------------------------------------------------------


def test_another_root() -> None:
    with pytest.raises(ac.AttestationError, match="does not verify"):
        TdxVerifier(POLICY).verify(evidence(), offer(), challenge=CHALLENGE, now=NOW)
    refused("does not verify", evidence(), root=Maker().root.der)
    refused("does not verify", evidence(), root=b"no certificate")


def test_measurements_of_another_machine() -> None:
    refused("measurements", evidence(), policy=TdxPolicy([FOREIGN]))
    refused("measurements", evidence(rt_mr=(RT_MR[0], RT_MR[2], RT_MR[1], RT_MR[3])))
    refused("measurements", evidence(mr_td=bytes(48)))


def test_no_mixing_of_two_measurements() -> None:
    """The firmware of one release with the kernel of another is neither."""
    releases = (TdxMeasurement(mr_td=MR_TD, rt_mr1=bytes(48)), TdxMeasurement(mr_td=bytes(48), rt_mr1=RT_MR[1]))
    refused("measurements", evidence(), policy=TdxPolicy(releases))


def test_debug() -> None:
    refused("ebug", evidence(debug=True))
    refused("does not verify", evidence(qe_debug=True))


def test_migration_by_another_machine() -> None:
    refused("does not verify", evidence(version_15=True, service_td=bytes([1] * 48)))


def test_another_key() -> None:
    other = offer()._replace(public_key=ac.SecretKey.generate().public_key)
    refused("not for this key", evidence(other))
    refused("not for this key", evidence(), other)


def test_another_end() -> None:
    refused("not for this key", evidence(), offer(not_after=NOW + HOUR + 1))


def test_another_protocol() -> None:
    refused("not for this key", evidence(offer("v1")), offer())
    refused("not for this key", evidence(), offer("v1"))


def test_missing_and_wrong_challenge() -> None:
    refused("does not answer the challenge", evidence(challenge=b""))
    refused("not for this key", evidence(challenge=bytes(32)))
    refused("not for this key", evidence(), challenge=b"")


def test_long_ends_need_a_challenge() -> None:
    one = offer(not_after=NOW + DAY + 1)
    assert verify(evidence(one), one).expires_at == NOW + DAY + 1
    refused("24 hours", evidence(one, b""), one, challenge=b"")
    assert verify(evidence(one, b""), one, challenge=b"", now=NOW + 1).expires_at == NOW + DAY + 1


def test_keys_that_are_over_or_have_no_end() -> None:
    assert verify(evidence(), now=NOW + HOUR).expires_at == NOW + HOUR
    refused("over", evidence(), now=NOW + HOUR + 1)
    for not_after in (None, -1, 1 << 53, 1 << 64):
        refused("does not say", evidence(), offer(not_after=not_after))


def test_expired_and_early() -> None:
    one = offer(not_after=NOW + 60 * DAY)
    shown = evidence(one)
    verify(shown, one, now=NOW + 29 * DAY - 1)
    refused("expired", shown, one, now=NOW + 29 * DAY)
    refused("does not verify: .*expired", shown, one, now=NOW + 29 * DAY + 1)
    refused("does not verify", shown, one, now=NOW - DAY - 1)
    refused("does not verify", evidence(collateral=maker().collateral(revocations_end=NOW - 1)))
    refused("does not verify", evidence(pck=maker().new_pck(ends=NOW - 1)))


def ending(what: str, ends: int) -> Evidence:
    """Evidence of which one piece ends then."""
    signer = (maker().root.issue("Test TCB Signing", ends=ends), maker().root)
    collateral = {
        "list": maker().collateral(revocations_end=ends),
        "tcb": maker().collateral(tcb_info=maker().tcb_info(nextUpdate=iso(ends))),
        "identity": maker().collateral(qe_identity=maker().qe_identity(nextUpdate=iso(ends))),
        "tcb signer": maker().collateral(tcb_signer=signer),
        "identity signer": maker().collateral(qe_signer=signer),
        "machine": maker().collateral(),
    }[what]
    pck = maker().new_pck(ends=ends) if what == "machine" else maker().pck
    one = offer(not_after=NOW + 60 * DAY)
    return evidence(one, collateral=collateral, pck=pck)


@pytest.mark.parametrize("what", ["list", "tcb", "identity", "tcb signer", "identity signer", "machine"])
def test_the_first_end_counts(what: str) -> None:
    one = offer(not_after=NOW + 60 * DAY)
    shown = ending(what, NOW + 5 * DAY)
    assert verify(shown, one).expires_at == NOW + 5 * DAY
    assert verify(shown, one, now=NOW + 5 * DAY - 1).expires_at == NOW + 5 * DAY
    for now in (NOW + 5 * DAY, NOW + 5 * DAY + 1):
        refused("expired|does not verify", shown, one, now=now)


def test_an_expired_root() -> None:
    """A root's own dates are not the library's business."""
    old = Maker(new_root("Old Root CA", ends=NOW - 1))
    shown = Evidence("tdx", old.quote(report_data(offer(), CHALLENGE)), old.collateral())
    refused("expired", shown, root=old.root.der)


def test_revoked() -> None:
    pck = maker().new_pck()
    verify(evidence(pck=pck))
    refused("does not verify", evidence(pck=pck, collateral=maker().collateral(revoked=[pck])))
    for one in (maker().platform_ca, maker().tcb_signer):
        refused("does not verify", evidence(collateral=maker().collateral(revoked_by_root=[one])))


def test_out_of_date() -> None:
    levels = [tcb_level("UpToDate", svn=6), tcb_level("OutOfDate", advisories=["INTEL-SA-00615"])]
    shown = evidence(collateral=maker().collateral(tcb_info=maker().tcb_info(tcbLevels=levels)))
    refused("OutOfDate", shown)
    policy = TdxPolicy(POLICY.measurements, statuses=["UpToDate", "OutOfDate"])
    refused("INTEL-SA-00615", shown, policy=policy)
    policy = TdxPolicy(POLICY.measurements, statuses=["OutOfDate"], advisories=["INTEL-SA-00615"])
    claims = verify(shown, policy=policy).claims
    assert (claims["tcb_status"], claims["advisories"]) == ("OutOfDate", ["INTEL-SA-00615"])
    refused("UpToDate", evidence(), policy=policy)  # what is accepted is what is named


def test_out_of_date_quoting_enclave() -> None:
    refused("does not verify", evidence(qe_svn=3))
    levels = [{"tcb": {"isvsvn": 4}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "OutOfDate"}]
    shown = evidence(collateral=maker().collateral(qe_identity=maker().qe_identity(tcbLevels=levels)))
    refused("OutOfDate", shown)


def test_revoked_by_its_status() -> None:
    levels = [tcb_level("Revoked")]
    shown = evidence(collateral=maker().collateral(tcb_info=maker().tcb_info(tcbLevels=levels)))
    refused("does not verify: .*Revoked", shown, policy=TdxPolicy.any_measurement())
    with pytest.raises(ValueError, match="statuses"):
        TdxPolicy.any_measurement(statuses=["Revoked"])


def test_older_evaluations() -> None:
    verify(evidence(), policy=TdxPolicy(POLICY.measurements, min_evaluation=17))
    refused("evaluation 17", evidence(), policy=TdxPolicy(POLICY.measurements, min_evaluation=18))


def test_swapped_collateral() -> None:
    """Of another platform, of SGX, of another maker; each piece of it alone."""
    refused("does not verify", evidence(pck=maker().new_pck(fmspc=b"other!")))
    for changes in ({"id": "SGX"}, {"version": 2}):
        refused("does not verify", evidence(collateral=maker().collateral(tcb_info=maker().tcb_info(**changes))))
    refused("does not verify", evidence(collateral=maker().collateral(qe_identity=maker().qe_identity(id="QE"))))
    ours, theirs = json.loads(maker().collateral()), json.loads(Maker().collateral())
    refused("does not verify", evidence(collateral=json.dumps(theirs).encode()))
    for name in set(ours) - {
        "pck_crl_issuer_chain",
        "tcb_info",
        "qe_identity",
    }:  # the first is not used; texts are alike
        refused("does not verify", evidence(collateral=json.dumps(ours | {name: theirs[name]}).encode()))


def test_collateral_signed_by_a_machine() -> None:
    """Who has got at the key of one machine, which is out of date, may not say what is up to date."""
    stolen = (maker().pck, maker().platform_ca, maker().root)
    for collateral in (maker().collateral(tcb_signer=stolen), maker().collateral(qe_signer=stolen)):
        library = dcap_qvl.QuoteVerifier(maker().root.der)  # by itself it takes this
        shown = evidence(collateral=collateral)
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
        library.verify_with_policy(shown.data, parsed, NOW, dcap_qvl.QuotePolicy.claims_only(NOW))
        refused("certificate of a machine", shown)


def test_not_tdx() -> None:
    quote = maker().sgx_quote(report_data(offer(), CHALLENGE))
    collateral = maker().collateral(tcb_info=maker().tcb_info(id="SGX"), qe_identity=maker().qe_identity(id="QE"))
    parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
    assert dcap_qvl.verify_with_root_ca(quote, parsed, maker().root.der, NOW).status == "UpToDate"
    refused("not one of TDX", Evidence("tdx", quote, collateral))
    refused("not one of TDX", Evidence("tdx", quote, maker().collateral()))
    refused("malformed", Evidence("tdx", b"", maker().collateral()))
    for shown in (None, Evidence("sgx", evidence().data), Evidence("nvidia", b"")):
        refused("of kind 'tdx' is needed", shown)


def test_two_quotes_are_no_choice() -> None:
    refused("one piece", Evidence.together(evidence(), evidence()))
    assert verify(Evidence.together(Evidence("other", b""), evidence())).public_key == node_key().public_key


def test_sizes() -> None:
    refused("longer", Evidence("tdx", bytes(65537), b"{}"))
    refused("longer", Evidence("tdx", evidence().data, b" " * (1 << 20) + b"{}"))
    for collateral in (b"{}", b"[]", b"\xff", b"{" * 1000, b"null"):
        refused("malformed", Evidence("tdx", evidence().data, collateral))
