"""Sealer and Opener: v2's records for those who frame them themselves."""

from __future__ import annotations

import copy
import os
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest

import atoma_crypto as ac
import reference_v2 as v2
from atoma_crypto import _core
from atoma_crypto._core import ffi
from helpers import USAGE, tamper
from test_v2_answers import WRONG_USAGE
from threads import run

SECRET: Final = bytes(range(32))
ENC: Final = bytes(range(32, 64))


def pair(enc: bytes = ENC) -> tuple[ac.Sealer, ac.Opener]:
    sealer = ac.Sealer(SECRET, enc)
    return sealer, ac.Opener(SECRET, enc, sealer.salt)


@pytest.mark.parametrize("enc", [ENC, bytes(1120)])
def test_records_are_those_of_the_reference(enc: bytes) -> None:
    sealer, opener = pair(enc)
    keys = v2.reply_keys(SECRET, enc, sealer.salt)
    records = [v2.Record(0, None, b"x"), v2.Record(0, USAGE, b"y" * 1000), v2.Record(1, None, b"")]
    for i, record in enumerate(records):
        sealed = sealer.seal(record.plaintext, flag=record.flag, usage=record.usage)
        assert sealed == v2.seal_record(keys, i, record)
        assert not opener.ended
        assert opener.open(sealed, flag=record.flag, usage=record.usage) == record.plaintext
    assert opener.ended
    opener.finish()


@pytest.mark.parametrize("flag", [1, 2, 3])
def test_nothing_is_sealed_or_opened_behind_the_last(flag: int) -> None:
    sealer, opener = pair()
    sealed = sealer.seal(b"x", flag=flag)
    for _ in range(2):
        with pytest.raises(ac.LocalProtocolError):
            sealer.seal(b"y")
    assert opener.open(sealed, flag=flag) == b"x"
    for _ in range(2):
        with pytest.raises((ac.FramingError, ac.LocalProtocolError)):
            opener.open(sealed, flag=flag)
        assert opener.ended  # that stays true
        opener.finish()


def test_a_whole_answer_stands_alone() -> None:
    sealer, opener = pair()
    sealed = sealer.seal(b"x")
    with pytest.raises(ValueError, match="impossible"):
        sealer.seal(b"y", flag=3)
    assert opener.open(sealed) == b"x"
    with pytest.raises(ac.FramingError):
        opener.open(sealed, flag=3)


def test_every_bit_order_flag_and_usage() -> None:
    sealer, _ = pair()
    records = [sealer.seal(b"%d" % i) for i in range(3)]

    def opened(*sealed: bytes, **options: Any) -> None:
        opener = ac.Opener(SECRET, ENC, sealer.salt)
        for one in sealed:
            opener.open(one, **options)

    opened(*records)
    for bit in range(8 * len(records[0])):
        with pytest.raises(ac.AuthenticationError):
            opened(tamper(records[0], bit))
    for wrong in (records[1:], [records[0], records[2]], [records[0], records[0]]):
        with pytest.raises(ac.AuthenticationError):
            opened(*wrong)
    for options in ({"flag": 1}, {"flag": 2}, {"flag": 3}, {"usage": USAGE}):
        with pytest.raises(ac.AuthenticationError):
            opened(records[0], **options)
    for opener in (
        ac.Opener(tamper(SECRET, 5), ENC, sealer.salt),
        ac.Opener(SECRET, tamper(ENC, 5), sealer.salt),
        ac.Opener(SECRET, ENC, tamper(sealer.salt, 5)),
    ):
        with pytest.raises(ac.AuthenticationError):
            opener.open(records[0])
        with pytest.raises(ac.LocalProtocolError, match="has failed"):  # for good
            opener.open(records[0])
        assert not opener.ended
        with pytest.raises(ac.TruncatedStreamError):
            opener.finish()


@pytest.mark.parametrize("sealed", [b"", bytes(15), bytes(16)])
def test_records_that_are_too_short(sealed: bytes) -> None:
    _, opener = pair()
    with pytest.raises(ac.FramingError):
        opener.open(sealed)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_into_buffers(kind: Any) -> None:
    sealer, opener = pair()
    out = bytearray(b"\xee" * 40)
    assert sealer.seal_into(kind(b"plaintext"), out) == 25
    assert out[25:] == b"\xee" * 15
    back = bytearray(b"\xee" * 20)
    assert opener.open_into(kind(bytes(out[:25])), memoryview(back)) == 9
    assert back == b"plaintext" + b"\xee" * 11


def test_in_place() -> None:
    sealer, opener = pair()
    buffer = bytearray(b"plaintext" + bytes(16))
    assert sealer.seal_into(memoryview(buffer)[:9], buffer) == 25
    assert opener.open_into(buffer, buffer) == 9
    assert buffer[:9] == b"plaintext"


def test_refused_calls_change_nothing() -> None:
    sealer, opener = pair()
    sealed = sealer.seal(b"plaintext")
    before = [bytes(ffi.buffer(one._native)) for one in (sealer, opener)]
    buffer = bytearray(40)
    calls: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: sealer.seal(b""), ValueError),
        (lambda: sealer.seal(b"x", flag=4), ValueError),
        (lambda: sealer.seal(b"x", flag=-1), ValueError),
        (lambda: sealer.seal(b"x", flag=True), TypeError),
        (lambda: sealer.seal("x"), TypeError),  # type: ignore[arg-type] # that is what is tested
        (lambda: sealer.seal_into(b"x", bytearray(16)), ValueError),
        (lambda: sealer.seal_into(b"x", bytes(17)), TypeError),
        (lambda: sealer.seal_into(memoryview(buffer)[1:9], buffer), ValueError),
        (lambda: opener.open_into(sealed, bytearray(8)), ValueError),
        (lambda: opener.open_into(sealed, sealed), TypeError),
        (lambda: opener.open_into(memoryview(buffer)[1:26], buffer), ValueError),
        (lambda: opener.open(sealed, flag=4), ValueError),
        *((partial(sealer.seal, b"x", usage=usage), error) for usage, error in WRONG_USAGE),
    ]
    for call, error in calls:
        with pytest.raises(error):
            call()
    assert before == [bytes(ffi.buffer(one._native)) for one in (sealer, opener)]
    assert opener.open(sealed) == b"plaintext"


def test_a_forged_record_leaves_zeros() -> None:
    sealer, opener = pair()
    sealed = bytearray(tamper(sealer.seal(b"plaintext"), 3))
    with pytest.raises(ac.AuthenticationError):
        opener.open_into(sealed, sealed)
    assert sealed[:9] == bytes(9)


def test_arguments() -> None:
    for size in (0, 31, 33):
        with pytest.raises(ac.InvalidKeyError, match="secret must be 32 bytes"):
            ac.Sealer(bytes(size), ENC)
        with pytest.raises(ac.InvalidKeyError, match="secret must be 32 bytes"):
            ac.Opener(bytes(size), ENC, bytes(32))
        with pytest.raises(ValueError, match="salt must be 32 bytes"):
            ac.Opener(SECRET, ENC, bytes(size))
    for size in (0, 31, 33, 1119, 1121):
        with pytest.raises(ValueError, match="enc must be 32 or 1120 bytes"):
            ac.Sealer(SECRET, bytes(size))
        with pytest.raises(ValueError, match="enc must be 32 or 1120 bytes"):
            ac.Opener(SECRET, bytes(size), bytes(32))
    with pytest.raises(TypeError):
        ac.Sealer("x" * 32, ENC)  # type: ignore[arg-type] # that is what is tested


def test_each_sealer_has_its_own_salt() -> None:
    assert len({ac.Sealer(SECRET, ENC).salt for _ in range(100)}) == 100


def test_limits() -> None:
    for name, value in (("index", 2**32 - 1), ("bytes_left", 1 << 20)):
        sealer, opener = pair()
        for one in (sealer, opener):
            setattr(one._native, name, value)
        with pytest.raises(ac.LimitExceededError):
            sealer.seal(b"x")
        assert opener.open(sealer.seal(b"sorry", flag=2), flag=2) == b"sorry"
    _, opener = pair()
    opener._native.bytes_left = 3  # type: ignore[union-attr] # it is open
    with pytest.raises(ac.MessageTooLargeError):
        opener.open(bytes(20))


def test_closing() -> None:
    sealer, opener = pair()
    natives = sealer._native, opener._native
    for one, name in ((sealer, "Sealer"), (opener, "Opener")):
        assert repr(one) == f"<{name}>"
        with pytest.raises(TypeError, match="not to be pickled or copied"):
            pickle.dumps(one)
        with pytest.raises(TypeError, match="not to be pickled or copied"):
            copy.copy(one)
        with one as same:
            assert same is one
        one.close()
        assert repr(one) == f"<{name} closed>"
    for call in (lambda: sealer.seal(b"x"), lambda: opener.open(bytes(20)), lambda: opener.ended, opener.finish):
        with pytest.raises(ac.SessionClosedError):
            call()
    assert not any(bytes(ffi.buffer(ffi.addressof(natives[0], "aes"))))
    assert not any(bytes(ffi.buffer(ffi.addressof(natives[1], "key"))))
    assert len(sealer.salt) == 32


def test_another_thread_is_inside() -> None:
    sealer, opener = pair()
    for one in (sealer, opener):
        one._native.busy = 1  # type: ignore[union-attr] # it is open
        with pytest.raises(ac.ConcurrentUseError):
            one.close()
    with pytest.raises(ac.ConcurrentUseError):
        sealer.seal(b"x")
    with pytest.raises(ac.ConcurrentUseError):
        opener.open(bytes(20))
    for one in (sealer, opener):
        one._native.busy = 0  # type: ignore[union-attr] # it is open
    assert opener.open(sealer.seal(b"x")) == b"x"


def test_threads_never_share_an_index() -> None:
    sealer, _ = pair()
    made: list[list[bytes]] = [[] for _ in range(8)]

    def work(number: int) -> None:
        while len(made[number % 8]) < 50:
            with suppress(ac.ConcurrentUseError):
                made[number % 8].append(sealer.seal(bytes(2000)))

    run(work)
    records = [record for one in made for record in one]
    assert len(set(records)) == len(records) == sealer._native.index  # type: ignore[union-attr] # it is open


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_child_seals_nothing() -> None:
    sealer, opener = pair()
    generation = sealer._native.generation  # type: ignore[union-attr] # it is open
    sealer._native.generation = generation + 1  # type: ignore[union-attr] # as the child of a process finds it
    with pytest.raises(ac.LocalProtocolError, match="before fork"):
        sealer.seal(b"x")
    sealer._native.generation = generation  # type: ignore[union-attr] # and here is the parent
    assert opener.open(sealer.seal(b"x")) == b"x"


def test_sizes() -> None:
    rng = random.Random(5)
    sealer, opener = pair()
    for length in (*range(1, 70), *(rng.randrange(70, 100_000) for _ in range(20)), 1 << 20):
        text = rng.randbytes(length)
        sealed = sealer.seal(text)
        assert len(sealed) == length + _core.TAG_BYTES
        assert opener.open(sealed) == text
