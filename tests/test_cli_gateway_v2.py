"""`atoma-crypto gateway --protocol v2`: whose keys it is told to seal to, and what it says of that."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from math import inf
from pathlib import Path

import pytest

import atoma_crypto as ac
from atoma_crypto.cli import gateway, main
from atoma_crypto.cli._config import add_options, load
from confidential_node import Node, running
from gateways import body
from test_cli_gateway import ask, ended, started, url_in

KEY = ac.SecretKey.generate().public_key
X_WING = ac.SecretKey.generate("X-Wing").public_key
PIN = KEY.to_base64()
NODES = ("--nodes", "http://h")


def settings(*flags: str, environ: Mapping[str, str] | None = None) -> gateway.Settings:
    parser = argparse.ArgumentParser()
    add_options(parser, gateway.Settings)
    return load(gateway.Settings, parser.parse_args(flags), environ or {})


def test_keys_in_flags_the_environment_and_files(tmp_path: Path) -> None:
    keys, config = tmp_path / "keys", tmp_path / "config.toml"
    keys.write_text(f"# the node in the cellar\n{X_WING.to_base64()}  # the other suite\n\n{PIN}\n")
    config.write_text(f'protocol = "v2"\npin = ["{PIN}"]\nsuites = ["X-Wing", "X25519"]\n')
    environ = {"ATOMA_CRYPTO_PROTOCOL": "v2", "ATOMA_CRYPTO_PIN": f"{PIN} {X_WING.to_base64()}"}
    for found, pinned in (
        (settings("--protocol", "v2", "--pin", PIN, X_WING.to_base64()), {KEY, X_WING}),
        (settings("--protocol", "v2", "--pin", PIN, "--pin-file", str(keys)), {KEY, X_WING}),
        (settings(environ=environ), {KEY, X_WING}),
        (settings("--config", str(config)), {KEY}),
    ):
        policy, said = gateway._policy(found)
        assert policy is not None
        for key in (KEY, X_WING, ac.SecretKey.generate().public_key):
            accepted = True
            try:
                policy.verify(None, ac.KeyOffer("v2", key, inf), now=0)
            except ac.AttestationError:
                accepted = False
            assert accepted is (key in pinned)
        assert said.startswith(f"protocol v2, suites {', '.join(found.suites)}; ")
    assert found.suites == ("X-Wing", "X25519")
    assert gateway._policy(settings()) == (None, "")


def test_requests_are_sealed_to_the_keys_that_are_pinned_or_to_any() -> None:
    node = Node(v2=True)
    pin = node.key.public_key.to_base64()
    with running(node) as url:
        for trusting, said, status in (
            (("--pin", PIN, pin, "--pad-to", "auto"), "X25519; only to keys that are pinned: 2", 200),
            (("--pin", PIN), "X25519; only to keys that are pinned: 1", 502),
            (("--unverified",), "X25519; to any key that is offered: whoever can offer one can read all", 200),
        ):
            options = ("--port", "0", "--protocol", "v2", "--nodes", url, *trusting)
            with started("gateway", *options, count=4) as (lines, process):
                assert lines[3] == f"protocol v2, suites {said}"
                assert ask(url_in(lines[0]), body(), Authorization="Bearer any").status_code == status
                assert "Warning" not in ended(process)
    padded, plain = (len(seen.envelope["ciphertext"]) for seen in node.seen)
    assert padded == -(-(1024 + 16) // 3) * 4
    assert plain < padded


REFUSED: dict[str, tuple[list[str], str]] = {
    "nobody is trusted": (["--protocol", "v2"], "takes keys"),
    "all are, and some": (["--protocol", "v2", "--pin", PIN, "--unverified"], "not two"),
    "a pin and a policy": (["--protocol", "v2", "--pin", PIN, "--policy", "/nonexistent"], "not two"),
    "a policy and pins, for v1": (["--policy", "/nonexistent", "--pin", PIN], "not two"),
    "a policy that is not there": (["--policy", "/nonexistent"], "No such file"),
    "v1 unverified": (["--unverified"], "for --protocol v2"),
    "a suite for v1": (["--suites", "X-Wing"], "for --protocol v2"),
    "a fingerprint": (["--protocol", "v2", "--pin", KEY.fingerprint()], "not its fingerprint"),
    "half a key": (["--protocol", "v2", "--pin", PIN[:40]], "a whole public key"),
    "a spelling of a key": (["--protocol", "v2", "--pin", PIN[:-2] + "//"], "a whole public key"),
    "an unknown suite": (["--protocol", "v2", "--pin", PIN, "--suites", "P-256"], "a suite is one of"),
    "a suite twice": (["--protocol", "v2", "--pin", PIN, "--suites", "X25519", "X25519"], "suites must be"),
    "v3": (["--protocol", "v3"], "v1 or v2"),
    "no such file": (["--protocol", "v2", "--pin-file", "/nonexistent/keys"], "No such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_asked_wrongly_is_said_and_is_status_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = REFUSED[name]
    status: object = None
    try:
        status = main(["gateway", "--port", "0", *NODES, *arguments])
    except SystemExit as left:  # argparse's way
        status = left.code
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert message in printed.err


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no key"), ("# none\n", "holds no key"), ("PIN\nno key\n", "line 2: "), ("\xff\n", "line 1: ")],
)
def test_a_file_without_keys(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text(content.replace("PIN", PIN), encoding="latin-1")
    assert main(["gateway", "--port", "0", *NODES, "--protocol", "v2", "--pin-file", str(path)]) == 2
    printed = capsys.readouterr().err
    assert message in printed
