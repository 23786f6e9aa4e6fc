"""`atoma-crypto attest`: what is printed of a node's keys, and which status says that all of them pass."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto.adapters._routes import KEYS_PATH, LOCK_PATH
from atoma_crypto.cli import _proven, attest, main
from attestation_pki import MR_TD, RT_MR, maker
from attested_node import OTHER_MR_TD, Attested, tdx
from certificates import HOUR, NOW
from confidential_node import Node, running
from serving import Clock, serving
from test_cli_keys import program


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.now = NOW
    monkeypatch.setattr(attest, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture(name="policy")
def _policy(tmp_path: Path) -> str:
    (tmp_path / "root.der").write_bytes(maker().root.der)
    path = tmp_path / "policy.toml"
    path.write_text(f'[tdx]\nroot = "root.der"\n[[tdx.measurements]]\nmr_td = "{MR_TD.hex()}"\n')
    return str(path)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["attest", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_what_is_proven_what_is_not_and_until_when(
    policy: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Attested(v2=True, now=clock)
    key = node.key.public_key
    with running(node) as url:
        status, out, err = ask(capsys, f"{url}/v1", "--policy", policy)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{url}/v1, protocol v2, policy {policy}, with a challenge",
        f"key {key.fingerprint()} (X25519)",
        "  evidence    tdx",
        "  proven      an Intel CPU has signed this key, its end, this challenge, for a TDX machine that is not in "
        "debug mode",
        "              Intel says of its platform: UpToDate, advisories: none, by evaluation 17",
        f"              mr_td is {MR_TD.hex()}",
        *(f"              rt_mr{i} is {value.hex()}" for i, value in enumerate(RT_MR)),
        "              the policy lists a machine with this: mr_td",
        "              the evidence was made for this challenge",
        "  not proven  what these measurements stand for: that is for whoever builds the image",
        "              which of the machines that pass this policy it is",
        "              that this is as it should be, for the policy does not say: rt_mr0, rt_mr1, rt_mr2, rt_mr3",
        "  until       2025-11-22 12:52:25 UTC",
        "keys that pass: 1 of 1",
    ]
    assert [len(challenge) for challenge in node.challenges] == [32]
    assert node.locks == []


def test_as_json(policy: str, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    node = Attested(v2=True, now=clock, more_keys=[ac.SecretKey.generate("X-Wing")])
    keys = [secret.public_key for secret in (node.key, *node.more_keys)]
    with running(node) as url:
        status, out, _ = ask(capsys, url, "--policy", policy, "--json", "--no-challenge")
    found = json.loads(out)
    assert (status, found["url"], found["challenge"], found["passed"]) == (0, url, None, True)
    assert [key["suite"] for key in found["keys"]] == ["X25519", "X-Wing"]
    for key, public in zip(found["keys"], keys, strict=True):
        assert (key["public_key"], key["fingerprint"]) == (public.to_base64(), public.fingerprint())
        assert (key["passed"], key["problem"], key["evidence"]) == (True, None, ["tdx"])
        assert key["not_after"] == key["until"] == NOW + HOUR
        assert key["claims"]["fresh"] == "made for a key that ends within 24 hours"
        assert any("just now" in line for line in key["not_proven"])
    assert node.challenges == [b""]


def test_all_keys_have_to_pass(policy: str, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    node = Attested(v2=True, now=clock, more_keys=[ac.SecretKey.generate("X-Wing")])
    node.shows = lambda offer, challenge: tdx(
        offer, challenge, mr_td=OTHER_MR_TD if offer.public_key.suite == "X-Wing" else MR_TD
    )
    with running(node) as url:
        status, out, _ = ask(capsys, url, "--policy", policy)
        assert status == 1
        assert "  refused     the measurements are none that the policy accepts" in out
        assert out.endswith("keys that pass: 1 of 2\n")
        status, out, _ = ask(capsys, url, "--policy", policy, "--json")
        assert (status, json.loads(out)["passed"]) == (1, False)
        assert [key["passed"] for key in json.loads(out)["keys"]] == [True, False]


@pytest.mark.parametrize("suite", ["X-Wing", "X-Wing2"])
def test_a_key_that_is_passed_over_does_not_pass(
    suite: str, policy: str, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its suite is not known here, or a library is missing: another client may well be given it."""
    node = Attested(v2=True, now=clock, more_keys=[ac.SecretKey.generate("X-Wing")])
    told = node.told

    def renamed(challenge: bytes) -> dict[str, Any]:
        found = told(challenge)
        found["keys"][1]["suite"] = suite
        return found

    node.told = renamed  # type: ignore[method-assign] # a node that does as it likes
    from_base64 = ac.PublicKey.from_base64

    def without_pq(text: str, suite: Any = "X25519") -> ac.PublicKey:
        if suite == "X-Wing":
            raise ImportError("X-Wing needs cryptography: install atoma-crypto[pq]")
        return from_base64(text, suite)

    monkeypatch.setattr(ac.PublicKey, "from_base64", without_pq)
    with running(node) as url:
        status, out, _ = ask(capsys, url, "--policy", policy)
        assert status == 1
        assert out.endswith(
            f"keys of suite {suite}, which is not known here, were not looked at\nkeys that pass: 1 of 1\n"
        )
        status, out, _ = ask(capsys, url, "--policy", policy, "--json")
    found = json.loads(out)
    assert (status, found["passed"], found["unknown_suites"]) == (1, False, [suite])


@pytest.mark.parametrize("v2", [False, True])
def test_behind_a_router_it_takes_a_lock(
    v2: bool, policy: str, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Attested(v2=v2, now=clock, prefix="/behind")
    version = ("--protocol", "v2" if v2 else "v1")
    with running(node) as url:
        status, out, _ = ask(capsys, url, "--policy", policy, "--model", "m", *version, "--token", "sesame")
        assert (status, out.splitlines()[-1]) == (0, "keys that pass: 1 of 1")
        assert ("until       2025-12-21" in out) is not v2  # of v1 only the evidence ends
        monkeypatch.setattr("sys.argv", [])
        assert node.lock_headers[-1]["authorization"] == "Bearer sesame"
        assert [len(challenge) for challenge in node.challenges] == [32]
        assert node.locks[-1]["model"] == "m"
        node.key = ac.SecretKey.generate()
        node.shows = lambda *_: None
        assert ask(capsys, url, "--policy", policy, "--model", "m", *version)[0] == 1
        if not v2:
            status, _, err = ask(capsys, url, "--policy", policy, *version)
            assert (status, "needs --model" in err) == (2, True)
    assert node.seen == []


def test_without_a_policy_nothing_is_proven(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    node = Attested(v2=True, now=clock)
    with running(node) as url:
        status, out, _ = ask(capsys, url)
        assert status == 1
        assert "  refused     no --policy was given: nothing was verified" in out
        assert "  proven" not in out
        assert node.challenges == [b""]
        assert ask(capsys, url, "--challenge")[0] == 1
        assert len(node.challenges[-1]) == 32


def test_evidence_that_is_none_and_a_pin_that_is_over(
    policy: str, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Attested(v2=True, now=clock)
    pins = tmp_path / "pins.toml"
    pins.write_text(f'[[pinned.keys]]\npublic_key = "{node.key.public_key.to_base64()}"\n')
    with running(node) as url:
        for ends, status in ((NOW + HOUR, 0), (NOW - 1, 1)):
            node.ends = ends
            found, out, _ = ask(capsys, url, "--policy", str(pins))
            assert found == status
        assert "its not_after has passed" in out
        node.told = lambda challenge: {"keys": []}  # type: ignore[method-assign] # noqa: ARG005 - as that one
        assert ask(capsys, url, "--policy", policy)[:2] == (
            1,
            f"{url}, protocol v2, policy {policy}, with a challenge\nkeys that pass: 0 of 0\n",
        )


REPLIES: dict[str, tuple[Response, str]] = {
    "none there": (Response(status_code=404), "behind a router ask with --model NAME"),
    "refused": (Response(status_code=429), "answered with status 429"),
    "elsewhere": (Response(status_code=302, headers={"location": "/"}), "answered with status 302"),
    "no JSON": (Response(b"\x1b[2J"), "the lock reply is not"),
    "no offers": (Response(b'{"keys":[1]}'), "an offer is not an object"),
    "packed": (
        Response(gzip.compress(gzip.compress(bytes(64 << 20))), headers={"content-encoding": "gzip, gzip"}),
        "the lock reply is not",  # it was not unpacked: that would be said to be too long
    ),
    "too long": (Response(b" " * ((4 << 20) + 1)), "longer than"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_who_cannot_be_asked(name: str, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    reply, words = REPLIES[name]

    async def answer(_request: Any) -> Response:
        return reply

    routes = [Route(KEYS_PATH, answer), Route(LOCK_PATH, answer, methods=["POST"])]
    with serving(Starlette(routes=routes)) as url:
        status, out, err = ask(capsys, url, "--policy", policy)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"atoma-crypto attest: [ -~]+\n", err)
    assert words in err


def test_what_is_asked_wrongly(tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[tdx]\n")
    for arguments, words in (
        (("http://127.0.0.1:1", "--policy", policy), "could not be asked"),
        (("ftp://h",), "a node is http"),
        (("http://h", "--policy", "/nonexistent"), "No such file"),
        (("http://h", "--policy", str(broken)), "no measurement"),
    ):
        status, out, err = ask(capsys, *arguments)
        assert (status, out) == (2, "")
        assert words in err


def test_the_command_itself(tmp_path: Path) -> None:
    """In a process of its own, by a pin: the makers' certificates are not good today."""
    node = Node(v2=True)
    path = tmp_path / "pins.toml"
    path.write_text(f'[[pinned.keys]]\npublic_key = "{node.key.public_key.to_base64()}"\n')
    with running(node) as url:
        told = {"ATOMA_CRYPTO_TOKEN": "sesame"}
        status, out, err = program("attest", url, "--policy", str(path), "--model", "m", environment=told)
        assert (status, err) == (0, "")
        assert "it is one of the keys that the policy names" in out
        assert "  not proven  anything else about who holds it" in out
        assert node.lock_headers[-1]["authorization"] == "Bearer sesame"
        assert "sesame" not in program("attest", "--help", environment=told)[1]


# ---- words ------------------------------------------------------------------------------------------------------


def test_words_for_each_policy() -> None:
    pinned = {"policy": "pinned"}
    device = {"type": "device", "certificate": "GSP\x1b", "family": "GH100"}
    nvidia = {"policy": "nvidia", "binding": "this key", "devices": [device], "not_checked": ["who holds the key"]}
    found = _proven.explain({"policy": "all of", "parts": [pinned, nvidia, pinned]})
    assert found.proven == [
        "it is one of the keys that the policy names",
        "a device with NVIDIA's certificate 'GSP\\x1b' has signed this key",
    ]
    assert found.not_proven == ["anything else about who holds it", "who holds the key"]
    snp = {
        "policy": "snp",
        "binding": "this key",
        "product": "Milan",
        "vmpl": 0,
        "tcb": {"snp": 22},
        "fresh": "not known",
    }
    found = _proven.explain(snp | {"measurement": "00ff", "measurements_checked": False, "not_checked": ["revocation"]})
    assert found.proven[1:] == ["its firmware is snp 22", "the measurement is 00ff"]
    assert found.not_proven == [
        "what runs in the machine: the policy accepts any measurement",
        "that the evidence was made just now; how old it is: not known",
        "which of the machines that pass this policy it is",
        "revocation",
    ]
    own = _proven.explain({"policy": "mine", "grade": 7})
    assert (own.proven, own.not_proven) == (["policy: mine", "grade: 7"], [])
