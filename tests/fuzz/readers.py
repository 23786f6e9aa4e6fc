"""The C reader beside the general one in Python, a model of SSE, and the second writing of v2: they say the same.

Compared are the chunks with their indexes and usage, how it ends, whether a nonce came twice, and where events end.
"""

from __future__ import annotations

import binascii
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import reference_v2
from fuzz.engine import Program, check, instrumented, start
from fuzz.messages import NODE_SECRET, NOW, PIECES, Admitting, Exchange, exchange, spoiled, stream, twin

with instrumented():
    import atoma_crypto as ac
    from atoma_crypto import _envelope, _envelope_v2, _sse
    from atoma_crypto._core import ffi, lib
    from atoma_crypto._errors import http_error
    from atoma_crypto._opener_v1 import V1Opener
    from atoma_crypto._opener_v2 import V2Opener
    from helpers import model_sse

warnings.simplefilter("ignore", ac.NonceReuseWarning)

STREAMS: Final = (exchange("v1", stream=True), exchange("v2", stream=True), exchange("v2", stream=True, abort=True))
REPLIES: Final = (exchange("v1", stream=False), exchange("v2", stream=False), exchange("v2", stream=False, abort=True))
KEY: Final = ac.SecretKey.from_bytes(NODE_SECRET)
MOST_COMMAS: Final = 1000
OUT: Final = ffi.new("uint8_t[]", 1 << 16)


class Said(NamedTuple):
    chunks: list[tuple[bytes, int, Any]]
    end: Any  # an EndOfStream, or an error's class
    nonce_reused: bool


def said(client: ac.ClientSession, read: Callable[[list[tuple[bytes, int, Any]]], Any]) -> Said:
    """What `read` puts into the list, and what it gives or raises."""
    chunks: list[tuple[bytes, int, Any]] = []
    try:
        end = read(chunks)
    except ac.RemoteProtocolError as error:
        end = type(error)
    return Said(chunks, end, client._opener.nonce_reused)


def by_session(client: ac.ClientSession, pieces: list[bytes]) -> Said:
    """As a client reads: the C reader, but for what it leaves to the general one."""

    def read(chunks: list[tuple[bytes, int, Any]]) -> Any:
        for piece in pieces:
            client.receive_data(piece)
            while isinstance(event := client.next_event(), ac.Chunk):
                chunks.append((event.plaintext, event.index, event.usage))
        client.receive_eof()
        while isinstance(event := client.next_event(), ac.Chunk):
            chunks.append((event.plaintext, event.index, event.usage))
        return event

    return said(client, read)


def by_general(client: ac.ClientSession, raw: bytes) -> Said:
    """All by the general reader."""
    opener = client._opener

    def read(chunks: list[tuple[bytes, int, Any]]) -> Any:
        decoder = _sse.Decoder(client._opener._limits.max_event_bytes)
        for data in decoder.feed(raw):
            if isinstance(opener, V1Opener) and data == b"[DONE]":
                continue
            if opener.ended:
                raise ac.FramingError("an event behind the last one")
            chunk = opener._open_text(_sse.text_of(data))
            if chunk is not None:
                chunks.append((chunk.plaintext, chunk.index, chunk.usage))
            if opener.abort is not None:
                raise opener.abort
        if isinstance(opener, V1Opener):
            decoder.close()
        else:
            opener.end()
        return ac.EndOfStream(opener.chunk_count, opener.usage)

    return said(client, read)


def streams(program: Program) -> None:
    of = program.one_of(STREAMS)
    strict = program.byte() < 32 and of is STREAMS[0]
    pieces = stream(program, of.sealed)
    raw = b"".join(pieces)
    clients = [twin(of.client) for _ in range(3)]
    if strict:
        for one in clients:
            one._opener._native.refuse_nonce_reuse = 1
    general = by_general(clients[0], raw)
    check(by_session(clients[1], pieces) == general, "the readers do not agree")
    if len(pieces) > 1:
        check(by_session(clients[2], [raw]) == general, "it matters how the stream was cut")
    for client in clients:
        client.close()


def limits(program: Program) -> None:
    """What is too large is so however the stream was cut."""
    of = program.one_of(STREAMS)
    most_event, most_line = 1 + program.number() % 4096, 1 + program.number() % 256
    strict = program.byte() & 1
    pieces = stream(program, of.sealed)
    found = []
    for cut in (pieces, [b"".join(pieces)]):
        client = twin(of.client)
        native = client._opener._native
        if isinstance(client._opener, V1Opener):
            status = lib.ac_v1_opener_set(native, most_event, most_line, strict)
        else:
            status = lib.ac_v2_opener_set(native, most_event, most_line)
        check(status == lib.AC_OK, "limits are refused")
        found.append(by_session(client, cut))
        client.close()
    check(found[0] == found[1], "what is too large depends on how the stream was cut")


# ---- where events end -------------------------------------------------------------------------------------------


def places(program: Program) -> None:
    """What the core is done with are whole events, as many as it says; what it leaves to Python is one event."""
    of = program.one_of(STREAMS)
    raw, client = b"".join(stream(program, of.sealed)), twin(of.client)
    is_v1 = isinstance(client._opener, V1Opener)
    kind, events_open = (
        ("ac_v1_events *", lib.ac_v1_events_open) if is_v1 else ("ac_v2_events *", lib.ac_v2_events_open)
    )
    cap, room = 1 + program.below(32), program.number() if program.byte() < 64 else len(OUT)
    events = ffi.new(kind, {"opener": client._opener._native, "out": OUT, "out_cap": room, "event_cap": cap})
    at = 0
    while True:
        left = raw[at:]
        status = events_open(events, left, len(left))
        if status == lib.AC_ERR_CAPACITY:
            check(events.out_len > events.out_cap, "no more room is asked for")
            if events.out_len > len(OUT):
                break
            events.out_cap = events.out_len
            continue
        if status < 0:
            break
        done = left[: events.consumed]
        decoder = _sse.Decoder(begun=at > 0)
        found = decoder.feed(done)
        decoder.close()  # TruncatedStreamError: the core has stopped inside an event
        at += len(done)
        if status == lib.AC_PUNT:
            check(found[-1:] == [_sse.data_of(done[events.punt_pos :])], "what is left to Python is not an event")
            check(found[:-1] == [b"[DONE]"] * (len(found) - 1) if is_v1 else len(found) == 1, "events are passed over")
            continue
        count = len([data for data in found if data != b"[DONE]" or not is_v1])
        one = status >= lib.AC_ONE
        check(events.count == count and (not one or (count == 1 and at == len(raw))), "a wrong number of events")
        if count == 0 or one:
            break
    client.close()


# ---- the answer that is one object --------------------------------------------------------------------------------


def reply_by_general(client: ac.ClientSession, raw: bytes) -> bytes:
    opener = client._opener
    if isinstance(opener, V2Opener):
        record = _envelope_v2.read_record(raw, "the answer", ac.EnvelopeError)
        plaintext = opener._sealed(record, 0, ac.EnvelopeError)
        if record.flag == lib.AC_FLAG_ABORT:
            raise _envelope_v2.abort_of(plaintext, ac.EnvelopeError)
        opener._note(record.usage)
        return plaintext
    message = _envelope.read_sealed(raw, "the answer", ac.EnvelopeError)
    plaintext = opener._sealed(message, ac.EnvelopeError)
    opener.usage = message.usage
    return plaintext


def replies(program: Program) -> None:
    of: Exchange = program.one_of(REPLIES)
    raw = spoiled(program, of.sealed[0], of.sealed)
    verdicts: list[object] = []
    for by_c in (True, False):
        client = twin(of.client)
        try:
            plaintext = client._opener.answer(raw) if by_c else reply_by_general(client, raw)
            verdicts.append((plaintext, client._opener.usage))
        except ac.RemoteProtocolError as error:
            verdicts.append(type(error))
        client.close()
    check(verdicts[0] == verdicts[1], "the readers of answers do not agree")


# ---- requests -----------------------------------------------------------------------------------------------------


def requests(program: Program) -> None:
    """A node, and the second writing of v2."""
    raw = spoiled(program, STREAMS[1].request, [one.request for one in STREAMS])
    theirs = ours = "ok"
    try:
        reference_v2.open_request("X25519", NODE_SECRET, raw, now=NOW)
    except reference_v2.RefusedError as refused:
        theirs = str(refused)
    with ac.NodeSession(KEY, protocols=("v2",), replay_cache=Admitting(), clock=lambda: NOW) as node:
        try:
            node.open_request(raw)
        except ac.RemoteProtocolError as error:
            ours = http_error(error)[1]
    check(ours == theirs or differs_as_it_may(raw, ours, theirs), "the two writings of v2 do not agree")


KNOWN: Final = frozenset(dict(STREAMS[1].request.members))


def differs_as_it_may(raw: bytes, ours: str, theirs: str) -> bool:
    """What docs/protocol-v2.md leaves open: a limit to commas (3.3), and base64 that is looked at last (3.16).

    The latter is all that differs if the second writing says what we do once the ciphertext is base64.
    """
    if raw.count(b",") > MOST_COMMAS:
        return ours == "INVALID_BODY"
    if theirs != "INVALID_BODY" or ours not in ("KEY_UNKNOWN", "CLOCK_SKEW"):
        return False
    members = {name: value for name, value in reference_v2.read_object(raw).items() if name in KNOWN}
    try:
        reference_v2.unb64(members["ciphertext"])
    except ValueError:
        members["ciphertext"] = reference_v2.b64(bytes(16))
    try:
        reference_v2.open_request("X25519", NODE_SECRET, reference_v2.dumps(members), now=NOW)
    except reference_v2.RefusedError as refused:
        return str(refused) == ours
    return False


# ---- codecs -------------------------------------------------------------------------------------------------------


def decoders(program: Program) -> None:
    """The decoder of streams in clear, and the model; however they are cut."""
    raw = b"".join(program.one_of(PIECES) if program.byte() < 200 else b"data: x\n\n" for _ in range(program.below(16)))
    raw += program.take(program.below(32))
    events, clean = model_sse(raw)
    decoder, found = _sse.Decoder(), []
    while raw:
        length = 1 + program.below(12)
        found += decoder.feed(raw[:length])
        raw = raw[length:]
    check(found == events, "the decoder finds other events than the model")
    try:
        decoder.close()
    except ac.TruncatedStreamError:
        clean = not clean
    check(clean, "the decoder and the model do not agree about the end")


NONCE: Final = dict(STREAMS[0].sealed[0].members)["nonce"].encode()


def base64s(program: Program) -> None:
    """The core's base64 and Python's, which is held to one text for the same bytes: of what is none it says so."""
    raw = program.take(program.below(200))
    text = bytearray(binascii.b2a_base64(raw, newline=False)) if program.byte() < 200 else bytearray(raw)
    if text and program.byte() & 1:
        text[program.below(len(text))] = program.byte()
    try:
        decoded = binascii.a2b_base64(text)
    except binascii.Error:
        decoded = b""
    good = binascii.b2a_base64(decoded, newline=False) == text and len(decoded) >= 16
    client = twin(STREAMS[0].client)
    opener = client._opener
    assert isinstance(opener, V1Opener)
    try:
        opener._sealed(_envelope.SealedMessage(bytes(text), NONCE, b"", None), ac.FramingError)
    except ac.RemoteProtocolError as error:
        expected = ac.AuthenticationError if good else ac.FramingError
        check(type(error) is expected, "the core decodes base64 otherwise")
    client.close()


WAYS: Final = (streams, streams, places, replies, decoders, base64s, limits, requests, streams, places)


def target(program: Program) -> None:
    program.one_of(WAYS)(program)


# ---- what has to be found ---------------------------------------------------------------------------------------


def hash_is_not_looked_at() -> None:
    true = _envelope.read_sealed

    def read_sealed(text: bytes | str, what: str, error: Any) -> _envelope.SealedMessage:
        return true(text, what, error)._replace(response_hash=b"")

    _envelope.read_sealed = read_sealed


def every_space_is_stripped() -> None:
    true = _sse.data_of

    def data_of(block: bytes) -> bytes | None:
        data = true(block)
        return None if data is None else data.lstrip(b" ")

    _sse.data_of = data_of


def any_flag_will_do() -> None:
    true = _envelope_v2.read_record

    def read_record(text: bytes | str, what: str, error: Any) -> _envelope_v2.Record:
        record = true(text, what, error)
        return record._replace(flag=record.flag & 1)

    _envelope_v2.read_record = read_record


def one_may_stand_twice() -> None:
    def _strict(members: _envelope.Members, what: str, error: Any) -> dict[str, Any]:  # noqa: ARG001 - the true one's
        return dict(members)

    _envelope_v2._strict = _strict


def half_a_pair_is_refused() -> None:
    true = _envelope.read_members

    def read_members(text: bytes | str, what: str, error: Any) -> _envelope.Members:
        if isinstance(text, bytes) and b"\\ud8" in text:
            raise error(what)
        return true(text, what, error)

    _envelope.read_members = read_members


FAULTS: Final = (
    hash_is_not_looked_at,
    every_space_is_stripped,
    any_flag_will_do,
    one_may_stand_twice,
    half_a_pair_is_refused,
)

if __name__ == "__main__":
    start(target, FAULTS)
