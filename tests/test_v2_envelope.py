"""v2's readers of JSON: each rule by itself, and any text at all against the readers of tests/reference_v2.py."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
import reference_v2 as v2
from atoma_crypto import _envelope, _envelope_v2
from atoma_crypto._envelope_v2 import Metadata, Record, RequestEnvelope
from helpers import USAGE
from test_properties import few, many

GOOD: Final[dict[str, Any]] = {
    "ciphertext": base64.b64encode(bytes(16)).decode(),
    "enc": base64.b64encode(bytes(range(32))).decode(),
    "endpoint": "/v1/chat/completions",
    "key_id": base64.b64encode(b"12345678").decode(),
    "model_name": "m",
    "num_compute_units": 64,
    "sent_at": 1763808745,
    "stack_small_id": 42,
    "stream": True,
    "v": 2,
}
ENC_XWING: Final = base64.b64encode(bytes(1120)).decode()


def request(raw: bytes) -> RequestEnvelope:
    members = _envelope.read_members(raw, "the request", ac.EnvelopeError)
    if _envelope_v2.version_of(members) != 2:
        raise ac.EnvelopeError("v")
    return _envelope_v2.request_of(members)


def dumped(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not ...}).encode()


def test_a_request() -> None:
    expected = RequestEnvelope(
        GOOD["ciphertext"].encode(),
        bytes(range(32)),
        b"12345678",
        Metadata("/v1/chat/completions", "m", 42, 64, True, 1763808745),
    )
    assert request(dumped()) == expected
    assert request(json.dumps(dict(reversed(GOOD.items())), indent=3).encode()) == expected
    assert request(dumped(unknown=[{"a": 1.5}, None], other="x")) == expected
    assert request(dumped(enc=ENC_XWING)).enc == bytes(1120)
    for absent in (None, ...):
        got = request(dumped(stack_small_id=absent, num_compute_units=absent)).metadata
        assert (got.stack_small_id, got.num_compute_units) == (None, None)


TAKEN: Final[dict[str, list[Any]]] = {
    "endpoint": ["/", "//", "/a/B.9_-", "/" + "x" * 127],
    "model_name": ["m", " ", "\x00", "é" * 128, "\U0001f600", "a" * 256],
    "num_compute_units": [0, 2**53 - 1],
    "sent_at": [0, 2**53 - 1],
    "stack_small_id": [0, 2**53 - 1],
    "stream": [False],
}
NUMBERS: Final[list[Any]] = [-1, 2**53, 2**64, 1.0, 1e3, True, "1", [1], {}]
REFUSED: Final[dict[str, list[Any]]] = {
    "ciphertext": [..., None, "", 5, "é", *(base64.b64encode(bytes(length)).decode() for length in (13, 14, 15))],
    "enc": [
        *(..., None, "", 5, base64.b64encode(bytes(31)).decode(), GOOD["enc"].rstrip("="), ENC_XWING[:-4], "*" * 44),
        *(" " + GOOD["enc"], GOOD["enc"][:-2] + "9=", GOOD["enc"].replace("A", "-"), GOOD["enc"] + "AAAA", "é" * 44),
    ],
    "endpoint": [..., None, "", "v1", "/a b", "/a\n", "/é", "/a?b", "/" + "x" * 128, 5, ["/"]],
    "key_id": [
        ...,
        None,
        "",
        5,
        base64.b64encode(bytes(7)).decode(),
        base64.b64encode(bytes(9)).decode(),
        "MTIzNDU2Nzg",
    ],
    "model_name": [..., None, "", "\ud800", "é" * 129, "a" * 257, 5, ["m"]],
    "num_compute_units": NUMBERS,
    "sent_at": [*NUMBERS, None, ...],
    "stack_small_id": NUMBERS,
    "stream": [..., None, 0, 1, "true"],
}


@pytest.mark.parametrize("name", TAKEN)
def test_values_that_are_taken(name: str) -> None:
    for value in TAKEN[name]:
        metadata = request(dumped(**{name: value})).metadata
        assert getattr(metadata, "model" if name == "model_name" else name) == value
        assert v2.read_envelope(dumped(**{name: value})).metadata[name] == value


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_are_refused(name: str) -> None:
    for value in REFUSED[name]:
        with pytest.raises(ac.EnvelopeError, match=name):
            request(dumped(**{name: value}))
        with pytest.raises(v2.RefusedError):
            v2.read_envelope(dumped(**{name: value}))


TEXTS: Final = [
    dumped()[:-1] + b',"v":2}',
    dumped()[:-1] + b',"x":1,"x":1}',
    dumped()[:-1] + b',"\\u0078":1,"x":1}',
    dumped().replace(b"42", b"42.0"),
    dumped().replace(b"42", b"4.2e1"),
    dumped().replace(b"42", b"-0"),
    dumped().replace(b"42", b"042"),
    dumped().replace(b"42", b"NaN"),
    dumped().replace(b"42", b"9" * 5000),
    dumped() + b"x",
    b"\xef\xbb\xbf" + dumped(),
    dumped().replace(b"/v1", b"/\xff"),
    dumped().decode().encode("utf-16"),
    dumped()[:-1] + b"," + b'"x":' + b"[" * 16 + b"]" * 16 + b"}",
    dumped()[:-1] + b',"x":' + b'{"a":' * 16 + b"1" + b"}" * 16 + b"}",
    dumped()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    dumped()[:-1] + b',"x":' + b'[{"a":' * 8 + b"[]" + b"}]" * 8 + b"}",
    dumped()[:-1] + b",}",
    b"[" + dumped() + b"]",
    b"",
]


@pytest.mark.parametrize("raw", TEXTS, ids=range(len(TEXTS)))
def test_texts_that_are_refused(raw: bytes) -> None:
    with pytest.raises(ac.EnvelopeError):
        request(raw)
    with pytest.raises(v2.RefusedError):
        v2.read_envelope(raw)


def test_depth_and_nested_names_that_are_taken() -> None:
    for more in (b"[" * 15 + b"]" * 15, b'{"a":' * 15 + b"1" + b"}" * 15, b'{"a":1,"a":1}', b'"[[[[[[[[[[[[[[[[[[[["'):
        raw = dumped()[:-1] + b',"x":' + more + b"}"
        assert request(raw) == request(dumped())
        assert v2.read_envelope(raw)


def test_a_request_of_many_members_costs_nothing() -> None:
    with pytest.raises(ac.EnvelopeError, match="too many members"):
        _envelope.read_members(b"{" + b'"a":1,' * 1001 + b"}", "the request", ac.EnvelopeError)


# ---- records ----------------------------------------------------------------------------------------------------

RECORD: Final[dict[str, Any]] = {"ciphertext": "AAAA", "flag": 1, "salt": "BBBB", "usage": USAGE, "v": 2}


def record(**changes: Any) -> Record:
    members = {name: value for name, value in (RECORD | changes).items() if value is not ...}
    return _envelope_v2.read_record(json.dumps(members), "it", ac.FramingError)


def test_a_record() -> None:
    assert record() == Record(b"AAAA", 1, b"BBBB", (3, 5, 8))
    assert record(flag=..., salt=..., v=..., usage=...) == Record(b"AAAA", 0, b"", None)
    assert record(usage=None, x=[{}]) == Record(b"AAAA", 1, b"BBBB", None)
    assert [record(flag=flag).flag for flag in range(4)] == [0, 1, 2, 3]
    assert record(usage=dict(reversed(USAGE.items()))).usage == (3, 5, 8)
    assert record(usage=dict.fromkeys(USAGE, 2**53 - 1)).usage == (2**53 - 1,) * 3


USAGES: Final[list[Any]] = [[], "x", 5, True, {}, USAGE | {"x": 1}, {"prompt_tokens": 1}]


@pytest.mark.parametrize(
    "change",
    [
        *({"flag": flag} for flag in (-1, 4, None, "1", 1.0, True, [1])),
        *({"ciphertext": text} for text in (..., None, 5, "é")),
        *({"salt": text} for text in (..., None, 5, "é")),
        *({"v": v} for v in (..., None, 1, 3, "2", 2.0, True)),
        *({"usage": usage} for usage in USAGES),
        *({"usage": USAGE | {"total_tokens": n}} for n in (-1, 2**53, 1.0, None, "1", True)),
    ],
)
def test_records_that_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ac.FramingError):
        record(**change)


def test_a_usage_with_a_name_twice() -> None:
    usage = '{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"total_tokens":3}'
    with pytest.raises(ac.FramingError, match="usage"):
        _envelope_v2.read_record('{"ciphertext":"AAAA","usage":' + usage + "}", "it", ac.FramingError)


# ---- any text ---------------------------------------------------------------------------------------------------

INTEGERS: Final = st.integers(-2, 2**54) | st.sampled_from([2**53 - 1, 2**53])
ODD: Final = (
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
NESTED: Final = st.recursive(
    ODD, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=2), v, max_size=2), max_leaves=20
)
CHANGES: Final = st.dictionaries(st.sampled_from([*GOOD, "x", "flag", "usage"]), NESTED | st.just(...), max_size=3)


def check_request(raw: bytes) -> None:
    try:
        theirs = v2.read_envelope(raw)
    except v2.RefusedError:
        with pytest.raises(ac.EnvelopeError):
            request(raw)
        return
    ours = request(raw)
    assert (ours.enc, ours.key_id) == (theirs.enc, theirs.key_id)
    assert base64.b64decode(ours.ciphertext) == theirs.ciphertext
    assert {**ours.metadata._asdict(), "model_name": ours.metadata.model} == theirs.metadata | {
        "model": theirs.metadata["model_name"]
    }


@few
@given(CHANGES)
def test_any_request(changes: dict[str, Any]) -> None:
    check_request(dumped(**changes))


@many
@given(CHANGES)
def test_any_request_at_length(changes: dict[str, Any]) -> None:
    check_request(dumped(**changes))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(dumped()) - 1), st.binary(max_size=3), st.integers(0, 4))
def test_any_text_of_a_request(at: int, more: bytes, cut: int) -> None:
    raw = dumped()
    raw = raw[:at] + more + raw[at + cut :]
    try:
        found = _envelope.read_members(raw, "the request", ac.EnvelopeError)
        ours: RequestEnvelope | None = _envelope_v2.request_of(found) if _envelope_v2.version_of(found) == 2 else None
    except ac.EnvelopeError:
        ours = None
    try:
        theirs: v2.Envelope | None = v2.read_envelope(raw)
    except v2.RefusedError:
        theirs = None
    if ours is not None:
        # the alphabet of the ciphertext is for the core to look at, when it decodes it
        assert (theirs is None) <= (not _canonical(ours.ciphertext))
    assert theirs is None or ours is not None


def _canonical(text: bytes) -> bool:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)) == text
    except ValueError:
        return False


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode) | NESTED.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_as_a_body_or_an_abort(raw: bytes) -> None:
    try:
        v2.check_body(raw, {"model_name": "m", "stream": False})
    except v2.RefusedError:
        with pytest.raises(ac.EnvelopeError):
            _envelope_v2.check_body(raw, "m", False, ac.EnvelopeError)
    else:
        _envelope_v2.check_body(raw, "m", False, ac.EnvelopeError)
    assert isinstance(_envelope_v2.abort_of(raw, ac.FramingError), ac.RemoteProtocolError)
