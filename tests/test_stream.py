"""The seams of the event reader: every split, every truncation, every flip, and the order of faults."""

from __future__ import annotations

from typing import Final

import pytest

import atoma_crypto as ac
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


# ---- several pieces before anything is read ---------------------------------------------------------------------


@pytest.mark.parametrize("filler", [b"", b": ping\n\n", b"data: [DONE]\n\n", b"\n", b"id: 7\n\n"])
def test_pieces_that_wait_together_are_read_together(filler: bytes) -> None:
    """With a reader that is idle, as one is after its first event: what it meets first may have no event at all."""
    pair = SessionPair()
    first, second, third = three_events(pair)
    splits = list(every_split(filler + second))
    for head, tail in splits[: len(filler) + 2] + splits[len(filler) + 2 :: 7]:
        client = twin(pair.client)
        chunks = [read(client, [first], eof=False).chunks]
        for piece in (head, tail, third):
            client.receive_data(piece)
        client.receive_eof()
        *rest, end = client.events()
        assert chunks == [expected().chunks[:1]]
        assert [tuple(chunk) for chunk in rest if isinstance(chunk, ac.Chunk)] == expected().chunks[1:]
        assert end == expected().end


def test_a_piece_that_is_asked_for_twice_is_read_from_where_it_was_left() -> None:
    """An empty line is done with at once, what stands behind it is not."""
    pair = SessionPair()
    event = pair.node.seal_chunk(b"0")
    for cut in (50, len(event) - 2, len(event) - 1):
        client = twin(pair.client)
        client.receive_data(b"\n" + event[:cut])
        assert client.next_event() is client.next_event() is ac.NEED_DATA
        client.receive_data(event[cut:])
        assert client.next_event() == ac.Chunk(b"0", 0, None)


def test_a_fault_behind_an_empty_piece_is_found() -> None:
    pair = SessionPair()
    pair.client.receive_data(pair.node.seal_chunk(b"0"))
    assert isinstance(pair.client.next_event(), ac.Chunk)
    for piece in (b": ping\n\n", b"data: garbage\n\n"):
        pair.client.receive_data(piece)
    pair.client.receive_eof()
    with pytest.raises(ac.FramingError):
        pair.client.next_event()


def test_the_length_of_a_plaintext_is_that_of_its_bytes() -> None:
    """Of a memoryview len() is something else; here the sums of both agree."""
    pair = SessionPair()
    ten = memoryview(b"0123456789").cast("H")
    none = memoryview(bytearray()).cast("B")
    odd = memoryview(b"01234").cast("B", (5, 1))
    pair.client.receive_data(pair.node.seal_chunks([none, ten, odd]))
    chunks = [event.plaintext for event in pair.client.events() if isinstance(event, ac.Chunk)]
    assert chunks == [b"", b"0123456789", b"01234"]
