"""The client in JavaScript, written from docs/protocol-v2.md alone: against the vectors, and against our node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from make_v2_vectors import PATH

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
