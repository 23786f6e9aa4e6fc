"""The keys that a node gives out, and what remembers the requests that were sealed to them."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse

import atoma_crypto as ac
from atoma_crypto._offers import write_offer
from atoma_crypto.keyring import KeyOffer
from atoma_crypto.server._evidence import Attested
from atoma_crypto.server._http import RefusalError

YOUNG_STORE = (
    "the key is older than the replay store, in memory: requests of protocol v2 are refused with 503 for a minute"
)
# A key that does not rotate is offered until the end of the next half hour but one. That changes twice an hour alone:
# clients have to verify a key again whose `not_after` is another one, and evidence says it.
_OFFERED_SECONDS = 3600
_CHALLENGE: Final = re.compile("[A-Za-z0-9_-]{43}")


class Keys:
    """The node's keys: the current ones, each time, and those before that may still be sealed to."""

    def __init__(
        self, keys: ac.SecretKey | ac.NodeKeyring, protocols: Collection[str], wall_clock: Callable[[], float]
    ) -> None:
        if "v1" in protocols and isinstance(keys, ac.SecretKey) and keys.suite != "X25519":
            raise ValueError(f"a key of suite {keys.suite} is not for protocol v1")
        self._keys = keys
        self._protocols = frozenset(protocols)
        self._wall_clock = wall_clock

    def offers(self) -> list[KeyOffer]:
        """What clients may seal to, of each protocol that is spoken."""
        if isinstance(self._keys, ac.NodeKeyring):
            return self._spoken(self._keys.offers())
        return self._stays(self._half_hour() + _OFFERED_SECONDS)

    def _half_hour(self) -> int:
        """When the half hour has begun that it is."""
        half = _OFFERED_SECONDS // 2
        return int(self._wall_clock()) // half * half

    def candidates(self, ahead: float) -> list[KeyOffer]:
        """As `NodeKeyring.candidates`. For a key that stays what it is offered for stays too, for half an hour."""
        if isinstance(self._keys, ac.NodeKeyring):
            return self._spoken(self._keys.candidates(ahead=ahead))
        begun = self._half_hour()
        return self._stays(begun + _OFFERED_SECONDS, begun + _OFFERED_SECONDS // 2)

    def _spoken(self, offers: Iterable[KeyOffer]) -> list[KeyOffer]:
        return [offer for offer in offers if offer.protocol in self._protocols]

    def _stays(self, *ends: int) -> list[KeyOffer]:
        key = self._keys.public_key
        v2 = [KeyOffer("v2", key, _OFFERED_SECONDS, until) for until in ends]
        return self._spoken([KeyOffer("v1", key, float("inf")), *v2])


class Published:
    """What a lock and `GET /.well-known/atoma-node-keys` say of the keys: with evidence, where there is a provider."""

    def __init__(self, keys: Keys, protocols: Collection[str], attested: Attested | None) -> None:
        self._keys = keys
        self._v2 = "v2" in protocols
        self._attested = attested

    def tend(self) -> None:
        """Have done what is due: for a timer, as a node may be idle. SessionClosedError."""
        if self._attested is None:
            self._keys.offers()  # a keyring rotates and wipes when it is asked, in every ring
        else:
            self._attested.tend()

    async def lock(self, challenge: bytes, more: Mapping[str, object]) -> dict[str, object]:
        """A lock reply: v1's members, `more`, and v2's offers; their evidence answers the challenge. RefusalError."""
        offers = await self._offers(challenge, ("v1", "v2"), stranger=False)
        return {**_v1(offers), **more, **(_v2(offers) if self._v2 else {})}

    async def response(self, request: Request) -> JSONResponse:
        """The offers of v2 alone, for who takes no lock yet. They are public: it needs no token. RefusalError."""
        query: bytes = request.scope["query_string"]
        challenge: bytes | None = b""
        if query:
            challenge = None
            with suppress(ValueError):
                name, _, text = query.decode("ascii").partition("=")
                challenge = read_challenge(text) if name == "challenge" else None
        if challenge is None:
            raise RefusalError(400, "INVALID_CHALLENGE", "The sole parameter is a challenge: 32 bytes in base64url")
        offers = await self._offers(challenge, ("v2",), stranger=True)
        return JSONResponse(_v2(offers), headers={"Cache-Control": "no-store"})

    async def _offers(self, challenge: bytes, protocols: Collection[str], *, stranger: bool) -> Sequence[KeyOffer]:
        if self._attested is None:
            return self._keys.offers()
        return await self._attested.offers(challenge, protocols, stranger=stranger)


def read_challenge(text: object) -> bytes:
    """32 bytes in base64url without padding, in the one way in which they can be written. ValueError."""
    if not isinstance(text, str) or not _CHALLENGE.fullmatch(text):
        raise ValueError("a challenge is 32 bytes in base64url without padding")
    challenge = urlsafe_b64decode(text + "=")
    if urlsafe_b64encode(challenge).decode() != text + "=":
        raise ValueError("spare bits of a challenge are zero")
    return challenge


def _v1(offers: Iterable[KeyOffer]) -> dict[str, object]:
    """The members of a lock reply by which v1's clients know the key, and who holds it: none unless v1 is spoken."""
    for offer in offers:
        if offer.protocol == "v1":
            told: dict[str, object] = {"public_key": offer.public_key.to_base64()}
            return told if offer.evidence is None else told | {"evidence": offer.evidence}
    return {}


def _v2(offers: Iterable[KeyOffer]) -> dict[str, object]:
    return {"keys": [write_offer(offer) for offer in offers if offer.protocol == "v2"]}


def may_block(replay_cache: ac.ReplayCache | None) -> bool:
    """Whether the store may wait for another machine. Those of keys, in memory, do not."""
    return not (replay_cache is None or isinstance(replay_cache, ac.MemoryReplayCache))


def open_replay_cache(url: str) -> ac.ReplayCache:
    """The store in the Redis that a URL names (extra `redis`). ValueError: another URL. Nothing is asked of it yet."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a replay store is redis://host[:port][/number], rediss://… with TLS, or unix://path")
    from atoma_crypto.adapters.redis import RedisReplayCache  # noqa: PLC0415 - needs the extra

    return RedisReplayCache(url)
