"""v2: any bytes raise RemoteProtocolError or nothing, and what is accepted is what the second writing accepts."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

import atoma_crypto as ac
import reference_v2 as v2
from helpers import STREAM_BODY, USAGE, SessionPair, cut_at, new_client, new_node, read, twin
from test_properties import ANY, DEEP, PLACES, PLAIN, VALUES, few, is_json, many, mutated
from test_v2_reference import client_that_sent, records_of

EXPORTED: Final = bytes(range(32))
ENC: Final = bytes(range(32, 64))
SALT: Final = bytes(range(64, 96))
KEYS: Final = v2.reply_keys(EXPORTED, ENC, SALT)
ABORT: Final = b'{"error":{"code":"X","message":"m","status":500}}'


class Admitting:
    def admit(self, _id: bytes, _expires_at: float) -> bool:
        return True

    def close(self) -> None:
        pass


@cache
def streamed() -> tuple[SessionPair, bytes, bytes]:
    """A client that waits for events, an event for it, and its end."""
    pair = SessionPair(protocol="v2")
    return pair, pair.node.seal_chunk(PLAIN, USAGE), pair.node.finish()


@cache
def replied() -> tuple[SessionPair, bytes]:
    pair = SessionPair(protocol="v2", stream=False)
    return pair, pair.node.seal_response(PLAIN, USAGE)


@cache
def requested() -> bytes:
    return new_client(protocol="v2").seal_request(STREAM_BODY, stream=True, num_compute_units=7)


# ---- any bytes --------------------------------------------------------------------------------------------------


def check_stream(data: st.DataObject) -> None:
    pair, event, end = streamed()
    deep = DEEP.map(lambda text: b"data: " + text + b"\n\n")
    raw = data.draw(st.one_of(ANY, deep, mutated(event), mutated(event + end), mutated(event + end + event)))
    got = read(twin(pair.client), cut_at(raw, data.draw(PLACES)))
    assert [text for text, _, _ in got.chunks] == [PLAIN] * len(got.chunks)
    assert len(got.chunks) <= 1
    if isinstance(got.end, ac.EndOfStream):
        assert got.end.chunk_count == len(got.chunks) == 1
    else:
        assert got.end in (ac.FramingError, ac.AuthenticationError, ac.TruncatedStreamError, ac.MessageTooLargeError)


def check_response(data: st.DataObject) -> None:
    pair, reply = replied()
    raw = data.draw(ANY | mutated(reply))
    try:
        assert twin(pair.client).open_response(raw) == PLAIN
    except ac.RemoteProtocolError as exc:
        assert type(exc) in (ac.EnvelopeError, ac.AuthenticationError)  # noqa: PT017 - or none


def check_request(data: st.DataObject) -> None:
    raw = data.draw(ANY | mutated(requested()))
    try:
        request = new_node(replay_cache=Admitting()).open_request(raw)
    except ac.RemoteProtocolError:
        return
    assert (request.body, request.stream, request.num_compute_units) == (STREAM_BODY, True, 7)


def check_aborts(data: st.DataObject) -> None:
    """Whatever a node seals as its abort."""
    plaintext = data.draw(ANY | mutated(ABORT))
    record = v2.Record(2, None, plaintext)
    raw = v2.write_record(record, v2.seal_record(KEYS, 0, record), SALT, event=False)
    try:
        client_that_sent(EXPORTED, ENC, stream=True).open_response(raw)
    except ac.RemoteAbortError as error:
        said = {"code": error.code, "message": error.message, "status": error.status}
        assert {name: v2.abort_of(plaintext)[name] for name in said} == said
    except ac.EnvelopeError:
        pass


test_any_bytes_as_a_stream = few(given(st.data())(check_stream))
test_any_bytes_as_a_stream_long = many(given(st.data())(check_stream))
test_any_bytes_as_a_response = few(given(st.data())(check_response))
test_any_bytes_as_a_response_long = many(given(st.data())(check_response))
test_any_bytes_as_a_request = few(given(st.data())(check_request))
test_any_bytes_as_a_request_long = many(given(st.data())(check_request))
test_any_bytes_as_an_abort = few(given(st.data())(check_aborts))
test_any_bytes_as_an_abort_long = many(given(st.data())(check_aborts))


# ---- agreement with the second writing --------------------------------------------------------------------------

USAGES: Final = st.none() | st.fixed_dictionaries(dict.fromkeys(v2.USAGE, st.integers(0, 2**53 - 1)))
ODD: Final[dict[str, list[Any]]] = {
    "flag": [0, 1, 2, 3, 4, -1, None, True, 1.0, "1"],
    "salt": [v2.b64(SALT), v2.b64(bytes(31)), None, "", 5],
    "v": [2, 1, 3, None, 2.0, "2"],
    "usage": [None, {}, USAGE, USAGE | {"x": 1}, USAGE | {"total_tokens": 2**53}, USAGE | {"total_tokens": -0.0}],
    "ciphertext": ["", "AAAA", "A" * 24, v2.b64(bytes(16)), None, 5],
    "x": [None, {}, [[]], {"flag": 1}, "}"],
}


@st.composite
def odd_events(draw: st.DrawFn, event: bool) -> bytes:
    """Records as a node would seal them, or nearly, and printed as others print JSON, or nearly."""
    flags = [0] * draw(st.integers(0, 3)) + [draw(st.sampled_from([1, 1, 2]))] if event else [draw(st.integers(2, 3))]
    out = b""
    for i, flag in enumerate(flags):
        plaintext = ABORT if flag == 2 else PLAIN if flag != 1 else draw(st.sampled_from([b"", PLAIN]))
        record = v2.Record(flag, draw(USAGES), plaintext)
        raw = v2.write_record(record, v2.seal_record(KEYS, i, record), None if i else SALT, event=False)
        members: dict[str, Any] = json.loads(raw)
        for name in draw(st.lists(st.sampled_from(sorted(ODD)), max_size=1)):
            match draw(st.integers(0, 3)):
                case 0:
                    members.pop(name, None)
                case 1:
                    members[name] = draw(st.sampled_from(ODD[name]))
                case 2:
                    members[name] = draw(VALUES.filter(is_json))
                case _:
                    pass
        text = json.dumps(dict(draw(st.permutations(list(members.items())))), separators=(draw(SPACES), ": "))
        if draw(st.integers(0, 7)) == 7:
            cut = text[:-1]
            text = draw(st.sampled_from([cut + ',"flag":0}', cut + ',"y":1,"y":1}', text + " ", text + "x"]))
        if draw(st.booleans()):
            text = text.replace("salt", "s\\u0061lt").replace("A", "\\u0041", draw(st.integers(0, 1)))
        out += f"data: {text}\n\n".encode() if event else text.encode()
    return out


SPACES: Final = st.sampled_from([",", " , ", ",\t"])


def check_agreement(data: st.DataObject) -> None:
    """The C reader, the general one, and the reference."""
    event, stream = data.draw(st.booleans()), data.draw(st.booleans())
    raw = data.draw(odd_events(event))
    try:
        records, refused = v2.read_reply(EXPORTED, ENC, stream, raw), ""
    except v2.ReplyError as error:
        records, refused = error.verified, str(error)
    for cuts in (None, 3):
        got = records_of(client_that_sent(EXPORTED, ENC, stream=stream), raw, stream=stream, cuts=cuts)
        chunks = [record for record in records if record.flag != 2 and record.plaintext]
        assert [text for text, _, _ in got.chunks] == [record.plaintext for record in chunks]
        if refused:
            assert got.end in (ac.FramingError, ac.AuthenticationError, ac.EnvelopeError, ac.TruncatedStreamError)
            assert (got.end is ac.TruncatedStreamError) is (refused == "REPLY_TRUNCATED")
        elif records[-1].flag == 2:
            assert got.end is ac.RemoteAbortError
        elif stream:
            usage = [record.usage for record in records if record.usage is not None]
            assert got.end == ac.EndOfStream(len(chunks), usage[-1] if usage else None)
            assert [shown for _, _, shown in got.chunks] == [record.usage for record in chunks]


test_agreement = few(given(st.data())(check_agreement))
test_agreement_long = many(given(st.data())(check_agreement))
