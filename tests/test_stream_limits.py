"""Sizes at the seams: limits that are exact wherever the bytes were split, memory that stays flat, room."""

from __future__ import annotations

import array
import ctypes
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from atoma_crypto._typing import Buffer
from helpers import (
    DRESSINGS,
    NEWLINES,
    USAGE,
    SessionPair,
    byte_by_byte,
    member,
    native,
    read,
    twin,
)

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


@pytest.mark.parametrize("max_line_bytes", [64, 1 << 20])
def test_the_limit_of_a_reply_does_not_hang_on_that_of_a_line(max_line_bytes: int) -> None:
    for limit in (64, 65, 66, 3000, 100_000, 600_000):  # what base64 adds to the last is more than may stand around it
        for more in (0, 1, 100_000):
            options = {"limits": ac.Limits(max_response_bytes=limit, max_line_bytes=max_line_bytes)}
            pair = SessionPair(stream=False, client=options, node={"signing_key": bytes(32)})
            raw = pair.node.seal_response(b"x" * (limit + more), USAGE)
            if more:
                with pytest.raises(ac.MessageTooLargeError):
                    pair.client.open_response(raw)
            else:
                assert pair.client.open_response(raw) == b"x" * limit


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


@pytest.mark.parametrize("piece", [b": keep-alive\n\n", b":\n", b"\r\n", b":", b"id: 1\n\n", b":" * 998])
def test_nor_does_it_in_v2(piece: bytes) -> None:
    """Single bytes, too; and the answer behind them all is read."""
    pair = SessionPair(protocol="v2")
    pieces = [piece] if piece.endswith(b"\n") else [piece, b"\n", b":", b" "]
    assert growth(pair.client, pieces, 3000) < 20_000
    assert read(pair.client, [b"\n", pair.node.seal_chunk(b"{}"), pair.node.finish()]) == (
        [(b"{}", 0, None)],
        ac.EndOfStream(1, None),
    )


def test_a_batch_that_changes_while_it_is_read() -> None:
    """It is looked at once: lengths and bytes belong together."""

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
    got = read(pair.client, [pair.node.seal_chunks(Changing()), pair.node.seal_chunk(b"y")])
    assert got == ([(b"x", 0, None), (b"y", 1, None)], ac.EndOfStream(2, None))


@pytest.mark.parametrize("wrong", [None, {b"x"}, (b"x" for _ in range(1)), {0: b"x"}, 5, b"x", "x", bytearray(b"x")])
def test_a_batch_that_is_no_sequence(wrong: Any) -> None:
    pair = SessionPair()
    with pytest.raises(TypeError, match="plaintexts must be a sequence of buffers"):
        pair.node.seal_chunks(wrong)
    assert pair.node._sealer._native.chunks_left == 2**32
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
    assert lib.ac_v1_event_seal(sealer, out, need - 1, b"01234", 5) == lib.AC_ERR_CAPACITY
    assert lib.ac_v1_event_seal(sealer, out, need, out + 3, 5) == lib.AC_ERR_OVERLAP
    lens = ffi.new("size_t[]", [5])
    assert lib.ac_v1_events_seal(sealer, out, need, size, b"01234", 5, lens, 1, b"\n", 1) == lib.AC_ERR_ARGUMENT
    lens = ffi.new("size_t[]", [2, 4])
    assert lib.ac_v1_events_seal(sealer, out, need, size, b"01234", 5, lens, 2, b"", 0) == lib.AC_ERR_ARGUMENT
    assert bytes(ffi.buffer(sealer)) == before
    assert not any(bytes(ffi.buffer(out)))
    assert lib.ac_v1_event_seal(sealer, out, need, b"01234", 5) == need
    assert read(pair.client, [bytes(ffi.buffer(out))]).chunks == [(b"01234", 0, None)]


def test_the_reader_refuses_room_that_is_too_small_by_one() -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"01234567")
    need = lib.ac_base64_decoded_max(len(member(event, "ciphertext")))
    opener = native(pair.client)
    out, sizes = ffi.new("uint8_t[]", need), ffi.new("size_t[1]")
    events = ffi.new("ac_v1_events *", {"opener": opener, "out": out})

    def events_open(cap: int, event_cap: int = 1) -> int:
        events.out_cap, events.event_cap = cap, event_cap
        return int(lib.ac_v1_events_open(events, event, len(event)))

    before = bytes(ffi.buffer(opener))
    assert events_open(need, 0) == lib.AC_ERR_ARGUMENT
    assert bytes(ffi.buffer(opener)) == before
    assert events_open(need - 1) == lib.AC_ERR_CAPACITY
    assert events.out_len == need
    assert events_open(need) == lib.AC_ONE + len(b"01234567")
    assert ffi.buffer(out)[: events.out_len] == b"01234567"
    text = member(event, "ciphertext").encode()
    nonce = member(event, "nonce").encode()
    rest = (sizes, text, len(text), nonce, len(nonce), b"", 0)
    assert lib.ac_v1_sealed_open(opener, out, need - 1, *rest) == lib.AC_ERR_CAPACITY
    assert lib.ac_v1_sealed_open(opener, out, need, *rest) == lib.AC_OK


def test_a_size_that_the_core_calls_impossible() -> None:
    sealer = SessionPair().node._sealer
    lens = ffi.new("size_t[]", [2, 4])
    need = lib.ac_v1_events_bytes(sealer._native, 5, lens, 2, 0)
    with pytest.raises(ValueError, match="the plaintext is too long for one message"):
        sealer._place(need)


def test_a_closed_opener_and_sealer_say_so() -> None:
    pair = SessionPair()
    pair.client._opener.close()
    pair.node._sealer.close()
    with pytest.raises(ac.LocalProtocolError, match="failed or was never set up"):
        pair.node.seal_chunk(b"x")
    with pytest.raises(ac.LocalProtocolError, match="failed or was never set up"):
        pair.node.seal_chunks([b"x"])
    pair.client.receive_data(b"data: x\n\n")
    with pytest.raises(ac.ConcurrentUseError):  # as it looks while another thread closes the session
        pair.client.next_event()


def test_plaintexts_of_every_kind_of_buffer() -> None:
    pair = SessionPair()
    one = memoryview(ctypes.c_uint8(65))  # of no dimension: it has no len()
    wide = memoryview(array.array("H", [0x4141, 0x4242]))  # its len() is not its bytes
    large = bytearray(b"x" * 9_000)
    events = [
        *(pair.node.seal_chunk(plaintext) for plaintext in (one, wide, bytearray(b"y"), large, bytes(large) * 2)),
        *(pair.node.seal_chunks([b"z", plaintext]) for plaintext in (one, wide, large, bytes(large) * 9)),
    ]
    texts = [bytes(one), bytes(wide), b"y", bytes(large), bytes(large) * 2]
    for text in (bytes(one), bytes(wide), bytes(large), bytes(large) * 9):
        texts += [b"z", text]
    assert [chunk[0] for chunk in read(pair.client, events).chunks] == texts
    assert len(pair.node._sealer._places) == 1
