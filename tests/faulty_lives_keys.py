"""Lives of what opens requests and signs answers, and of what remembers them (faulty_life.py)."""

import random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import atoma_crypto as ac
import oracle
import reference_hpke
import reference_v2
from atoma_crypto._core import ffi
from atoma_crypto._typing import Protocol, Suite
from faulty_life import KEY, NODE, SECRET, SEED, Life
from helpers import REPLY_BODY, decapsulated, member


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
        assert decapsulated(self.one, enc) == shared

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
        native = self.one.native  # held: another thread may close
        assert bytes(ffi.buffer(native.secret)) == SEED + self.public
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
