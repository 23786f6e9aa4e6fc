"""The examples run as they stand, against a real node on loopback."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import atoma_crypto as ac
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.node import create_app
from serving import serving

ROOT: Final = Path(__file__).resolve().parent.parent
LOOPBACK: Final = os.environ | {"NO_PROXY": "127.0.0.1", "PYTHONIOENCODING": "utf-8"}


KEY_OF_THE_PAGES: Final = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="  # RFC 7748, section 6.1


@pytest.fixture(scope="module")
def node_key() -> Iterator[ac.SecretKey]:
    with ac.SecretKey.generate() as key:
        yield key


@pytest.fixture(scope="module")
def node_url(node_key: ac.SecretKey) -> Iterator[str]:
    with serving(create_app(node_key, ElizaModel(seed=7))) as url:
        yield url


# An example that is a client: it takes the node's URL, and its output is this.
CLIENTS: Final = {
    "atoma_sdk.py": r"And what has kept you from a holiday so far\?\n.*\b(mother|family)\b.*\n\d+ tokens\n",
    "openai_client.py": r"And what has kept you from a holiday so far\?\n.*\b(mother|family)\b.*\n",
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_reads_what_the_node_says(node_url: str, name: str) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), node_url]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=LOOPBACK, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(CLIENTS[name], ran.stdout), ran.stdout


# A page whose Python blocks run, in order and as one program, against a node in the place of the URL that they name.
PAGES: Final = ["openai.md", "sdk.md"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_code_and_its_code_runs(node_url: str, node_key: ac.SecretKey, name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text.splitlines()[2].startswith("```")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)).replace("http://127.0.0.1:8080", node_url)
    assert KEY_OF_THE_PAGES in program
    program = program.replace(KEY_OF_THE_PAGES, node_key.public_key.to_base64())
    command = [sys.executable, "-W", "error", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=LOOPBACK, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_own_framing() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "own_framing.py")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "desserts stressed reward drawer\n", "")


@pytest.mark.parametrize("at", [0, 3, 4, 35, 36, 40, 59, 63, 82, 90, 102])
def test_own_framing_notices_what_is_cut_off(at: int) -> None:
    """Whichever byte of the node's is the last that arrives, the example comes to no plain end."""
    example = runpy.run_path(str(ROOT / "examples" / "own_framing.py"))
    here, middle = socket.socketpair()
    there, node = socket.socketpair()

    def relay() -> None:
        asked = b""
        with middle, there:
            while len(asked) < 4 + 32 + 4 + 5 + 16:
                asked += middle.recv(1 << 16)
            there.sendall(asked)
            answer = b"".join(iter(lambda: there.recv(1 << 16), b""))
            assert len(answer) == 103
            middle.sendall(answer[:at])

    with ac.SecretKey.generate() as key:
        threads = [threading.Thread(target=relay), threading.Thread(target=example["serve"], args=(node, key))]
        for thread in threads:
            thread.start()
        answer = example["ask"](here, key.public_key, b"ab cd")
        with pytest.raises(ac.TruncatedStreamError):
            list(answer)
        for thread in threads:
            thread.join()


def test_every_example_is_run() -> None:
    # test_asgi_examples.py, test_gateway_docs.py, test_js_client.py, test_length_hiding.py
    elsewhere = {"fastapi_node.py", "vllm_node.sh", "gateway_curl.sh", "client.mjs", "length_hiding.py"}
    elsewhere |= {"own_framing.py"}  # above
    assert {path.name for path in (ROOT / "examples").iterdir() if path.is_file()} == {*CLIENTS, *elsewhere}
