"""The event decoder for streams in clear, held to the model that was written from the standard."""

from __future__ import annotations

import tracemalloc
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
from atoma_crypto._sse import Decoder, data_of, text_of
from helpers import BOM, byte_by_byte, cut_at, every_split, model_prefixes, model_sse

STREAMS: Final = [
    b"data: one\n\ndata: two\n\n",
    b"data: one\r\n\r\ndata:two\r\n\r\n",
    b"data: one\r\rdata: two\r\r",
    b"data: one\r\n\ndata: two\n\r\n\r",
    BOM + b"data: a\n\n" + BOM + b"data: b\n\n",
    b": c\ndata: a\n: c\ndata: b\n:\n\n:\n\n\n",
    b"event: x\nid: 1\nretry: 5\n\ndata\n\ndata:\n\ndata: \n\ndata:  x\n\n",
    b"data: [DONE]\n\ndatax: 1\ndat: 2\nDATA: 3\n data: 4\n\n",
    b"data: a\ndata\ndata: b\r\ndata: c\rdata: \xc3\xa9\x00\n\nid\n\n",
    b"\n\r\n\r",
]
PIECES: Final = (b"\n", b"\r", b"\r\n", b"data", b":", b" ", b"x", BOM, b"data: x", b": c", b"event: e")


def read(pieces: list[bytes], decoder: Decoder | None = None) -> tuple[list[bytes], bool]:
    decoder = decoder or Decoder()
    found = [data for piece in pieces for data in decoder.feed(piece)]
    try:
        decoder.close()
    except ac.TruncatedStreamError:
        return found, False
    return found, True


@pytest.mark.parametrize("raw", STREAMS)
def test_every_split_gives_the_same_events(raw: bytes) -> None:
    model = model_sse(raw)
    assert read(byte_by_byte(raw)) == model
    for head, tail in every_split(raw):
        assert read([head, tail]) == model


@pytest.mark.parametrize("raw", STREAMS)
def test_every_truncation_gives_the_right_events_and_says_so(raw: bytes) -> None:
    for at, (events, clean) in enumerate(model_prefixes(raw)):
        assert read([raw[:at]]) == (events, clean)


def test_the_model_itself() -> None:
    """The examples of WHATWG HTML, section 9.2.6."""
    assert model_sse(b"data: YHOO\ndata: +2\ndata: 10\n\n") == ([b"YHOO\n+2\n10"], True)
    first = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert model_sse(first) == ([b"first event", b"second event", b" third event"], True)
    assert model_sse(b"data\n\ndata\ndata\n\ndata:") == ([b"", b"\n"], False)
    assert model_sse(b"data:test\n\ndata: test\n\n") == ([b"test", b"test"], True)


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.lists(st.integers(0, 100), max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_bytes_in_any_pieces(raw: bytes, places: list[int]) -> None:
    events, clean = model_sse(raw)
    got_events, got_clean = read(cut_at(raw, places))
    assert got_events == events
    assert got_clean == clean


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_bytes_raise_nothing(raw: bytes, places: list[int]) -> None:
    assert read(cut_at(raw, places))[0] == model_sse(raw)[0]


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_the_limit_is_exact_and_counts_one_event(cut: int) -> None:
    """Counted are the event's `data` lines without their ends, and any other while it is read."""
    exact = b"data: " + b"x" * 50 + b"\n" + b"id: " + b"y" * 40 + b"\n\n"
    raw = exact * 3 + (b":" + b"c" * 60 + b"\n") * 10 + exact
    pieces = [raw[i : i + cut] for i in range(0, len(raw), cut)]
    assert read(pieces, Decoder(100)) == ([b"x" * 50] * 4, True)
    with pytest.raises(ac.MessageTooLargeError, match="longer than 99 bytes"):
        read(pieces, Decoder(99))


def test_the_limit_of_a_piece_that_is_whole_events_is_the_same() -> None:
    exact, more = (b"data: " + b"x" * length + b"\n\n" for length in (94, 95))
    for count in (1, 2, 3):
        assert len(Decoder(100).feed(exact * count)) == count
        with pytest.raises(ac.MessageTooLargeError):
            Decoder(100).feed(exact * (count - 1) + more)


def test_a_byte_order_mark_further_in_is_none() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n\n") == [b"1"]
    assert decoder.feed(b"\xef\xbb\xbfdata: 2\r\n\r\n") == []


def test_a_line_that_never_ends_is_cut_off_at_the_limit() -> None:
    with pytest.raises(ac.MessageTooLargeError):
        Decoder(100).feed(b":" * 101)
    decoder = Decoder(100)
    assert decoder.feed(b":" * 100) == []
    with pytest.raises(ac.MessageTooLargeError):
        decoder.feed(b":")


def test_comments_between_the_lines_of_an_event_are_not_counted() -> None:
    raw = b"data: 1\n" + (b":" + b"c" * 80 + b"\n") * 50 + b"data: 2\n\n"
    assert read([raw], Decoder(100)) == ([b"1\n2"], True)


def test_memory_stays_flat_on_lines_that_say_nothing() -> None:
    """In one event that goes on: of such a line, all that is kept is that there was one."""
    decoder = Decoder(1000)
    assert decoder.feed(b"data: 1\n") == []
    piece = b"xx\n" * 1000
    tracemalloc.start()
    try:
        assert decoder.feed(piece) == []
        tracemalloc.reset_peak()
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            assert decoder.feed(piece) == []
        assert tracemalloc.get_traced_memory()[0] - first < 10_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ac.TruncatedStreamError):
        decoder.close()
    assert decoder.feed(b"data: 2\n\n") == [b"1\n2"]
    decoder.close()


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b"", None),
        (b"id: 1\n", None),
        (b"data", b""),
        (b"data:", b""),
        (b"data: ", b""),
        (b"data:  x", b" x"),
        (b"data: a\r\ndata: b\rdata: c\n\n", b"a\nb\nc"),
        (b"data : a", None),
        (b":data: a", None),
    ],
)
def test_data_of_one_event(block: bytes, data: bytes | None) -> None:
    assert data_of(block) == data


def test_text_of_data() -> None:
    assert text_of("\u00e9\U0001f600".encode()) == "\u00e9\U0001f600"
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe2\x82"):
        with pytest.raises(ac.FramingError, match="not UTF-8") as caught:
            text_of(bad)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
