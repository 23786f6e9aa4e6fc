"""`atoma-crypto gateway`, and `node` with a file of settings, started as programs and asked over loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto.cli import main
from atoma_crypto.server.eliza import ElizaModel
from gateways import CHAT, CHUNKS, SEALED_CHAT, body, chat_chunk, events_of, oracle_node
from oracle import Behaviour
from serving import NO_CAS, Client, error_of, node, request_body, serving
from upstreams import DONE

TOKEN = "token-canary-81"  # noqa: S105 - the test's
ELIZA = {"model": "eliza", "messages": [{"role": "user", "content": "Hello"}]}


@contextlib.contextmanager
def started(
    command: str, *options: str, environment: Mapping[str, str] | None = None, count: int = 3
) -> Iterator[tuple[list[str], subprocess.Popen[str]]]:
    """The program, once it listens: the first lines that it says, and the process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ATOMA_CRYPTO_")}
    with subprocess.Popen(
        [sys.executable, "-m", "atoma_crypto", command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | dict(environment or {}),
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().rstrip("\n") for _ in range(count)]
            assert all(lines), (lines, process.stderr and process.stderr.read())
            yield lines, process
        finally:
            process.kill()
            process.wait()


def ended(process: subprocess.Popen[str]) -> str:
    """Ask it to stop; what it has logged."""
    process.terminate()
    return process.communicate(timeout=60)[1]


def url_in(line: str) -> str:
    found = re.match(r"listening on (http://\S+)", line)
    assert found, line
    return found[1].removesuffix("/v1")


def ask(url: str, asked: object, **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, verify=NO_CAS, timeout=60, headers=headers) as http:
        return http.post(url + CHAT, json=asked)


def test_the_program_says_what_it_does_and_does_it() -> None:
    with (
        node(ElizaModel()) as client,
        started("gateway", "--port", "0", "--nodes", client.url, client.url + "/v1") as (lines, process),
    ):
        url = url_in(lines[0])
        assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+/v1 \(loopback only\)", lines[0])
        assert lines[1:] == [
            f"sealed requests go to {client.url}, {client.url}/v1",
            "the bearer token is what the app sends",
        ]
        for _ in range(2):
            said = ask(url, ELIZA, Authorization="Bearer any").json()
            assert said["choices"][0]["message"]["content"]
        assert error_of(ask(url, ELIZA))[:2] == (401, "AUTH_ERROR")
        assert error_of(ask(url, ELIZA, Host="evil.example"))[:2] == (403, "FORBIDDEN")
        streamed = ask(url, ELIZA | {"stream": True}, Authorization="Bearer any")
        assert events_of(streamed.text)[-1] == "[DONE]"
        logged = ended(process)
        assert re.fullmatch(rf"\S+ \S+ WARNING no answer from {client.url}: 401\n", logged)
        assert process.returncode == -signal.SIGTERM


def test_the_file_the_environment_and_flags(tmp_path: Path) -> None:
    """The node and the gateway each have a file; what is in the environment goes before it, and flags before both."""
    of_node, of_gateway = tmp_path / "node.toml", tmp_path / "gateway.toml"
    of_node.touch(mode=0o600)
    of_node.write_text(f'port = 1\ntoken = "{TOKEN}"\nseed = 3\nmetrics = true\n')
    of_gateway.write_text('nodes = ["http://127.0.0.1:1"]\nport = 1\nshutdown_seconds = 1\n')
    with started("node", "--config", str(of_node), "--port", "0", count=4) as (lines, sidecar):
        assert re.fullmatch(r"v2's public key is [0-9a-f]{64} \(X25519\)", lines[1])
        assert lines[2:] == [
            "answers come from eliza, the built-in model",
            "a bearer token is needed, and only one will do; replies are not signed; "
            "v1's key stays and v2's are replaced each hour",
        ]
        environment = {"ATOMA_CRYPTO_NODES": url_in(lines[0]), "ATOMA_CRYPTO_TOKEN": TOKEN}
        with started("gateway", "--config", str(of_gateway), "--port", "0", environment=environment) as (
            said,
            process,
        ):
            assert said[1:] == [
                f"sealed requests go to {url_in(lines[0])}",
                "the bearer token is the one of the settings",
            ]
            assert ask(url_in(said[0]), ELIZA).status_code == 200
            assert ended(process) == ""
        with httpx.Client(base_url=url_in(lines[0]), trust_env=False, verify=NO_CAS) as http:
            assert http.get("/metrics").status_code == 401
            counts = http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            assert "/v1/confidential/chat/completions" in counts.text
        assert ended(sidecar) == ""
    assert TOKEN not in "".join(lines + said)


def test_the_key_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    assert main(["keygen", str(path)]) == 0
    capsys.readouterr()
    fingerprints = []
    for _ in range(2):
        with started("node", "--port", "0", "--key-file", str(path)) as (lines, _), Client(url_in(lines[0])) as client:
            client.model = "eliza"
            assert client.lock().status_code == 200
            fingerprints.append(ac.PublicKey.from_base64(client.told["public_key"]).fingerprint())
            assert lines[0].endswith(f"(public key {fingerprints[-1]})")
            assert client.ask(request_body(model="eliza"))[1].status_code == 200
    assert fingerprints[0] == fingerprints[1]
    assert main(["node", "--port", "0", "--key-file", str(tmp_path / "none")]) == 2
    path.chmod(0o644)
    assert main(["node", "--port", "0", "--key-file", str(path)]) == 2
    assert "mode 0644" in capsys.readouterr().err


def test_keys_rotate_and_requests_in_flight_are_answered() -> None:
    with (
        started("node", "--port", "0", "--rotate-seconds", "1", count=4) as (lines, _),
        Client(url_in(lines[0]), model="eliza") as client,
    ):
        assert lines[3].endswith("; the keys are replaced after 1 s")
        client.lock()
        first, session = client.told["public_key"], client.session()
        sealed = session.seal_request(request_body(model="eliza"), stream=False)
        pause = threading.Event()
        for _ in range(500):
            client.lock()
            if client.told["public_key"] != first:
                break
            pause.wait(0.02)
        assert client.told["public_key"] != first
        assert session.open_response(client.http.post(SEALED_CHAT, content=sealed).content)
        assert client.ask(request_body(model="eliza"))[1].status_code == 200


@contextlib.contextmanager
def slow_upstream(go_on: threading.Event) -> Iterator[str]:
    """A service whose stream waits in the middle."""

    async def answer(_request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: " + CHUNKS[0] + b"\n\n"
            while not go_on.is_set():
                await anyio.sleep(0.005)
            yield b"data: " + CHUNKS[1] + b"\n\n" + DONE

        return StreamingResponse(events(), media_type="text/event-stream")

    with serving(Starlette(routes=[Route(CHAT, answer, methods=["POST"])])) as url:
        try:
            yield url
        finally:
            go_on.set()


def closed(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionError:
        return True
    return False


def wait_until_closed(url: str) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if closed(url):
            return
        pause.wait(0.02)
    raise AssertionError("it still listens")


def test_a_signal_lets_streams_finish_on_both_sides() -> None:
    go_on = threading.Event()
    with (
        slow_upstream(go_on) as upstream,
        started("node", "--port", "0", "--upstream", upstream) as (lines, sidecar),
        started("gateway", "--port", "0", "--nodes", url_in(lines[0])) as (said, process),
        httpx.Client(trust_env=False, verify=NO_CAS, timeout=60, headers={"Authorization": "Bearer any"}) as http,
        http.stream("POST", url_in(said[0]) + CHAT, json=body(stream=True)) as response,
    ):
        parts = response.iter_raw()
        received = next(parts)
        for each, url in ((process, url_in(said[0])), (sidecar, url_in(lines[0]))):
            each.terminate()
            wait_until_closed(url)
        go_on.set()
        received += b"".join(parts)
        assert events_of(received.decode()) == [*(chunk.decode() for chunk in CHUNKS), "[DONE]"]
        for each in (process, sidecar):
            assert each.communicate(timeout=60)[1] == ""
            assert each.returncode == -signal.SIGTERM


def test_a_stream_that_outlasts_its_time_is_cut_and_not_ended() -> None:
    go_on = threading.Event()
    with (
        slow_upstream(go_on) as upstream,
        started("node", "--port", "0", "--upstream", upstream, "--shutdown-seconds", "0") as (lines, process),
        Client(url_in(lines[0])) as client,
    ):
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_raw()
            session.receive_data(next(parts))
            assert isinstance(session.next_event(), ac.Chunk)
            process.terminate()
            with pytest.raises(httpx.RemoteProtocolError):
                next(parts)
        process.communicate(timeout=60)


def test_a_cut_stream_is_a_line_in_the_log_and_no_traceback() -> None:
    chunks = [chat_chunk("canary"), chat_chunk("canary", "stop")]
    with (
        oracle_node(chunks=chunks, behaviour=Behaviour(nonces="fresh", cut=800)) as foreign,
        started("gateway", "--port", "0", "--nodes", foreign.base_url) as (lines, process),
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            ask(url_in(lines[0]), body(stream=True), Authorization="Bearer any")
        logged = ended(process)
    assert re.fullmatch(r"\S+ \S+ WARNING an answer from http://127\.0\.0\.1:\d+/\S+ failed: 502\n", logged)


REFUSED = {
    "no node": ([], "no node is named"),
    "not a node": (["--nodes", "localhost"], "a node is http"),
    "all addresses": (["--nodes", "http://h", "--host", "0.0.0.0"], "host is not loopback"),  # noqa: S104 - refused
    "another address": (["--nodes", "http://h", "--host", "192.0.2.1"], "host is not loopback"),
    "a name": (["--nodes", "http://h", "--host", "localhost.example"], "host is not loopback"),
    "remote but not here": (["--nodes", "http://h", "--host", "192.0.2.1", "--allow-remote"], "atoma-crypto gateway: "),
    "a token of two words": (["--nodes", "http://h", "--token", "a b"], "the token is empty or has characters"),
    "no limit": (["--nodes", "http://h", "--max-request-bytes", "1"], "64 to 2^40 bytes"),
    "no file": (["--config", "/nonexistent/file"], "No such file"),
    "no port": (["--nodes", "http://h", "--port", "x"], "a port is a number"),
    "upstream": (["--upstream", "http://h"], "unrecognized"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_asked_wrongly_is_said_and_is_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object = None
    try:
        status = main(["gateway", *([] if "--port" in arguments else ["--port", "0"]), *arguments])
    except SystemExit as left:  # argparse's way
        status = left.code
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err
    assert printed.out == ""


def test_who_allows_others_is_told_so() -> None:
    with (
        node(ElizaModel()) as client,
        started("gateway", "--port", "0", "--host", "0.0.0.0", "--allow-remote", "--nodes", client.url) as (  # noqa: S104 - the case
            lines,
            _,
        ),
    ):
        assert lines[0].endswith("/v1 (others can reach it)")
        port = lines[0].split(":")[2].partition("/")[0]
        response = ask(f"http://127.0.0.1:{port}", ELIZA, Host="box.example", Authorization="Bearer any")
        assert json.loads(response.text)["model"] == "eliza"


def test_a_missing_extra_is_named() -> None:
    for missing in ("uvicorn", "httpx"):
        script = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from atoma_crypto.cli import main; sys.exit(main(['gateway', '--port', '0', '--nodes', 'http://h']))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr == f"atoma-crypto: {missing} is missing: pip install 'atoma-crypto[server]'\n"
        assert done.stdout == ""
