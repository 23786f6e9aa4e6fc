"""The gateway's page and its example run as they stand."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atoma_crypto.server.eliza import ElizaModel
from gateways import CHAT, COMPLETION, body, events_of, gateway, oracle_node
from oracle import Behaviour
from programs import unmeasured
from serving import NO_CAS, node, serving

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def eliza_gateway() -> Iterator[str]:
    with node(ElizaModel(seed=7)) as client, gateway(client.url) as gate:
        yield gate.url


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_the_page_begins_with_commands_that_run() -> None:
    assert PAGE.splitlines()[2] == "```sh"
    commands = blocks("sh")[0]
    install, rest = commands.split("\n", 1)
    assert install == "pip install '.[server]'"
    for port in ("8080", "8081"):
        assert port in rest
        rest = rest.replace(port, str(free_port()))
    with subprocess.Popen(
        ["/bin/sh", "-ec", rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured() | PATH,
        start_new_session=True,
    ) as shell:
        try:
            assert shell.wait(timeout=60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # what it has left running in the background
        out, _ = shell.communicate(timeout=60)
    assert out.count("listening on http://127.0.0.1:") == 2
    assert '"object":"chat.completion"' in out


def test_the_pages_v2_begins(tmp_path: Path) -> None:
    """The node and the gateway start, and the key that is pinned is the one that `keygen` printed."""
    commands = blocks("sh")[1].replace("8080", str(free_port())).replace("8081", str(free_port()))
    with subprocess.Popen(
        ["/bin/sh", "-ec", commands + "wait"],
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured() | PATH,
        cwd=tmp_path,
        start_new_session=True,
    ) as shell:
        try:
            assert shell.stdout is not None
            said = ""
            while "answers come" not in said or "protocol v2" not in said:
                line = shell.stdout.readline()
                assert line, said
                said += line
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
    assert "suites X25519; only to keys that are pinned: 1\n" in said
    assert "sealed requests go to http://127.0.0.1:" in said


def test_the_pages_client_runs(eliza_gateway: str) -> None:
    program = blocks("python")[0].replace("http://127.0.0.1:8081", eliza_gateway)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "holiday" in ran.stdout


def test_the_pages_own_gateway_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    with oracle_node() as foreign:
        own = blocks("python")[1].replace("http://127.0.0.1:8080", foreign.base_url)
        exec(compile(own, "gateway.py", "exec"), names)  # noqa: S102 - that is the test
        with serving(names["app"]) as url, httpx.Client(base_url=url, trust_env=False, verify=NO_CAS) as http:
            assert http.post(CHAT, json=body()).json() == COMPLETION
        assert capsys.readouterr().out == f"/v1/confidential/chat/completions {foreign.base_url} 7 8192 m\n"


def example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(ROOT / "examples" / "gateway_curl.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_example_runs(eliza_gateway: str) -> None:
    ran = example(f"{eliza_gateway}/v1")
    assert (ran.returncode, ran.stderr) == (0, "")
    whole, streamed = ran.stdout.split("\n", 1)
    assert "holiday" in whole
    assert events_of(streamed)[-1] == "[DONE]"


def test_the_example_fails_where_the_gateway_does(eliza_gateway: str) -> None:
    ran = example(f"{eliza_gateway}/v1", "unknown")
    assert ran.returncode == 22
    assert "SERVICE_UNAVAILABLE" in ran.stdout
    with oracle_node(behaviour=Behaviour(nonces="fresh", cut=700)) as foreign, gateway(foreign.base_url) as gate:
        assert example(f"{gate.url}/v1").returncode != 0
