"""The gateway over protocol v2: whose keys it seals to, errors that are sealed, and streams that say where they end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import AttestedKey, PinnedKeys
from atoma_crypto.server.gateway import create_app
from confidential_node import USAGE, Abort, Node, delta, running
from gateways import CHAT, SEALED_CHAT, Gateway, body, events_of, gateway
from middle import Attack, Middle, flipped, without
from oracle import unb64
from serving import INTERNAL_ERROR, error_of, serving


@contextlib.contextmanager
def v2_gateway(*nodes: Node, **more: Any) -> Iterator[Gateway]:
    """The nodes, and a gateway that trusts all of them."""
    policy = PinnedKeys([key.public_key for node in nodes for key in (node.key, *node.more_keys, *node.old_keys)])
    with contextlib.ExitStack() as held:
        urls = [held.enter_context(running(node)) for node in nodes]
        yield held.enter_context(gateway(*urls, **({"protocol": "v2", "verify": policy} | more)))


def aborting(status: int, shown: int = 0) -> Any:
    def answer(*_: object) -> Any:
        raise Abort("NO_ROOM", "is left: é", status, shown)

    return answer


def test_openai_asks_all_four_endpoints() -> None:
    node = Node(v2=True, digest="AbC", more_keys=[ac.SecretKey.generate("X-Wing")])
    messages: Any = [{"role": "user", "content": "Hi"}]
    with v2_gateway(node, suites=("X-Wing", "X25519")) as gate, gate.openai() as ai:
        assert ai.chat.completions.create(model="m", messages=messages).choices[0].message.content == "Hello é"
        chunks = list(ai.chat.completions.create(model="m", messages=messages, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello é"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.model_dump(exclude_unset=True) == USAGE
        assert ai.completions.create(model="m", prompt="once").choices[0].text == "after once"
        assert ai.embeddings.create(model="m", input="a").data[0].embedding == [0.5, -1.0]
        images = ai.images.generate(model="m", prompt="a cat", size="512x512").data
        assert images is not None
        assert len(images) == 1
    assert [seen.headers["x-tx-digest"] for seen in node.seen] == ["AbC"] * 5
    assert {len(seen.enc) for seen in gate.seen} == {1120}


def test_the_metadata_is_what_the_node_was_sent() -> None:
    node = Node(v2=True)
    key = node.key.public_key
    with v2_gateway(node) as gate:
        assert gate.post(body(max_tokens=77)).status_code == 200
        node.small_id = None
        assert events_of(gate.post(body(stream=True), SEALED_CHAT).text)[-1] == "[DONE]"
    for seen, sent, units, small_id in zip(gate.seen, node.seen, (77, 8192), (42, None), strict=True):
        assert (seen.protocol, seen.salt, seen.enc) == ("v2", b"", unb64(sent.envelope["enc"]))
        assert len(seen.enc) == 32
        assert (seen.node_id, seen.selected_stack_small_id, seen.num_compute_units) == (7, small_id, units)
        assert (seen.endpoint, seen.model_name) == (SEALED_CHAT, "m")
        assert seen.node_x25519_public_key == key
    assert len({seen.enc for seen in gate.seen}) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shown", [0, 200, 418])
def test_a_sealed_error_is_told_with_its_own_status(stream: bool, shown: int) -> None:
    node = Node(v2=True)
    with v2_gateway(node) as gate:
        for status in (400, 429, 500, 599):
            node.answer = aborting(status, shown)
            assert error_of(gate.post(body(stream=stream))) == (status, "NO_ROOM", "is left: é")
        assert error_of(gate.post(body(stream=stream), SEALED_CHAT)) == INTERNAL_ERROR
    assert len(node.seen) == 5  # none was tried again


def test_in_the_middle_of_a_stream_it_never_just_ends() -> None:
    def pieces(*_: object) -> Iterator[bytes]:
        yield delta("a canary")
        raise Abort

    with v2_gateway(Node(pieces, v2=True)) as gate:
        received = b""
        with gate.http.stream("POST", CHAT, json=body(stream=True)) as response:
            parts = response.iter_raw()
            received += next(parts)
            with pytest.raises(httpx.RemoteProtocolError):
                received += b"".join(parts)
        assert b"a canary" in received
        assert b"[DONE]" not in received
        with gate.openai() as ai, pytest.raises(openai.APIConnectionError):
            list(ai.chat.completions.create(model="m", messages=[], stream=True))


# ---- keys -------------------------------------------------------------------------------------------------------


class Counting:
    """Accepts any key, and counts how often it was asked."""

    asked = 0

    def verify(self, _evidence: object, offer: ac.KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:  # noqa: ARG002 - as Verifier has it
        self.asked += 1
        return AttestedKey(offer.public_key, {}, now + 100)


def test_verdicts_are_kept_for_all_requests() -> None:
    node, policy = Node(v2=True, not_after=0), Counting()
    ends = int(time.time()) + 100
    with running(node) as url:
        middle = Middle(url, on_lock=altered(not_after=ends))
        with serving(middle.app()) as between, gateway(between, protocol="v2", verify=policy) as gate:
            for _ in range(3):
                assert gate.post().status_code == 200
    assert policy.asked == 1


def altered(**members: Any) -> Attack:
    """Other members in each offer."""

    def attack(passed: Any) -> Any:
        reply = json.loads(passed.body)
        return passed.but(json.dumps(reply | {"keys": [one | members for one in reply["keys"]]}).encode())

    return attack


def test_a_node_whose_key_is_not_accepted_is_passed_over() -> None:
    trusted, thief, old = Node(v2=True), Node(v2=True), Node()
    with v2_gateway(old, thief, trusted, verify=PinnedKeys(trusted.key.public_key)) as gate:
        for stream in (False, True, False):
            assert gate.post(body(stream=stream)).status_code == 200
        assert len(trusted.seen) == len(gate.seen) == 3
        assert thief.locks
        assert old.locks
    assert thief.seen == old.seen == []


def test_and_if_there_is_no_other_nothing_is_sealed() -> None:
    thief = Node(v2=True)
    for node, word in ((thief, thief.key.public_key.fingerprint()), (Node(), "not to be trusted")):
        with v2_gateway(node, verify=PinnedKeys(ac.SecretKey.generate().public_key)) as gate:
            status, code, message = error_of(gate.post())
            assert (status, code) == (502, "BAD_GATEWAY")
            assert word in message
            assert error_of(gate.post(path=SEALED_CHAT, asked=body(stream=False))) == INTERNAL_ERROR
        assert not gate.seen
        assert not node.seen
        assert len(node.locks) == 2


class Rotating(Node):
    """Forgets the key that it has offered first as soon as it has."""

    async def _lock(self, request: Any) -> Any:
        reply = await super()._lock(request)
        if len(self.locks) == 1:
            self.key = ac.SecretKey.generate()
        return reply


@pytest.mark.parametrize("retry", [True, False])
def test_a_key_that_is_not_known_any_more(retry: bool) -> None:
    node = Rotating(v2=True)
    with v2_gateway(node, verify=Counting(), retry_unknown_key=retry) as gate:
        answered = gate.post()
        assert answered.status_code == (200 if retry else 422)
        assert len(gate.seen) == len(node.locks) == (2 if retry else 1)
        if not retry:
            assert error_of(answered)[:2] == (422, "KEY_UNKNOWN")


def test_a_key_that_is_still_offered_is_not_tried_again() -> None:
    node = Node(v2=True)
    with running(node) as url:
        middle = Middle(url, on_answer=lambda p: p.but(b'{"error":{"code":"KEY_UNKNOWN","message":"x"}}', status=422))
        with serving(middle.app()) as between, gateway(between, protocol="v2", verify=node.policy) as gate:
            assert error_of(gate.post()) == (422, "KEY_UNKNOWN", "x")
            assert len(gate.seen) == 1
    assert (len(node.locks), len(node.seen)) == (2, 1)


# ---- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 500])
def test_an_answer_is_one_whatever_its_status(status: int) -> None:
    with v2_gateway(Node(v2=True, status=status)) as gate:
        assert gate.post().json()["usage"] == USAGE
        assert events_of(gate.post(body(stream=True)).text)[-1] == "[DONE]"


SPOILT: dict[str, tuple[bool, Attack]] = {
    "in clear": (False, lambda p: p.but(b'{"choices":[]}')),
    "flipped": (False, lambda p: p.but(flipped(p.body))),
    "forged with a status": (False, lambda p: p.but(flipped(p.body), status=500)),
    "a redirect": (False, lambda p: p.but(status=307)),
    "first event flipped": (True, lambda p: p.but([flipped(p.events[0]), *p.events[1:]])),
    "an error in clear": (
        True,
        lambda p: p.but(b'{"error":{"code":"A","message":""}}', content_type="application/json"),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_does_not_hold_is_told_as_such(name: str) -> None:
    stream, attack = SPOILT[name]
    node = Node(v2=True)
    with running(node) as url:
        middle = Middle(url, on_answer=attack)
        with serving(middle.app()) as between, gateway(between, protocol="v2", verify=node.policy) as gate:
            assert error_of(gate.post(body(stream=stream)))[:2] == (502, "BAD_GATEWAY")


def test_streams_that_are_cut_or_are_not() -> None:
    node = Node(v2=True)
    with running(node) as url:
        middle = Middle(url)
        with serving(middle.app()) as between, gateway(between, protocol="v2", verify=node.policy) as gate:
            middle.on_answer = lambda p: p.but(abort=True)  # behind the end
            assert events_of(gate.post(body(stream=True)).text)[-1] == "[DONE]"
            for attack in (
                lambda p: p.but(without(p.events, -1)),
                lambda p: p.but(without(p.events, 2)),
                lambda p: p.but(p.body[:-1]),
            ):
                middle.on_answer = attack
                with pytest.raises(httpx.RemoteProtocolError):
                    gate.post(body(stream=True))


def test_arguments() -> None:
    policy = PinnedKeys(ac.SecretKey.generate().public_key)
    for wrong in (
        {"protocol": "v2"},
        {"verify": PinnedKeys},
        {"suites": ("X-Wing",)},
        {"protocol": "v2", "verify": PinnedKeys},
    ):
        with pytest.raises(TypeError):
            create_app(["http://127.0.0.1:1"], **wrong)
    with pytest.raises(ValueError, match="suites"):
        create_app(["http://127.0.0.1:1"], protocol="v2", verify=policy, suites=())
