"""Length hiding: how long what is sealed becomes, in both protocols, and that it still says the same."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._padding import PadTo, pad_record, pad_request, request_size
from atoma_crypto._typing import Protocol
from helpers import STREAM_BODY, USAGE, SessionPair, new_client, new_node, read

protocols = pytest.mark.parametrize("protocol", ["v1", "v2"])
AUTO: Final[PadTo] = "auto"


def sealed_len(message: bytes) -> int:
    """Of the plaintext of an envelope, a reply or an event."""
    text: str = json.loads(message.removeprefix(b"data: "))["ciphertext"]
    return len(text) // 4 * 3 - text.count("=") - 16


def test_sizes_of_requests() -> None:
    """Sixteen for each power of two, none more than a sixteenth longer than it has to be."""
    sizes = sorted({request_size(length) for length in range(1 << 13)})
    assert sizes == [1024, *(1024 + 64 * i for i in range(1, 17)), *(2048 + 128 * i for i in range(1, 17))] + [
        4096 + 256 * i for i in range(1, 17)
    ]
    for length in (*range(1025, 5000), 2**20, 2**20 + 1, 2**25 - 1, 2**36):
        size = request_size(length)
        assert length <= size
        assert (size - length) * 16 < length
        assert request_size(size) == size


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_padding(kind: Any) -> None:
    text = kind(b'{"a":1}')
    assert pad_request(text, None) is text
    assert pad_record(text, None) is text
    assert pad_request(text, "auto") == b'{"a":1}' + b" " * 1017
    assert pad_record(text, "auto") == b'{"a":1}' + b" " * 249
    for pad in (pad_request, pad_record):
        assert pad(text, 1) == pad(text, 7) == b'{"a":1}'
        assert pad(text, 10) == b'{"a":1}   '
        assert pad(kind(b"x" * 10), 10) == b"x" * 10
    assert pad_record(kind(b""), "auto") == b""
    assert pad_record(memoryview(b"12345678").cast("I"), 10) == b"12345678  "
    nothing: Any = "x"
    assert pad_record(nothing, 10) is nothing  # it is for the core to refuse


def test_the_largest_multiple_is_taken() -> None:
    new_client(pad_to=2**20)
    assert len(pad_record(b"x", 2**20)) == 2**20


@protocols
@pytest.mark.parametrize("wrong", [0, -1, 2**20 + 1, 1.5, "256", True, b"auto", [1]])
def test_what_pad_to_can_be(protocol: Protocol, wrong: Any) -> None:
    error = ValueError if type(wrong) is int else TypeError
    with pytest.raises(error, match="pad_to must be"):
        new_client(protocol=protocol, pad_to=wrong)
    with pytest.raises(error, match="pad_to must be"):
        new_node(protocols=(protocol,), pad_to=wrong)


@protocols
@pytest.mark.parametrize(("pad_to", "sizes"), [(None, (10, 7)), ("auto", (256, 256)), (100, (100, 100)), (1, (10, 7))])
def test_streams(protocol: Protocol, pad_to: PadTo, sizes: tuple[int, int]) -> None:
    pair = SessionPair(protocol=protocol, node={"pad_to": pad_to})
    texts = [b'{"a":"bc"}', b'{"a":1}']
    events = [pair.node.seal_chunk(text, usage) for usage in (None, USAGE) for text in texts]
    many = pair.node.seal_chunks(texts).split(b"\n\n")[:-1]
    assert tuple(map(sealed_len, events)) == sizes * 2
    assert tuple(map(sealed_len, many)) == sizes
    got = read(pair.client, [*events, *(event + b"\n\n" for event in many), pair.node.finish()])
    assert got.end == ac.EndOfStream(6, USAGE)
    assert [text.rstrip(b" ") for text, _, _ in got.chunks] == texts * 3
    assert [json.loads(text) for text, _, _ in got.chunks] == [json.loads(text) for text in texts] * 3


@protocols
@pytest.mark.parametrize(("pad_to", "size"), [(None, 7), ("auto", 256), (100, 100)])
def test_answers(protocol: Protocol, pad_to: PadTo, size: int) -> None:
    pair = SessionPair(protocol=protocol, stream=False, node={"pad_to": pad_to})
    raw = pair.node.seal_response(b'{"a":1}', USAGE)
    assert sealed_len(raw) == size
    assert json.loads(pair.client.open_response(raw)) == {"a": 1}


@protocols
@pytest.mark.parametrize(("pad_to", "size"), [(None, len(STREAM_BODY)), ("auto", 1024), (100, 100)])
def test_requests(protocol: Protocol, pad_to: PadTo, size: int) -> None:
    pair = SessionPair(protocol=protocol, client={"pad_to": pad_to})
    assert sealed_len(pair.envelope) == size
    assert pair.request.body.rstrip(b" ") == STREAM_BODY
    assert len(pair.request.body) == size


@protocols
def test_lengths_that_are_hidden(protocol: Protocol) -> None:
    """What is the whole point: two plaintexts of one step are told apart by nothing."""
    for plaintexts in ([b"1"], [b"12" * 60]), ([b"{}", b"[]"], [b"[1]" * 20, b"3"]):
        seen = []
        for texts in plaintexts:
            pair = SessionPair(protocol=protocol, node={"pad_to": AUTO}, client={"pad_to": AUTO})
            seen.append([len(event) for event in pair.node.seal_chunks(texts).split(b"\n\n")] + [len(pair.envelope)])
        assert seen[0] == seen[1]


def test_aborts_and_the_end() -> None:
    pair = SessionPair(protocol="v2", node={"pad_to": AUTO})
    assert sealed_len(pair.node.abort("X", "gone", 500)) == 256
    pair = SessionPair(protocol="v2", node={"pad_to": AUTO})
    end = pair.node.finish()
    assert sealed_len(end) == 0  # spaces here would be a chunk
    assert read(pair.client, [end]).end == ac.EndOfStream(0, None)


def test_an_event_that_padding_makes_too_long() -> None:
    pair = SessionPair(protocol="v2", node={"pad_to": AUTO, "limits": ac.Limits(max_event_bytes=300)})
    with pytest.raises(ValueError, match="longer than the limit"):
        pair.node.seal_chunk(b"{}")
