"""The commands and protocol v2: a node's options, what `inspect` shows of v2's messages, what `doctor` tries."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto._offers import read_offers
from atoma_crypto.adapters._routes import KEYS_PATH
from atoma_crypto.cli import main
from atoma_crypto.cli.doctor import _replay_store
from atoma_crypto.server.keyfile import write_secret_key
from redis_server import RedisServer, needs_redis
from serving import CHAT, USAGE, Client, error_of, opened, request_body
from test_cli_keys import fields, program
from test_cli_node import running

BODY: Final = b'{"model":"m","messages":[]}'


# ---- node -----------------------------------------------------------------------------------------------------------


def test_a_node_speaks_v2_unless_told_otherwise_and_names_its_keys() -> None:
    with running("--suites", "X25519") as (url, _, process), Client(url, model="eliza", protocol="v2") as client:
        assert process.stdout is not None
        line = process.stdout.readline()
        client.lock()
        key = read_offers(client.told["keys"])[0].public_key
        assert line == f"v2's public key is {key.fingerprint()} (X25519)\n"
        assert key.fingerprint() != ac.PublicKey.from_base64(client.told["public_key"]).fingerprint()
        session, response = client.ask(request_body(model="eliza", stream=True))
        assert len(opened(session, response.content)) > 3
    with running("--protocols", "v1") as (url, _, process), Client(url, model="eliza") as client:
        assert "keys" not in client.lock().json()
        assert client.http.get(KEYS_PATH).status_code == 404


def test_a_static_key_of_the_post_quantum_suite_for_v2_alone(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra pq is not there")
    path = tmp_path / "key"
    shown = program("keygen", "--suite", "X-Wing", str(path))[1]
    told = {"ATOMA_CRYPTO_PROTOCOLS": "v2", "ATOMA_CRYPTO_SUITES": "X-Wing", "ATOMA_CRYPTO_STATIC": "true"}
    with (
        running("--key-file", str(path), environment=told) as (url, fingerprint, process),
        Client(url, model="eliza", protocol="v2", suite="X-Wing") as client,
    ):
        assert f"fingerprint  {fingerprint}\n" in shown
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        assert said[0] == f"v2's public key is {fingerprint} (X-Wing)\n"
        assert said[3] == "the key is older than what remembers v2's requests: 503 for a minute to all of them\n"
        client.lock()
        assert error_of(client.ask(request_body(model="eliza"))[1])[:2] == (503, "REPLAY_STORE_UNAVAILABLE")


def test_what_is_sealed_is_padded_and_joined_as_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('protocols = ["v2"]\npad_to = 512\ncoalesce_milliseconds = 5000\n')
    with running("--config", str(path)) as (url, _, _process), Client(url, model="eliza", protocol="v2") as client:
        client.lock()
        session, response = client.ask(request_body(model="eliza", stream=True))
        plaintexts = [event.plaintext for event in opened(session, response.content)]
    assert {len(text) % 512 for text in plaintexts} == {0}
    assert len(plaintexts) == 4  # the role, all words, the end, the usage


REFUSED = {
    "no such protocol": (["--protocols", "v3"], "argument --protocols: v1 or v2 is needed"),
    "no such suite": (["--suites", "P-256"], "argument --suites: a suite is one of X25519, X-Wing"),
    "static without a key": (["--static"], "--static needs a --key-file"),
    "static that rotates": (["--static", "--key-file", "KEY", "--rotate-seconds", "9"], "--static needs a --key-file"),
    "static of two suites": (["--static", "--key-file", "KEY", "--suites", "X25519", "X-Wing"], "--static needs"),
    "a key for nothing": (["--key-file", "KEY", "--protocols", "v2"], "without --static a --key-file is v1's alone"),
    "X-Wing for v1": (["--static", "--key-file", "KEY", "--suites", "X-Wing"], "X-Wing is not for protocol v1"),
    "no replay store": (["--replay", "http://h"], "a replay store is redis://"),
    "padding of nothing": (["--pad-to", "0"], "argument --pad-to: auto, or a number of bytes from 1"),
    "padding in words": (["--pad-to", "much"], "argument --pad-to: auto, or a number of bytes from 1"),
    "a long wait": (["--coalesce-milliseconds", "60001"], "milliseconds from 0 to 60000"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_go_together_is_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "X-Wing" in message:
        pytest.importorskip("cryptography", reason="the extra pq is not there")
    key_file = tmp_path / "key"
    with ac.SecretKey.generate() as key:
        write_secret_key(key_file, key)
    status: object = None
    try:
        status = main(["node", "--port", "0", *[str(key_file) if word == "KEY" else word for word in arguments]])
    except SystemExit as left:  # argparse's way
        status = left.code
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err
    assert printed.out == ""


def test_no_password_of_redis_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "http://:sesame@h",
        "redis://:sesame/@h",
        "redis://:open/sesame@h",
        "redis://u:[sesame@h",
        "redis://h:sesame",
    ):
        monkeypatch.setenv("ATOMA_CRYPTO_REPLAY", url)
        assert main(["node", "--port", "0"]) == 2
        assert main(["doctor"]) == 1
    with pytest.raises(SystemExit):
        main(["node", "--help"])
    printed = capsys.readouterr()
    assert "sesame" not in printed.out + printed.err


# ---- inspect ------------------------------------------------------------------------------------------------------


class Pair:
    """A client and a node of v2 that have exchanged a request, sealed but for nobody."""

    def __init__(self, suite: Any = "X25519", *, stream: bool = False) -> None:
        with ac.SecretKey.generate(suite) as key:
            self.key = key.public_key
            self.client = ac.ClientSession(self.key, model='m"\x1b', stack_small_id=None, protocol="v2")
            body = b'{"stream":true}' if stream else b"{}"
            self.request = self.client.seal_request(body, stream=stream, num_compute_units=64)
            self.node = ac.NodeSession(key)
            self.node.open_request(self.request)


@pytest.fixture
def inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[bytes], dict[str, str]]:
    def shown(raw: bytes) -> dict[str, str]:
        path = tmp_path / "message"
        path.write_bytes(raw)
        assert main(["inspect", str(path)]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "llamas" not in printed.out
        return fields(printed.out)

    return shown


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_a_request_of_v2_is_shown(suite: Any, inspect: Callable[[bytes], dict[str, str]]) -> None:
    if suite == "X-Wing":
        pytest.importorskip("cryptography", reason="the extra pq is not there")
    pair = Pair(suite)
    envelope = json.loads(pair.request)
    found = inspect(pair.request)
    assert found["message"] == "request, protocol v2"
    assert found["members"] == ", ".join(envelope)
    assert (found["plaintext"], found["endpoint"]) == ("2 bytes", "/v1/chat/completions")
    assert found["model"] == r'"m\"\u001b"'
    assert (found["stack"], found["compute units"], found["stream"]) == ("none named", "64", "no")
    assert re.fullmatch(rf"{envelope['sent_at']} \(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", found["sent at"])
    assert found["node's key"] == f"the one with id {base64.b64encode(pair.key.key_id).decode()}, suite {suite}"
    assert found["request id"].startswith(hashlib.sha256(base64.b64decode(envelope["enc"])).hexdigest())


def test_replies_of_v2_are_shown(inspect: Callable[[bytes], dict[str, str]]) -> None:
    for raw, says, usage in (
        (Pair().node.seal_response(b"llamas", USAGE), "the whole answer", json.dumps(USAGE)),
        (Pair().node.abort("X", "llamas", 500), "an error", "none shown"),
    ):
        found = inspect(raw)
        assert found["message"] == "reply that is not streamed, protocol v2"
        assert found["says that it is"] == says
        assert found["usage"] == usage
        assert found["salt"] == base64.b64decode(json.loads(raw)["salt"]).hex()


def test_streams_of_v2_are_shown_and_how_they_end(inspect: Callable[[bytes], dict[str, str]]) -> None:
    for end, says in (("finish", "the end"), ("abort", "an error"), ("cut", "nothing: it was cut off")):
        node = Pair(stream=True).node
        raw = node.seal_chunk(b"x" * 10) + node.seal_chunk(b"y", USAGE)
        raw += node.finish() if end == "finish" else node.abort("X", "m", 500) if end == "abort" else b""
        found = inspect(b": comment\n\n" + raw)
        assert found["message"] == "stream of events, protocol v2"
        assert found["event 0"] == "10 bytes, more follow"
        assert found["event 1"] == f"1 bytes, more follow, usage {json.dumps(USAGE)}"
        assert found["ends with"] == says
        assert found["usage"] == json.dumps(USAGE)


def _events(*more: bytes) -> bytes:
    node = Pair(stream=True).node
    return node.seal_chunk(b"x") + b"".join(more)


def _changed(raw: bytes, **change: Any) -> bytes:
    return json.dumps({name: value for name, value in (json.loads(raw) | change).items() if value is not ...}).encode()


BAD: Final = {
    "an endpoint": (_changed(Pair().request, endpoint="x"), "'endpoint' is missing or malformed"),
    "an integer": (_changed(Pair().request, stack_small_id=2**53), "'stack_small_id' is missing or not an integer"),
    "enc": (_changed(Pair().request, enc=base64.b64encode(bytes(33)).decode()), "'enc' is of the wrong length"),
    "no salt": (_changed(Pair().node.seal_response(b"{}"), salt=...), "not of protocol v2"),
    "flag of an event": (_changed(Pair().node.seal_response(b"{}"), flag=0), "is not that of a whole answer"),
    "a second salt": (_events() + _events(), "event 1 has no salt, or one too many"),
    "behind the end": (_events(*[b'data: {"ciphertext":"%s","flag":1}\n\n' % (b"A" * 24)] * 2), "behind the last"),
    "a whole answer": (b"data: " + Pair().node.seal_response(b"{}") + b"\n\n", "none that can stand in a stream"),
    "usage": (_changed(Pair().node.seal_response(b"{}", USAGE), usage={"total_tokens": 1}), "'usage' is not"),
}


@pytest.mark.parametrize(("raw", "message"), BAD.values(), ids=BAD)
def test_what_is_not_v2_is_told(tmp_path: Path, raw: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "message"
    path.write_bytes(raw)
    assert main(["inspect", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"atoma-crypto inspect: [^\n]+\n", printed.err)
    assert message in printed.err


# ---- doctor ---------------------------------------------------------------------------------------------------------


@needs_redis
def test_the_doctor_tries_redis_and_what_is_there_of_v2() -> None:
    with RedisServer("--maxmemory-policy", "noeviction") as redis:
        status, out, err = program("doctor", "--json", environment={"ATOMA_CRYPTO_REPLAY": redis.url})
        assert (status, err) == (0, "")
        checks = json.loads(out)["checks"]
        assert checks["replay store"] == checks["both ends, v2"] == "good"
        if find_spec("cryptography") is not None:
            assert checks["both ends, v2 X-Wing"] == "good"
        _replay_store(redis.url)
    with pytest.raises(ac.ReplayStoreError):
        _replay_store(redis.url)


def test_a_node_that_redis_does_not_answer_serves_what_needs_none() -> None:
    pytest.importorskip("redis", reason="the extra redis is not there")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
    with running("--replay", url) as (node, _, _process), Client(node, model="eliza", protocol="v2") as client:
        client.lock()
        sealed = client.session().seal_request(request_body(model="eliza"), stream=False)
        refused = client.http.post(CHAT, content=sealed)
        assert error_of(refused)[:2] == (503, "REPLAY_STORE_UNAVAILABLE")
        assert httpx.get(node + "/health", trust_env=False).status_code == 200
