"""docs/protocol-v1.md and docs/protocol-v2.md: each MUST names tests or vectors, and all of those exist."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import atoma_crypto as ac

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ("protocol-v1.md", "protocol-v2.md")
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
VECTOR: Final = re.compile(r"`v2\.json: ([^`]+)`")
RULE: Final = re.compile(r"\*\*(\d+)\.(\d+)\*\*")


@cache
def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    """Items of lists and paragraphs, each on one line; what stands in code blocks is left out."""
    text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=[*-] |\|)", text)]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def vectors() -> frozenset[str]:
    found = json.loads((ROOT / "tests" / "vectors" / "v2.json").read_text(encoding="utf-8"))
    return frozenset(vector["name"] for vector in found)


@pytest.mark.parametrize("name", DOCS)
def test_each_must_has_a_test(name: str) -> None:
    demanding = [b for b in blocks(name) if re.search(r"\bMUST\b", b) and "RFC 2119" not in b]
    assert len(demanding) > 10
    bare = [block for block in demanding if not TEST.search(block) and not VECTOR.search(block)]
    assert bare == []
    assert [block for block in demanding if not RULE.search(block)] == []


@pytest.mark.parametrize("name", DOCS)
def test_each_test_that_is_named_is_there(name: str) -> None:
    named = TEST.findall(text_of(name))
    assert len(named) > 10
    missing = [f"{path}::{test}" for path, test in named if test not in functions_of(path)]
    assert missing == []
    assert [vector for vector in VECTOR.findall(text_of(name)) if vector not in vectors()] == []


@pytest.mark.parametrize("name", DOCS)
def test_rules_are_numbered_in_order_under_their_section(name: str) -> None:
    section, number = 0, 0
    for found in re.finditer(r"^## (\d+)\.|^\* \*\*(\d+)\.(\d+)\*\*", text_of(name), flags=re.MULTILINE):
        if found[1]:
            section, number = int(found[1]), 0
        else:
            number += 1
            assert (int(found[2]), int(found[3])) == (section, number)
    assert number > 0 or section > 1
    referred = re.findall(r"\((\d+\.\d+)\)", text_of(name))
    assert {reference for reference in referred if f"**{reference}**" not in text_of(name)} == set()


def test_what_a_must_demands_is_seen() -> None:
    """Else the tests above would pass over an empty list."""
    assert re.search(r"\bMUST\b", "It MUST NOT be")
    assert TEST.findall("(`tests/test_x.py::test_y`)") == [("tests/test_x.py", "test_y")]
    assert "test_what_a_must_demands_is_seen" in functions_of("tests/test_protocol_docs.py")
    assert "depth 17" in vectors()


def test_receivers_take_as_much_as_they_must() -> None:
    """Rule 4.18, with the default limits."""
    with ac.SecretKey.generate() as key:
        for stream, size in ((True, 1 << 20), (False, 16 << 20)):
            client = ac.ClientSession(key.public_key, model="m", stack_small_id=None, protocol="v2")
            node = ac.NodeSession(key)
            node.open_request(client.seal_request(b'{"stream":true}' if stream else b"{}", stream=stream))
            if not stream:
                assert client.open_response(node.seal_response(bytes(size))) == bytes(size)
                continue
            client.receive_data(node.seal_chunk(bytes(size)))
            chunk = client.next_event()
            assert isinstance(chunk, ac.Chunk)
            assert chunk.plaintext == bytes(size)
