"""Lives of the primitives and of v2's records (faulty_life.py)."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import atoma_crypto as ac
import reference_hpke
import reference_v2
from atoma_crypto import hazmat
from faulty_life import CLOSING, ENC, KEY, NODE, SECRET, Life, matched
from helpers import USAGE


class Aes(Life):
    kind = hazmat.AES256GCM
    theirs = AESGCM(KEY)

    def __init__(self) -> None:
        super().__init__(hazmat.AES256GCM(KEY), may=dict.fromkeys(("open", "open_into"), (ac.AuthenticationError,)))

    def do_seal(self) -> None:
        nonce, text, aad = random.randbytes(12), self.text(1000), self.text()
        assert self.one.seal(nonce, text, aad) == self.theirs.encrypt(nonce, text, aad)

    def do_seal_into(self) -> None:
        nonce, text, out = random.randbytes(12), self.text(1000), bytearray(1100)
        assert self.one.seal_into(nonce, text, out) == len(text) + 16
        assert out[: len(text) + 16] == self.theirs.encrypt(nonce, text, None)

    def _sealed(self) -> tuple[bytes, bytes, bytes, bool]:
        nonce, text, forged = random.randbytes(12), self.text(1000), random.random() < 0.2
        sealed = self.theirs.encrypt(nonce, text, None)
        return nonce, text, bytes([sealed[0] ^ forged]) + sealed[1:], forged

    def do_open(self) -> None:
        nonce, text, sealed, forged = self._sealed()
        try:
            assert (self.one.open(nonce, sealed), forged) == (text, False)
        except ac.AuthenticationError:
            assert forged
            raise

    def do_open_into(self) -> None:
        nonce, text, sealed, forged = self._sealed()
        out = bytearray(b"x" * len(text))
        try:
            length = self.one.open_into(nonce, sealed, out)
            assert (length, bytes(out), forged) == (len(text), text, False)
        except ac.AuthenticationError:
            assert (bytes(out), forged) == (bytes(len(text)), True)
            raise


class HpkeSender(Life):
    kind = hazmat.HPKEContext
    always = (ac.ConcurrentUseError,)
    closing = CLOSING

    def __init__(self) -> None:
        enc, sender = hazmat.hpke_setup_sender(bytes(NODE.public_key), b"info")
        self.theirs = reference_hpke.Context("X25519", reference_hpke.decapsulate("X25519", SECRET, enc), b"info")
        super().__init__(sender, never={"open": "it is the sender's end"}, may={"open": (ac.LocalProtocolError,)})

    def do_seal(self) -> None:
        text = self.text()
        self.notes.append((text, self.one.seal(text, b"aad")))

    def do_open(self) -> None:
        self.one.open(bytes(100))

    def do_export(self) -> None:
        assert self.one.export(b"c", 32) == self.theirs.export(b"c", 32)

    def judge(self) -> None:
        matched(dict(self.notes), lambda number, sealed: self.theirs.open(sealed, b"aad", number))


class HpkeRecipient(HpkeSender):
    """What does not open does not count: whoever has the next message opens it."""

    def __init__(self) -> None:
        shared, enc = reference_hpke.encapsulate("X25519", bytes(NODE.public_key), KEY)
        self.theirs = reference_hpke.Context("X25519", shared, b"info")
        recipient = hazmat.hpke_setup_recipient(enc, NODE, b"info")
        Life.__init__(
            self,
            recipient,
            never={"seal": "it is the recipient's end"},
            may={"seal": (ac.LocalProtocolError,), "open": (ac.AuthenticationError,)},
        )

    def do_open(self) -> None:
        number = len(self.notes)
        text = self.one.open(self.theirs.seal(b"%d" % number, b"aad", number), b"aad")
        self.notes.append((number, text))

    def judge(self) -> None:
        assert sorted(self.notes) == [(number, b"%d" % number) for number in range(len(self.notes))]


class Sealer(Life):
    kind = ac.Sealer
    always = (ac.ConcurrentUseError,)
    closing = CLOSING

    def __init__(self) -> None:
        super().__init__(ac.Sealer(KEY, ENC))
        self.salt = self.one.salt
        self.keys = reference_v2.reply_keys(KEY, ENC, self.salt)

    def do_salt(self) -> None:
        assert self.one.salt == self.salt

    def do_seal(self) -> None:
        text = self.text()
        self.notes.append((text, self.one.seal(text, usage=USAGE)))

    def do_seal_into(self) -> None:
        text, out = self.text(), bytearray(100)
        length = self.one.seal_into(text, out, usage=USAGE)
        assert length == len(text) + 16
        self.notes.append((text, bytes(out[:length])))

    def judge(self) -> None:
        aes, aad = AESGCM(self.keys.key), reference_v2.record_aad(0, USAGE)
        matched(
            dict(self.notes),
            lambda number, sealed: aes.decrypt(reference_hpke.nonce_of(self.keys.base, number), sealed, aad),
        )


class Opener(Life):
    """In some lives threads take turns, so that much is opened; in others the first that is not the next fails it."""

    kind = ac.Opener
    always = (ac.ConcurrentUseError,)
    closing = CLOSING
    _LAST: Final = 8

    def __init__(self) -> None:
        self.salt = bytes(range(32))
        keys = reference_v2.reply_keys(KEY, ENC, self.salt)
        records = [reference_v2.Record(0, None, b"%d" % n) for n in range(self._LAST)]
        records.append(reference_v2.Record(1, USAGE, b"%d" % self._LAST))
        self.sealed = [reference_v2.seal_record(keys, n, record) for n, record in enumerate(records)]
        # not the next; behind the last; or one of these has failed it before
        refused = (ac.AuthenticationError, ac.FramingError, ac.LocalProtocolError)
        super().__init__(
            ac.Opener(KEY, ENC, self.salt),
            may={"open": refused, "open_into": refused, "finish": (ac.TruncatedStreamError,)},
        )
        self.ends.remove("finish")
        self.in_turns = random.random() < 0.5
        self.is_to_end = False

    def do_salt(self) -> None:
        assert self.one.salt == self.salt

    def do_ended(self) -> None:
        is_to_end = self.is_to_end
        ended = self.one.ended
        assert not ended or self.is_to_end
        assert ended or not is_to_end or not any(number == self._LAST for number, _ in self.notes)

    def do_finish(self) -> None:
        self.one.finish()
        assert self.is_to_end

    def _next(self, call: Callable[[bytes, dict[str, Any]], bytes]) -> None:
        with self.lock if self.in_turns else nullcontext():
            number = len(self.notes)
            if number > self._LAST:
                self.one.open(self.sealed[0])
                raise AssertionError("a record behind the last was opened")
            is_last = number == self._LAST
            if is_last:
                self.is_to_end = True
            self.notes.append((number, call(self.sealed[number], {"flag": 1, "usage": USAGE} if is_last else {})))

    def do_open(self) -> None:
        self._next(lambda sealed, options: self.one.open(sealed, **options))

    def do_open_into(self) -> None:
        def call(sealed: bytes, options: dict[str, Any]) -> bytes:
            out = bytearray(8)
            return bytes(out[: self.one.open_into(sealed, out, **options)])

        self._next(call)

    def judge(self) -> None:
        assert sorted(self.notes) == [(number, b"%d" % number) for number in range(len(self.notes))]
