"""HPKE contexts in use: order, roles, failures, threads, fork, close, and keys that must be refused."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
import reference_hpke as reference
import threads
from atoma_crypto import hazmat
from atoma_crypto._core import CData, ffi
from atoma_crypto._typing import Suite

SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")
SECRET: Final = bytes(range(32))
INFO: Final = b"info"
P: Final = 2**255 - 19
# X25519's points of small order, and what is the same modulo p (RFC 7748, section 5: bit 255 is ignored).
LOW_ORDER: Final = [
    number.to_bytes(32, "little")
    for point in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        P - 1,
    )
    for number in (point, point | 1 << 255, *([point + P] if point < 19 else []))
]
Pair = tuple[bytes, hazmat.HPKEContext, hazmat.HPKEContext]


def pair(suite: Suite = "X25519", info: bytes = INFO) -> Pair:
    enc, sender = hazmat.hpke_setup_sender(reference.public_of(suite, SECRET), info, suite=suite)
    return enc, sender, hazmat.hpke_setup_recipient(enc, SECRET, info, suite=suite)


def native(context: hazmat.HPKEContext) -> CData:
    held = context._native
    assert held is not None
    return held


# ---- order and roles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_messages_open_in_the_order_in_which_they_were_sealed(suite: Suite) -> None:
    _, sender, recipient = pair(suite)
    sealed = [sender.seal(b"%d" % i, b"aad") for i in range(4)]
    assert len(set(sealed)) == 4
    assert recipient.open(sealed[0], b"aad") == b"0"
    for wrong in (sealed[0], sealed[2], sealed[3]):  # again, and before its turn
        with pytest.raises(ac.AuthenticationError):
            recipient.open(wrong, b"aad")
    # what did not verify has not counted
    assert [recipient.open(message, b"aad") for message in sealed[1:]] == [b"1", b"2", b"3"]


def test_the_same_text_is_never_sealed_alike() -> None:
    _, sender, _ = pair()
    assert len({sender.seal(b"text") for _ in range(300)}) == 300


def test_an_ephemeral_key_is_drawn_for_each_context() -> None:
    assert len({pair()[0] for _ in range(20)}) == 20


def test_each_end_has_its_role() -> None:
    _, sender, recipient = pair()
    sealed = sender.seal(b"text")
    with pytest.raises(ac.LocalProtocolError, match=r"^this context seals: it is the sender's end$"):
        sender.open(sealed)
    with pytest.raises(ac.LocalProtocolError, match=r"^this context opens: it is the recipient's end$"):
        recipient.seal(b"text")
    assert recipient.open(sealed) == b"text"


@pytest.mark.parametrize("suite", SUITES)
def test_exports_depend_on_their_context_and_length_and_not_on_messages(suite: Suite) -> None:
    enc, sender, recipient = pair(suite)
    before = sender.export(b"a", 32)
    recipient.open(sender.seal(b"text"))
    assert sender.export(b"a", 32) == recipient.export(b"a", 32) == before
    assert len({before, sender.export(b"b", 32), sender.export(b"", 32), sender.export(b"a", 33)[:32]}) == 4
    other = hazmat.hpke_setup_recipient(enc, SECRET, b"other", suite=suite)
    assert other.export(b"a", 32) != before
    assert sender.export(b"a", 0) == b""
    assert len(sender.export(b"a", 255 * 32)) == 255 * 32


def test_buffers_of_each_kind() -> None:
    public = reference.public_of("X25519", SECRET)
    for kind in (bytes, bytearray, memoryview):
        enc, sender = hazmat.hpke_setup_sender(kind(public), kind(INFO), kind(SECRET))
        assert enc == public
        recipient = hazmat.hpke_setup_recipient(kind(enc), kind(SECRET), kind(INFO))
        assert recipient.open(kind(sender.seal(kind(b"text"), kind(b"aad"))), kind(b"aad")) == b"text"
        assert sender.export(kind(b"e"), 5) == recipient.export(kind(b"e"), 5)
    enc, sender = hazmat.hpke_setup_sender(bytearray(reference.public_of("X-Wing", SECRET)), b"", suite="X-Wing")
    recipient = hazmat.hpke_setup_recipient(memoryview(enc), bytearray(SECRET), b"", suite="X-Wing")
    assert recipient.open(sender.seal(b"")) == b""


# ---- what was changed on the way -----------------------------------------------------------------------------------


def test_every_flipped_bit_of_the_encapsulated_key_is_refused() -> None:
    """Bit 255 too, which X25519 itself ignores."""
    enc, sender, _ = pair()
    sealed = sender.seal(b"text")
    for bit in range(256):
        other = (int.from_bytes(enc, "little") ^ 1 << bit).to_bytes(32, "little")
        with pytest.raises(ac.AuthenticationError):
            hazmat.hpke_setup_recipient(other, SECRET, INFO).open(sealed)


@pytest.mark.parametrize("byte", [0, 500, 1087, 1088, 1100, 1119])
def test_flipped_bits_of_xwings_encapsulated_key_are_refused(byte: int) -> None:
    enc, sender, _ = pair("X-Wing")
    sealed = sender.seal(b"text")
    for bit in range(8):
        other = bytearray(enc)
        other[byte] ^= 1 << bit
        with pytest.raises(ac.AuthenticationError):
            hazmat.hpke_setup_recipient(other, SECRET, INFO, suite="X-Wing").open(sealed)


def test_the_encapsulated_key_counts_as_it_was_received() -> None:
    """u, u + p and u with bit 255 set give X25519 the same secret, and HPKE three: nothing is encoded anew."""
    spellings = [number.to_bytes(32, "little") for number in (9, 9 + P, 9 | 1 << 255, 9 + P | 1 << 255)]
    assert len({reference.x25519(SECRET, enc) for enc in spellings}) == 1
    exports = [hazmat.hpke_setup_recipient(enc, SECRET, INFO).export(b"", 32) for enc in spellings]
    assert len(set(exports)) == 4
    for enc, export in zip(spellings, exports, strict=True):
        shared = reference.decapsulate("X25519", SECRET, enc)
        assert export == reference.Context("X25519", shared, INFO).export(b"", 32)


def test_the_recipients_key_counts_as_the_sender_has_it() -> None:
    public = bytearray(reference.public_of("X25519", SECRET))
    public[31] |= 0x80
    _, sender = hazmat.hpke_setup_sender(public, INFO, SECRET)
    shared, _ = reference.encapsulate("X25519", bytes(public), SECRET)
    assert sender.export(b"", 32) == reference.Context("X25519", shared, INFO).export(b"", 32)


def test_every_flipped_bit_of_message_and_aad_is_refused() -> None:
    _, sender, recipient = pair()
    sealed, aad = sender.seal(b"text", b"aad"), b"aad"
    for bit in range(8 * len(sealed)):
        other = bytearray(sealed)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ac.AuthenticationError) as caught:
            recipient.open(other, aad)
        assert caught.value.__context__ is None
    for wrong in (b"", b"aae", b"aad\0", b"aa"):
        with pytest.raises(ac.AuthenticationError):
            recipient.open(sealed, wrong)
    for length in range(len(sealed)):
        with pytest.raises(ac.AuthenticationError):
            recipient.open(sealed[:length], aad)
    assert recipient.open(sealed, aad) == b"text"


# ---- keys and arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_points_of_small_order(point: bytes) -> None:
    with pytest.raises(ac.InvalidKeyError, match="all-zero"):
        hazmat.hpke_setup_sender(point, INFO)
    with pytest.raises(ac.AuthenticationError):
        hazmat.hpke_setup_recipient(point, SECRET, INFO)
    public, (enc, _, _) = reference.public_of("X-Wing", SECRET), pair("X-Wing")
    with pytest.raises(ac.InvalidKeyError, match="all-zero"):
        hazmat.hpke_setup_sender(public[:1184] + point, INFO, suite="X-Wing")
    with pytest.raises(ac.AuthenticationError):
        hazmat.hpke_setup_recipient(enc[:1088] + point, SECRET, INFO, suite="X-Wing")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("by", [-1, 1])
def test_sizes(suite: Suite, by: int) -> None:
    public, size = reference.public_of(suite, SECRET), {"X25519": 32, "X-Wing": 1120}[suite]
    with pytest.raises(ac.InvalidKeyError):
        hazmat.hpke_setup_sender((public + b"x")[: len(public) + by], INFO, suite=suite)
    with pytest.raises(ValueError, match=f"enc must be {size} bytes, not {size + by}"):
        hazmat.hpke_setup_recipient(bytes(size + by), SECRET, INFO, suite=suite)
    with pytest.raises(ac.InvalidKeyError):
        hazmat.hpke_setup_recipient(pair(suite)[0], bytes(32 + by), INFO, suite=suite)
    if suite == "X25519":
        with pytest.raises(ac.InvalidKeyError):
            hazmat.hpke_setup_sender(public, INFO, bytes(32 + by))


@pytest.mark.parametrize("length", [-1, 255 * 32 + 1, 2**64])
def test_lengths_that_cannot_be_exported(length: int) -> None:
    _, sender, _ = pair()
    with pytest.raises(ValueError, match="0 to 8160"):
        sender.export(b"", length)


WRONG_CALLS: Final[list[tuple[Callable[..., Any], type[Exception]]]] = [
    (lambda: hazmat.hpke_setup_sender(bytes(32), INFO, suite="P-256"), ValueError),  # type: ignore[arg-type] # tested
    (lambda: hazmat.hpke_setup_recipient(bytes(32), SECRET, INFO, suite="x25519"), ValueError),  # type: ignore[arg-type] # tested
    (lambda: hazmat.hpke_setup_sender(bytes(1216), INFO, SECRET, suite="X-Wing"), ValueError),
    (lambda: hazmat.hpke_setup_recipient(bytes(1120), ac.SecretKey.generate(), INFO, suite="X-Wing"), ValueError),
    (lambda: hazmat.hpke_setup_recipient(bytes(32), ac.SecretKey.generate("X-Wing"), INFO), ValueError),
    (lambda: hazmat.hpke_setup_sender("k" * 32, INFO), TypeError),  # type: ignore[arg-type] # tested
    (lambda: hazmat.hpke_setup_sender(1216, INFO, suite="X-Wing"), TypeError),  # type: ignore[arg-type] # tested
    (lambda: hazmat.hpke_setup_sender(bytes(32), "info"), TypeError),  # type: ignore[arg-type] # tested
    (hazmat.HPKEContext, TypeError),
]


@pytest.mark.parametrize("number", range(len(WRONG_CALLS)))
def test_wrong_calls(number: int) -> None:
    call, expected = WRONG_CALLS[number]
    with pytest.raises(expected):
        call()


@pytest.mark.parametrize("suite", SUITES)
def test_a_closed_key(suite: Suite) -> None:
    key = ac.SecretKey.from_bytes(SECRET, suite)
    enc, sender, _ = pair(suite)
    recipient = hazmat.hpke_setup_recipient(enc, key, INFO, suite=suite)
    key.close()
    assert recipient.open(sender.seal(b"text")) == b"text"  # the context has what it needs
    with pytest.raises(ac.SessionClosedError):
        hazmat.hpke_setup_recipient(enc, key, INFO, suite=suite)


# ---- limits, close, threads, fork ----------------------------------------------------------------------------------


def test_the_last_sequence_number_is_never_used() -> None:
    enc, sender, recipient = pair()
    native(sender).sequence = native(recipient).sequence = 2**64 - 2
    model = reference.Context("X25519", reference.decapsulate("X25519", SECRET, enc), INFO)
    sealed = sender.seal(b"text", b"aad")
    assert sealed == model.seal(b"text", b"aad", 2**64 - 2)
    assert recipient.open(sealed, b"aad") == b"text"
    for _ in range(2):
        with pytest.raises(ac.LimitExceededError):
            sender.seal(b"text")
        with pytest.raises(ac.LimitExceededError):
            recipient.open(sealed)
    assert sender.export(b"", 32) == recipient.export(b"", 32)


def test_close_wipes_and_stays() -> None:
    for context in pair()[1:]:
        held = native(context)
        assert any(bytes(ffi.buffer(held.exporter_secret)))
        with context as entered:
            assert entered is context
        context.close()
        for member in ("aes", "base_nonce", "exporter_secret"):
            assert not any(bytes(ffi.buffer(ffi.addressof(held, member))))
        for method, arguments in (("seal", (b"",)), ("open", (b"",)), ("export", (b"", 1))):
            with pytest.raises(ac.SessionClosedError, match=r"^this context is closed$"):
                getattr(context, method)(*arguments)
        assert "closed" in repr(context)


def test_a_context_shows_nothing_and_cannot_be_copied() -> None:
    for context, shown in zip(pair()[1:], ("<HPKEContext sender>", "<HPKEContext recipient>"), strict=True):
        assert repr(context) == shown
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="not to be pickled or copied"):
                copied(context)


def test_a_second_thread_is_refused_and_changes_nothing() -> None:
    _, sender, recipient = pair()
    sealed = sender.seal(b"0")
    for context in (sender, recipient):
        native(context).busy = 1  # as if another thread were inside
        own = ("seal", (b"1",)) if context is sender else ("open", (sealed,))
        for method, arguments in (own, ("export", (b"", 32)), ("close", ())):
            with pytest.raises(ac.ConcurrentUseError):
                getattr(context, method)(*arguments)
        native(context).busy = 0
    assert recipient.open(sealed) == b"0"
    assert recipient.open(sender.seal(b"1")) == b"1"


def test_threads_that_seal_never_share_a_nonce() -> None:
    """What they have sealed is what one thread would have, message by message."""
    public, text = reference.public_of("X25519", SECRET), bytes(4096)
    (_, shared), (_, alone) = (hazmat.hpke_setup_sender(public, INFO, bytes(32)) for _ in range(2))
    done: list[bytes] = []

    def work(number: int) -> None:  # noqa: ARG001 - all do the same
        for _ in range(200):
            with contextlib.suppress(ac.ConcurrentUseError):
                done.append(shared.seal(text))

    threads.run(work)
    assert sorted(done) == sorted(alone.seal(text) for _ in done)
    assert native(shared).sequence == len(done) > 0


FORKED: Final = """
import os
import atoma_crypto as ac
from atoma_crypto import hazmat

secret = ac.SecretKey.generate()
enc, sender = hazmat.hpke_setup_sender(bytes(secret.public_key), b"")
first = sender.seal(b"0")
pid = os.fork()
if pid == 0:
    status = 1
    try:
        for busy in (0, 1):  # also as if a thread of the parent had been inside
            sender._native.busy = busy
            try:
                sender.seal(b"1")
            except ac.LocalProtocolError as error:
                assert "before fork()" in str(error), error
            else:
                raise AssertionError("sealed")
        _, own = hazmat.hpke_setup_sender(bytes(secret.public_key), b"")
        own.seal(b"1")
        sender.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
recipient = hazmat.hpke_setup_recipient(enc, secret, b"")
assert [recipient.open(message) for message in (first, sender.seal(b"1"))] == [b"0", b"1"]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_child_process_cannot_seal() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
