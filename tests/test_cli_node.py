"""`atoma-crypto node`, started as a program and asked over loopback."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest
import uvicorn

import atoma_crypto as ac
from atoma_crypto.cli import main
from atoma_crypto.server.keyfile import read_signing_key
from oracle import OracleClient, body_hash, verify_sui_signature
from serving import Client, error_of, opened, request_body
from upstreams import chunked, raw_upstream

SEED = bytes(range(3, 35))
LISTENING = re.compile(r"listening on (http://\S+) \(public key ([0-9a-f]{64})\)\n")
PROGRAM = [sys.executable, "-m", "atoma_crypto", "node", "--port", "0"]


@contextlib.contextmanager
def running(
    *options: str, environment: Mapping[str, str] | None = None, program: Sequence[str] = PROGRAM
) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The program, once it listens: its URL, its key's fingerprint, and the process."""
    inherited = {name: value for name, value in os.environ.items() if name != "ATOMA_CRYPTO_TOKEN"}
    with subprocess.Popen(
        [*program, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | dict(environment or {}),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            listening = LISTENING.fullmatch(line)
            assert listening, (line, process.stderr and process.stderr.read())
            yield listening[1], listening[2], process
        finally:
            process.terminate()
            process.wait()


def chat(client: Client) -> str:
    """Hold one streamed turn with eliza."""
    client.model = "eliza"
    assert client.lock().status_code == 200
    session, response = client.ask(request_body(model="eliza", stream=True))
    assert response.status_code == 200
    said = [json.loads(chunk.plaintext)["choices"] for chunk in opened(session, response.content)]
    return "".join(choices[0]["delta"].get("content", "") for choices in said if choices)


def test_a_node_on_a_free_port_answers_and_shows_its_fingerprint() -> None:
    with running("--seed", "7") as (url, fingerprint, _), Client(url) as client:
        assert chat(client)
        assert ac.PublicKey.from_base64(client.told["public_key"]).fingerprint() == fingerprint
        assert url.startswith("http://127.0.0.1:")
        first = [chat(client) for _ in range(2)]
    with running("--seed", "7") as (url, other_fingerprint, _), Client(url) as client:
        assert [chat(client) for _ in range(2)] == first
    assert other_fingerprint != fingerprint  # the key is of one run only


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(number: signal.Signals) -> None:
    with running() as (url, _, process):
        with Client(url) as client:
            assert chat(client)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (out, err) == ("", "")
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)


@pytest.mark.parametrize("how", ["option", "environment", "option before environment"])
def test_a_token_is_needed_when_one_is_named(how: str) -> None:
    options = [] if how == "environment" else ["--token", "sesame"]
    environment = {} if how == "option" else {"ATOMA_CRYPTO_TOKEN": "sesame" if how == "environment" else "other"}
    with running(*options, environment=environment) as (url, _, _process):
        with Client(url, token="other", model="eliza") as client:  # noqa: S106 - the test's
            assert error_of(client.lock())[:2] == (401, "AUTH_ERROR")
        with Client(url, token="sesame") as client:  # noqa: S106 - the test's
            assert chat(client)


def test_a_signing_key_signs(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.write_text(SEED.hex() + "\n")
    path.chmod(0o600)
    with running("--sign-key", str(path)) as (url, _, _process):
        oracle = OracleClient.lock(url, model="eliza")
        status, raw = oracle.chat(url, request_body(model="eliza"))
    assert status == 200
    reply = oracle.open_reply(raw)
    with ac.SigningKey.from_bytes(SEED) as key:
        signer = verify_sui_signature(str(reply.members["signature"]), body_hash(reply.plaintext))
        assert signer == key.public_key


def test_a_limit_on_requests() -> None:
    with running("--max-request-bytes", "2000") as (url, _, _process), Client(url, model="eliza") as client:
        client.lock()
        small = client.ask(request_body(model="eliza"))[1]
        large = client.ask(request_body(model="eliza", padding="x" * 2000))[1]
    assert small.status_code == 200
    assert error_of(large)[:2] == (413, "TOO_LARGE")


def test_an_upstream_answers_instead_of_eliza() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        upstream = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with running("--upstream", upstream) as (url, _, _process), Client(url, model="any") as client:
        assert client.lock().status_code == 200  # eliza would not serve it
        assert error_of(client.ask(request_body(model="any"))[1])[:2] == (500, "INTERNAL_ERROR")


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_an_ipv6_address_is_written_as_a_url() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 loopback here")
    with running("--host", "::1") as (url, _, _process), Client(url) as client:
        assert url.startswith("http://[::1]:")
        assert chat(client)


REFUSED = {
    "no command": ([], "required"),
    "unknown command": (["knot"], "invalid choice"),
    "unknown option": (["node", "--keys", "x"], "unrecognized"),
    "port not a number": (["node", "--port", "x"], "argument --port: a port is a number from 0 to 65535"),
    "port too large": (["node", "--port", "65536"], "argument --port: a port is a number from 0 to 65535"),
    "port of many digits": (["node", "--port", "9" * 5000], "argument --port: a port is a number from 0 to 65535"),
    "no such host": (["node", "--port", "0", "--host", "host.invalid"], "atoma-crypto node: "),
    "no such sign key": (["node", "--port", "0", "--sign-key", "/nonexistent/seed"], "No such file"),
    "empty token": (["node", "--port", "0", "--token", ""], "token is empty or has white space"),
    "token in white space": (["node", "--port", "0", "--token", "sesame\n"], "token is empty or has white space"),
    "no limit": (["node", "--port", "0", "--max-request-bytes", "63"], "64 to 2^40 bytes"),
    "not an upstream": (["node", "--port", "0", "--upstream", "localhost"], "an upstream is http"),
    "seed of an upstream": (["node", "--port", "0", "--upstream", "http://h", "--seed", "1"], "--seed is eliza's"),
    "negative port": (["node", "--port", "-1"], "argument --port: a port is a number from 0 to 65535"),
    "no such option": (["node", "--port", "0", "--delay", "1"], "unrecognized"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_asked_wrongly_is_said_and_is_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object = None
    try:
        status = main(arguments)
    except SystemExit as left:  # argparse's way
        status = left.code
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err
    assert printed.out == ""


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["node", "--port", str(taken.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err


MISSING = [
    *((["node", "--port", "0", "--upstream", "http://127.0.0.1:9"], "server", name) for name in ("uvicorn", "httpx")),
    *((["node", "--port", "0"], "server", name) for name in ("anyio", "starlette")),
    (["node", "--port", "0", "--replay", "redis://h"], "redis", "redis"),
    *((["demo"], "cli", name) for name in ("anyio", "h11", "httpx", "rich", "starlette", "uvicorn")),
]


@pytest.mark.parametrize(("arguments", "extra", "module"), MISSING)
def test_a_missing_extra_is_named(arguments: list[str], extra: str, module: str) -> None:
    # in a process of its own: what is imported anew here would be another module than the one that others patch
    script = (
        f"import sys; sys.modules[{module!r}] = None\nfrom atoma_crypto.cli import main; sys.exit(main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"atoma-crypto: {module} is missing: pip install 'atoma-crypto[{extra}]'\n"
    assert done.stdout == ""


def test_a_missing_module_that_no_extra_brings_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "atoma_crypto.server.eliza", raising=False)
    monkeypatch.setitem(sys.modules, "atoma_crypto.server.eliza", None)
    with pytest.raises(ModuleNotFoundError):
        main(["node", "--port", "0"])


def test_help_names_every_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOMA_CRYPTO_TOKEN", "sesame")
    with pytest.raises(SystemExit) as left:
        main(["node", "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for option in ("host", "port", "upstream", "token", "sign-key", "max-request-bytes", "seed"):
        assert f"--{option}" in text
    assert "sesame" not in text


def test_the_seed_is_let_go_of_before_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seed"
    path.write_text(SEED.hex())
    path.chmod(0o600)
    held: list[object] = []

    def run(_server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        assert [listener.proto for listener in sockets] == [socket.IPPROTO_TCP]
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code is not main.__code__:
            frame = frame.f_back
            held.extend(frame.f_locals.values())

    monkeypatch.setattr(uvicorn.Server, "run", run)
    assert main(["node", "--port", "0", "--sign-key", str(path)]) == 0
    assert any(isinstance(value, ac.SigningKey) for value in held)  # the frames that were looked at are the right ones
    assert SEED not in held


def test_an_upstream_that_breaks_off_is_a_line_in_the_log_and_no_traceback() -> None:
    broken = chunked(b'data: {"a":1}\n\n', end=False)
    with (
        raw_upstream(broken) as upstream,
        running("--upstream", upstream) as (url, _, process),
        Client(url, model="any") as client,
    ):
        client.lock()
        with pytest.raises(httpx.RemoteProtocolError):
            client.ask(request_body(model="any", stream=True))
        process.terminate()
        _, logged = process.communicate(timeout=60)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING inference failed: status 502\n", logged)


WHITE_SEED = b" \n\t" + bytes(26) + b"\r\n "

GOOD_SEEDS = {
    "raw": (SEED, SEED),
    "raw and a line feed": (SEED + b"\n", SEED),
    "raw, white at its ends": (WHITE_SEED, WHITE_SEED),
    "hex": (SEED.hex().encode(), SEED),
    "upper-case hex in white space": (b"\n  " + SEED.hex().upper().encode() + b" \r\n", SEED),
    "base64": (base64.b64encode(SEED), SEED),
    "base64 in white space": (b"\t" + base64.b64encode(SEED) + b"\n\n", SEED),
}


@pytest.mark.parametrize(("content", "seed"), GOOD_SEEDS.values(), ids=GOOD_SEEDS.keys())
def test_the_forms_of_a_seed(tmp_path: Path, content: bytes, seed: bytes) -> None:
    path = tmp_path / "seed"
    path.write_bytes(content)
    path.chmod(0o600)
    with read_signing_key(path) as key, ac.SigningKey.from_bytes(seed) as right:
        assert key.public_key == right.public_key


BAD_SEEDS = {
    "empty": b"",
    "31 bytes": SEED[:31],
    "33 bytes": SEED + b"x",
    "63 digits": SEED.hex()[:63].encode(),
    "65 digits": SEED.hex().encode() + b"0",
    "not hex": b"g" * 64,
    "base64 of 33 bytes, as Sui's key store has": base64.b64encode(b"\0" + SEED),
    "base64 without padding": base64.b64encode(SEED).rstrip(b"="),
    "url-safe base64": base64.urlsafe_b64encode(b"\xff" * 32),
    "broken in two": base64.encodebytes(SEED)[:20] + b"\n" + base64.encodebytes(SEED)[20:],
    "two of them": SEED.hex().encode() + b"\n" + SEED.hex().encode(),
    "long": b" " * 2000 + SEED.hex().encode(),
}


@pytest.mark.parametrize("content", BAD_SEEDS.values(), ids=BAD_SEEDS.keys())
def test_what_is_no_seed_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seed"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="holds no Ed25519 seed") as refused:
        read_signing_key(path)
    assert str(refused.value).startswith(str(path))
    assert refused.value.__cause__ is refused.value.__context__ is None
    for part in (SEED.hex()[:16], base64.b64encode(SEED).decode()[:16]):
        assert part not in str(refused.value)
