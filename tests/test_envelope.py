"""The strict readers of v1's JSON, and its writers."""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope
from atoma_crypto._envelope import (
    load_members,
    load_object,
    read_request,
    read_sealed,
    read_usage,
    write_model,
    write_usage,
)

U64_MAX: Final = 2**64 - 1
REQUEST: Final[dict[str, Any]] = {
    "ciphertext": "Y2lwaGVydGV4dA==",
    "client_dh_public_key": "Y2xpZW50",
    "model_name": "m",
    "node_dh_public_key": "bm9kZQ==",
    "nonce": "bm9uY2U=",
    "plaintext_body_hash": "aGFzaA==",
    "salt": "c2FsdA==",
    "stack_small_id": 42,
}
SEALED: Final[dict[str, Any]] = {"ciphertext": "Y2lwaGVydGV4dA==", "nonce": "bm9uY2U="}
WRONG: Final[list[object]] = [None, 5, True, [], {}, "\u00e9", "\ud800"]  # for what must be base64 text
BASE64_MEMBERS: Final = [name for name, value in REQUEST.items() if isinstance(value, str) and name != "model_name"]

NOT_OBJECTS: Final = [
    b"",
    b" ",
    b"null",
    b"true",
    b"1",
    b'"x"',
    b"[]",
    b'[{"a":1}]',
    b"{",
    b'{"a"}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":1}{}',
    b'{"a":1} x',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":[-Infinity]}',
    b'{"a":01}',
    b'{"a":"\n"}',
    b'{"a":"\\x"}',
    b"\xff",
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'\xef\xbb\xbf{"a":1}',
    '{"a":1}'.encode("utf-16"),
    b'{"a":' + b"[" * 100_000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\x00",
]


@pytest.mark.parametrize("error", [ac.EnvelopeError, ac.FramingError])
@pytest.mark.parametrize("raw", NOT_OBJECTS, ids=lambda raw: repr(raw[:20]))
def test_what_is_no_json_object(raw: bytes, error: type[ac.RemoteProtocolError]) -> None:
    for load in (load_object, load_members):
        with pytest.raises(error, match=r"^it is not (a )?JSON( object)?$") as caught:
            load(raw, "it", error)
        assert type(caught.value) is error
        assert caught.value.__context__ is None  # json's own errors hold the text


def test_a_number_that_is_too_long_is_refused_or_read() -> None:
    """CPython refuses numbers of more digits than sys.get_int_max_str_digits(), since 3.10.7."""
    raw = b'{"a":' + b"9" * 10_000 + b"}"
    try:
        assert load_object(raw, "it", ac.EnvelopeError) == {"a": 10**10_000 - 1}
    except ac.EnvelopeError as exc:
        assert str(exc) == "it is not JSON"  # noqa: PT017 - one of two is right


def test_in_a_message_only_what_is_known_has_to_be_a_number_of_ours() -> None:
    for value in ("9" * 10_000, "-" + "9" * 10_000, "-0", "1e" + "9" * 10_000):
        unknown = json.dumps(REQUEST)[:-1] + f',"x":{value}}}'
        assert read_request(unknown.encode()).stack_small_id == 42
        known = unknown.replace("42", "43").replace('"stack_small_id": 43', f'"stack_small_id": {value}')
        with pytest.raises(ac.EnvelopeError, match="stack_small_id"):
            read_request(known.encode())
        sealed = json.dumps(SEALED)[:-1] + f',"x":{value}}}'
        assert read_sealed(sealed, "it", ac.FramingError) == read_sealed(json.dumps(SEALED), "it", ac.FramingError)


def test_members_come_in_order_and_twice() -> None:
    raw = b'{"b":{"x":1,"x":2},"a":[{"b":0}],"b":null}'
    assert load_members(raw, "it", ac.EnvelopeError) == (
        ("b", (("x", 1), ("x", 2))),
        ("a", [(("b", 0),)]),
        ("b", None),
    )
    assert load_object(raw, "it", ac.EnvelopeError) == {"a": [{"b": 0}], "b": None}
    assert load_members('{"\\u0061":"\\ud800"}', "it", ac.EnvelopeError) == (("a", "\ud800"),)
    assert load_members(b"{}", "it", ac.EnvelopeError) == ()


def test_a_request_is_read() -> None:
    got = read_request(json.dumps(REQUEST).encode())
    assert got == _envelope.RequestEnvelope(
        ciphertext=b"Y2lwaGVydGV4dA==",
        nonce=b"bm9uY2U=",
        salt=b"c2FsdA==",
        client_public=b"Y2xpZW50",
        node_public=b"bm9kZQ==",
        body_hash=b"aGFzaA==",
        model="m",
        stack_small_id=42,
        num_compute_units=None,
        stream=False,
    )


@pytest.mark.parametrize(
    ("more", "stream", "units"),
    [
        ({}, False, None),
        ({"stream": None, "num_compute_units": None}, False, None),
        ({"stream": False, "num_compute_units": 0}, False, 0),
        ({"stream": True, "num_compute_units": U64_MAX}, True, U64_MAX),
        ({"unknown": {"v": [1]}, "Stream": 5, "signature": 0}, False, None),
    ],
)
def test_what_a_request_may_leave_out(more: dict[str, Any], stream: bool, units: int | None) -> None:
    got = read_request(json.dumps(REQUEST | more).encode())
    assert (got.stream, got.num_compute_units) == (stream, units)


BAD_REQUESTS: Final[dict[str, list[object]]] = {
    **dict.fromkeys(BASE64_MEMBERS, WRONG),
    "model_name": [None, 5, ["m"], "\ud800", "a\udfff"],
    "stack_small_id": [None, True, -1, U64_MAX + 1, 1.0, 42.5, "42", 10**400],
    "num_compute_units": [False, True, -1, U64_MAX + 1, 1.0, "1", []],
    "stream": [0, 1, "true", "", [], {}, 0.0],
    "v": [2, None, 1, ""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD_REQUESTS for value in BAD_REQUESTS[name]])
def test_what_a_request_must_not_say(name: str, value: object) -> None:
    with pytest.raises(ac.EnvelopeError, match="v1" if name == "v" else name):
        read_request(json.dumps(REQUEST | {name: value}).encode())


@pytest.mark.parametrize("name", REQUEST)
def test_what_a_request_must_not_leave_out(name: str) -> None:
    with pytest.raises(ac.EnvelopeError, match=f"'{name}' is missing"):
        read_request(json.dumps({key: value for key, value in REQUEST.items() if key != name}).encode())


@pytest.mark.parametrize("name", [*REQUEST, "stream", "num_compute_units"])
def test_what_stands_twice_in_a_request(name: str) -> None:
    value = json.dumps((REQUEST | {"stream": False, "num_compute_units": 1})[name])
    text = json.dumps({"stream": False, "num_compute_units": 1} | REQUEST)
    for again in (f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"'):
        with pytest.raises(ac.EnvelopeError, match=f"'{name}' twice"):
            read_request(f"{text[:-1]},{again}:{value}}}".encode())
    read_request(f'{text[:-1]},"x":1,"x":2}}'.encode())


@pytest.mark.parametrize("model", ["", "org/Model-7B", 'a"b\\c/\n\x00\x1f', "\u00e9\u4e2d\U0001f600", "\u2028"])
def test_names_of_models_survive(model: str) -> None:
    text = write_model(model)
    assert json.loads(text) == model
    assert b"\n" not in text
    raw = json.dumps(REQUEST | {"model_name": 0}).encode().replace(b'"model_name": 0', b'"model_name":' + text)
    assert read_request(raw).model == model


def test_names_that_are_none() -> None:
    for bad in ("\ud800", "a\udc00"):
        with pytest.raises(ValueError, match="surrogate"):
            write_model(bad)
    for wrong in (None, b"m", 5):
        with pytest.raises(TypeError, match="model must be str"):
            write_model(wrong)  # type: ignore[arg-type] # that is what is tested


@pytest.mark.parametrize(
    ("more", "claimed", "usage"),
    [
        ({}, b"", None),
        ({"response_hash": None, "usage": None, "signature": 5}, b"", None),
        ({"response_hash": "aGFzaA==", "usage": {}}, b"aGFzaA==", {}),
        ({"usage": {"a": {"b": [None]}}}, b"", {"a": {"b": [None]}}),
    ],
)
def test_a_sealed_message_is_read(more: dict[str, Any], claimed: bytes, usage: dict[str, Any] | None) -> None:
    for text in (json.dumps(SEALED | more), json.dumps(SEALED | more).encode()):
        got = read_sealed(text, "it", ac.FramingError)
        assert got == _envelope.SealedMessage(b"Y2lwaGVydGV4dA==", b"bm9uY2U=", claimed, usage)


BAD_MESSAGES: Final[dict[str, list[object]]] = {
    **dict.fromkeys(SEALED, WRONG),
    "response_hash": ["", 0, False, [], {}, "\u00e9"],
    "usage": [0, False, "", [], "x", 1.5],
}


@pytest.mark.parametrize("error", [ac.EnvelopeError, ac.FramingError])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD_MESSAGES for value in BAD_MESSAGES[name]])
def test_what_a_sealed_message_must_not_say(name: str, value: object, error: type[ac.RemoteProtocolError]) -> None:
    with pytest.raises(error, match=f"'{name}'"):
        read_sealed(json.dumps(SEALED | {name: value}), "it", error)


@pytest.mark.parametrize("name", [*SEALED, "response_hash", "usage"])
def test_what_stands_twice_in_a_sealed_message(name: str) -> None:
    text = json.dumps({"response_hash": None, "usage": None} | SEALED)
    with pytest.raises(ac.FramingError, match=f"it has '{name}' twice"):
        read_sealed(f'{text[:-1]},"{name}":null}}', "it", ac.FramingError)
    read_sealed(f'{text[:-1]},"signature":"","signature":""}}', "it", ac.FramingError)


def test_usage_is_read_and_written() -> None:
    assert read_usage(b'{"a":1,"a":{"b":[2]}}', ac.FramingError) == {"a": {"b": [2]}}
    with pytest.raises(ac.FramingError, match="'usage' is not a JSON object"):
        read_usage(b"[]", ac.FramingError)
    assert write_usage(None) == b""
    assert write_usage({}) == b"{}"
    assert write_usage(MappingProxyType({"n": 1, "x": {"y": [None, True, 1.5]}})) == (
        b'{"n":1,"x":{"y":[null,true,1.5]}}'
    )
    text = write_usage({"a\n\x00": "\u00e9\U0001f600\ud800\r\n"})
    assert text.isascii()
    assert min(text) >= 0x20
    assert json.loads(text) == {"a\n\x00": "\u00e9\U0001f600\ud800\r\n"}


@pytest.mark.parametrize("wrong", [[], [("a", 1)], "x", 5, b"{}", {"a": {1, 2}}, {("a",): 1}, {"a": object()}])
def test_usage_of_a_wrong_type(wrong: Any) -> None:
    with pytest.raises(TypeError):
        write_usage(wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_usage_that_json_cannot_say(wrong: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_usage({"a": [wrong]})
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(ValueError, match="ircular"):
        write_usage(circle)


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (b"{}", False),
        (b'{"stream":false}', False),
        (b'{"stream":null}', False),
        (b' {"a":{"stream":1},"stream" : true } ', True),
        (b'{"str\\u0065am":true}', True),
    ],
)
def test_stream_of_a_body(body: bytes, stream: bool) -> None:
    assert _envelope.body_stream(body, ac.EnvelopeError) is stream


@pytest.mark.parametrize("error", [ac.EnvelopeError, ac.LocalProtocolError])
@pytest.mark.parametrize(
    "body",
    [
        *NOT_OBJECTS,
        b'{"stream":0}',
        b'{"stream":1}',
        b'{"stream":"true"}',
        b'{"stream":[]}',
        b'{"stream":true,"stream":true}',
        b'{"stream":true,"str\\u0065am":true}',
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_bodies_that_do_not_say_whether_they_stream(body: bytes, error: type[ac.AtomaCryptoError]) -> None:
    with pytest.raises(error) as caught:
        _envelope.body_stream(body, error)
    assert type(caught.value) is error
    context = caught.value.__context__
    assert context is None or (type(context) is ac.EnvelopeError and context.__context__ is None)


# ---- what is hostile --------------------------------------------------------------------------------------------


def crowded(members: dict[str, Any], commas: int) -> bytes:
    """The same object, with an array of zeros that brings it to so many commas."""
    filler = commas - len(members)
    return json.dumps({"zeros": [0] * (filler + 1)} | members).encode()


@pytest.mark.parametrize("error", [ac.EnvelopeError, ac.FramingError])
def test_an_object_of_too_many_members_is_refused_before_it_is_read(
    error: type[ac.RemoteProtocolError], monkeypatch: pytest.MonkeyPatch
) -> None:
    for commas in (1000, 1001):
        request, sealed = crowded(REQUEST, commas), crowded(SEALED, commas)
        assert request.count(b",") == sealed.count(b",") == commas
        if commas == 1000:
            assert read_request(request).model == "m"
            assert read_sealed(sealed, "it", error) == read_sealed(sealed.decode(), "it", error)
            continue
        with monkeypatch.context() as patch:
            patch.setattr(_envelope, "_load", None)  # never reached
            with pytest.raises(ac.EnvelopeError, match="the request has too many members"):
                read_request(request)
            for text in (sealed, sealed.decode()):
                with pytest.raises(error, match="it has too many members"):
                    read_sealed(text, "it", error)


@pytest.mark.long
def test_a_body_of_many_members_is_read() -> None:
    """Of a body, whose sender is known by then, commas cannot be counted: json reads it, at json's price."""
    text = b"{%b}" % b",".join(b'"%d":[0,{}]' % i for i in range(100_000))
    assert not _envelope.body_stream(text, ac.EnvelopeError)
    assert _envelope.body_stream(text[:-1] + b',"stream":true}', ac.EnvelopeError)
    with pytest.raises(ac.EnvelopeError, match="the body has 'stream' twice"):
        _envelope.body_stream(b'{"stream":true,' + text[1:-1] + b',"stream":true}', ac.EnvelopeError)
    with pytest.raises(ac.EnvelopeError, match="the body is not JSON"):
        _envelope.body_stream(text[:-1], ac.EnvelopeError)


def test_usage_that_is_nested_too_deeply() -> None:
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="usage is nested too deeply") as caught:
        write_usage(deep)
    assert caught.value.__suppress_context__
    while deep:  # taken apart from outside: freeing it at once would go as deep
        deep = deep["a"]  # type: ignore[assignment] # it is one of these
