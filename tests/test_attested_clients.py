"""Clients that ask for evidence: what they are told, what they remember, and when they ask again."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import time
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters import _trust
from atoma_crypto.adapters._trust import Trust
from atoma_crypto.adapters.httpx import Origin
from atoma_crypto.attestation import (
    AllOf,
    AnyOf,
    AttestedKey,
    Evidence,
    NvidiaGpuVerifier,
    PinnedKeys,
    TdxVerifier,
    Unverified,
    UnverifiedWarning,
)
from atoma_crypto.attestation._values import wants_challenge
from atoma_crypto.sdk import APIError
from attestation_pki import MR_TD, maker
from attested_node import Attested, at_now, tdx, verifier
from certificates import DAY, HOUR, NOW
from confidential_node import KINDS, chat, openai_client, result, running, transport
from gateways import body, events_of, gateway
from sdk_nodes import MESSAGES, async_client, sdk_for
from serving import NO_CAS, Clock

each_protocol = pytest.mark.parametrize("protocol", ["v1", "v2"])
BODY: dict[str, Any] = {"model": "m", "messages": []}


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return at_now(monkeypatch)


def node_of(protocol: Protocol, clock: Clock, **more: Any) -> Attested:
    return Attested(v2=protocol == "v2", now=clock, **more)


async def origin_of(kind: str, url: str, times: int = 1, **options: Any) -> Origin:
    """What the last of so many answers over one transport says of itself."""
    library, ours = transport(kind, **options)
    client = (library.AsyncClient if kind.endswith("async") else library.Client)(transport=ours)
    try:
        for _ in range(times):
            response = await result(client.post(f"{url}/v1/chat/completions", json=BODY))
            assert response.status_code == 200
    finally:
        await result(client.aclose() if kind.endswith("async") else client.close())
    origin: Origin = response.extensions["atoma_crypto"]
    return origin


@each_protocol
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_verified_once_and_answers_say_what_was_found(protocol: Protocol, kind: str, clock: Clock) -> None:
    node = node_of(protocol, clock)
    with running(node) as url:
        origin = asyncio.run(origin_of(kind, url, 3, protocol=protocol, verify=verifier()))
        assert origin.public_key == node.key.public_key
    assert origin.sealed
    assert origin.claims["policy"] == "tdx"
    assert origin.claims["fresh"] == "made for this challenge"
    assert origin.claims["measurements"]["mr_td"] == MR_TD.hex()  # type: ignore[index] # of these claims
    assert origin.expires_at == NOW + (HOUR if protocol == "v2" else 29 * DAY)
    assert [len(challenge) for challenge in node.challenges] == [32, 0, 0]
    assert len(node.seen) == 3


@each_protocol
def test_it_is_verified_anew_when_the_evidence_has_ended(protocol: Protocol, clock: Clock) -> None:
    """It is good for ten minutes, by its revocation lists; the key goes on, and the node has new ones by then."""

    def shows(offer: ac.KeyOffer, challenge: bytes) -> Evidence:
        return Evidence("tdx", tdx(offer, challenge).data, maker().collateral(revocations_end=clock.now + 600))

    node = node_of(protocol, clock, shows=shows, ends=NOW + HOUR)
    steps = ((0, 32), (599, 0), (600, 32), (1199, 0), (1200, 32))
    with running(node) as url, sdk_for(url, protocol=protocol, verify=verifier()) as sdk:
        for after, challenged in steps:
            clock.now = NOW + after
            origin = sdk.confidential_chat.create(messages=MESSAGES, model="m").origin
            assert origin is not None
            assert origin.expires_at == NOW + after // 600 * 600 + 600
            assert len(node.challenges[-1]) == challenged
        node.shows = lambda *asked: Evidence("tdx", tdx(*asked).data, maker().collateral(revocations_end=NOW))
        clock.now = NOW + 1800
        with pytest.raises(ac.AttestationError):
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
    fresh = [challenge for challenge in node.challenges if challenge]
    assert len(set(fresh)) == len(fresh) == 4
    assert len(node.seen) == len(steps)


def test_it_is_verified_anew_when_the_key_has_ended(clock: Clock) -> None:
    node = node_of("v2", clock, ends=NOW + HOUR)
    with running(node) as url, sdk_for(url, protocol="v2", verify=verifier()) as sdk:
        for now, challenged in ((NOW, 32), (NOW + HOUR - 1, 0), (NOW + HOUR, 32)):
            clock.now = now
            if now >= NOW + HOUR:
                node.key, node.ends = ac.SecretKey.generate(), NOW + 2 * HOUR
            assert sdk.confidential_chat.create(messages=MESSAGES, model="m").choices
            assert len(node.challenges[-1]) == challenged
        clock.now = NOW + 2 * HOUR + 1  # and this one is offered still
        with pytest.raises(ac.AttestationError, match="is over"):
            sdk.confidential_chat.create(messages=MESSAGES, model="m")
    assert len(node.seen) == 3


@each_protocol
@pytest.mark.parametrize("kind", ["httpx", "httpx2 async"])
def test_a_new_key_behind_an_old_one_takes_a_second_lock(protocol: Protocol, kind: str, clock: Clock) -> None:
    """What the first lock shows for it was not made for this client."""
    node = node_of(protocol, clock)

    async def run(url: str) -> None:
        async with openai_client(kind, url, protocol=protocol, verify=verifier()) as client:
            await chat(client)
            node.key = ac.SecretKey.generate()
            for _ in range(2):
                await chat(client)

    with running(node) as url:
        asyncio.run(run(url))
    assert [len(challenge) for challenge in node.challenges] == [32, 0, 32, 0]
    assert len(node.seen) == 3


@each_protocol
def test_a_policy_that_wants_none_sends_no_challenge(protocol: Protocol, clock: Clock) -> None:
    node = node_of(protocol, clock)
    with running(node) as url:
        for policy in (PinnedKeys(node.key.public_key), AnyOf(PinnedKeys(node.key.public_key))):
            origin = asyncio.run(origin_of("httpx", url, protocol=protocol, verify=policy))
            assert origin.claims == {"policy": "pinned"}
        if protocol == "v1":
            assert asyncio.run(origin_of("httpx", url, protocol=protocol)).claims == {}
    assert set(node.challenges) == {b""}


def test_who_wants_a_challenge() -> None:
    pinned, tee = PinnedKeys(ac.SecretKey.generate().public_key), verifier()
    devices = NvidiaGpuVerifier(1)
    for policy, wants in (
        (pinned, False),
        (devices, False),  # they answer none
        (tee, True),
        (AllOf(devices, tee), True),
        (AnyOf(pinned, AllOf(tee)), True),
        (AnyOf(pinned, devices), False),
    ):
        assert wants_challenge(policy) is wants


class Slow:
    """A policy that takes its time, and says in which thread."""

    wants_challenge = True

    def __init__(self, policy: TdxVerifier) -> None:
        self._policy = policy
        self.threads: list[int] = []

    def verify(self, *arguments: Any, **more: Any) -> AttestedKey:
        self.threads.append(threading.get_ident())
        time.sleep(0.2)
        return self._policy.verify(*arguments, **more)


@pytest.mark.parametrize("kind", ["httpx async", "httpx2 async"])
def test_an_event_loop_goes_on_while_a_key_is_verified(kind: str, clock: Clock) -> None:
    node, policy = node_of("v2", clock), Slow(verifier())
    gaps: list[float] = []

    async def ticking() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()

    async def run(url: str) -> None:
        ticks = asyncio.create_task(ticking())
        async with openai_client(kind, url, protocol="v2", verify=policy) as client:
            await chat(client)
        ticks.cancel()

    with running(node) as url:
        asyncio.run(run(url))
    assert policy.threads
    assert threading.get_ident() not in policy.threads
    assert len(gaps) > 8


# ---- who shows what was verified --------------------------------------------------------------------------------


@each_protocol
def test_answers_of_the_sdk_say_it(protocol: Protocol, clock: Clock) -> None:
    node = node_of(protocol, clock)

    async def run(sdk: Any) -> list[Any]:
        stream = await sdk.confidential_chat.create_stream_async(messages=MESSAGES, model="m")
        return [stream.origin, [chunk async for chunk in stream][-1].origin]

    with (
        running(node) as url,
        sdk_for(url, protocol=protocol, verify=verifier(), async_client=async_client()) as sdk,
    ):
        whole = sdk.confidential_chat.create(messages=MESSAGES, model="m")
        found = [whole.origin, sdk.confidential_embeddings.create(input="a", model="m").origin]
        with sdk.confidential_chat.create_stream(messages=MESSAGES, model="m") as stream:
            found += [stream.origin, next(stream).origin]
        found += asyncio.run(run(sdk))
        for origin in found:
            assert origin is not None
            assert (origin.sealed, origin.protocol, origin.public_key) == (True, protocol, node.key.public_key)
            assert origin.claims["policy"] == "tdx"
        for again in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):  # noqa: S301 - just made
            assert again == whole
            assert again.origin == whole.origin
        assert "origin" not in whole.model_dump()
        assert type(whole).model_validate({"choices": [], "origin": "forged"}).origin is None


@each_protocol
def test_the_gateway_says_it_in_a_header_and_its_metadata(protocol: Protocol, clock: Clock) -> None:
    node = node_of(protocol, clock)
    ends = NOW + (HOUR if protocol == "v2" else 29 * DAY)
    with running(node) as url, gateway(url, protocol=protocol, verify=verifier()) as gate:
        whole, stream = gate.post(), gate.post(body(stream=True))
        assert events_of(stream.text)[-1] == "[DONE]"
        key = node.key.public_key.fingerprint()
        for response in (whole, stream):
            assert response.json() if response is whole else True
            assert httpx.Response(200, content=response.headers["x-atoma-verified"]).json() == {
                "policy": "tdx",
                "key": key,
                "until": ends,
            }
        assert [seen.claims["policy"] for seen in gate.seen] == ["tdx", "tdx"]
        assert [seen.expires_at for seen in gate.seen] == [ends, ends]
        node.key = ac.SecretKey.generate()
        assert gate.post().status_code == 200
    assert [len(challenge) for challenge in node.challenges] == [32, 0, 0, 32]


def test_and_nothing_where_nobody_has_looked(clock: Clock) -> None:
    with pytest.warns(UnverifiedWarning):
        unverified = Unverified()
    for protocol, policy in (("v1", None), ("v1", unverified), ("v2", unverified)):
        node = node_of(protocol, clock)  # type: ignore[arg-type] # one of the two
        with running(node) as url, gateway(url, protocol=protocol, verify=policy) as gate:
            response = gate.post()
            assert response.status_code == 200
            assert "x-atoma-verified" not in response.headers


# ---- sessions ---------------------------------------------------------------------------------------------------


@each_protocol
def test_a_session_takes_what_was_attested_until_it_ends(protocol: Protocol, clock: Clock) -> None:
    node = node_of(protocol, clock)
    offer = node.offer()
    key = verifier().verify(tdx(offer, bytes(32)), offer, challenge=bytes(32), now=NOW)
    session = ac.ClientSession(key, model="m", stack_small_id=1, protocol=protocol, clock=clock)
    for now in (key.expires_at, key.expires_at + 1, float("inf"), float("nan")):
        clock.now = now
        with pytest.raises(ac.LocalProtocolError, match="verify it anew"):
            session.seal_request(b"{}", stream=False)
    clock.now = key.expires_at - 1  # the session is as it was
    raw = session.seal_request(b"{}", stream=False)
    opener = ac.NodeSession(node.key, protocols=(protocol,), clock=clock)
    assert opener.open_request(raw).body == b"{}"


def test_what_no_session_takes() -> None:
    key = ac.SecretKey.generate("X-Wing").public_key
    with pytest.raises(ac.InvalidKeyError):
        ac.ClientSession(AttestedKey(key, {}, 1e12), model="m", stack_small_id=1, protocol="v1")
    with pytest.raises(TypeError):
        ac.ClientSession(AttestedKey("a key", {}, 1e12), model="m", stack_small_id=1, protocol="v1")  # type: ignore[arg-type] # the case


# ---- many at once -----------------------------------------------------------------------------------------------


@each_protocol
@pytest.mark.parametrize("asking", ["transport", "gateway"])
def test_of_many_requests_at_once_few_ask_with_a_challenge(protocol: Protocol, asking: str, clock: Clock) -> None:
    """A node answers few challenges a second: at the start, and when its key is a new one."""
    node, policy = node_of(protocol, clock), Slow(verifier())

    async def ask(client: httpx.AsyncClient) -> None:
        for key in (node.key, ac.SecretKey.generate()):
            node.key = key
            responses = await asyncio.gather(*(client.post("/v1/chat/completions", json=BODY) for _ in range(20)))
            assert {response.status_code for response in responses} == {200}

    async def run(url: str) -> None:
        ours = transport("httpx async", protocol=protocol, verify=policy)[1] if asking == "transport" else None
        async with httpx.AsyncClient(
            transport=ours, base_url=url, trust_env=False, timeout=30, verify=NO_CAS
        ) as client:
            await ask(client)

    with running(node) as url:
        if asking == "transport":
            asyncio.run(run(url))
        else:
            with gateway(url, protocol=protocol, verify=policy) as gate:
                asyncio.run(run(gate.url))
    assert len(node.seen) == 40
    assert len(policy.threads) <= 2 * 4
    assert sum(bool(challenge) for challenge in node.challenges) == len(policy.threads)
    assert len(node.challenges) <= 40 + len(policy.threads)


def test_a_turn_is_given_back_whatever_happens(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """More failures than turns, of each kind; a turn that nobody gives back ends by itself."""
    node = node_of("v2", clock, lock_refusals=[(429, {})] * 6)
    with running(node) as url, sdk_for(url, protocol="v2", verify=verifier()) as sdk:
        before = time.monotonic()
        for _ in range(6):
            with pytest.raises(APIError):
                sdk.confidential_chat.create(messages=MESSAGES, model="m")
        node.shows = lambda *_: None
        for _ in range(6):
            with pytest.raises(ac.AttestationError):
                sdk.confidential_chat.create(messages=MESSAGES, model="m")
        assert time.monotonic() - before < 10
    trust = Trust(verifier(), ("X25519",), clock=clock)
    turns = [trust.begin() for _ in range(5)]
    assert [turn is None for turn in turns] == [False] * 4 + [True]
    trust.end(turns[0])
    trust.end(turns[0])
    assert trust.begin() is not None
    assert trust.begin() is None
    monkeypatch.setattr(_trust, "_TURN_SECONDS", 0)
    assert trust.begin() is not None
