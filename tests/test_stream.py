"""The seams of the event reader and writer: every split, every truncation, every flip; C and Python agree."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from atoma_crypto._typing import Buffer
from helpers import (
    BOM,
    DRESSINGS,
    NEWLINES,
    USAGE,
    Reading,
    SessionPair,
    byte_by_byte,
    every_split,
    member,
    model_prefixes,
    model_sse,
    native,
    punted,
    random_cuts,
    read,
    tamper,
    twin,
)

TEXTS: Final = (b'{"a":"one"}', b"", "zw\u00f6lf \U0001f600".encode() * 7)
DRESSED: Final = [(newline, name) for newline in NEWLINES for name in DRESSINGS]


def expected(count: int = 3, *, usages: tuple[dict[str, int] | None, ...] = (None, USAGE, None)) -> Reading:
    shown = [usage for usage in usages[:count] if usage is not None]
    chunks = [(TEXTS[i], i, usages[i]) for i in range(count)]
    return Reading(list(chunks), ac.EndOfStream(count, shown[-1] if shown else None))


def three_events(pair: SessionPair) -> list[bytes]:
    return [pair.node.seal_chunk(text, USAGE if i == 1 else None) for i, text in enumerate(TEXTS)]


def dressed(pair: SessionPair, newline: bytes, name: str) -> bytes:
    return b"".join(map(DRESSINGS[name], three_events(pair))).replace(b"\n", newline)


# ---- splits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("newline", "name"), DRESSED)
def test_every_split_gives_the_same_events(newline: bytes, name: str) -> None:
    pair = SessionPair()
    raw = dressed(pair, newline, name)
    assert read(twin(pair.client), [raw]) == expected()
    assert read(twin(pair.client), byte_by_byte(raw)) == expected()
    step = 1 if name in {"as it is", "comments", "pretty"} else 3
    for head, tail in list(every_split(raw))[::step]:
        assert read(twin(pair.client), [head, tail]) == expected()
    for seed in range(10):
        assert read(twin(pair.client), random_cuts(raw, seed)) == expected()


@pytest.mark.long
@pytest.mark.parametrize(("newline", "name"), DRESSED)
def test_every_split_gives_the_same_events_long(newline: bytes, name: str) -> None:
    pair = SessionPair()
    raw = BOM + dressed(pair, newline, name)
    for head, tail in every_split(raw):
        assert read(twin(pair.client), [head, tail]) == expected()
    for seed in range(300):
        assert read(twin(pair.client), random_cuts(raw, seed)) == expected()


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("name", ["as it is", "pretty", "[DONE]"])
def test_a_byte_order_mark_is_passed_over(newline: bytes, name: str) -> None:
    pair = SessionPair()
    raw = BOM + dressed(pair, newline, name)
    for head, tail in [*list(every_split(raw))[:20], (raw, b"")]:
        assert read(twin(pair.client), [head, tail]) == expected()
    assert read(twin(pair.client), byte_by_byte(raw)) == expected()


@pytest.mark.parametrize("name", ["as it is", "nested"])
def test_only_the_first_byte_order_mark_is_passed_over(name: str) -> None:
    pair = SessionPair()
    one, two, _ = three_events(pair)
    # A second mark belongs to the name of its field, which nobody knows: that event has no data.
    raw = BOM + BOM + DRESSINGS[name](one) + BOM + DRESSINGS[name](one) + DRESSINGS[name](two)
    assert read(pair.client, [raw]) == Reading([(TEXTS[1], 0, USAGE)], ac.EndOfStream(1, USAGE))


@pytest.mark.parametrize("before", [b"", BOM, b"data: [DONE]\n\n", BOM + b"data: [DONE]\r\r", b": c\n\n", b"\r\n"])
@pytest.mark.parametrize("size", [3000, 4080, 5000, 70_000])
@pytest.mark.parametrize("name", ["as it is", "nested"])
def test_events_larger_than_the_readers_memory(before: bytes, size: int, name: str) -> None:
    pair = SessionPair()
    texts = [b"small", b"L" * size, b"", b"M" * (2 * size)]
    raw = before + b"".join(DRESSINGS[name](pair.node.seal_chunk(text)) for text in texts)
    want = Reading([(text, i, None) for i, text in enumerate(texts)], ac.EndOfStream(4, None))
    assert read(twin(pair.client), [raw]) == want
    assert read(twin(pair.client), [raw[i : i + 1500] for i in range(0, len(raw), 1500)]) == want
    large = before + DRESSINGS[name](pair.node.seal_chunk(texts[1]))
    assert read(pair.client, [large]) == Reading([(texts[1], 0, None)], ac.EndOfStream(1, None))


def test_more_events_than_one_call_opens() -> None:
    pair = SessionPair()
    texts = [b"%d" % i for i in range(200)]
    raw = pair.node.seal_chunks(texts)
    want = Reading([(text, i, None) for i, text in enumerate(texts)], ac.EndOfStream(200, None))
    assert read(twin(pair.client), [raw]) == want
    # all at once, and the end said before anything is taken
    pair.client.receive_data(raw)
    pair.client.receive_eof()
    assert [event.plaintext for event in pair.client.events() if isinstance(event, ac.Chunk)] == texts


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_received_buffers_of_every_kind_may_change_afterwards(kind: type[bytes]) -> None:
    pair = SessionPair()
    raw = b"".join(three_events(pair))
    texts = []
    for at in range(0, len(raw), 100):
        piece = bytearray(raw[at : at + 100])
        pair.client.receive_data(kind(piece))
        piece[:] = bytes(len(piece))
        pair.client.receive_data(kind(b""))
        texts += [event.plaintext for event in pair.client.events() if isinstance(event, ac.Chunk)]
    assert texts == list(TEXTS)


# ---- truncations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("newline", "name"), [*DRESSED, (b"\r\n", "mark")])
def test_every_truncation_gives_the_right_events_then_the_right_end(newline: bytes, name: str) -> None:
    pair = SessionPair()
    raw = BOM + dressed(pair, newline, "as it is") if name == "mark" else dressed(pair, newline, name)
    clean_ends = set()
    step = 1 if name in {"as it is", "mark", "comments"} else 3
    for at, (events, clean) in enumerate(model_prefixes(raw)):
        if at % step != 0 and at != len(raw):
            continue
        count = sum(data != b"[DONE]" for data in events)
        want = expected(count)
        assert read(twin(pair.client), [raw[:at]], eof=False) == Reading(want.chunks, None)
        truncated = Reading(want.chunks, ac.TruncatedStreamError)
        assert read(twin(pair.client), [raw[:at]]) == (want if clean else truncated)
        if clean:
            clean_ends.add(count)
    if step == 1:
        assert clean_ends == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"", True),
        (BOM, True),
        (BOM[:1], False),
        (BOM[:2], False),
        (b"\n", True),
        (b"\r", True),
        (b": comment\n", True),
        (b": comment", False),
        (b":", False),
        (b"data: [DONE]\n\n", True),
        (b"data: [DONE]\r", False),
        (b"data: [DONE]\r\n\r", True),
        (b"data: [DONE]\n", False),
        (b"data: [DONE]", False),
        (b"event: x\n", False),
        (b"event: x\n\n", True),
        (b"event: x\n: comment\n", False),
        (b"d", False),
    ],
)
def test_what_is_inside_an_event(raw: bytes, clean: bool) -> None:
    assert model_sse(raw)[1] is clean
    for pieces in ([raw], byte_by_byte(raw)):
        end = ac.EndOfStream(0, None) if clean else ac.TruncatedStreamError
        assert read(SessionPair().client, pieces) == Reading([], end)


# ---- flips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["as it is", "nested", "pretty", "unknown keys"])
def test_every_flip_gives_the_right_plaintext_or_a_remote_error(name: str) -> None:
    """A field name that a flip has made another takes its event out of the stream: v1 has nothing against that."""
    pair = SessionPair()
    one, two, three = (DRESSINGS[name](event) for event in three_events(pair))
    seen = set()
    for bit in range(8 * len(two)):
        got = read(twin(pair.client), [one, tamper(two, bit), three])
        texts = [text for text, _, _ in got.chunks]
        assert texts[:1] == [TEXTS[0]]
        assert [index for _, index, _ in got.chunks] == list(range(len(texts)))
        if isinstance(got.end, ac.EndOfStream):
            assert texts in ([*TEXTS], [TEXTS[0], TEXTS[2]], [TEXTS[0], TEXTS[1]])
            assert got.end.chunk_count == len(texts)
            if texts != [*TEXTS]:  # a field's name (its colon too) or the blank line was hit, nothing else
                line = two.rfind(b"\n", 0, bit // 8) + 1
                assert bit // 8 - line <= 4 or bit // 8 == len(two) - 1
        else:
            assert got.end is not None
            assert texts in ([TEXTS[0]], [TEXTS[0], TEXTS[1]])
            if len(texts) == 2:  # the event was whole, and what follows it is at fault
                assert bit // 8 >= len(two) - 2
        seen.add(got.end if isinstance(got.end, type) else None)
    assert seen >= {None, ac.AuthenticationError, ac.FramingError}


def test_every_flip_of_what_is_sealed_fails() -> None:
    """The ciphertext, its tag, the nonce, the hash: no bit of them may be another."""
    pair = SessionPair()
    event = pair.node.seal_chunk(TEXTS[0])
    for name in ("ciphertext", "nonce", "response_hash"):
        text = member(event, name).encode()
        begin = event.index(text)
        for bit in range(8 * begin, 8 * (begin + len(text))):
            got = read(twin(pair.client), [tamper(event, bit)])
            assert got.chunks == []
            assert got.end in (ac.AuthenticationError, ac.FramingError)


def test_every_flip_of_a_reply_gives_the_right_plaintext_or_a_remote_error() -> None:
    pair = SessionPair(stream=False)
    raw = pair.node.seal_response(b"the answer", USAGE)
    opened = 0
    for bit in range(8 * len(raw)):
        try:
            assert twin(pair.client).open_response(tamper(raw, bit)) == b"the answer"
        except ac.RemoteProtocolError:
            continue
        opened += 1
    assert 0 < opened < 8 * len(raw)


# ---- C and Python agree -----------------------------------------------------------------------------------------


def opened_by_c(event: bytes) -> bool:
    """Whether the C reader takes the event itself, by asking it."""
    pair = SessionPair()
    opener = native(pair.client)
    out, spans, sizes = ffi.new("uint8_t[]", 4096), ffi.new("size_t[3]"), ffi.new("size_t[4]")
    status = lib.ac_v1_events_open(
        opener, out, 4096, sizes, spans, 1, sizes + 1, sizes + 2, sizes + 3, event, len(event)
    )
    return bool(status != lib.AC_PUNT)


@pytest.mark.parametrize("name", DRESSINGS)
def test_which_events_go_to_python(name: str) -> None:
    """What nodes print stays in C; the test of agreement below would say nothing if all went one way."""
    pair = SessionPair()
    event = DRESSINGS[name](three_events(pair)[1])
    punt = name in {"pretty", "two lines", "escaped", "nested"} or b"\\/" in event
    assert opened_by_c(event) is not punt
    assert not opened_by_c(punted(three_events(pair)[1]))


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


@pytest.mark.parametrize("data", [b"\xff", b'{"x":"\xed\xa0\x80"}', b'\xc3{"a":1}', b"{\x00}"])
def test_events_that_are_not_utf_8(data: bytes) -> None:
    assert read(SessionPair().client, [b"data: " + data + b"\n\n"]) == Reading([], ac.FramingError)
    with pytest.raises(ac.EnvelopeError):
        SessionPair(stream=False).client.open_response(data)


# ---- order of faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["as it is", "nested"])
def test_chunks_before_a_fault_come_first(name: str) -> None:
    pair = SessionPair()
    one, two, three = (DRESSINGS[name](event) for event in three_events(pair))
    bad = two.replace(member(two[:-2], "ciphertext")[:4].encode(), b"AAAA", 1)
    got = read(pair.client, [one + bad + three])
    assert got == Reading([(TEXTS[0], 0, None)], ac.AuthenticationError)
    with pytest.raises(ac.LocalProtocolError, match="failed before"):
        pair.client.next_event()
    with pytest.raises(ac.LocalProtocolError, match="failed before"):
        pair.client.receive_data(three)


def test_usage_is_shown_beside_its_chunk_and_the_last_is_kept() -> None:
    pair = SessionPair()
    usages: list[dict[str, object] | None] = [None, {"n": 1}, None, {"n": {"deep": [1, "\u00e9", None]}}, {}, None]
    raw = b"".join(pair.node.seal_chunk(b"x", usage) for usage in usages)
    got = read(pair.client, [raw])
    assert [usage for _, _, usage in got.chunks] == usages
    assert got.end == ac.EndOfStream(6, {})


def test_the_last_usage_is_kept_when_the_last_event_goes_to_python() -> None:
    pair = SessionPair()
    raw = punted(pair.node.seal_chunk(b"x", {"n": 1})) + punted(pair.node.seal_chunk(b"x"))
    got = read(pair.client, [raw])
    assert [usage for _, _, usage in got.chunks] == [{"n": 1}, None]
    assert got.end == ac.EndOfStream(2, {"n": 1})


# ---- limits -----------------------------------------------------------------------------------------------------


def fed(size: int, raw: bytes) -> Iterator[list[bytes]]:
    """In one piece, byte by byte, and cut around the place that matters."""
    yield [raw]
    yield byte_by_byte(raw)
    yield from ([raw[:at], raw[at:]] for at in range(size - 3, size + 4) if 0 <= at <= len(raw))


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("name", ["as it is", "nested", "pretty", "unknown fields"])
def test_the_limit_of_an_event_is_exact(newline: bytes, name: str) -> None:
    """Counted are the lines of the event with their ends, but for the blank line that ends it."""
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x" * 600)
    lines = DRESSINGS[name](event).replace(b"id: 2\n\n", b"").replace(b": c\n", b"").removesuffix(b"\n")
    raw = (lines + b"\n").replace(b"\n", newline)
    size = len(lines.replace(b"\n", newline))
    for limit, want in ((size, None), (size - 1, ac.MessageTooLargeError)):
        for pieces in fed(size, raw):
            client = twin(pair.client)
            lib.ac_v1_opener_set(native(client), limit, 100, 0)
            got = read(client, [newline + b"data: [DONE]", newline + newline, *pieces])
            assert (got.end, len(got.chunks)) == ((want, 0) if want else (ac.EndOfStream(1, None), 1))


def test_the_limit_of_an_event_reaches_the_reader() -> None:
    sizes = {len(SessionPair().node.seal_chunk(b"x" * 500)) - 1}
    (size,) = sizes
    for limit, end in ((size, ac.EndOfStream(1, None)), (size - 1, ac.MessageTooLargeError)):
        pair = SessionPair(client={"limits": ac.Limits(max_event_bytes=limit)})
        assert read(pair.client, [pair.node.seal_chunk(b"x" * 500)]).end == end


@pytest.mark.parametrize("start", [b":", b"id: ", b"dat", b"datax:", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", NEWLINES)
def test_the_limit_of_a_line_without_data_is_exact(start: bytes, newline: bytes) -> None:
    for length, end in ((100, ac.EndOfStream(1, None)), (101, ac.MessageTooLargeError)):
        line = start.ljust(length, b"x")
        for lead in (b"", b": c" + newline):
            pair = SessionPair(client={"limits": ac.Limits(max_line_bytes=100)})
            raw = lead + b"\n" + line + newline + newline
            for pieces in fed(len(lead) + length, raw):
                client = twin(pair.client)
                got = read(client, [*pieces, pair.node.seal_chunk(b"t").replace(b"\n", newline)])
                assert got.end == end, (start, length, len(pieces))


def test_a_line_that_never_ends_is_cut_off_at_the_limit() -> None:
    for start, limit in ((b":", 64 << 10), (b"data: ", 2 << 20)):
        client = SessionPair().client
        got = read(client, [start.ljust(limit, b"x")], eof=False)
        assert got.end is None
        assert read(client, [b"x"], eof=False).end is ac.MessageTooLargeError


def test_many_lines_in_one_event_count_together() -> None:
    pair = SessionPair(client={"limits": ac.Limits(max_event_bytes=1000)})
    got = read(pair.client, [b"id: 1\n"] * 166 + [b": c\n"], eof=False)
    assert got.end is None
    assert read(pair.client, [b"\n" + b"id: 1\n" * 167], eof=False).end is ac.MessageTooLargeError


def test_the_nodes_limit_of_an_event_is_exact() -> None:
    size = len(SessionPair().node.seal_chunk(b"x" * 100, USAGE))
    too_small = rf"longer than the limit of {size - 1} bytes"
    small = SessionPair(node={"limits": ac.Limits(max_event_bytes=size - 1)})
    with pytest.raises(ValueError, match=too_small):
        small.node.seal_chunk(b"x" * 100, USAGE)
    with pytest.raises(ValueError, match=too_small):
        small.node.seal_chunks([b"", b"x" * 100, b""], USAGE)
    assert read(small.client, [small.node.seal_chunk(b"x" * 99)]).end == ac.EndOfStream(1, None)
    exact = SessionPair(node={"limits": ac.Limits(max_event_bytes=size)})
    assert len(exact.node.seal_chunk(b"x" * 100, USAGE)) == size
    assert len(exact.node.seal_chunks([b"x" * 100] * 3, USAGE)) == 3 * size


def test_the_limit_of_a_reply_is_exact() -> None:
    for size, fails in ((5000, False), (5001, True), (6000, True), (80_000, True)):
        pair = SessionPair(stream=False, client={"limits": ac.Limits(max_response_bytes=5000)})
        raw = pair.node.seal_response(b"x" * size)
        for variant in (raw, b'{"nested":[],' + raw[1:]):
            client = twin(pair.client)
            if fails:
                with pytest.raises(ac.MessageTooLargeError):
                    client.open_response(variant)
                with pytest.raises(ac.LocalProtocolError, match="failed before"):
                    client.open_response(variant)
            else:
                assert client.open_response(variant) == b"x" * size


# ---- memory -----------------------------------------------------------------------------------------------------


def growth(client: ac.ClientSession, pieces: list[bytes], rounds: int) -> int:
    """By how much the peak of memory rises over many rounds, once some have gone by."""

    def run(times: int) -> int:
        tracemalloc.reset_peak()
        for _ in range(times):
            for piece in pieces:
                client.receive_data(piece)
                for _event in client.events():
                    pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        first = run(20)
        return run(rounds) - first
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "rounds"), [("as it is", 2000), ("nested", 300), pytest.param("nested", 2000, marks=pytest.mark.long)]
)
def test_memory_stays_flat_on_a_long_stream(name: str, rounds: int) -> None:
    """20,000 events (3,000 of the slow kind), no piece ending where one does. They repeat: the warning is off."""
    pair = SessionPair()
    pair.client._warned = True
    raw = b"".join(DRESSINGS[name](pair.node.seal_chunk(b"token %d" % i)) for i in range(10))
    pair.client.receive_data(raw[:100])
    raw = raw[100:] + raw[:100]
    assert growth(pair.client, [raw[i : i + 997] for i in range(0, len(raw), 997)], rounds) < 20_000
    assert pair.client._opener.chunk_count > 10 * rounds


@pytest.mark.parametrize("piece", [b": keep-alive\n\n", b":\n", b"\r\n", b"data: [DONE]\n\n", b"id: 1\n\n", b":" * 998])
def test_memory_stays_flat_on_what_carries_no_chunk(piece: bytes) -> None:
    client = SessionPair().client
    if not piece.endswith(b"\n"):
        piece += b"\n: and the next begins"
    assert growth(client, [piece], 3000) < 20_000
    assert read(client, [b"\n"]).end == ac.EndOfStream(0, None)


def test_a_batch_that_changes_while_it_is_read() -> None:
    """Its lengths no longer add up: nothing is sealed and nothing is spent."""

    class Changing(Sequence[Buffer]):
        looks = 0

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: Any) -> Any:
            if index > 0:
                raise IndexError
            self.looks += 1
            return b"x" * self.looks

    pair = SessionPair()
    before = bytes(ffi.buffer(native(pair.node)))
    with pytest.raises(ValueError, match="too long"):
        pair.node.seal_chunks(Changing())
    assert bytes(ffi.buffer(native(pair.node))) == before
    assert read(pair.client, [pair.node.seal_chunk(b"x")]).end == ac.EndOfStream(1, None)


# ---- the writer -------------------------------------------------------------------------------------------------


def test_a_batch_is_the_events_one_behind_the_other() -> None:
    pair = SessionPair(node={"signing_key": bytes(32)})
    texts: list[Buffer] = [b"", b"a", memoryview(b"bb"), bytearray(b"c" * 5000)]
    raw = pair.node.seal_chunks(texts, USAGE)
    got = read(pair.client, [raw])
    assert got.chunks == [(bytes(text), i, USAGE) for i, text in enumerate(texts)]
    events = raw.split(b"\n\n")[:-1]
    assert len({json.loads(event[6:])["nonce"] for event in events}) == 4
    assert pair.node.seal_chunks([]) == b""


def test_what_is_written_has_the_size_that_was_said() -> None:
    for seed in (None, bytes(32)):
        for usage in (None, USAGE, {}):
            pair = SessionPair(node={"signing_key": seed})
            for length in (0, 1, 2, 3, 31, 32, 33, 1000, 4095, 4096):
                text = b"" if usage is None else json.dumps(usage, separators=(",", ":")).encode()
                said = lib.ac_v1_event_bytes(native(pair.node), length, len(text))
                assert len(pair.node.seal_chunk(bytes(length), usage)) == said


def test_the_writer_refuses_room_that_is_too_small_by_one() -> None:
    pair = SessionPair()
    sealer = native(pair.node)
    need = lib.ac_v1_event_bytes(sealer, 5, 0)
    out, size = ffi.new("uint8_t[]", need), ffi.new("size_t *")
    before = bytes(ffi.buffer(sealer))
    assert lib.ac_v1_event_seal(sealer, out, need - 1, size, b"01234", 5, b"", 0) == lib.AC_ERR_CAPACITY
    assert lib.ac_v1_event_seal(sealer, out, need, size, out + 3, 5, b"", 0) == lib.AC_ERR_OVERLAP
    assert lib.ac_v1_event_seal(sealer, out, need, size, b"01234", 5, b"\n", 1) == lib.AC_ERR_ARGUMENT
    lens = ffi.new("size_t[]", [2, 4])
    assert lib.ac_v1_events_seal(sealer, out, need, size, b"01234", 5, lens, 2, b"", 0) == lib.AC_ERR_ARGUMENT
    assert bytes(ffi.buffer(sealer)) == before
    assert not any(bytes(ffi.buffer(out)))
    assert lib.ac_v1_event_seal(sealer, out, need, size, b"01234", 5, b"", 0) == lib.AC_OK
    assert read(pair.client, [bytes(ffi.buffer(out))]).chunks == [(b"01234", 0, None)]


def test_the_reader_refuses_room_that_is_too_small_by_one() -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"01234567")
    need = lib.ac_base64_decoded_max(len(member(event, "ciphertext")))
    opener = native(pair.client)
    out, spans, sizes = ffi.new("uint8_t[]", need), ffi.new("size_t[3]"), ffi.new("size_t[4]")

    def events_open(cap: int, span_cap: int = 1) -> int:
        rest = (sizes, spans, span_cap, sizes + 1, sizes + 2, sizes + 3, event, len(event))
        return int(lib.ac_v1_events_open(opener, out, cap, *rest))

    before = bytes(ffi.buffer(opener))
    assert events_open(need, 0) == lib.AC_ERR_ARGUMENT
    assert bytes(ffi.buffer(opener)) == before
    assert events_open(need - 1) == lib.AC_ERR_CAPACITY
    assert sizes[0] == need
    assert events_open(need) == lib.AC_OK
    assert ffi.buffer(out)[: spans[0]] == b"01234567"
    text = member(event, "ciphertext").encode()
    nonce = member(event, "nonce").encode()
    rest = (sizes, text, len(text), nonce, len(nonce), b"", 0)
    assert lib.ac_v1_sealed_open(opener, out, need - 1, *rest) == lib.AC_ERR_CAPACITY
    assert lib.ac_v1_sealed_open(opener, out, need, *rest) == lib.AC_OK


def test_a_closed_opener_and_sealer_say_so() -> None:
    pair = SessionPair()
    pair.client._opener.close()
    pair.node._sealer.close()
    with pytest.raises(ac.LocalProtocolError, match="failed or was never set up"):
        pair.node.seal_chunk(b"x")
    with pytest.raises(ac.LocalProtocolError, match="failed or was never set up"):
        pair.node.seal_chunks([b"x"])
    pair.client.receive_data(b"data: x\n\n")
    with pytest.raises(ac.LocalProtocolError, match="failed or was never set up"):
        pair.client.next_event()
