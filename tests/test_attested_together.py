"""Our own node with a provider of evidence, and everything that asks it: transports, SDK, gateway, `attest`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.attestation import Evidence, PinnedKeys
from atoma_crypto.cli import attest, gateway, main
from atoma_crypto.server.model import Answer
from atoma_crypto.server.node import create_app
from attestation_pki import MR_TD, maker
from attested_node import OTHER_MR_TD, at_now, verifier
from certificates import HOUR
from confidential_node import Node, openai_client, running, typical
from gateways import body
from gateways import gateway as gateway_to
from sdk_nodes import MESSAGES, sdk_for
from serving import Clock, ScriptedModel, error_of, serving
from test_cli_gateway import ask, ended, started, url_in
from test_cli_gateway_v2 import settings

each_protocol = pytest.mark.parametrize("protocol", ["v1", "v2"])
COMPLETION = json.dumps(typical("/chat/completions", {"model": "scripted"})).encode()


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return at_now(monkeypatch)


class Machine:
    """A provider: the TEE that the node runs in."""

    def __init__(self, mr_td: bytes = MR_TD) -> None:
        self.mr_td = mr_td
        self.bindings: list[bytes] = []

    def evidence(self, binding: bytes) -> Evidence:
        self.bindings.append(binding)
        return Evidence("tdx", maker().quote(binding, mr_td=self.mr_td), maker().collateral())


@contextlib.contextmanager
def our_node(machine: Machine, clock: Clock) -> Iterator[tuple[str, ScriptedModel, ac.NodeKeyring]]:
    """Its keys end by the clock at which the maker's certificates are good; requests come at the time of today."""
    model = ScriptedModel([Answer(COMPLETION, None)] * 1)
    with (
        ac.NodeKeyring(suites=("X25519", "X-Wing"), wall_clock=clock) as keys,
        serving(create_app(keys, model, evidence=machine)) as url,
    ):
        yield url, model, keys


@each_protocol
def test_everything_that_asks(
    protocol: Protocol,
    clock: Clock,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    options: dict[str, Any] = {"protocol": protocol, "verify": verifier()}
    if protocol == "v2":
        options["suites"] = ("X-Wing", "X25519")

    async def run(url: str) -> None:
        async with openai_client("httpx2 async", url, **options) as client:
            for _ in range(2):
                answer = await client.chat.completions.create(model="scripted", messages=[])
                assert answer.choices[0].message.content == "Hello é"

    with our_node(machine, clock) as (url, model, keys):
        asyncio.run(run(url))
        with sdk_for(url, **options) as sdk:
            origin = sdk.confidential_chat.create(messages=MESSAGES, model="scripted").origin
            assert origin is not None
            assert origin.claims["fresh"] == "made for this challenge"
            assert origin.public_key in {offer.public_key for offer in keys.offers() if offer.protocol == protocol}
            assert origin.public_key is not None
            assert origin.public_key.suite == ("X25519" if protocol == "v1" else "X-Wing")
        with gateway_to(url, **options) as gate:
            answered = gate.post(body(model="scripted"))
            assert json.loads(answered.headers["x-atoma-verified"])["policy"] == "tdx"
        assert len(model.bodies) == 4
        monkeypatch.setattr(attest, "time", SimpleNamespace(time=clock))
        policy = policy_file(tmp_path)
        asked = [url, "--policy", policy, "--protocol", protocol]
        assert main(["attest", *asked, "--model", "scripted", "--token", "any"]) == 0
        assert f"keys that pass: {1 if protocol == 'v1' else 2} of" in capsys.readouterr().out
        if protocol == "v2":
            assert main(["attest", *asked]) == main(["attest", *asked, "--no-challenge"]) == 0
        assert len(set(machine.bindings)) == len(machine.bindings)  # each for a key, or a key and a challenge


@each_protocol
def test_a_machine_with_another_image_gets_nothing(protocol: Protocol, clock: Clock) -> None:
    with our_node(Machine(OTHER_MR_TD), clock) as (url, model, _):
        with sdk_for(url, protocol=protocol, verify=verifier()) as sdk, pytest.raises(ac.AttestationError):
            sdk.confidential_chat.create(messages=MESSAGES, model="scripted")
        with gateway_to(url, protocol=protocol, verify=verifier()) as gate:
            assert error_of(gate.post(body(model="scripted")))[0] == 502
            assert gate.seen == []
    assert model.bodies == []


def test_a_rotation_is_followed(clock: Clock) -> None:
    machine = Machine()
    with our_node(machine, clock) as (url, model, keys), sdk_for(url, protocol="v2", verify=verifier()) as sdk:
        before = sdk.confidential_chat.create(messages=MESSAGES, model="scripted").origin
        assert before is not None
        assert before.expires_at == clock.now + HOUR
        keys.rotate("v2")
        ends = time.monotonic() + 30
        after = before
        while after.public_key == before.public_key:  # the new key is offered once there is evidence for it
            assert time.monotonic() < ends
            found = sdk.confidential_chat.create(messages=MESSAGES, model="scripted").origin
            assert found is not None
            after = found
    assert after.claims["fresh"] == "made for this challenge"
    assert len(model.bodies) > 1


# ---- the gateway's command --------------------------------------------------------------------------------------


def policy_file(folder: Path) -> str:
    (folder / "root.der").write_bytes(maker().root.der)
    path = folder / "policy.toml"
    path.write_text(f'[tdx]\nroot = "root.der"\n[[tdx.measurements]]\nmr_td = "{MR_TD.hex()}"\n')
    return str(path)


@each_protocol
def test_the_gateway_takes_a_policy_from_a_file(protocol: Protocol, tmp_path: Path) -> None:
    node = Node(v2=protocol == "v2")
    pins = tmp_path / "pins.toml"
    pins.write_text(f'[[pinned.keys]]\npublic_key = "{node.key.public_key.to_base64()}"\n')
    with running(node) as url:
        for policy, status in ((str(pins), 200), (policy_file(tmp_path), 502)):  # the node shows no evidence
            options = ("--port", "0", "--protocol", protocol, "--nodes", url, "--policy", policy)
            with started("gateway", *options, count=4) as (lines, process):
                assert lines[3].endswith(f"; only to keys whose evidence satisfies {policy}")
                answer = ask(url_in(lines[0]), body(), Authorization="Bearer any")
                assert answer.status_code == status
                assert ("x-atoma-verified" in answer.headers) is (status == 200)
                ended(process)
    assert len(node.seen) == 1


def test_keys_may_be_pinned_in_v1_too() -> None:
    key = ac.SecretKey.generate().public_key
    policy, said = gateway._policy(settings("--pin", key.to_base64()))
    assert isinstance(policy, PinnedKeys)
    assert said == "protocol v1; only to keys that are pinned: 1\n"
