"""`atoma-crypto keygen`, `inspect` and `doctor` as programs, and the reader of key files."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core, hazmat
from atoma_crypto.cli import main
from atoma_crypto.server.keyfile import read_secret_key, read_signing_key, write_secret_key
from helpers import REPLY_BODY, USAGE, SessionPair, new_client
from oracle import OracleClient

ROOT: Final = Path(__file__).parent.parent
RAW: Final = bytes(range(3, 35))
posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


def program(
    *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None, umask: int = 0o022
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "atoma_crypto", *arguments],
        input=given,
        capture_output=True,
        env=os.environ | dict(environment or {}),
        umask=umask,
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def key_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


# ---- keygen ---------------------------------------------------------------------------------------------------------


def told(key: ac.PublicKey) -> str:
    key_id = base64.b64encode(key.key_id).decode()
    return f"public key   {key.to_base64()}\nfingerprint  {key.fingerprint()}\nkey id       {key_id}\n"


def test_keygen_makes_keys_of_the_post_quantum_suite(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra pq is not there")
    path = tmp_path / "node.key"
    status, out, err = program("keygen", "--suite", "X-Wing", str(path))
    assert (status, err) == (0, "")
    with read_secret_key(path, "X-Wing") as key:
        assert out == told(key.public_key)
        assert len(bytes(key.public_key)) == 1216
        body = b'{"messages":[]}'
        with ac.ClientSession(key.public_key, model="m", stack_small_id=None, protocol="v2") as client:
            sealed = client.seal_request(body, stream=False)
        with ac.MemoryReplayCache(fresh_key=True) as cache, ac.NodeSession(key, replay_cache=cache) as node:
            assert node.open_request(sealed).body == body


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_keygen_writes_a_key_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "node.key"
    status, out, err = program("keygen", str(path), umask=umask)
    assert (status, err) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    raw = base64.b64decode(path.read_bytes(), validate=False)
    assert path.read_bytes() == base64.b64encode(raw) + b"\n"
    assert len(raw) == 32
    with read_secret_key(path) as key:
        assert out == told(key.public_key)
        assert bytes(key.public_key) == hazmat.x25519_public_key(raw)
        client = OracleClient(bytes(key.public_key))
        assert ac.NodeSession(key).open_request(client.seal_request(REPLY_BODY)).body == REPLY_BODY


def test_keygen_does_not_overwrite(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    for path in (there, link, tmp_path):
        status, out, err = program("keygen", str(path))
        assert (status, out) == (2, "")
        assert err.startswith("atoma-crypto keygen: ")
        assert "File exists" in err
        assert err.count("\n") == 1
    assert there.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_keygen_says_where_it_cannot_write(tmp_path: Path) -> None:
    status, out, err = program("keygen", str(tmp_path / "none" / "key"))
    assert (status, out) == (2, "")
    assert "No such file" in err
    assert program("keygen")[0] == 2


def test_a_key_that_could_not_be_written_is_not_left_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), ac.SecretKey.generate() as key:
        write_secret_key(tmp_path / "key", key)
    assert list(tmp_path.iterdir()) == []


# ---- key files ------------------------------------------------------------------------------------------------------

FORMS: Final = {
    "raw": RAW,
    "raw and a line feed": RAW + b"\n",
    "hex": RAW.hex().encode(),
    "HEX in white space": b"\n " + RAW.hex().upper().encode() + b"\r\n",
    "base64": base64.b64encode(RAW) + b"\n",
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_the_forms_of_a_key(tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path / "key", content)
    with read_secret_key(str(path)) as key:
        assert bytes(key.public_key) == hazmat.x25519_public_key(RAW)
    with read_signing_key(path) as key, ac.SigningKey.from_bytes(RAW) as right:
        assert key.public_key == right.public_key


@pytest.mark.parametrize("content", [b"", RAW[:31], RAW + b"x", RAW.hex().encode()[:63], b" " * 2000 + RAW])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = key_file(tmp_path / "key", content)
    with pytest.raises(ValueError, match="holds no X25519 secret key: 32 bytes") as refused:
        read_secret_key(path)
    assert refused.value.__cause__ is refused.value.__context__ is None
    assert RAW.hex()[:8] not in str(refused.value)


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o666, 0o644, 0o777])
def test_a_file_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path / "key", RAW, mode)
    (tmp_path / "link").symlink_to(path)
    for name in ("key", "link"):
        for read in (read_secret_key, read_signing_key):
            with pytest.raises(ValueError, match=f"has mode {mode:04o}: group or others can get at the key in it"):
                read(tmp_path / name)
    for good in (0o600, 0o400, 0o700):
        path.chmod(good)
        read_secret_key(path).close()


@posix
def test_the_mode_of_a_file_of_another_user_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path / "key", RAW, 0o644)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    read_secret_key(path).close()


def test_no_file_and_no_right_to_read_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_secret_key(tmp_path / "key")
    with pytest.raises(OSError, match=r"directory|denied"):
        read_secret_key(tmp_path)
    path = key_file(tmp_path / "key", RAW, 0o000)
    if os.name == "posix" and os.geteuid() != 0:  # whom no mode stops
        with pytest.raises(PermissionError):
            read_secret_key(path)


# ---- inspect --------------------------------------------------------------------------------------------------------


def fields(out: str) -> dict[str, str]:
    return {line[:18].rstrip(): line[19:] for line in out.splitlines()}


def test_a_request_is_shown() -> None:
    client = new_client(model='m"\x1b[2J')
    raw = client.seal_request(REPLY_BODY, stream=False, num_compute_units=64)
    members = json.loads(raw)
    status, out, err = program("inspect", given=raw)
    assert (status, err) == (0, "")
    found = fields(out)
    assert found["message"] == "request, protocol v1"
    assert found["members"] == ", ".join(members)
    assert found["plaintext"] == f"{len(REPLY_BODY)} bytes"
    assert found["hash of plaintext"] == hazmat.blake2b256(REPLY_BODY).hex()
    assert found["model"] == r'"m\"\u001b[2J"'
    assert (found["stack"], found["compute units"], found["stream"]) == ("42", "64", "no")
    node = ac.PublicKey.from_base64(members["node_dh_public_key"])
    assert found["node's key"] == f"{node.to_base64()} (fingerprint {node.fingerprint()})"
    assert found["client's key"] == members["client_dh_public_key"]
    assert found["salt"] == base64.b64decode(members["salt"]).hex()
    assert found["nonce"] == base64.b64decode(members["nonce"]).hex()


def test_a_reply_is_shown(tmp_path: Path) -> None:
    raw = SessionPair(stream=False).node.seal_response(b"llamas", USAGE)
    path = tmp_path / "reply"
    path.write_bytes(raw)
    status, out, err = program("inspect", str(path))
    assert (status, err) == (0, "")
    found = fields(out)
    assert found["message"] == "reply that is not streamed, protocol v1"
    assert found["plaintext"] == "6 bytes"
    assert found["hash of plaintext"] == hazmat.blake2b256(b"llamas").hex()
    assert json.loads(found["usage"]) == USAGE
    assert "llamas" not in out


def test_a_stream_is_shown() -> None:
    node = SessionPair().node
    events = [node.seal_chunk(b"x" * 10), node.seal_chunk(b"", USAGE)]
    raw = b": keep-alive\r\n\r\n" + b"".join(events) + b"data: [DONE]\n\n"
    status, out, err = program("inspect", "-", given=raw)
    assert (status, err) == (0, "")
    found = fields(out)
    assert found["message"] == "stream of events, protocol v1"
    assert found["event 0"].startswith("10 bytes, nonce ")
    assert found["event 0"].endswith(hazmat.blake2b256(b"x" * 10).hex())
    assert found["event 1"].startswith("0 bytes, nonce ")
    assert found["events"] == "2"
    assert found["plaintext"] == "10 bytes, 0 to 10 an event"
    assert json.loads(found["usage"]) == USAGE
    assert found["nonces"] == "no two alike"
    out = program("inspect", given=raw + events[0])[1]
    assert fields(out)["nonces"] == "1 used again: not confidential"


def _changed(**change: Any) -> bytes:
    return json.dumps(json.loads(new_client().seal_request(REPLY_BODY, stream=False)) | change).encode()


BAD: Final = {
    "nothing": (b"", "the message is empty"),
    "white": (b" \n", "the message is empty"),
    "a word": (b"hello", "the stream ended inside an event"),
    "words": (b"hello\n\n", "neither a JSON object nor an event"),
    "an array": (b"[1]", "the message is not a JSON object"),
    "cut": (_changed()[:-1], "the message is not JSON"),
    "an error in clear": (b'{"error":{"code":"X","message":"m"}}', "it has no 'ciphertext'"),
    "many members": (b"{" + b'"a":1,' * 2000 + b'"b":1}', "too many members"),
    "both protocols": (_changed(v=2), "'enc' is missing"),
    "no protocol": (_changed(v=3), "of no protocol that is known"),
    "twice": (_changed()[:-1] + b',"salt":"x"}', "'salt' twice"),
    "no model": (_changed(model_name=5), "'model_name' is missing or not a string"),
    "spare bits": (_changed(salt="A" * 21 + "B=="), "'salt' is not base64"),
    "short salt": (_changed(salt="AAAA"), "'salt' must hold 16 bytes, not 3"),
    "short key": (_changed(node_dh_public_key="AAAA"), "'node_dh_public_key' must hold 32 bytes, not 3"),
    "short ciphertext": (_changed(ciphertext="AAAA"), "'ciphertext' is shorter than a tag"),
    "stack": (_changed(stack_small_id=-1), "'stack_small_id' is missing or not an integer"),
    "event is no JSON": (b"data: {\n\n", "event 0 is not JSON"),
    "event cut": (SessionPair().node.seal_chunk(b"x")[:-1], "ended inside an event"),
    "not UTF-8": (b"data: \xff\n\n", "not UTF-8"),
}


@pytest.mark.parametrize(("raw", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, raw: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "message"
    path.write_bytes(raw)
    assert main(["inspect", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"atoma-crypto inspect: [^\n]+\n", printed.err)
    assert message in printed.err


def test_a_file_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    status, out, err = program("inspect", str(tmp_path / "none"))
    assert (status, out) == (2, "")
    assert "No such file" in err


# ---- doctor ---------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_installation_well(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", RAW)
    status, out, err = program("doctor", "--json", "--key", str(path))
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["healthy"] is True
    assert set(found["checks"].values()) == {"good"}
    assert {"self-test at start", "backends agree", "both ends, v1", "key file"} <= set(found["checks"])
    assert ("fork is noticed" in found["checks"]) == hasattr(os, "fork")
    assert found["aes"]["backend"] == hazmat.aes_backend()
    assert found["aes"]["usable"] == list(hazmat.aes_backends())
    assert set(found["cpu"]) == set(_core._cpu_features())
    assert {"atoma-crypto", "cffi", "pynacl", "libsodium", "python"} <= set(found["versions"])
    assert re.match(r"1\.0\.\d+", found["versions"]["libsodium"])
    assert found["extras"]["server"] == "installed"
    assert RAW.hex() not in out
    status, out, err = program("doctor")
    assert (status, err) == (0, "")
    assert out.endswith("all is well\n")
    assert f"  {'backend':<24} {hazmat.aes_backend()}\n" in out


def test_the_doctor_sees_what_was_chosen_and_masked() -> None:
    features = _core._cpu_features()
    told = {"ATOMA_CRYPTO_AES_BACKEND": "portable", "ATOMA_CRYPTO_CPU_MASK": ",".join(features)}
    status, out, _ = program("doctor", "--json", environment=told)
    found = json.loads(out)
    assert status == 0
    assert found["aes"]["backend"] == "portable"
    assert found["aes"]["chosen by environment"] is True
    assert found["cpu"] == dict.fromkeys(features, "masked by ATOMA_CRYPTO_CPU_MASK")
    own = {name: "yes" if usable else "no" for name, usable in _core.cpu_features().items()}
    if not os.environ.get("ATOMA_CRYPTO_CPU_MASK"):
        assert json.loads(program("doctor", "--json")[1])["cpu"] == own


@posix
def test_the_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", RAW, 0o644)
    status, out, err = program("doctor", "--key", str(path))
    assert (status, err) == (1, "")
    assert "group or others can get at the key in it; chmod 600 it" in out
    assert out.endswith("something is wrong\n")
    status, out, _ = program("doctor", "--json", "--key", str(tmp_path / "none"))
    assert status == 1
    assert json.loads(out)["healthy"] is False
    # what cannot even be imported says so itself
    status, out, err = program("doctor", environment={"ATOMA_CRYPTO_AES_BACKEND": "none"})
    assert (status, out) == (1, "")
    assert "ImportError: ATOMA_CRYPTO_AES_BACKEND='none' cannot be used here" in err


BROKEN: Final = """
import sys
import atoma_crypto as ac
from atoma_crypto import _core
from atoma_crypto.cli import main
_core.Aes256Gcm.open = lambda self, nonce, sealed, aad: sealed[:-16]
ac.NodeSession.seal_chunk = lambda self, plaintext: b"data: {}\\n\\n"
sys.exit(main(["doctor", "--json"]))
"""


def test_a_broken_part_is_found_and_named() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    checks = json.loads(done.stdout)["checks"]
    assert checks["backends agree"] == "failed: NativeError"
    assert checks["both ends, v1"] == "failed: FramingError"
    assert checks["threads are kept apart"] == "good"
    if hasattr(os, "fork"):  # a child that seals is not the parent's
        assert checks["fork is noticed"] == "failed: NativeError"


def test_the_core_needs_no_extra_for_any_of_it(tmp_path: Path) -> None:
    hidden = ("anyio", "h11", "httpx", "prometheus_client", "pydantic", "rich", "starlette", "uvicorn")
    script = (
        "import sys\nfor name in {}: sys.modules[name] = None\nfrom atoma_crypto.cli import main; sys.exit(main({}))"
    )
    for arguments in (["keygen", str(tmp_path / "key")], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-c", script.format(hidden, arguments)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")


# ---- docs -----------------------------------------------------------------------------------------------------------


def test_the_docs_own_code_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    rotating, static = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(rotating, "keys.md", "exec"), names)  # noqa: S102 - that is the test
    assert capsys.readouterr().out == '{"model":"m","messages":[]}\n{"choices":[]}\n'
    (command,) = re.findall(r"```sh\natoma-crypto (.*?)\n```", text)
    monkeypatch.chdir(tmp_path)
    shown = program(*command.split())[1]
    exec(compile(static, "keys.md", "exec"), names)  # noqa: S102 - the same
    assert names["keys"].public_key.to_base64() in shown
    names["keys"].close()
