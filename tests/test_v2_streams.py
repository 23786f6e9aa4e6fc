"""A client of protocol v2 reads a stream: it proves its order, its end, and that nothing is missing or was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from atoma_crypto._state import State
from atoma_crypto._typing import Suite, Usage
from helpers import BOM, DRESSINGS, USAGE, Reading, SessionPair, byte_by_byte, every_split, read, tamper, twin

OTHER: Final = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def streamed(count: int = 3) -> tuple[SessionPair, list[bytes]]:
    """A client that waits, and the events for it, the last of them the end."""
    pair = SessionPair(protocol="v2")
    events = [pair.node.seal_chunk(b"%d" % i) for i in range(count)]
    return pair, [*events, pair.node.finish(USAGE)]


def chunks_of(count: int) -> list[tuple[bytes, int, Usage | None]]:
    return [(b"%d" % i, i, None) for i in range(count)]


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_a_stream(suite: Suite) -> None:
    pair = SessionPair(protocol="v2", suite=suite)
    events = pair.node.seal_chunk(b"a") + pair.node.seal_chunk(b"b", OTHER) + pair.node.seal_chunks([b"c", b"d"])
    got = read(pair.client, [events, pair.node.finish(USAGE)])
    assert got.chunks == [(b"a", 0, None), (b"b", 1, OTHER), (b"c", 2, None), (b"d", 3, None)]
    assert got.end == ac.EndOfStream(4, USAGE)


def test_the_end_comes_with_its_record_and_stays() -> None:
    pair, events = streamed(1)
    pair.client.receive_data(events[0])
    assert pair.client.next_event() == (b"0", 0, None)
    assert pair.client.next_event() is ac.NEED_DATA
    pair.client.receive_data(events[1])
    end = pair.client.next_event()
    assert end == ac.EndOfStream(1, USAGE)
    for _ in range(2):
        assert pair.client.next_event() is end
        pair.client.receive_eof()
    assert [event is end for event in pair.client.events()] == [True]


def test_usage_of_the_last_record_that_has_one_counts() -> None:
    pair = SessionPair(protocol="v2")
    raw = pair.node.seal_chunk(b"a", OTHER) + pair.node.seal_chunk(b"b") + pair.node.finish()
    assert read(pair.client, [raw]).end == ac.EndOfStream(2, OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_usage_of_which_one_number_is_zero(name: str) -> None:
    pair = SessionPair(protocol="v2")
    usage = {**OTHER, name: 0}
    assert read(pair.client, [pair.node.seal_chunk(b"a", usage)]).chunks == [(b"a", 0, usage)]


def test_a_last_record_with_plaintext_is_a_chunk_before_the_end() -> None:
    """No session of ours writes such a record."""
    for before in (0, 1):
        pair = SessionPair(protocol="v2")
        raw = b"".join(pair.node.seal_chunk(b"x") for _ in range(before))
        sealer, out, size = pair.node._sealer._native, ffi.new("uint8_t[]", 1000), ffi.new("size_t *")
        lens, flag = ffi.new("size_t[]", [4]), lib.AC_FLAG_END
        assert lib.ac_v2_events_seal(sealer, out, 1000, size, b"last", 4, lens, 1, flag, ffi.NULL) == 0
        raw += bytes(ffi.buffer(out, size[0]))
        for pieces in ([raw], byte_by_byte(raw)):
            got = read(twin(pair.client), pieces)
            assert got.chunks == [(b"x", 0, None)] * before + [(b"last", before, None)]
            assert got.end == ac.EndOfStream(before + 1, None)


def test_cut_after_any_byte() -> None:
    pair, events = streamed()
    raw = b"".join(events)
    ends = {0}
    for event in events:
        ends.add(max(ends) + len(event))
    for at in range(len(raw)):
        got = read(twin(pair.client), [raw[:at]])
        assert got.end is ac.TruncatedStreamError
        assert got.chunks == chunks_of(sum(end <= at for end in ends) - 1)
    assert read(pair.client, [raw]) == Reading(chunks_of(3), ac.EndOfStream(3, USAGE))


def test_split_at_any_byte() -> None:
    pair, events = streamed()
    expected = Reading(chunks_of(3), ac.EndOfStream(3, USAGE))
    for pieces in every_split(b"".join(events)):
        assert read(twin(pair.client), pieces) == expected
    assert read(pair.client, byte_by_byte(b"".join(events))) == expected


def test_every_bit_of_a_stream() -> None:
    """What is flipped in a record or in what stands around it never shows as another answer."""
    pair, events = streamed(2)
    raw = b"".join(events)
    whole = Reading(chunks_of(2), ac.EndOfStream(2, USAGE))
    survived = 0
    for bit in range(8 * len(raw)):
        got = read(twin(pair.client), [tamper(raw, bit)])
        if got == whole:  # a space before JSON, say
            survived += 1
            continue
        assert got.chunks == chunks_of(len(got.chunks))
        assert isinstance(got.end, type)
    assert survived < 20


def test_drop_duplicate_swap_splice() -> None:
    pair, events = streamed()
    other, others = streamed()
    first, second, third, end = events
    changed: list[list[bytes]] = [
        [second, third, end],
        [first, third, end],
        [first, second, end],
        [first, first, second, third, end],
        [first, second, second, third, end],
        [first, third, second, end],
        [second, first, third, end],
        [first, others[1], third, end],
        [first, second, third, others[3]],
        others,
        [end],
        [others[0], *events[1:]],
    ]
    for pieces in changed:
        got = read(twin(pair.client), [b"".join(pieces)])
        assert got.end in (ac.AuthenticationError, ac.FramingError)
        assert got.chunks == chunks_of(len(got.chunks))
    assert read(pair.client, events).end == ac.EndOfStream(3, USAGE)
    assert read(other.client, others).end == ac.EndOfStream(3, USAGE)


@pytest.mark.parametrize("late", [b"data: x\n\n", b"data: [DONE]\n\n", "the first event", "the end", "punted"])
@pytest.mark.parametrize("how", ["together", "before next_event", "after the end", "split"])
def test_an_event_behind_the_end(late: bytes | str, how: str) -> None:
    pair, events = streamed(1)
    known = {"the first event": events[0], "the end": events[-1], "punted": b'data: {"a":\ndata: 1}\n\n'}
    more = late if isinstance(late, bytes) else known[late]
    client = pair.client
    if how == "together":
        client.receive_data(b"".join(events) + more)
    else:
        client.receive_data(b"".join(events))
        if how == "before next_event":
            client.receive_data(more)
    assert [type(event) for event in client.events()] == [ac.Chunk, ac.EndOfStream]
    if how == "split":
        client.receive_data(b": fine\n\n" + more[:-1])
        assert isinstance(client.next_event(), ac.EndOfStream)
    calls: dict[str, Callable[[], object]] = {
        "after the end": lambda: client.receive_data(more),
        "split": lambda: client.receive_data(more[-1:]),
    }
    with pytest.raises(ac.FramingError, match="behind the last"):
        calls.get(how, client.next_event)()
    assert client._state is State.FAILED
    with pytest.raises(ac.LocalProtocolError, match="has failed before"):
        client.next_event()


def test_an_event_behind_the_end_is_found_at_the_end_of_the_bytes() -> None:
    pair, events = streamed(1)
    pair.client.receive_data(b"".join(events) + b"data: x\n\n")
    assert isinstance(list(pair.client.events())[-1], ac.EndOfStream)
    with pytest.raises(ac.FramingError):
        pair.client.receive_eof()


def test_what_may_stand_behind_the_end() -> None:
    for more in (b"\n\r\n", b": comment\n\n", b"event: x\n\n", BOM + b"data: x\n\n", b"data: cut off", b"id"):
        pair, events = streamed(1)
        pair.client.receive_data(b"".join(events))
        assert isinstance(list(pair.client.events())[-1], ac.EndOfStream)
        pair.client.receive_data(more)
        pair.client.receive_eof()
        assert pair.client.next_event() == ac.EndOfStream(1, USAGE)


def test_what_stands_behind_the_end_is_bounded() -> None:
    pair = SessionPair(protocol="v2", client={"limits": ac.Limits(max_event_bytes=1000)})
    pair.client.receive_data(pair.node.finish())
    assert isinstance(pair.client.next_event(), ac.EndOfStream)
    for _ in range(9):
        pair.client.receive_data(b"data: " + b"x" * 100)
    with pytest.raises(ac.MessageTooLargeError):
        pair.client.receive_data(b"data: " + b"x" * 100)


def undone(dressing: str) -> bool:
    """Whether it leaves what v2 refuses: a hash and nonces are v1's, and `[DONE]` is an event of nobody."""
    return dressing in ("[DONE]", "two lines", "no hash", "unknown keys")


@pytest.mark.parametrize("dressing", [name for name in DRESSINGS if not undone(name)])
def test_dressed_events(dressing: str) -> None:
    pair, events = streamed()
    raw = b"".join(map(DRESSINGS[dressing], events))
    for pieces in ([raw], byte_by_byte(raw)):
        assert read(twin(pair.client), pieces) == Reading(chunks_of(3), ac.EndOfStream(3, USAGE))


def test_done_is_no_event_of_v2() -> None:
    pair, events = streamed()
    for raw in (b"data: [DONE]\n\n" + b"".join(events), events[0] + b"data: [DONE]\n\n"):
        got = read(twin(pair.client), [raw])
        assert got.end is ac.FramingError


def test_flags_and_salts_that_cannot_stand_where_they_do() -> None:
    pair, events = streamed()
    members = [json.loads(event[6:]) for event in events]
    salted = {"salt": members[0]["salt"], "v": 2}
    changed: list[tuple[int, dict[str, Any]]] = [
        (0, {"flag": 3}),
        (0, {"flag": 1}),
        (0, {"flag": None}),
        (0, {"flag": 0.0}),
        (0, {"flag": False}),
        (0, {"flag": 4}),
        (0, {"v": 1}),
        (0, {"v": None}),
        (0, {"v": True}),
        (0, {"salt": None}),
        (0, {"salt": "AAAA"}),
        (0, {"usage": USAGE}),
        (1, salted),
        (1, {"v": 2}),
        (1, {"salt": members[0]["salt"]}),
        (1, {"flag": 1}),
        (1, {"flag": 2}),
        (3, {"flag": 0}),
        (3, {"flag": 2}),
        (3, {"usage": None}),
        (3, {"usage": USAGE | {"total_tokens": 9}}),
        (3, {"usage": USAGE | {"more": 1}}),
        (3, {"usage": []}),
    ]
    for at, change in changed:
        pieces = [json.dumps(one | (change if i == at else {})) for i, one in enumerate(members)]
        got = read(twin(pair.client), [b"data: %b\n\n" % piece.encode() for piece in pieces])
        assert got.end in (ac.AuthenticationError, ac.FramingError), change
        assert got.chunks == chunks_of(at)
    for name in ("salt", "v", "ciphertext"):
        short = {key: value for key, value in members[0].items() if key != name}
        assert read(twin(pair.client), [b"data: %b\n\n" % json.dumps(short).encode()]).end is ac.FramingError


def test_a_v1_stream_for_a_v2_client_and_the_reverse() -> None:
    v1, v2 = SessionPair(), SessionPair(protocol="v2")
    events = v1.node.seal_chunk(b"x"), v2.node.seal_chunk(b"x")
    assert read(v2.client, [events[0]]).end is ac.FramingError
    assert read(v1.client, [events[1]]).end is ac.FramingError
