"""Which key a client of protocol v2 seals to: suites, verdicts that are kept and end, and policies that fail."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto import _xwing
from atoma_crypto.adapters import _trust
from atoma_crypto.adapters._terms import Origin, Terms
from atoma_crypto.adapters._trust import Trust
from atoma_crypto.attestation import AttestedKey, PinnedKeys
from serving import Clock

KEY, OTHER = (ac.SecretKey.generate().public_key for _ in range(2))
X_WING = ac.SecretKey.generate("X-Wing").public_key


def offer(key: ac.PublicKey = KEY, not_after: int | None = 1000) -> ac.KeyOffer:
    return ac.KeyOffer("v2", key, inf, not_after)


class Policy:
    """Gives verdicts that last so many seconds, and counts how often it was asked."""

    def __init__(self, lasting: float = 100, **instead: Any) -> None:
        self.lasting, self.instead = lasting, instead
        self.asked: list[tuple[ac.KeyOffer, float]] = []

    def verify(self, evidence: object, offer: ac.KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        assert (evidence, challenge) == (None, b"")
        self.asked.append((offer, now))
        if "error" in self.instead:
            raise self.instead["error"]
        verdict = AttestedKey(self.instead.get("key", offer.public_key), {"n": len(self.asked)}, now + self.lasting)
        given: AttestedKey = self.instead.get("verdict", verdict)
        return given


def trusting(policy: Any = None, suites: Any = ("X25519",)) -> tuple[Trust, Policy, Clock]:
    policy, clock = policy or Policy(), Clock()
    return Trust(policy, suites, clock=clock), policy, clock


def test_the_first_suite_that_there_is_an_offer_of() -> None:
    offers = (offer(X_WING), offer(KEY, 10), offer(OTHER, 20))
    for suites, key in (
        (("X25519",), OTHER),
        (("X-Wing",), X_WING),
        (("X-Wing", "X25519"), X_WING),
        (("X25519", "X-Wing"), OTHER),
    ):
        assert trusting(suites=suites)[0].choose(offers).public_key == key
    assert trusting(suites=("X-Wing", "X25519"))[0].choose(offers[1:]).public_key == OTHER


def test_what_is_not_accepted_is_not_chosen() -> None:
    for offers in ((), (offer(X_WING),), (ac.KeyOffer("v1", KEY, inf),)):
        with pytest.raises(ac.EnvelopeError, match="X25519"):
            trusting()[0].choose(offers)


def test_a_verdict_is_kept_until_it_ends() -> None:
    trust, policy, clock = trusting(Policy(lasting=100))
    assert not trust.knows(offer())
    for now, asked in ((0, 1), (50, 1), (99.9, 1), (100, 2), (150, 2), (200, 3)):
        clock.now = now
        assert trust.accept(offer()).claims == {"n": asked}
        assert trust.knows(offer())
        assert len(policy.asked) == asked
    assert [now for _, now in policy.asked] == [0, 100, 200]
    assert not trust.knows(offer(OTHER))
    assert not trust.knows(offer(not_after=1001))
    clock.now = -1000  # a clock that is set back is no reason to ask again: the verdict says when it ends
    assert trust.accept(offer()).claims == {"n": 3}


def test_it_is_kept_for_the_whole_key_and_its_end() -> None:
    trust, policy, _ = trusting()
    for one in (offer(), offer(OTHER), offer(not_after=2000), offer(not_after=2000), offer()):
        trust.accept(one)
    assert [asked.not_after for asked, _ in policy.asked] == [1000, 1000, 2000, 1000]


def test_nothing_is_sealed_after_the_end() -> None:
    trust, _, clock = trusting(PinnedKeys(KEY))
    clock.now = 1000
    assert trust.accept(offer()).claims == {"policy": "pinned"}
    for now in (1000.1, 1001, inf, nan):
        clock.now = now
        with pytest.raises(ac.AttestationError, match="out of date"):
            trust.accept(offer())
    clock.now = 5
    assert trust.accept(offer())


def test_a_policy_that_takes_its_time() -> None:
    """What was in date when it was asked may not be when it has answered."""
    clock = Clock()

    class Slow(Policy):
        def verify(self, *args: Any, **more: Any) -> AttestedKey:
            clock.now += 50
            return super().verify(*args, **more)

    with pytest.raises(ac.AttestationError):
        Trust(Slow(), ("X25519",), clock=clock).accept(offer(not_after=49))
    clock.now = 0
    with pytest.raises(ac.AttestationError):
        Trust(Slow(lasting=50), ("X25519",), clock=clock).accept(offer())


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (Policy(error=ac.AttestationError("no")), ac.AttestationError),
        (Policy(error=RuntimeError("no network")), RuntimeError),
        (Policy(verdict=None), TypeError),
        (Policy(verdict=True), TypeError),
        (Policy(key=OTHER), ac.AttestationError),
        (Policy(lasting=0), ac.AttestationError),
        (Policy(lasting=nan), ac.AttestationError),
    ],
)
def test_a_policy_that_does_not_accept_is_asked_again(policy: Policy, error: type[Exception]) -> None:
    trust, _, _ = trusting(policy)
    for times in (1, 2):
        with pytest.raises(error):
            trust.accept(offer())
        assert len(policy.asked) == times
        assert not trust.knows(offer())


def test_verdicts_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trust, "_MAX_VERDICTS", 3)
    trust, policy, _ = trusting()
    keys = [ac.SecretKey.generate().public_key for _ in range(4)]
    for key in (*keys[:3], keys[0], keys[3]):  # the oldest goes, though it was used last
        trust.accept(offer(key))
    assert [trust.knows(offer(key)) for key in keys] == [False, True, True, True]
    trust.accept(offer(keys[0]))
    assert len(policy.asked) == 5


def test_threads_share_it() -> None:
    trust, policy, _ = trusting()
    keys = [ac.SecretKey.generate().public_key for _ in range(8)]
    start = threading.Barrier(8)

    def run(number: int) -> list[ac.PublicKey]:
        start.wait()
        return [trust.accept(offer(keys[(number + turn) % 8])).public_key for turn in range(200)]

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(run, range(8))):
            assert found == [keys[(number + turn) % 8] for turn in range(200)]
    assert len(policy.asked) <= 64
    assert all(trust.knows(offer(key)) for key in keys)


def test_terms_say_what_is_missing() -> None:
    assert Terms().trust is None
    with pytest.raises(TypeError, match="verify="):
        Terms(protocol="v2")
    assert Terms(verify=PinnedKeys(KEY)).trust is not None  # v1 may be told to look
    with pytest.raises(TypeError, match="protocol v2's"):
        Terms(suites=("X-Wing",))
    with pytest.raises(ValueError, match="protocol must be"):
        Terms(protocol="v3")  # type: ignore[arg-type] # the case


@pytest.mark.parametrize("suites", [("X-Wing",), ("X-Wing", "X25519"), ("X25519", "X-Wing")])
def test_a_suite_that_cannot_be_used_here_is_told_at_once(suites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(_xwing, "_mlkem", missing)
    with pytest.raises(ImportError):
        Terms(protocol="v2", verify=PinnedKeys(KEY), suites=suites)
    assert Terms(protocol="v2", verify=PinnedKeys(KEY)).trust is not None


def test_what_a_response_says_is_not_the_verdict_that_is_kept() -> None:
    verdict = AttestedKey(KEY, {"measurements": {"mr_td": "aa"}, "advisories": []}, inf)
    first = Origin(True, "v2", KEY, verdict.claims, inf)
    told: Any = first.claims
    told["measurements"]["mr_td"] = "bb"
    told["advisories"].append("none")
    assert verdict.claims == {"measurements": {"mr_td": "aa"}, "advisories": []}
    assert Origin(True, "v2", KEY, verdict.claims, inf).claims == verdict.claims
