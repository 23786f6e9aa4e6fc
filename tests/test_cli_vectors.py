"""`atoma-crypto vectors` as a program: it holds the library to v2.json, and sees whatever in it is not so."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from atoma_crypto.cli import main
from atoma_crypto.cli._vectors import differences
from make_v2_vectors import PATH

VECTORS: Final[list[dict[str, Any]]] = json.loads(PATH.read_text(encoding="utf-8"))
BY_NAME: Final = {vector["name"]: vector for vector in VECTORS}
WHOLE: Final = ("last record with plaintext", "X-Wing: stream")
# Members of a whole exchange that others follow from: each has to be missed if it is another.
FOLLOWS: Final = (
    "public_key",
    "sk_e",
    "key_id",
    "enc",
    "info",
    "aad",
    "body",
    "exported",
    "salt",
    "prk",
    "key",
    "base",
)


def check(path: Path, *options: str) -> int:
    return main(["vectors", str(path), *options])


def file_of(tmp_path: Path, *vectors: object) -> Path:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(list(vectors)), encoding="utf-8")
    return path


def other(text: str) -> str:
    """Hexadecimal or text, one bit of its first byte flipped."""
    return (("%x" % (int(text[0], 16) ^ 1)) if text[0] in "0123456789abcdef" else chr(ord(text[0]) ^ 1)) + text[1:]


def test_the_library_holds_every_vector(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(PATH) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"ok    {vector['name']}" for vector in VECTORS] + [f"{len(VECTORS)} hold, 0 do not"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(PATH, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == [
        {"name": vector["name"], "expect": vector["expect"], "holds": True, "differs": [], "skipped": None}
        for vector in VECTORS
    ]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("member", FOLLOWS)
def test_a_member_that_is_another_is_seen(name: str, member: str) -> None:
    vector = copy.deepcopy(BY_NAME[name])
    assert differences(vector) == []
    if vector[member] is None:
        assert (name, member) == ("X-Wing: stream", "sk_e")
        return
    vector[member] = other(vector[member])
    assert differences(vector) != []


@pytest.mark.parametrize("member", ["aad", "nonce", "plaintext", "ciphertext", "event"])
def test_a_record_that_is_another_is_seen(member: str) -> None:
    for index in range(2):
        vector = copy.deepcopy(BY_NAME["stream with usage"])
        record = vector["records"][index]
        record[member] = other(record[member]) if record[member] else "x"
        assert differences(vector) != []


def test_another_expectation_is_seen() -> None:
    """Whatever is expected, the opposite is not."""
    for vector in VECTORS:
        instead = "ok"
        if vector["expect"] == "ok":
            instead = "REPLY_REFUSED" if "received" in vector else "INVALID_BODY"
        elif vector["expect"] == "REPLY_REFUSED":
            instead = "REPLY_TRUNCATED"
        changed = {**vector, "expect": instead}
        if vector["expect"] == "REPLY_TRUNCATED":
            changed["records"] = [*vector["records"], {"flag": 1, "usage": None, "plaintext": ""}]
        assert differences(changed) != [], vector["name"]


@pytest.mark.parametrize("name", ["ids are null", "model is not ASCII", "shortest endpoint", "body: no model"])
@pytest.mark.parametrize("member", ["endpoint", "model_name", "stack_small_id", "num_compute_units", "stream"])
def test_other_metadata_is_seen(name: str, member: str) -> None:
    vector = copy.deepcopy(BY_NAME[name])
    vector["metadata"][member] = "another"
    assert differences(vector) == ["metadata"]


def test_what_does_not_hold_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**BY_NAME["too old by a second"], "name": "\x1b[31mred\n", "expect": "ok"}
    assert check(file_of(tmp_path, BY_NAME["ids are null"], wrong)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    ids are null"
    assert lines[2:] == ["1 hold, 1 do not"]
    assert lines[1] == r'FAIL  "\u001b[31mred\n": the node says CLOCK_SKEW, not ok'
    assert check(file_of(tmp_path, wrong), "--json") == 1
    assert json.loads(capsys.readouterr().out)[0]["differs"] == ["the node says CLOCK_SKEW, not ok"]


@pytest.mark.parametrize(
    "vector",
    [
        5,
        {},
        {"name": "x", "expect": "ok"},
        {**BY_NAME["ids are null"], "now": None},
        {**BY_NAME["ids are null"], "sk_r": "zz"},
        {**BY_NAME["ids are null"], "envelope": "\u0100"},
        {**BY_NAME["stream with usage"], "records": [{}]},
        {**BY_NAME["stream with usage"], "suite": "X448"},
    ],
    ids=lambda vector: str(vector)[:30],
)
def test_a_vector_that_is_none_does_not_hold(tmp_path: Path, vector: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(file_of(tmp_path, vector)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 hold, 1 do not"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vectors.json"
    if content is not None:
        path.write_bytes(content)
    assert check(path) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("atoma-crypto vectors: ")


def test_without_the_extra_xwing_is_left_out_and_said_so() -> None:
    """As a program, in which `cryptography` cannot be imported."""
    code = "import sys; sys.modules['cryptography'] = None\nfrom atoma_crypto.cli import main\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "vectors", str(PATH)], capture_output=True, text=True, timeout=60
    )
    left_out = sum(vector["suite"] == "X-Wing" for vector in VECTORS)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{len(VECTORS) - left_out} hold, 0 do not, {left_out} skipped"
    assert sum(line.startswith("skip  ") and "atoma-crypto[pq]" in line for line in lines) == left_out
