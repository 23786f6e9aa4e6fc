"""Any bytes at all: a session raises RemoteProtocolError or nothing; and what C accepts is what Python would.

Each property runs with few examples, and again with many as a long test.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
from atoma_crypto import _envelope
from helpers import (
    DRESSINGS,
    STREAM_BODY,
    USAGE,
    SessionPair,
    cut_at,
    member,
    model_sse,
    new_client,
    new_node,
    punted,
    read,
    twin,
)

Property = TypeVar("Property", bound=Callable[..., None])


def few(test: Property) -> Property:
    return settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))(test)


def many(test: Property) -> Property:
    often = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))(test)
    return pytest.mark.timeout(600)(pytest.mark.long(often))  # type: ignore[no-any-return] # pytest's marks are untyped


PLAIN: Final = b"the plaintext"


@cache
def streamed() -> tuple[SessionPair, bytes]:
    """A client that waits for events, and one event for it."""
    pair = SessionPair()
    return pair, pair.node.seal_chunk(PLAIN, USAGE)


@cache
def replied() -> tuple[SessionPair, bytes]:
    pair = SessionPair(stream=False)
    return pair, pair.node.seal_response(PLAIN, USAGE)


@cache
def requested() -> bytes:
    return new_client().seal_request(STREAM_BODY, stream=True, num_compute_units=7)


def is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


# ---- strategies -------------------------------------------------------------------------------------------------

SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode()),
)
VALUES: Final = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3), max_leaves=5
)
REQUEST_NAMES: Final = sorted(_envelope._REQUEST_MEMBERS)
NAMES: Final = st.sampled_from([*REQUEST_NAMES, "response_hash", "signature", "usage"]) | st.text(max_size=5)
JSON_SHAPED: Final = st.dictionaries(NAMES, VALUES, max_size=12).map(lambda m: json.dumps(m).encode()) | VALUES.map(
    lambda v: json.dumps(v).encode()
)
SSE_SHAPED: Final = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b":", b"data", b"data:", b"data: ", b"event: x", b"[DONE]"]),
        st.sampled_from([b"\xef\xbb\xbf", b"{", b"}", b'"', b"\\", b"ciphertext", b'"nonce":']),
        st.binary(max_size=6),
        JSON_SHAPED.map(lambda text: b"data: " + text + b"\n\n"),
    ),
    max_size=20,
).map(b"".join)
DEEP: Final = st.sampled_from(
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x":' + b"9" * 10_000 + b"}",
        b'{"stack_small_id":' + b"9" * 10_000 + b"}",
        b'{"x":1e' + b"9" * 10_000 + b"}",
        b'{"x":-' + b"0." + b"9" * 10_000 + b"}",
        b'"' + b"\\u0000" * 20_000 + b'"',
    ]
)
PLACES: Final = st.lists(st.integers(0, 2000), max_size=4)


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """Real bytes with some of them cut out, doubled, swapped for others or flipped."""
    out = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        if not out:
            break
        at = draw(st.integers(0, len(out) - 1))
        size = draw(st.integers(0, 20))
        match draw(st.integers(0, 4)):
            case 0:
                del out[at : at + size]
            case 1:
                out[at:at] = out[at : at + size]
            case 2:
                out[at : at + size] = draw(st.binary(max_size=20))
            case 3:
                out[at:at] = draw(st.sampled_from([b"\n", b"\r", b" ", b'"', b"\\u0041", b",", b"null", b"{}", b"A"]))
            case _:
                out[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(out)


ANY: Final = st.one_of(st.binary(max_size=300), JSON_SHAPED, SSE_SHAPED, DEEP)


# ---- any bytes --------------------------------------------------------------------------------------------------


def check_stream(data: st.DataObject) -> None:
    """Events come out only if they are what was sealed, and no more of them than the model of SSE has."""
    pair, event = streamed()
    deep = DEEP.map(lambda text: b"data: " + text + b"\n\n")
    raw = data.draw(st.one_of(ANY, deep, mutated(event), mutated(event * 2)))
    pieces = cut_at(raw, data.draw(PLACES))
    client = twin(pair.client)
    client._warned = True
    got = read(client, pieces)
    assert all(text == PLAIN for text, _, _ in got.chunks)
    events, clean = model_sse(raw) if len(raw) < 5000 else ([], False)
    if isinstance(got.end, ac.EndOfStream):
        assert len(got.chunks) == got.end.chunk_count == len([data for data in events if data != b"[DONE]"])
        assert clean


def check_response(data: st.DataObject) -> None:
    pair, reply = replied()
    raw = data.draw(ANY | mutated(reply))
    client = twin(pair.client)
    try:
        assert client.open_response(raw) == PLAIN
    except ac.RemoteProtocolError as exc:
        assert type(exc) in (ac.EnvelopeError, ac.AuthenticationError, ac.NonceReuseError)  # noqa: PT017 - or none


def check_request(data: st.DataObject) -> None:
    raw = data.draw(ANY | mutated(requested()))
    try:
        request = new_node().open_request(raw)
    except ac.RemoteProtocolError as exc:
        assert type(exc) in (ac.EnvelopeError, ac.AuthenticationError)  # noqa: PT017 - or none
    else:
        assert request.body == STREAM_BODY
        assert request.stream is True


def check_request_members(data: st.DataObject) -> None:
    """A real envelope with some members of another value, missing, or more than there should be."""
    members = json.loads(requested())
    for name in data.draw(st.lists(st.sampled_from(REQUEST_NAMES), max_size=3)):
        members.pop(name, None)
    more = data.draw(st.dictionaries(NAMES, VALUES, max_size=3))
    raw = json.dumps(members | more).encode()
    try:
        request = new_node().open_request(raw)
    except ac.RemoteProtocolError:
        return
    assert request.body == STREAM_BODY


test_any_bytes_as_a_stream = few(given(st.data())(check_stream))
test_any_bytes_as_a_stream_long = many(given(st.data())(check_stream))
test_any_bytes_as_a_response = few(given(st.data())(check_response))
test_any_bytes_as_a_response_long = many(given(st.data())(check_response))
test_any_bytes_as_a_request = few(given(st.data())(check_request))
test_any_bytes_as_a_request_long = many(given(st.data())(check_request))
test_any_members_of_a_request = few(given(st.data())(check_request_members))
test_any_members_of_a_request_long = many(given(st.data())(check_request_members))


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 10_000], ids=["[", "{", "9"])
def test_deep_nesting_and_long_numbers(raw: bytes) -> None:
    for text in (raw, b'{"usage":' + raw, b'{"x":' + raw + b"}"):
        assert read(twin(streamed()[0].client), [b"data: " + text + b"\n\n"]).end is ac.FramingError
        with pytest.raises(ac.EnvelopeError):
            twin(replied()[0].client).open_response(text)
        with pytest.raises(ac.EnvelopeError):
            new_node().open_request(text)
        with pytest.raises(ac.LocalProtocolError):
            new_client().seal_request(text + b"]", stream=False)


# ---- C and Python accept the same -------------------------------------------------------------------------------

SPACE: Final = st.text(alphabet=" \t", max_size=2)
BROKEN: Final = ("", "01", "-", "1.", ".5", "1e", "+1", "0x1", "NaN", "-Infinity", "tru", "nul", "'x'", '"', '"\\"')
UNUSUAL: Final = ('"\x7f"', '"\u00e9"', '"\\/"', '"\\ud800"', "1" * 41, "-0", "1E+5", "1.5e-3")
ODD_VALUES: Final = st.sampled_from([*BROKEN, *UNUSUAL, "[]", "{}", '{"a":{"b":1}}', "[", "{", '{"a"}', '"\x01"'])


# Well-formed, but not what was sealed; a nonce's is the request's own, which is reflection.
OTHERS: Final[dict[str, list[object]]] = {
    "ciphertext": ["A" * 24, "A" * 20, ""],
    "response_hash": ["A" * 43 + "=", "A" * 44, ""],
    "usage": [5, {}],
}


@st.composite
def json_objects(draw: st.DrawFn, real: dict[str, str]) -> str:
    """JSON, nearly: the members of a sealed message and others, in any order, any of them twice or odd."""
    members: list[tuple[str, str]] = []
    spoiled = draw(st.sets(st.sampled_from(["ciphertext", "nonce", "response_hash", "usage"]), max_size=2))
    for name in ("ciphertext", "nonce", "response_hash", "usage"):
        ways = ["other", "other", "other", "out", "odd", "escaped", "text"]
        match draw(st.sampled_from(ways)) if name in spoiled else "real":
            case "out":
                continue
            case "odd":
                text = draw(VALUES.map(json.dumps) | ODD_VALUES)
            case "escaped":
                text = json.dumps(real[name]).replace("A", "\\u0041")
            case "text":
                text = json.dumps(draw(st.text("AB=/+ ", max_size=50)))
            case "other":
                text = json.dumps(draw(st.sampled_from(OTHERS.get(name) or [real["request_nonce"]])))
            case _:
                text = real[name] if name == "usage" else json.dumps(real[name])
        members.append((f'"{name}"', text))
    if members and draw(st.integers(0, 5)) == 5:
        members.append(draw(st.sampled_from(members)))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(['"signature"', '"x"', '"\\u0041"', '""', '"Nonce"']))
        members.append((name, draw(VALUES.filter(is_json).map(json.dumps))))
    if draw(st.integers(0, 3)) == 3:
        name = draw(st.sampled_from(['"x"', '"\\u006eonce"', '"usag\\u0065"', "x", '"n']))
        members.append((name, draw(ODD_VALUES)))
    members = draw(st.permutations(members))
    text = ",".join(f"{draw(SPACE)}{n}{draw(SPACE)}:{draw(SPACE)}{v}{draw(SPACE)}" for n, v in members)
    text = draw(SPACE) + "{" + text + "}" + draw(SPACE)
    return draw(st.sampled_from([text] * 16 + [text + "}", text[:-1], "[" + text + "]", text + ","]))


def strict_base64(text: bytes, sizes: Callable[[int], bool]) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw) == text and sizes(len(raw)) else None


def model_sealed(text: str, real: dict[str, str], malformed: type[ac.RemoteProtocolError]) -> Any:
    """What must come of a message: its plaintext and usage, or the class of an error."""
    try:
        message = _envelope.read_sealed(text, "it", malformed)
    except malformed:
        return malformed
    nonce = strict_base64(message.nonce, lambda size: size == 12)
    sealed = strict_base64(message.ciphertext, lambda size: size >= 16)
    claimed = strict_base64(message.response_hash, lambda size: size == 32) if message.response_hash else b""
    if nonce is None or sealed is None or claimed is None:
        return malformed
    if message.nonce.decode() == real["request_nonce"]:
        return ac.NonceReuseError
    right = {name: getattr(message, name).decode() for name in ("ciphertext", "nonce")}
    claims = ("", real["response_hash"])
    if right != {name: real[name] for name in right} or message.response_hash.decode() not in claims:
        return ac.AuthenticationError
    return (PLAIN, message.usage)


def real_members(pair: SessionPair, raw: bytes) -> dict[str, str]:
    real = {name: member(raw, name) for name in ("ciphertext", "nonce", "response_hash")}
    return real | {"usage": json.dumps(USAGE), "request_nonce": member(pair.envelope, "nonce")}


def check_agreement(data: st.DataObject) -> None:
    """The C reader, the general one and the model, over one line of JSON."""
    pair, event = streamed()
    real = real_members(pair, event)
    text = data.draw(json_objects(real))
    want = model_sealed(text, real, ac.FramingError)
    for raw in (f"data: {text}\n\n", f"data:\ndata: {text}\n\n", f"data:{text}\rdata\r\r"):
        got = read(twin(pair.client), [raw.encode("utf-8", "surrogatepass")])
        if isinstance(want, tuple):
            assert got.chunks == [(want[0], 0, want[1])]
            assert got.end == ac.EndOfStream(1, want[1])
        else:
            assert got == ([], want)


def check_agreement_of_replies(data: st.DataObject) -> None:
    pair, reply = replied()
    real = real_members(pair, reply)
    text = data.draw(json_objects(real)).replace("\t", data.draw(st.sampled_from("\t\n\r")))
    want = model_sealed(text, real, ac.EnvelopeError)
    client = twin(pair.client)
    try:
        got: Any = client.open_response(text.encode("utf-8", "surrogatepass"))
    except ac.RemoteProtocolError as exc:
        got = type(exc)
    assert got == (want[0] if isinstance(want, tuple) else want)


def check_dressed_streams(data: st.DataObject) -> None:
    """Events of any text, dressed in any way, cut anywhere, come out as they went in."""
    pair = SessionPair()
    texts = data.draw(st.lists(st.binary(max_size=60), max_size=6))
    usage = data.draw(st.none() | st.dictionaries(st.text(max_size=4), VALUES, max_size=3).filter(is_json))
    raw = b""
    for text in texts:
        dress = DRESSINGS[data.draw(st.sampled_from([name for name in DRESSINGS if name != "null"]))]
        raw += dress(pair.node.seal_chunk(text, usage))
    raw = raw.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    got = read(pair.client, cut_at(raw, data.draw(PLACES)))
    shown = json.loads(json.dumps(usage))
    assert got.chunks == [(text, i, shown) for i, text in enumerate(texts)]
    assert got.end == ac.EndOfStream(len(texts), shown if texts else None)


test_c_and_python_agree = few(given(st.data())(check_agreement))
test_c_and_python_agree_long = many(given(st.data())(check_agreement))
test_c_and_python_agree_on_replies = few(given(st.data())(check_agreement_of_replies))
test_c_and_python_agree_on_replies_long = many(given(st.data())(check_agreement_of_replies))
test_dressed_streams = few(given(st.data())(check_dressed_streams))
test_dressed_streams_long = many(given(st.data())(check_dressed_streams))


def test_the_generator_reaches_every_outcome() -> None:
    """Else the agreement above would be about malformed JSON alone."""
    pair, event = streamed()
    real = real_members(pair, event)
    seen: set[object] = set()

    @settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(json_objects(real))
    def look(text: str) -> None:
        want = model_sealed(text, real, ac.FramingError)
        seen.add("opened" if isinstance(want, tuple) else want)

    look()
    assert seen == {"opened", ac.FramingError, ac.AuthenticationError, ac.NonceReuseError}
    assert punted(event) != event
