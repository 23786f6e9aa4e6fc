"""The client in JavaScript, which shares nothing with the library: against the vectors, and against our node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

import atoma_crypto as ac
from confidential_node import Abort, Node, delta, running
from make_v2_vectors import PATH
from middle import Attack, Middle, Passed, flipped
from serving import serving
from test_cli_node import running as program

ROOT: Final = Path(__file__).parent.parent
CLIENT: Final = ROOT / "examples" / "client.mjs"
NODE_JS: Final = shutil.which("node")
if NODE_JS is None:
    pytest.skip("Node.js is not installed", allow_module_level=True)
VERSION: Final = subprocess.run([NODE_JS, "--version"], capture_output=True, text=True).stdout.strip()
if int(VERSION[1:].partition(".")[0]) < 20:
    pytest.skip(f"Node.js {VERSION} has no WebCrypto that knows X25519: 20 or later is needed", allow_module_level=True)


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE_JS is not None
    return subprocess.run([NODE_JS, str(script), *arguments], capture_output=True, text=True, timeout=60)


def test_it_is_short_and_needs_no_package() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert set(re.findall(r'from "([^"]+)"', text)) == {"node:url"}
    assert "require(" not in text
    assert "import(" not in text


def test_its_cryptography_holds_every_vector() -> None:
    """All but those that only a node can look at, or that need X-Wing."""
    vectors = json.loads(PATH.read_text(encoding="utf-8"))
    fitting = [vector for vector in vectors if "received" in vector or "aad" in vector]
    assert len(fitting) > 100
    done = run(Path(__file__).parent / "client_vectors.mjs", str(PATH))
    assert (done.returncode, done.stdout) == (0, f"{len(fitting)} fit, 0 differ\n")


def test_it_says_how_it_is_used() -> None:
    done = run(CLIENT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "client.mjs: usage: node client.mjs URL TOKEN PUBLIC_KEY MODEL PROMPT\n"


# ---- against our node -----------------------------------------------------------------------------------------------


def ask(url: str, key: str, model: str = "m", prompt: str = "Hello") -> tuple[int, str, str]:
    done = run(CLIENT, url, "any", key, model, prompt)
    return done.returncode, done.stdout, done.stderr


def test_it_talks_with_the_node() -> None:
    """The program `atoma-crypto node`, and the key that it offers."""
    with program("--seed", "7", "--protocols", "v2") as (url, _, _):
        offered = httpx.get(f"{url}/.well-known/atoma-node-keys", trust_env=False).json()["keys"]
        key = next(offer["public_key"] for offer in offered if offer["suite"] == "X25519")
        status, said, error = ask(url, key, "eliza", "I need a holiday, é\U0001f600.")
        assert (status, error) == (0, "")
        assert len(said) > 10
        assert said.endswith("\n")
        other = ac.SecretKey.generate().public_key.to_base64()
        assert ask(url, other, "eliza") == (1, "", "client.mjs: the pinned key is not offered, or no longer good\n")
        status, said, error = ask(url, key, "another")
        assert (status, said) == (1, "")
        assert error.startswith("client.mjs: no node: HTTP ")


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Node, Middle]]:
    served = Node(v2=True)
    with running(served) as url:
        middle = Middle(url)
        with serving(middle.app()) as middle.url:
            yield served, middle


def test_it_prints_the_tokens(node: tuple[Node, Middle]) -> None:
    served, middle = node
    middle.honest()
    assert ask(middle.url, served.key.public_key.to_base64()) == (0, "Hello é\n", "")
    seen = served.seen[-1]
    assert seen.body == {"messages": [{"content": "Hello", "role": "user"}], "model": "m", "stream": True}
    assert seen.envelope["v"] == 2
    assert b"Hello" not in middle.saw


def sealed_error(*_: object) -> Any:
    raise Abort("OVERLOADED", "too busy: é", 503, 200)


def error_in_the_middle(*_: object) -> Any:
    def chunks() -> Iterator[bytes]:
        yield delta("Hel")
        raise Abort("LOST", "the model is gone", 502, 200)

    return chunks()


@pytest.mark.parametrize(
    ("answer", "printed", "told"),
    [
        (sealed_error, "", "the node has aborted: OVERLOADED (503): too busy: é"),
        (error_in_the_middle, "Hel", "the node has aborted: LOST (502): the model is gone"),
    ],
)
def test_an_abort_is_an_error(answer: Any, printed: str, told: str) -> None:
    served = Node(v2=True, answer=answer)
    with running(served) as url:
        assert ask(url, served.key.public_key.to_base64()) == (1, printed, f"client.mjs: {told}\n")


FORGED: Final = json.dumps({"error": {"code": "X", "message": "go away"}}).encode()
TRUNCATED: Final = "the reply is truncated: its end is missing"
ATTACKS: Final[dict[str, tuple[Attack, str, str]]] = {
    "cut between events": (lambda p: p.but(p.events[:3]), "Hello ", TRUNCATED),
    "cut in an event": (lambda p: p.but(p.body[:-10]), "Hello é", TRUNCATED),
    "connection broken": (lambda p: p.but(p.events[:2], abort=True), "Hel", "the connection broke"),
    "an event dropped": (lambda p: p.but(p.events[:1] + p.events[2:]), "", "could not be authenticated"),
    "a bit flipped": (lambda p: p.but([p.events[0], flipped(p.events[1])]), "", "could not be authenticated"),
    "a forged answer": (lambda _: Passed(b"", b'{"choices":[]}'), "", "malformed"),
    "a forged error": (
        lambda p: p.but(FORGED, status=502, content_type="application/json"),
        "",
        "HTTP 502, said in clear",
    ),
    "a redirect": (lambda p: p.but(b"", status=307, headers={"location": "http://127.0.0.1:1/"}), "", "fetch failed"),
    "an event behind the end": (lambda p: p.but([*p.events, p.events[0]]), "Hello é", "after the end"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_who_stands_between_is_not_believed(node: tuple[Node, Middle], name: str) -> None:
    served, middle = node
    middle.honest()
    middle.on_answer, printed, told = ATTACKS[name]
    status, said, error = ask(middle.url, served.key.public_key.to_base64())
    assert (status, said) == (1, printed)
    assert error.startswith("client.mjs: ")
    assert told in error
