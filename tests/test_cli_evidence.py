"""`atoma-crypto node --evidence`, started as a program before a stand-in for Linux's configfs-tsm, or with a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from atoma_crypto.attestation import Evidence, evidence_from_json, evidence_to_json, report_data
from atoma_crypto.cli import main
from evidence_nodes import new_challenge, offers_of, published
from serving import Client, error_of
from test_cli_node import running

# The program, with a tree that its own mkdir and rmdir know of.
CODE: Final = f"""
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
sys.path.insert(0, {str(Path(__file__).parent)!r})
import pytest
import atoma_crypto.server._evidence as evidence
from atoma_crypto.cli import main
from tsm_tree import tsm_tree
with TemporaryDirectory() as folder, tsm_tree(Path(folder), pytest.MonkeyPatch()) as tree:
    evidence.TsmProvider = partial(evidence.TsmProvider, tree.root)
    sys.exit(main(sys.argv[1:]))
"""
ON_LINUX: Final = (sys.executable, "-c", CODE, "node", "--port", "0")


@pytest.mark.parametrize("how", ["options", "environment", "file"])
def test_linux_makes_evidence_for_each_key(how: str, tmp_path: Path) -> None:
    collateral = tmp_path / "collateral"
    collateral.write_bytes(b"{}")
    options, environment = ["--evidence", "tsm", "--evidence-collateral", str(collateral)], {}
    if how == "environment":
        options, environment = (
            [],
            {"ATOMA_CRYPTO_NODE_EVIDENCE": "tsm", "ATOMA_CRYPTO_EVIDENCE_COLLATERAL": str(collateral)},
        )
    elif how == "file":
        config = tmp_path / "node.toml"
        config.write_text(f'evidence = "tsm"\nevidence_collateral = "{collateral}"\n')
        options = ["--config", str(config)]
    with (
        running(*options, environment=environment, program=ON_LINUX) as (url, fingerprint, process),
        Client(url, model="eliza") as client,
    ):
        assert process.stdout is not None
        assert "keys are offered with evidence of kind tdx\n" in [process.stdout.readline() for _ in range(4)]
        challenge, spelled = new_challenge()
        for asked, told in (
            (b"", client.lock().json()),
            (challenge, client.lock(challenge=spelled).json()),
            (b"", published(client).json()),
            (challenge, published(client, spelled).json()),
        ):
            for offer in offers_of(told):
                assert evidence_from_json(offer.evidence) == Evidence(
                    "tdx", b"a report of " + report_data(offer, asked), b"{}"
                )
        assert offers_of(client.told)[0].public_key.fingerprint() == fingerprint


def test_a_file_of_evidence_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(evidence_to_json(Evidence("nvidia", b"one"))))
    with running("--evidence", str(file)) as (url, _, _process), Client(url, model="eliza") as client:
        assert {evidence_from_json(offer.evidence) for offer in offers_of(client.lock().json())} == {
            Evidence("nvidia", b"one")
        }
        file.write_text(json.dumps(evidence_to_json(Evidence("nvidia", b"two"))))
        (offer,) = offers_of(published(client, new_challenge()[1]).json())
        assert evidence_from_json(offer.evidence) == Evidence("nvidia", b"two")
        file.write_text("{")
        assert error_of(published(client, new_challenge()[1]))[0] == 503


REFUSED: Final = {
    "no file": (None, "No such file"),
    "not JSON": ("{", "not JSON"),
    "null": ("null", "not JSON"),
    "a list": ("[]", "evidence is a JSON object"),
    "too deep": ("[" * 100_000, "not JSON"),
    "no kind": ('{"data":""}', "evidence has a kind"),
    "not base64": ('{"kind":"tdx","data":"?"}', "evidence is not base64"),
    "too long": (json.dumps({"kind": "tdx", "data": "A" * (1 << 20)}), "longer than 1048576 bytes"),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_evidence_is_told_at_the_start(
    content: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.json"
    if content is not None:
        file.write_text(content)
    assert main(["node", "--port", "0", "--evidence", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("atoma-crypto node: ")
    assert says in told.err
    assert told.err.count("\n") == 1


def test_options_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--port", "0", "--evidence-collateral", "x"]) == 2
    assert "--evidence-collateral goes with --evidence tsm" in capsys.readouterr().err
    assert main(["node", "--port", "0", "--evidence", str(tmp_path / "x"), "--evidence-collateral", "x"]) == 2
    assert "a file has it inside" in capsys.readouterr().err


def test_a_machine_that_makes_none_is_told_at_the_start() -> None:
    if Path("/sys/kernel/config/tsm/report").is_dir():
        pytest.skip("this machine makes evidence")
    done = subprocess.run(
        [sys.executable, "-m", "atoma_crypto", "node", "--port", "0", "--evidence", "tsm"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "/sys/kernel/config/tsm/report" in done.stderr
