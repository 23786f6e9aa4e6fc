"""A router that has an attested machine of its own, with other measurements: no client seals anything for it.

Whatever it does to keys and evidence, all that any server is ever sent is requests for locks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.attestation import AllOf, AnyOf, Evidence, PinnedKeys, Verifier, evidence_from_json, evidence_to_json
from atoma_crypto.sdk import APIError
from attested_node import OTHER_MR_TD, Attested, at_now, challenge_in, tdx, verifier
from certificates import DAY, NOW
from confidential_node import chat, openai_client, running
from gateways import body, gateway
from middle import Attack, Middle, Passed
from sdk_nodes import sdk_for
from serving import CANARY, Clock, error_of, serving

each_protocol = pytest.mark.parametrize("protocol", ["v1", "v2"])
MESSAGES: Any = [{"role": "user", "content": CANARY}]


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return at_now(monkeypatch)


@dataclass
class Stage:
    """The node, the router before it, and the machine that the router has."""

    node: Attested
    thief: Attested
    middle: Middle

    @property
    def protocol(self) -> Protocol:
        return "v2" if self.node.v2 else "v1"

    def nothing_was_sealed(self, locks: int) -> None:
        assert self.middle.paths == ["/v1/nodes/lock"] * locks
        assert self.node.seen == self.thief.seen == []
        assert CANARY.encode() not in self.middle.saw


@contextmanager
def stage(protocol: Protocol, clock: Clock, **more: Any) -> Iterator[Stage]:
    node = Attested(v2=protocol == "v2", now=clock, **more)
    thief = Attested(v2=node.v2, now=clock, shows=lambda *asked: tdx(*asked, mr_td=OTHER_MR_TD))
    with running(node) as url:
        middle = Middle(url)
        with serving(middle.app()) as between:
            middle.url = between
            yield Stage(node, thief, middle)


Change = Callable[[Stage, dict[str, Any], bytes], None]
"""What is done to the reply, or to its offer in v2: its evidence stands in the one or the other."""


def attack(on: Stage, change: Change) -> Attack:
    def attacked(passed: Passed) -> Passed:
        reply = json.loads(passed.body)
        change(on, reply["keys"][0] if on.node.v2 else reply, challenge_in(passed.request))
        return passed.but(json.dumps(reply).encode())

    return attacked


def key_of(thief: Attested) -> dict[str, Any]:
    told = thief.told(bytes(32))
    members = told["keys"][0] if thief.v2 else told
    return {name: members[name] for name in ("public_key", "key_id") if name in members}


def its_key(on: Stage, told: dict[str, Any], _challenge: bytes) -> None:
    told |= key_of(on.thief)


def its_evidence(on: Stage, told: dict[str, Any], challenge: bytes) -> None:
    """Its machine signs whatever it is told to, for the node's own key as well."""
    told["evidence"] = shown(on.thief, on.node.offer(), challenge)


def both(on: Stage, told: dict[str, Any], challenge: bytes) -> None:
    told |= key_of(on.thief) | {"evidence": shown(on.thief, on.thief.offer(), challenge)}


def its_machine_with_the_nodes_collateral(on: Stage, told: dict[str, Any], challenge: bytes) -> None:
    honest = evidence_from_json(told["evidence"])
    assert honest is not None
    own = tdx(on.thief.offer(), challenge, mr_td=OTHER_MR_TD)
    told |= key_of(on.thief) | {"evidence": evidence_to_json(Evidence("tdx", own.data, honest.collateral))}


def debugged(on: Stage, told: dict[str, Any], challenge: bytes) -> None:
    """A machine with the right image, which it can look into."""
    told |= key_of(on.thief) | {"evidence": evidence_to_json(tdx(on.thief.offer(), challenge, debug=True))}


def old(on: Stage, told: dict[str, Any], _challenge: bytes) -> None:
    """What the node once answered to somebody else."""
    told["evidence"] = shown(on.node, on.node.offer(), bytes(range(32)))


def unasked(on: Stage, told: dict[str, Any], _challenge: bytes) -> None:
    told["evidence"] = shown(on.node, on.node.offer(), b"")


def of_the_other_protocol(on: Stage, told: dict[str, Any], challenge: bytes) -> None:
    """The same key, as one of the other version: the binding says which."""
    other = Attested(v2=not on.node.v2, now=on.node.now, key=on.node.key)
    told["evidence"] = shown(other, other.offer(), challenge)


def member(value: object) -> Change:
    def change(_on: Stage, told: dict[str, Any], _challenge: bytes) -> None:
        told["evidence"] = value

    return change


def shown(node: Attested, offer: ac.KeyOffer, challenge: bytes) -> dict[str, object]:
    evidence = node.shows(offer, challenge)
    assert evidence is not None
    return evidence_to_json(evidence)


ATTACKS: dict[str, tuple[Change, str]] = {
    "its key": (its_key, "not for this key"),
    "its evidence": (its_evidence, "measurements are none"),
    "both": (both, "measurements are none"),
    "both, honest collateral": (its_machine_with_the_nodes_collateral, "measurements are none"),
    "a machine in debug mode": (debugged, "Debug mode"),
    "old evidence": (old, "not for this key, its end and this challenge"),
    "evidence for no challenge": (unasked, "does not answer the challenge"),
    "evidence of the other protocol": (of_the_other_protocol, "not for this key"),
    "none": (member(None), "given: none"),
    "of another kind": (member({"kind": "snp", "data": "AAAA"}), "given: 'snp'"),
    "twice": (member({"kind": "several", "parts": [{"kind": "tdx", "data": "AAAA"}] * 2}), "given: 'tdx'"),
    "no base64": (member({"kind": "tdx", "data": "?"}), "base64"),
    "no quote": (member({"kind": "tdx", "data": "AAAA", "collateral": "AAAA"}), "malformed"),
    "no kind": (member({}), "kind"),
}


@each_protocol
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_sealed(protocol: Protocol, name: str, clock: Clock) -> None:
    change, words = ATTACKS[name]
    kind = "httpx2 async" if len(name) % 2 else "httpx"

    async def run(url: str) -> None:
        async with openai_client(kind, url, protocol=protocol, verify=verifier()) as client:
            await chat(client, messages=MESSAGES)

    with stage(protocol, clock) as on:
        on.middle.on_lock = attack(on, change)
        with pytest.raises(ac.AttestationError, match=words) as caught:
            asyncio.run(run(on.middle.url))
        on.nothing_was_sealed(locks=1)
        on.middle.honest()
        asyncio.run(run(on.middle.url))  # which nothing but the attack has kept it from
        assert len(on.node.seen) == 1
    assert CANARY not in f"{caught.value!r} {caught.value.__context__!r}"


@each_protocol
@pytest.mark.parametrize("name", ["its key", "its evidence", "both", "old evidence"])
def test_nor_by_the_sdk_or_the_gateway(protocol: Protocol, name: str, clock: Clock) -> None:
    change, words = ATTACKS[name]
    with stage(protocol, clock) as on:
        on.middle.on_lock = attack(on, change)
        with sdk_for(on.middle.url, protocol=protocol, verify=verifier()) as sdk:
            for call in (sdk.confidential_chat.create, sdk.confidential_chat.create_stream):
                with pytest.raises(ac.AttestationError, match=words):
                    call(messages=MESSAGES, model="m")
        with gateway(on.middle.url, protocol=protocol, verify=verifier()) as gate:
            for stream in (False, True):
                status, code, message = error_of(gate.post(body(stream=stream, messages=MESSAGES)))
                assert (status, code) == (502, "BAD_GATEWAY")
                assert words in message
            assert gate.seen == []
        on.nothing_was_sealed(locks=4)


@pytest.mark.parametrize("shift", [1, -1, DAY, 365 * DAY])
def test_another_end_of_the_key_is_another_binding(shift: int, clock: Clock) -> None:
    def later(_on: Stage, told: dict[str, Any], _challenge: bytes) -> None:
        told["not_after"] += shift

    with stage("v2", clock) as on:
        on.middle.on_lock = attack(on, later)
        with (
            sdk_for(on.middle.url, protocol="v2", verify=verifier()) as sdk,
            pytest.raises(ac.AttestationError, match="not for this key, its end"),
        ):
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
        on.nothing_was_sealed(locks=1)


@each_protocol
def test_an_accepted_key_does_not_open_the_door_for_another(protocol: Protocol, clock: Clock) -> None:
    """Not when the router changes keys later, and not with the challenge that was answered before."""
    with stage(protocol, clock) as on, sdk_for(on.middle.url, protocol=protocol, verify=verifier()) as sdk:
        assert sdk.confidential_chat.create(messages=[], model="m").choices
        recorded = shown(on.node, on.node.offer(), on.node.challenges[0])
        before = len(on.middle.paths)
        for change in (its_key, both, its_evidence):
            on.middle.on_lock = attack(on, change)
            if change is its_evidence:  # of a key that is known: nobody looks
                assert sdk.confidential_chat.create(messages=[], model="m").choices
                continue
            with pytest.raises(ac.AttestationError):
                sdk.confidential_chat.create(messages=MESSAGES, model="m")
        assert on.middle.paths[before:] == ["/v1/nodes/lock"] * 5 + ["/v1/confidential/chat/completions"]
        on.node.now.now = clock.now = NOW + 29 * DAY - 1  # v2's verdict has ended, and the collateral not yet
        if protocol == "v2":
            on.middle.on_lock = attack(on, member(recorded))
            with pytest.raises(ac.AttestationError, match="not for this key"):
                sdk.confidential_chat.create(messages=MESSAGES, model="m")
    assert len(on.node.seen) == 2
    assert CANARY.encode() not in on.middle.saw


def test_a_long_lived_key_needs_a_challenge_and_has_it(clock: Clock) -> None:
    """A policy that is asked without one refuses; ours sends one, so the same key may hold for a week."""

    class Unasking:
        def verify(self, *arguments: Any, **more: Any) -> Any:
            assert more["challenge"] == b""
            return verifier().verify(*arguments, **more)

    with stage("v2", clock, lasting=7 * DAY) as on:
        for policy, accepted in ((verifier(), True), (Unasking(), False)):
            with sdk_for(on.middle.url, protocol="v2", verify=policy) as sdk:
                if accepted:
                    origin = sdk.confidential_chat.create(messages=[], model="m").origin
                    assert origin is not None
                    assert origin.expires_at == NOW + 7 * DAY
                    continue
                with pytest.raises(ac.AttestationError, match="more than 24 hours"):
                    sdk.confidential_chat.create(messages=MESSAGES, model="m")
    assert len(on.node.seen) == 1


@each_protocol
@pytest.mark.parametrize("joined", ["all", "any"])
def test_policies_that_are_combined(protocol: Protocol, joined: str, clock: Clock) -> None:
    with stage(protocol, clock) as on:
        pinned = PinnedKeys(on.thief.key.public_key)
        policy: Verifier = AllOf(verifier(), pinned) if joined == "all" else AnyOf(verifier(), pinned)
        for change, accepted in ((both, joined == "any"), (its_key, joined == "any"), (its_evidence, False)):
            on.middle.on_lock = attack(on, change)
            with sdk_for(on.middle.url, protocol=protocol, verify=policy) as sdk:
                # what is sealed to the thief's pinned key the node cannot open; what is not accepted never leaves
                expected = Exception if accepted else ac.AttestationError
                with pytest.raises(expected) as caught:
                    sdk.confidential_chat.create(messages=MESSAGES, model="m")
                assert isinstance(caught.value, ac.AttestationError) is not accepted


@each_protocol
def test_a_router_that_swallows_the_challenge(protocol: Protocol, clock: Clock) -> None:
    with stage(protocol, clock) as on:
        honest = on.node.shows
        on.node.shows = lambda offer, _challenge: honest(offer, b"")
        with (
            sdk_for(on.middle.url, protocol=protocol, verify=verifier()) as sdk,
            pytest.raises(ac.AttestationError, match="does not answer the challenge"),
        ):
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
        on.nothing_was_sealed(locks=1)


@pytest.mark.parametrize("asking", ["transport", "gateway"])
def test_a_forged_refusal_and_a_key_in_between_do_not_make_it_run_twice(asking: str, clock: Clock) -> None:
    """A 422 in clear, then a lock with a key that is not known, then one with the key that was used."""
    with stage("v2", clock) as on:
        forged = b'{"error":{"code":"KEY_UNKNOWN","message":"which?"}}'
        on.middle.on_answer = lambda passed: passed.but(forged, status=422)
        strange = attack(on, its_key)
        on.middle.on_lock = lambda passed: strange(passed) if len(on.node.locks) == 2 else passed
        if asking == "gateway":
            with gateway(on.middle.url, protocol="v2", verify=verifier()) as gate:
                assert error_of(gate.post())[:2] == (422, "KEY_UNKNOWN")
        else:
            with sdk_for(on.middle.url, protocol="v2", verify=verifier()) as sdk, pytest.raises(APIError) as caught:
                sdk.confidential_chat.create(messages=MESSAGES, model="m")
            assert caught.value.status_code == 422
        assert on.middle.paths.count("/v1/nodes/lock") == 3
        assert len(on.node.seen) == 1
