"""What protocol v2 promises (docs/protocol-v2.md, section 8), by number: 1 to 4, from the middle of the wire.

5 to 7, 10 and 11 are in test_v2_properties_ends.py; the document names the tests of what needs HTTP or Redis.
"""

from __future__ import annotations

import base64
import json
import os
from itertools import product
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Suite
from helpers import tamper
from make_v2_vectors import SECRETS
from v2_exchange import (
    CHUNKS,
    NOW,
    USAGE,
    Clock,
    Exchange,
    Reading,
    b64,
    body,
    flips,
    members,
    read,
    refusal,
    store,
    with_members,
)
from v2_refused_requests import P, of_point

SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")


# ---- 1 --------------------------------------------------------------------------------------------------------------


def test_1_every_flipped_bit_of_a_record_is_refused() -> None:
    exchange = Exchange()
    events = exchange.events()
    for index, event in enumerate(events):
        for other in flips(event, "ciphertext"):
            got = read(exchange.twin(), [*events[:index], other, *events[index + 1 :]])
            assert got == Reading(list(CHUNKS[:index]), ac.AuthenticationError)


def test_1_every_flipped_bit_of_the_salt_is_refused() -> None:
    exchange = Exchange()
    first = exchange.node.seal_chunk(CHUNKS[0])
    assert read(exchange.twin(), [first], eof=False).chunks == [CHUNKS[0]]
    for other in flips(first, "salt"):
        assert read(exchange.twin(), [other]) == Reading([], ac.AuthenticationError)


def test_1_every_other_flag_and_usage_is_refused() -> None:
    exchange = Exchange()
    events = exchange.events()
    others: list[Any] = [{"flag": flag} for flag in (1, 2, 3, 4, 0x100, True, None, "0")] + [
        {"usage": ...},
        {"usage": None},
    ]
    for name, bit in product(USAGE, range(54)):
        others.append({"usage": USAGE | {name: USAGE[name] ^ 1 << bit}})
    others.append({"usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}})
    for changes in others:
        got = read(exchange.twin(), [events[0], with_members(events[1], **changes), *events[2:]])
        assert got.chunks == [CHUNKS[0]], changes
        assert got.end in (ac.AuthenticationError, ac.FramingError), changes


@pytest.mark.parametrize("suite", SUITES)
def test_1_every_flipped_bit_of_enc_is_refused(suite: Suite) -> None:
    """X25519 ignores bit 255 of a point, so it is what enters the key schedule that counts."""
    exchange = Exchange(suite, admitted=False)
    raw = base64.b64decode(members(exchange.envelope)["enc"])
    of_x25519 = range(8 * (len(raw) - 32), 8 * len(raw))
    for bit in [*of_x25519, *range(0, of_x25519.start, 37)]:
        other = with_members(exchange.envelope, enc=b64(tamper(raw, bit)))
        assert refusal(exchange.new_node(), other) is ac.AuthenticationError
    assert len(exchange.cache) == 0
    assert refusal(exchange.new_node(), exchange.envelope) is None


def test_1_a_point_as_u_plus_p_is_refused() -> None:
    """Of u = 9 the result is the public key, so that anybody can seal under it."""
    public, nine = ac.SecretKey.from_bytes(SECRETS["X25519"]).public_key, (9).to_bytes(32, "little")
    other = of_point(nine, bytes(public), (9 + P).to_bytes(32, "little"))
    for envelope, said in ((of_point(nine, bytes(public)), None), (other, ac.AuthenticationError)):
        key = ac.SecretKey.from_bytes(SECRETS["X25519"])
        assert refusal(ac.NodeSession(key, replay_cache=store(), clock=Clock()), envelope) is said


def test_1_every_other_metadata_is_refused() -> None:
    """With a clock that would take it, so that nothing but the seal says no."""
    exchange = Exchange(admitted=False)
    others: list[Any] = [{"stream": False}, {"endpoint": "/v1/completions"}, {"endpoint": "/"}]
    others += [{"model_name": model} for model in ("M", "n", "m ", "mm", "\u006d\u0301")]
    for name, value in (("stack_small_id", 42), ("num_compute_units", 64)):
        others += [{name: value ^ 1 << bit} for bit in range(53)] + [{name: None}, {name: ...}]
    others += [{"stack_small_id": 64, "num_compute_units": 42}]
    others += [{"sent_at": NOW ^ 1 << bit} for bit in range(53)]
    for changes in others:
        node = exchange.new_node(clock=Clock(changes.get("sent_at", NOW)))
        assert refusal(node, with_members(exchange.envelope, **changes)) is ac.AuthenticationError, changes
    for other in flips(exchange.envelope, "ciphertext"):
        assert refusal(exchange.new_node(), other) is ac.AuthenticationError
    for other in flips(exchange.envelope, "key_id"):
        assert refusal(exchange.new_node(), other) is ac.UnknownKeyError
    assert len(exchange.cache) == 0


# ---- 2 --------------------------------------------------------------------------------------------------------------


def test_2_drop_duplicate_swap_splice() -> None:
    """Every first wrong event, of this reply and another of the same node, behind every right beginning."""
    exchange, other = Exchange(), Exchange()
    true = exchange.events()
    every = [*true, *other.events()]
    for good in range(len(true) + 1):
        assert read(exchange.twin(), true[:good]) == Reading(
            list(CHUNKS[:good]), ac.EndOfStream if good == len(true) else ac.TruncatedStreamError
        )
        for wrong in every:
            if good < len(true) and wrong is true[good]:
                continue
            for behind in ([], true[good:], true[good + 1 :], every):
                got = read(exchange.twin(), [*true[:good], wrong, *behind])
                assert got.chunks == list(CHUNKS[:good])
                assert got.end in (ac.AuthenticationError, ac.FramingError)


def test_2_nothing_may_follow_the_end() -> None:
    exchange = Exchange()
    true = exchange.events()
    for late in (*true, b"data: [DONE]\n\n", b"data\n\n", b"data: {}\n\n"):
        for pieces in ([b"".join(true) + late], [*true, late]):
            assert read(exchange.twin(), pieces) == Reading(list(CHUNKS), ac.FramingError)
    for quiet in (b": bye\n\n", b"\n\n", b"event: x\nid: 1\n\n"):
        assert read(exchange.twin(), [*true, quiet]) == Reading(list(CHUNKS), ac.EndOfStream)


# ---- 3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_3_cut_after_any_byte(newline: bytes) -> None:
    exchange = Exchange()
    raw = b"".join(exchange.events()).replace(b"\n", newline)
    whole = raw[:-1] if newline == b"\r\n" else raw  # the CR alone ends a line
    for length in range(len(whole)):
        got = read(exchange.twin(), [raw[:length]])
        assert got.end is ac.TruncatedStreamError
        assert got.chunks == list(CHUNKS[: len(got.chunks)])
    assert read(exchange.twin(), [whole]) == Reading(list(CHUNKS), ac.EndOfStream)


# ---- 4 --------------------------------------------------------------------------------------------------------------


def opens(client: ac.ClientSession, raw: bytes) -> type:
    try:
        client.open_response(raw)
    except ac.RemoteProtocolError as error:
        return type(error)
    return bytes


@pytest.mark.parametrize("stream", [False, True])
def test_4_a_request_as_a_response(stream: bool) -> None:
    exchange = Exchange(stream=stream)
    sealed = members(exchange.envelope)["ciphertext"]
    for salt, flag in product((bytes(32), os.urandom(32)), range(4)):
        reflected = json.dumps({"ciphertext": sealed, "flag": flag, "salt": b64(salt), "v": 2}).encode()
        assert opens(exchange.twin(), reflected) in (ac.AuthenticationError, ac.EnvelopeError)
        if stream:
            got = read(exchange.twin(), [b"data: " + reflected + b"\n\n"])
            assert got.end in (ac.AuthenticationError, ac.FramingError)
    assert opens(exchange.twin(), exchange.envelope) is ac.EnvelopeError


def test_4_a_response_as_a_request() -> None:
    exchange = Exchange(stream=False)
    answer = exchange.node.seal_response(body(stream=False))
    other = with_members(exchange.envelope, ciphertext=members(answer)["ciphertext"])
    assert refusal(exchange.new_node(replay_cache=store()), other) is ac.AuthenticationError
    assert refusal(exchange.new_node(replay_cache=store()), answer) is ac.EnvelopeError


def test_4_a_stream_of_one_record_as_an_answer_and_the_reverse() -> None:
    exchange = Exchange(stream=False)
    answer = exchange.node.seal_response(b"{}")
    stream = Exchange()
    only = stream.node.finish()
    for flag in range(4):
        event = b"data: " + with_members(answer, flag=flag) + b"\n\n"
        assert opens(exchange.twin(), event) is ac.EnvelopeError
        assert opens(exchange.twin(), with_members(answer, flag=flag)) is (bytes if flag == 3 else _refused(flag))
        assert opens(stream.twin(), with_members(only, flag=flag)[6:-2]) is _refused(flag)
        got = read(stream.twin(), [with_members(only, flag=flag)])
        assert got.chunks == []
        assert (got.end is ac.EndOfStream) is (flag == 1)


def _refused(flag: int) -> type:
    """Of an object: flag 2 may stand in any, and is proven wrong; no other may."""
    return ac.AuthenticationError if flag == 2 else ac.EnvelopeError
