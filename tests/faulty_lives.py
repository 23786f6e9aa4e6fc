"""What threads do to one object, all at once, for test_faults_threads.py: a life of each class that has a close().

`do_NAME` uses what is public under NAME. It looks at once at what can be looked at, and notes what is judged when all
threads are done (`judge`), mostly by `cryptography` and by the second writings of the protocols. What it raises has to
be documented for that very method: `always` and `may` have what may come at any time, `closing` what may come once
somebody has begun to close. `never` has the methods that cannot succeed on such an object, and why.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import atoma_crypto as ac
import oracle
import reference_hpke
import reference_v2
from atoma_crypto import hazmat
from atoma_crypto._core import ffi
from atoma_crypto._typing import Protocol, Suite
from faulty_cases import split
from helpers import REPLY_BODY, STREAM_BODY, USAGE, member

SECRET: Final = bytes(range(101, 133))
NODE: Final = ac.SecretKey.from_bytes(SECRET)
NOW: Final = 1763808745
SEED: Final = bytes(range(32))
KEY: Final = bytes(range(32, 64))
ENC: Final = bytes(range(64, 96))
ENDS: Final = frozenset(("close", "finish", "abort", "receive_eof"))
SESSION: Final = (ac.LocalProtocolError, ac.ConcurrentUseError)
# The core's object is closed, and Python's does not know yet.
CLOSING: Final = (ac.SessionClosedError, ac.LocalProtocolError)
Errors = tuple[type[Exception], ...]


class NotYetError(Exception):
    """There is nothing to be given at this time: neither a success nor a refusal."""


class Life:
    """One object, and who uses it."""

    kind: ClassVar[type]
    always: ClassVar[Errors] = ()
    closing: ClassVar[Errors] = (ac.SessionClosedError,)

    def __init__(
        self, one: Any, *, never: Mapping[str, str] | None = None, may: Mapping[str, Errors] | None = None
    ) -> None:
        self.one = one
        self.never = dict(never or {})
        self.may = dict(may or {})
        self.ends = set(ENDS)
        self.wanted = self.names() - set(self.never)  # what has to succeed, on this object or on another one like it
        self.is_closing = False
        self.lock = threading.Lock()  # around what only one thread can do in order
        self.notes: list[Any] = []
        self._numbers = itertools.count()

    @classmethod
    def names(cls) -> set[str]:
        return {name.removeprefix("do_") for name in dir(cls) if name.startswith("do_")}

    def text(self, length: int = 60) -> bytes:
        """One that no other call has."""
        return b"%d " % next(self._numbers) + random.randbytes(random.randrange(length))

    def do(self, name: str) -> bool | None:
        """Whether it has succeeded; None: it may later. AssertionError: it has given, or raised, what it should not."""
        try:
            getattr(self, f"do_{name}")()
        except NotYetError:
            return None
        except (ac.AtomaCryptoError, ValueError) as error:
            may = (*self.always, *self.may.get(name, ()), *(self.closing if self.is_closing else ()))
            assert type(error) in may, f"{name}: {error!r}"  # noqa: PT017 - a subclass is another error
            return None if type(error) is ac.ConcurrentUseError else False
        assert name not in self.never, f"{name} has succeeded"
        return True

    def do_close(self) -> None:
        self.is_closing = True
        self.one.close()

    def judge(self) -> None:
        """When all threads are done. The object is closed by then."""


def matched(texts: Mapping[bytes, bytes], opened: Callable[[int, bytes], bytes]) -> None:
    """Each sealed text, by what was sealed, is one of the first so many numbers, each number once."""
    left = dict(texts)
    for number in range(len(texts)):
        for text, sealed in left.items():
            with suppress(InvalidTag):
                assert opened(number, sealed) == text
                del left[text]
                break
        else:
            raise AssertionError(f"nothing was sealed under number {number}")


# ---- primitives and records -----------------------------------------------------------------------------------------


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


# ---- keys -----------------------------------------------------------------------------------------------------------


def public_of(native: Any) -> bytes:
    """Of a key as the core has it."""
    return bytes(ffi.buffer(native.public_key))


def exchange(
    public_key: ac.PublicKey, protocol: Protocol, keys: ac.SecretKey | ac.NodeKeyring, **options: Any
) -> bytes:
    """A whole one: the answer as it was sealed. Only what `keys` raises comes through."""
    client = ac.ClientSession(public_key, model="m", stack_small_id=1, protocol=protocol)
    with ac.NodeSession(keys, **options) as node:
        assert node.open_request(client.seal_request(REPLY_BODY, stream=False)).body == REPLY_BODY
        raw = node.seal_response(b"answer")
    assert client.open_response(raw) == b"answer"
    return raw


class SecretKey(Life):
    kind = ac.SecretKey

    def __init__(self, suite: Suite) -> None:
        name, why, error = {
            "X25519": ("decapsulate", "the core does it", ValueError),
            "X-Wing": ("native_for", "v1 has no keys of this suite", ac.AuthenticationError),
        }[suite]
        super().__init__(ac.SecretKey.from_bytes(SECRET, suite), never={name: why}, may={name: (error,)})
        self.suite = suite
        self.public = reference_hpke.public_of(suite, SECRET)
        self.id = reference_v2.key_id_of(suite, self.public)
        self.cache = self.one.replay_cache

    def do_suite(self) -> None:
        assert self.one.suite == self.suite

    def do_public_key(self) -> None:
        assert (bytes(self.one.public_key), self.one.public_key.suite) == (self.public, self.suite)

    def do_replay_cache(self) -> None:
        assert self.one.replay_cache is self.cache
        assert len(self.cache) == 0

    def _is(self, native: Any) -> None:
        assert (native.public_key if self.suite == "X-Wing" else public_of(native)) == self.public

    def do_native(self) -> None:
        self._is(self.one.native)

    def do_native_for(self) -> None:
        self._is(self.one.native_for(b""))

    def do_select(self) -> None:
        assert self.one.select(bytes(8)) is None
        key, cache = self.one.select(self.id)
        assert (bytes(key.public_key), cache) == (self.public, self.cache)

    def do_decapsulate(self) -> None:
        shared, enc = reference_hpke.encapsulate(self.suite, self.public, KEY)
        assert self.one.decapsulate(enc) == shared

    def do_generate(self) -> None:
        with ac.SecretKey.generate() as key, ac.SecretKey.generate() as other:
            assert key.public_key != other.public_key
            exchange(key.public_key, "v2", key)

    def do_from_bytes(self) -> None:
        with ac.SecretKey.from_bytes(KEY) as key:
            assert bytes(key.public_key) == reference_hpke.x25519_public(KEY)


class SigningKey(Life):
    kind = ac.SigningKey
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()

    def __init__(self) -> None:
        super().__init__(ac.SigningKey.from_bytes(SEED))

    @staticmethod
    def _signs(key: ac.SigningKey, public: bytes) -> None:
        raw = exchange(NODE.public_key, "v1", NODE, signing_key=key)
        assert oracle.verify_sui_signature(member(raw, "signature"), oracle.body_hash(b"answer")) == public

    def do_native(self) -> None:
        assert bytes(ffi.buffer(self.one.native.secret)) == SEED + self.public
        self._signs(self.one, self.public)

    def do_public_key(self) -> None:
        assert self.one.public_key == self.public

    def do_generate(self) -> None:
        with ac.SigningKey.generate() as key, ac.SigningKey.generate() as other:
            assert key.public_key != other.public_key
            self._signs(key, key.public_key)

    def do_from_bytes(self) -> None:
        with ac.SigningKey.from_bytes(SEED) as key:
            self._signs(key, self.public)


class NodeKeyring(Life):
    """All that it names are keys that it was born with, or that a rotation has given; and it opens what is sealed."""

    kind = ac.NodeKeyring
    closing = (ac.SessionClosedError, ac.ReplayStoreError)  # the latter from a store that is closed with its key

    def __init__(self) -> None:
        super().__init__(ac.NodeKeyring())
        self.born = [offer.public_key for offer in self.one.offers()]
        self.seen: list[ac.PublicKey] = []

    def _held(self, offer: ac.KeyOffer) -> None:
        self.seen.append(offer.public_key)
        assert offer.protocol == "v1" or offer.not_after is not None
        assert 0 < offer.valid_for <= 3600
        exchange(offer.public_key, offer.protocol, self.one)

    def do_public_key(self) -> None:
        key = self.one.public_key
        self.seen.append(key)
        exchange(key, "v1", self.one)

    def do_offers(self) -> None:
        offers = self.one.offers()
        assert [offer.protocol for offer in offers] == ["v1", "v2"]
        self._held(random.choice(offers))

    def do_candidates(self) -> None:
        offers = self.one.candidates(ahead=10.0)
        assert {offer.protocol for offer in offers} == {"v1", "v2"}
        self._held(random.choice(offers))

    def do_rotate(self) -> None:
        protocol: Protocol = random.choice(("v1", "v2"))
        key = self.one.rotate(protocol)
        assert key not in self.born
        self.notes.append(key)
        exchange(key, protocol, self.one)

    def do_native_for(self) -> None:
        key = self.born[0]
        assert public_of(self.one.native_for(key.to_base64().encode())) == bytes(key)
        self.seen.append(ac.PublicKey.from_bytes(public_of(self.one.native_for(b""))))

    def do_select(self) -> None:
        assert self.one.select(bytes(8)) is None
        assert self.one.select(self.born[1].key_id).key.public_key == self.born[1]

    def do_from_key(self) -> None:
        key = ac.SecretKey.generate()
        with ac.NodeKeyring.from_key(key) as ring:
            assert ring.public_key == key.public_key
            exchange(key.public_key, "v1", ring)

    def judge(self) -> None:
        assert len(set(self.notes)) == len(self.notes)
        assert set(self.seen) <= {*self.born, *self.notes}


class MemoryReplayCache(Life):
    kind = ac.MemoryReplayCache
    closing = (ac.ReplayStoreError,)

    def __init__(self) -> None:
        super().__init__(ac.MemoryReplayCache(fresh_key=True))

    def do_admit(self) -> None:
        request_id = random.randbytes(1) * 32
        self.notes.append((request_id, self.one.admit(request_id, 2.0**40)))

    def judge(self) -> None:
        admitted = [request_id for request_id, was_admitted in self.notes if was_admitted]
        assert sorted(admitted) == sorted({request_id for request_id, _ in self.notes})


# ---- sessions -------------------------------------------------------------------------------------------------------


class NodeSession(Life):
    """It opens its request, whichever thread comes first, and what it seals is read by the other writing."""

    kind = ac.NodeSession
    always = SESSION

    def __init__(self, protocol: Protocol, *, stream: bool) -> None:
        never = dict.fromkeys(("seal_chunk", "seal_chunks", "finish"), "the request is not a stream")
        never = {"seal_response": "the request is a stream"} if stream else never
        if protocol == "v1":
            never["abort"] = "v1 cannot say it"
        super().__init__(
            ac.NodeSession(NODE, replay_cache=ac.MemoryReplayCache(fresh_key=True), clock=lambda: NOW), never=never
        )
        self.ends.add("seal_response")
        self.protocol, self.body = protocol, STREAM_BODY if stream else REPLY_BODY
        if protocol == "v1":
            self.theirs = oracle.OracleClient(bytes(NODE.public_key))
            self.envelope = self.theirs.seal_request(self.body, stream=stream)
        else:
            client = ac.ClientSession(NODE.public_key, model="m", stack_small_id=42, protocol="v2", clock=lambda: NOW)
            self.envelope = client.seal_request(self.body, stream=stream)
            self.request = reference_v2.open_request("X25519", SECRET, self.envelope, now=NOW)
        self.opened: list[ac.Request] = []
        self.last: list[tuple[int, list[bytes], bytes]] = []  # flag, plaintext, and what was sealed

    def do_open_request(self) -> None:
        request = self.one.open_request(self.envelope)
        self.opened.append(request)
        assert (request.body, request.protocol) == (self.body, self.protocol)

    def do_seal_chunk(self) -> None:
        text = self.text(400)
        self.notes.append(([text], self.one.seal_chunk(text, USAGE)))

    def do_seal_chunks(self) -> None:
        texts = [self.text(), self.text(900), self.text()]
        self.notes.append((texts, self.one.seal_chunks(texts, USAGE)))

    def do_seal_response(self) -> None:
        text = self.text()
        self.last.append((3, [text], self.one.seal_response(text, USAGE)))

    def do_finish(self) -> None:
        self.last.append((1, [], self.one.finish()))

    def do_abort(self) -> None:
        self.last.append((2, [], self.one.abort("CODE", "text", 500)))

    def judge(self) -> None:
        assert len(self.opened) <= 1
        assert len(self.last) <= 1
        assert self.opened or not (self.notes or self.last)
        (self._judge_v1 if self.protocol == "v1" else self._judge_v2)()

    def _judge_v1(self) -> None:
        nonces = [self.theirs.nonce]
        for texts, raw in self.notes:
            found = self.theirs.open_events(raw)
            assert [one.plaintext for one in found] == texts
            nonces += [one.nonce for one in found]
        for _, texts, raw in self.last:
            assert [self.theirs.open_reply(raw).plaintext] == texts if texts else raw == b""
        assert len(set(nonces)) == len(nonces)

    def _judge_v2(self) -> None:
        """Where each event stands is not said: it is the one that opens under the next number."""
        batches = [(texts, split(raw)) for texts, raw in self.notes]
        for flag, texts, raw in self.last:
            batches.append((texts, split(raw) if raw.startswith(b"data: ") else [raw]))
            assert len(batches[-1][1]) == 1, flag
        if not batches:
            return
        first = next(events[0] for _, events in batches if b'"salt"' in events[0])
        salt = reference_v2.read_salt(first.removeprefix(b"data: "))
        keys = reference_v2.reply_keys(self.request.exported, self.request.envelope.enc, salt)
        number, left = 0, list(batches)
        while left:
            found = [at for at, (_, events) in enumerate(left) if self._read(keys, number, events[0]) is not None]
            assert len(found) == 1, f"{len(found)} records of number {number}"
            texts, events = left.pop(found[0])
            records = [self._read(keys, number + more, event) for more, event in enumerate(events)]
            number += len(events)
            assert None not in records
            if not self.last or left:
                assert [(one.flag, one.plaintext) for one in records if one] == [(0, text) for text in texts]
            else:  # the last of all
                flag, texts, _ = self.last[0]
                assert records[0] is not None
                assert records[0].flag == flag
                plaintext = records[0].plaintext
                told = {"code": "CODE", "message": "text", "status": 500}
                assert reference_v2.abort_of(plaintext) == told if flag == 2 else plaintext == b"".join(texts)

    @staticmethod
    def _read(keys: reference_v2.ReplyKeys, number: int, event: bytes) -> reference_v2.Record | None:
        """None: it is not the one of this number."""
        try:
            return reference_v2.read_record(event.removeprefix(b"data: "), number, keys, {0, 1, 2, 3})
        except (ValueError, InvalidTag):
            return None


class ClientSession(Life):
    """Whichever thread seals the request, a node answers it; what is received is given once, and in order."""

    kind = ac.ClientSession
    always = SESSION
    TEXTS: Final = [b"%d" % number for number in range(60)]

    def __init__(self, protocol: Protocol, *, stream: bool) -> None:
        never = dict.fromkeys(("receive_data", "receive_eof", "next_event", "events"), "the answer is not a stream")
        may: dict[str, Errors] = {}
        if stream:
            never = {"open_response": "the answer is a stream"}
        if stream and protocol == "v2":
            cut = (ac.TruncatedStreamError,)  # where receive_eof comes too early
            may = {"next_event": cut, "events": cut, "open_response": (ac.EnvelopeError,)}
        super().__init__(
            ac.ClientSession(NODE.public_key, model="m", stack_small_id=42, protocol=protocol, clock=lambda: NOW),
            never=never,
            may=may,
        )
        if may:
            self.ends.add("open_response")  # whatever comes as one object fails the session
        self.protocol, self.stream = protocol, stream
        if stream:
            self.wanted |= {"a chunk", "the end"}
        self.feed: list[bytes] = []  # by event; the end too, in v2
        self.fed = self.sealed = 0
        self.answer = b"{}"
        self.chunks: list[ac.Chunk] = []
        self.ended: list[ac.EndOfStream] = []

    def do_seal_request(self) -> None:
        body = STREAM_BODY if self.stream else REPLY_BODY
        envelope = self.one.seal_request(body, stream=self.stream)
        self.sealed += 1
        store = ac.MemoryReplayCache(fresh_key=True)
        node = ac.NodeSession(NODE, replay_cache=store, clock=lambda: NOW)
        assert node.open_request(envelope).body == body
        if not self.stream:
            self.answer = node.seal_response(b"answer", USAGE)
            return
        events = split(node.seal_chunks(self.TEXTS)) + split(node.finish())
        self.feed = events

    def do_open_response(self) -> None:
        if not self.stream and self.answer == b"{}":  # who comes too early would fail it
            raise NotYetError
        assert self.one.open_response(self.answer) == b"answer"

    def do_receive_data(self) -> None:
        self.one.receive_data(b": between any two events\n\n")
        with self.lock:
            for event in self.feed[self.fed : self.fed + random.randrange(9)]:
                self.one.receive_data(event)
                self.fed += 1

    def do_receive_eof(self) -> None:
        with self.lock:  # so that it is known what came before
            self.one.receive_eof()
        assert repr(self.one).endswith((" ended>", " failed>", " closed>"))

    def _take(self, event: object) -> None:
        if isinstance(event, ac.Chunk):
            self.chunks.append(event)
            self.wanted.discard("a chunk")
        elif isinstance(event, ac.EndOfStream):
            self.ended.append(event)
            self.wanted.discard("the end")
        else:
            assert event is ac.NEED_DATA
            raise NotYetError

    def do_next_event(self) -> None:
        self._take(self.one.next_event())

    def do_events(self) -> None:
        event = None
        for event in itertools.islice(self.one.events(), 2 * len(self.TEXTS)):  # a fault may be that it never ends
            self._take(event)
        if event is None:
            raise NotYetError

    def judge(self) -> None:
        assert self.sealed <= 1
        assert sorted(chunk.index for chunk in self.chunks) == list(range(len(self.chunks)))
        assert len(self.chunks) <= self.fed
        assert all(chunk.plaintext == self.TEXTS[chunk.index] for chunk in self.chunks)
        assert {end.chunk_count for end in self.ended} <= {len(self.chunks)}
        assert not self.ended or len(self.chunks) == (self.fed if self.protocol == "v1" else len(self.TEXTS))


LIVES: Final[Sequence[tuple[str, Callable[[], Life]]]] = (
    *(
        (f"{life.__name__} {protocol} {'stream' if stream else 'whole'}", partial(life, protocol, stream=stream))
        for life in (NodeSession, ClientSession)
        for protocol in ("v1", "v2")
        for stream in (True, False)
    ),
    ("NodeKeyring", NodeKeyring),
    ("SecretKey X25519", lambda: SecretKey("X25519")),
    ("SecretKey X-Wing", lambda: SecretKey("X-Wing")),
    ("SigningKey", SigningKey),
    ("MemoryReplayCache", MemoryReplayCache),
    ("Sealer", Sealer),
    ("Opener", Opener),
    ("AES256GCM", Aes),
    ("HPKEContext sender", HpkeSender),
    ("HPKEContext recipient", HpkeRecipient),
)
