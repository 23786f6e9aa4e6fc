"""The keys that a node gives out, and what remembers the requests that were sealed to them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.requests import Request
from starlette.responses import JSONResponse

import atoma_crypto as ac
from atoma_crypto._offers import write_offer
from atoma_crypto.keyring import KeyOffer

YOUNG_STORE = (
    "the key is older than the replay store, in memory: requests of protocol v2 are refused with 503 for a minute"
)
# A key that does not rotate is offered until the end of the next hour. That changes once an hour alone, since clients
# have to verify a key again whose `not_after` is another one.
_HOUR = 3600


class Published:
    """What a lock and `GET /.well-known/atoma-node-keys` say of the node's keys: the current ones, each time."""

    def __init__(
        self, keys: ac.SecretKey | ac.NodeKeyring, protocols: Collection[str], wall_clock: Callable[[], float]
    ) -> None:
        if "v1" in protocols and isinstance(keys, ac.SecretKey) and keys.suite != "X25519":
            raise ValueError(f"a key of suite {keys.suite} is not for protocol v1")
        self._keys = keys
        self._protocols = frozenset(protocols)
        self._wall_clock = wall_clock

    def v1_key(self) -> ac.PublicKey | None:
        """What v1's clients seal to."""
        return self._keys.public_key if "v1" in self._protocols else None

    def offers(self) -> list[KeyOffer]:
        """What v2's clients may seal to."""
        if "v2" not in self._protocols:
            return []
        if isinstance(self._keys, ac.NodeKeyring):
            return [offer for offer in self._keys.offers() if offer.protocol == "v2"]
        now = int(self._wall_clock())
        until = (now // _HOUR + 2) * _HOUR
        return [KeyOffer("v2", self._keys.public_key, until - now, until)]

    def v1(self) -> dict[str, object]:
        """The member of a lock reply by which v1's clients know the key: none unless v1 is spoken."""
        key = self.v1_key()
        return {} if key is None else {"public_key": key.to_base64()}

    def v2(self) -> dict[str, object]:
        """The member that holds v2's offers: none unless v2 is spoken."""
        return {"keys": [write_offer(offer) for offer in self.offers()]} if "v2" in self._protocols else {}

    async def response(self, _request: Request) -> JSONResponse:
        """The offers alone, for who takes no lock yet. They are public: it needs no token."""
        return JSONResponse(self.v2(), headers={"Cache-Control": "no-store"})


def may_block(replay_cache: ac.ReplayCache | None) -> bool:
    """Whether the store may wait for another machine. Those of keys, in memory, do not."""
    return not (replay_cache is None or isinstance(replay_cache, ac.MemoryReplayCache))


def open_replay_cache(url: str) -> ac.ReplayCache:
    """The store in the Redis that a URL names (extra `redis`). ValueError: another URL. Nothing is asked of it yet."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a replay store is redis://host[:port][/number], rediss://… with TLS, or unix://path")
    from atoma_crypto.adapters.redis import RedisReplayCache  # noqa: PLC0415 - needs the extra

    return RedisReplayCache(url)
