"""Our readers of v2 and the reference's, on texts that nobody would send: they say the same of each.

Requests are compared by what a node says, replies by what a client gives and how it ends.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
import reference_v2 as v2
from atoma_crypto.cli._vectors import _client, _expected, _opened, _read
from make_v2_vectors import ABORT, NOW, SECRETS, events, sealed, seed, shown
from reference_v2 import Record

REQUEST: Final = sealed("agreement")
ENVELOPE: Final = v2.write_envelope(REQUEST.envelope)
MEMBERS: Final[dict[str, Any]] = v2.read_object(ENVELOPE)
SALT: Final = seed("agreement, salt")
KEYS: Final = v2.reply_keys(REQUEST.exported, REQUEST.envelope.enc, SALT)
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
STREAM: Final = (Record(0, None, b"a"), Record(0, USAGE, b"bc"), Record(1, USAGE, b"d"))
STREAMS: Final = tuple(
    b"".join(events(KEYS, SALT, records, event=True))
    for records in (STREAM, (Record(0, None, b"a"), Record(2, None, ABORT)), (Record(1, None, b""),))
)
OBJECTS: Final = tuple(
    events(KEYS, SALT, [record], event=False)[0] for record in (Record(3, USAGE, b"abc"), Record(2, None, ABORT))
)
KEY: Final = ac.SecretKey.from_bytes(SECRETS["X25519"])

# Pieces of JSON and of events, good and bad, that can stand anywhere.
NUMBERS: Final = ("0", "1", "2", "3", "-1", "01", "1.0", "2.0", "1e3", "2e0", str(2**53 - 1), str(2**53))
STRINGS: Final = ('""', '"x"', '"\\u0076"', '"\\ud800"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"', "\u00e9", "\ufeff")
PAIRS: Final = ('"v":2,', '"v":1,', '"x":1,', '"flag":1,', '"usage":null,', '"salt":null,', '"stream":true,')
NESTED: Final = ("[" * 15 + "]" * 15, "[" * 16 + "]" * 16, '"x":' + '{"":' * 14 + "1" + "}" * 14 + ",", '{"a":1}')
WORDS: Final = ("null", "true", "false", "NaN", "Infinity", "data:", "data", ":x", "//", "\r\n", "\n\n", "==")
PIECES: Final = (*NUMBERS, *STRINGS, *PAIRS, *NESTED, *WORDS, *'{}[],:"\\=A+/-_ \t\r\n\x00\x7f')
VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**54)
    | st.sampled_from([0, 1, 2, 3, 2**53 - 1, 2**53, 2**64, 1.0, 2.0, "2", "", "m", "n", "/v1/chat/completions"])
    | st.sampled_from([value for value in MEMBERS.values() if isinstance(value, str)])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def spliced(draw: st.DrawFn, text: bytes) -> bytes:
    """One to three edits: a piece of JSON, a byte, or nothing instead of some bytes."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 4, 30]))
        piece = draw(st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=2))
        text = text[:at] + piece + text[at + gone :]
    return text


@st.composite
def remembered(draw: st.DrawFn, members: dict[str, Any]) -> bytes:
    """The same object with other values, or other names, in another order, and printed in another way."""
    found = list(members.items())
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(found) - 1))
        name, value = found[at]
        change = draw(st.sampled_from(["value", "value", "value", "drop", "twice", "more", "order"]))
        if change == "value":
            found[at] = (name, draw(VALUES))
        elif change == "drop" and len(found) > 1:
            found.pop(at)
        elif change == "twice":
            found.append((name, draw(st.just(value) | VALUES)))
        elif change == "more":
            found.insert(at, (draw(st.text(max_size=4)), draw(VALUES)))
        else:
            found.reverse()
    gap, ascii_only = draw(st.sampled_from(["", " ", "\n\t"])), draw(st.booleans())
    text = ",".join(
        f"{gap}{json.dumps(name, ensure_ascii=ascii_only)}:{gap}{json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in found
    )
    return b"{" + text.encode("utf-8", "surrogatepass") + b"}"


def said_by_reference(envelope: bytes) -> str:
    try:
        v2.open_request("X25519", SECRETS["X25519"], envelope, now=NOW)
    except v2.RefusedError as refused:
        return str(refused)
    return "ok"


def said_by_us(envelope: bytes) -> str:
    store = ac.MemoryReplayCache(fresh_key=True)
    with ac.NodeSession(KEY, protocols=("v2",), replay_cache=store, clock=lambda: NOW) as node:
        return _opened(node, envelope)[0]


def is_sealed_in_base64(envelope: bytes) -> bool:
    """Whether the ciphertext is, which a node may look at last."""
    try:
        v2.unb64(v2.read_object(envelope)["ciphertext"])
    except ValueError:
        return False
    return True


def agree_on_a_request(envelope: bytes) -> None:
    ours, theirs = said_by_us(envelope), said_by_reference(envelope)
    if theirs == "INVALID_BODY" and ours in ("KEY_UNKNOWN", "CLOCK_SKEW"):
        assert not is_sealed_in_base64(envelope)
    else:
        assert ours == theirs


def agree_on_a_reply(received: bytes, *, stream: bool = True) -> None:
    verified: list[Record]
    try:
        verified, said = v2.read_reply(REQUEST.exported, REQUEST.envelope.enc, stream, received), "ok"
    except v2.ReplyError as error:
        verified, said = error.verified, str(error)
    records = [{"flag": one.flag, "usage": one.usage, "plaintext": shown(one.plaintext)} for one in verified]
    is_object = received.lstrip(b" \t\r\n")[:1] == b"{"
    ours = _read(_client(REQUEST.exported, REQUEST.envelope.enc, stream), [received], stream and not is_object)
    theirs = _expected(records, said)
    assert ours == theirs


@st.composite
def with_another_event(draw: st.DrawFn) -> bytes:
    """A stream of which one event has other members."""
    texts = STREAMS[0].split(b"\n\n")[:-1]
    at = draw(st.integers(0, len(texts) - 1))
    texts[at] = b"data: " + draw(remembered(v2.read_object(texts[at][6:]))).replace(b"\n", b"\ndata: ")
    return b"".join(text + b"\n\n" for text in texts)


ENVELOPES: Final = spliced(ENVELOPE) | remembered(MEMBERS)
REPLIES: Final = st.sampled_from(STREAMS).flatmap(spliced) | with_another_event()
ANSWERS: Final = st.sampled_from(OBJECTS).flatmap(lambda text: spliced(text) | remembered(v2.read_object(text)))


@settings(max_examples=150, deadline=None)
@given(ENVELOPES)
def test_requests(envelope: bytes) -> None:
    agree_on_a_request(envelope)


@settings(max_examples=200, deadline=None)
@given(REPLIES)
def test_streams(received: bytes) -> None:
    agree_on_a_reply(received)


@settings(max_examples=100, deadline=None)
@given(ANSWERS, st.booleans())
def test_objects(received: bytes, stream: bool) -> None:
    agree_on_a_reply(received, stream=stream)


@pytest.mark.long
@settings(max_examples=1500, deadline=None)
@given(ENVELOPES, REPLIES, ANSWERS)
def test_more_of_all(envelope: bytes, received: bytes, answer: bytes) -> None:
    agree_on_a_request(envelope)
    agree_on_a_reply(received)
    agree_on_a_reply(answer, stream=False)


@pytest.mark.parametrize("envelope", [ENVELOPE, v2.dumps(dict(reversed(MEMBERS.items())))])
def test_what_is_right_is_opened_by_both(envelope: bytes) -> None:
    assert said_by_us(envelope) == said_by_reference(envelope) == "ok"
    for received in STREAMS:
        agree_on_a_reply(received)
