"""What the C reader takes itself, and what it leaves to Python's json: both say the same."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from helpers import (
    DRESSINGS,
    USAGE,
    Reading,
    SessionPair,
    member,
    native,
    punted,
    read,
    twin,
)


def opened_by_c(event: bytes) -> bool:
    """Whether the C reader takes the event itself, by asking it."""
    pair = SessionPair()
    out = ffi.new("uint8_t[]", 4096)
    events = ffi.new("ac_v1_events *", {"opener": native(pair.client), "out": out, "out_cap": 4096, "event_cap": 1})
    status = lib.ac_v1_events_open(events, event, len(event))
    return bool(status != lib.AC_PUNT)


@pytest.mark.parametrize("name", DRESSINGS)
def test_which_events_go_to_python(name: str) -> None:
    """What nodes print stays in C; the test of agreement below would say nothing if all went one way."""
    pair = SessionPair()
    event = DRESSINGS[name](pair.node.seal_chunk(b"text", USAGE))
    punt = name in {"pretty", "two lines", "escaped", "nested"} or b"\\/" in event
    assert opened_by_c(event) is not punt
    assert not opened_by_c(punted(pair.node.seal_chunk(b"text", USAGE)))


SPOILED: Final[list[Callable[[str], str]]] = [
    lambda t: t,
    lambda t: t.replace('"nonce"', '"Nonce"'),
    lambda t: t.replace('"ciphertext"', '"nonce"'),
    lambda t: t[:-1] + ',"nonce":"AAAAAAAAAAAAAAAA"}',
    lambda t: t[:-1] + ',"usage":null}',
    lambda t: t[:-1] + ',"signature":"x"}',
    lambda t: t[:-1] + ',"x":1,"x":{"x":1}}',
    lambda t: t[:-1] + ',"x":01}',
    lambda t: t[:-1] + ',"x":-}',
    lambda t: t[:-1] + ',"x":-0}',
    lambda t: t[:-1] + ',"x":1.}',
    lambda t: t[:-1] + ',"x":1.5E+7}',
    lambda t: t[:-1] + ',"x":.5}',
    lambda t: t[:-1] + ',"x":1e}',
    lambda t: t[:-1] + ',"x":1e999}',
    lambda t: t[:-1] + ',"x":NaN}',
    lambda t: t[:-1] + ',"x":-Infinity}',
    lambda t: t[:-1] + ',"x":+1}',
    lambda t: t[:-1] + ',"x":' + 41 * "7" + "}",
    lambda t: t[:-1] + 40 * ',"x":1' + "}",
    lambda t: t[:-1] + 1001 * ',"x":1' + "}",
    lambda t: t[:-1] + ',"x":{' + 1001 * '"x":1,' + '"x":1}}',
    lambda t: t[:-1] + ',"x":tru}',
    lambda t: t[:-1] + ',"x":nulll}',
    lambda t: t[:-1] + ',"x":"\t"}',
    lambda t: t[:-1] + ',"x":"\x7f"}',
    lambda t: t[:-1] + ',"x":"\u00e9"}',
    lambda t: t[:-1] + ',"x":"\\ud800"}',
    lambda t: t[:-1] + ',"x":"\\x"}',
    lambda t: t[:-1] + ',"x":{}}',
    lambda t: t[:-1] + ',"x":{ "a" : { } } }',
    lambda t: t[:-1] + ',"x":{"a":1,}}',
    lambda t: t[:-1] + ',"x":[1]}',
    lambda t: t[:-1] + ',"x":}',
    lambda t: t[:-1] + ',"x"}',
    lambda t: t[:-1] + ",}",
    lambda t: t[:-1] + ",x:1}",
    lambda t: t[:-1],
    lambda t: t + "}",
    lambda t: t + " x",
    lambda t: t + "{}",
    lambda t: "\ufeff" + t,
    lambda t: "[" + t + "]",
    lambda _: "",
    lambda _: "{}",
    lambda _: "{ }",
    lambda _: "null",
    lambda _: '"text"',
    lambda _: "[DONE] ",
    lambda t: re.sub('"response_hash":"[^"]*"', '"response_hash":""', t),
    lambda t: re.sub('"response_hash":"[^"]*"', '"response_hash":null', t),
    lambda t: re.sub('"response_hash":"[^"]*"', '"response_hash":0', t),
    lambda t: re.sub('"response_hash":"[^"]*"', '"response_hash":nul', t),
    lambda t: re.sub('"response_hash":"...', '"response_hash":"', t),
    lambda t: re.sub('"nonce":"[^"]*"', '"nonce":null', t),
    lambda t: re.sub('"nonce":"[^"]*"', '"nonce":""', t),
    lambda t: re.sub('"nonce":"[^"]*"', '"nonce":"AAAAAAAAAAAAAAAA"', t),
    lambda t: re.sub('"nonce":"([^"]*)"', r'"nonce":"\1AAAA"', t),
    lambda t: re.sub('"ciphertext":"[^"]*"', '"ciphertext":5', t),
    lambda t: re.sub('"ciphertext":"[^"]*"', '"ciphertext":""', t),
    lambda t: re.sub('"ciphertext":"[^"]*"', '"ciphertext":"AAAAAAAAAAAAAAAAAAAA"', t),
    lambda t: re.sub('"ciphertext":"[^"]*"', '"ciphertext":"AAAAAAAAAAAAAAAAAAAAAA=="', t),
    lambda t: re.sub('"ciphertext":"(.)', r'"ciphertext":"-\1', t),
    lambda t: re.sub('"ciphertext":"(.)', r'"ciphertext":"\\u00e9\1', t),
    lambda t: re.sub('"ciphertext":"(.)', r'"ciphertext":" \1', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":null', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{}', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{' + ",".join(f'"{i}":1' for i in range(40)) + "}", t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{' + ",".join(f'"{i}":1' for i in range(1002)) + "}", t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{"a":1,"a":2, "b":"c\\"d"}', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{"a":{"b":[1,{"c":null}]}}', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":{"a":{"b":1}}', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":[]', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":5', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":true', t),
    lambda t: re.sub('"usage":{[^}]*}', '"usage":"text"', t),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(SPOILED)))
def test_c_and_python_agree(case: int) -> None:
    """The same event as it is, and with the C reader made to leave it alone (where that can be)."""
    pair = SessionPair()
    text = pair.node.seal_chunk(b"the text", {"a": 1}).decode().removeprefix("data: ").rstrip()
    spoiled = SPOILED[case](text)
    event = b"data: " + spoiled.encode() + b"\n\n"
    with_c = read(twin(pair.client), [event])
    assert not isinstance(with_c.end, ac.EndOfStream) or [text for text, _, _ in with_c.chunks] == [b"the text"]
    variants = [b"data:\n" + event, event[:-1] + b"data:\n\n"]  # white space, in JSON; an error in no case but its own
    if spoiled.startswith("{") and spoiled.endswith("}") and len(spoiled) > 3:
        variants.append(b'data: {"nested":[],' + event.removeprefix(b"data: {"))
    for variant in variants:
        assert not opened_by_c(variant)
        assert read(twin(pair.client), [variant]) == with_c
    # and as the answer to a request that is not a stream
    reply = SessionPair(stream=False)
    text = reply.node.seal_response(b"the text", {"a": 1}).decode()
    spoiled = SPOILED[case](text)
    with_c_reply = open_reply(reply, spoiled)
    if with_c.chunks:
        assert with_c_reply == b"the text"
    else:
        assert with_c_reply is (ac.EnvelopeError if with_c.end is ac.FramingError else with_c.end)
    if spoiled.startswith("{") and spoiled.endswith("}") and len(spoiled) > 3:
        assert open_reply(reply, '{"nested":[],' + spoiled[1:]) == with_c_reply


def open_reply(pair: SessionPair, text: str) -> bytes | type[ac.RemoteProtocolError]:
    try:
        return twin(pair.client).open_response(text.encode("utf-8", "surrogatepass"))
    except ac.RemoteProtocolError as exc:
        return type(exc)


ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize("name", ["ciphertext", "response_hash"])
@pytest.mark.parametrize("punt", [False, True])
def test_spare_bits_of_base64_must_be_zero(length: int, name: str, punt: bool) -> None:
    """Another text for the same bytes: a lenient decoder would open it."""
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x" * length)
    text = member(event, name)
    padding = text.count("=")
    last = len(text) - padding - 1
    for more in range(1, 1 << 2 * padding):
        other = text[:last] + ALPHABET[ALPHABET.index(text[last]) + more] + text[last + 1 :]
        assert base64.b64decode(other) == base64.b64decode(text)
        spoiled = event.replace(text.encode(), other.encode())
        assert read(twin(pair.client), [punted(spoiled) if punt else spoiled]) == Reading([], ac.FramingError)
    assert read(pair.client, [event]).end == ac.EndOfStream(1, None)


@pytest.mark.parametrize("data", [b"\xff", b'{"x":"\xed\xa0\x80"}', b'\xc3{"a":1}', b"{\x00}"])
def test_events_that_are_not_utf_8(data: bytes) -> None:
    assert read(SessionPair().client, [b"data: " + data + b"\n\n"]) == Reading([], ac.FramingError)
    with pytest.raises(ac.EnvelopeError):
        SessionPair(stream=False).client.open_response(data)
