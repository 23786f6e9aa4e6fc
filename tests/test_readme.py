"""The README's client and node run as they stand there, and talk to each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from serving import serving

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def programs() -> tuple[str, str]:
    client, node = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return client, node


def test_they_are_as_short_as_promised(programs: tuple[str, str]) -> None:
    for program in programs:
        assert len([line for line in program.splitlines() if line.strip()]) <= 22


def test_the_client_reads_what_the_node_says(programs: tuple[str, str]) -> None:
    client, node = programs
    names: dict[str, Any] = {}
    exec(compile(node, "node.py", "exec"), names)  # noqa: S102 - that is the test
    with serving(names["app"]) as url:
        ran = subprocess.run(
            [sys.executable, "-c", client.replace("http://127.0.0.1:8000", url), names["KEY"].public_key.to_base64()],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "Why do you say: I feel watched. ",
        "EndOfStream(chunk_count=7, usage=None)",
    ]


def test_the_client_reads_what_the_docs_own_node_says(programs: tuple[str, str]) -> None:
    (node,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "node.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(node, "node.py", "exec"), names)  # noqa: S102 - that is the test
    with serving(names["app"]) as url:
        client = programs[0].replace("http://127.0.0.1:8000", url)
        key = httpx.get(f"{url}/.well-known/atoma-node-keys").json()["keys"][0]["public_key"]
        ran = subprocess.run([sys.executable, "-c", client, key], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "EndOfStream" in ran.stdout.splitlines()[-1]


def test_every_error_that_the_readme_lists_is_there_and_none_is_missing() -> None:
    table = README.read_text(encoding="utf-8").partition("## Errors")[2].partition("## Threat")[0]
    named = set(re.findall(r"`(\w+(?:Error|Warning))`", table)) - {"TypeError", "ValueError"}
    exported = {name for name in ac.__all__ if name.endswith(("Error", "Warning"))}
    assert named == exported
