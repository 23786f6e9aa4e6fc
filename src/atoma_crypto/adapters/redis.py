"""A replay store in Redis, for processes and nodes that share a key (extra `redis`; docs/protocol-v2.md, section 5)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from atoma_crypto._errors import ReplayStoreError
from atoma_crypto.replay import AHEAD, LIFETIME, check_admission

__all__ = ["RedisReplayCache"]

# One admission, atomic. KEYS: the birth, the id. ARGV: expires_at and the node's time, whole seconds.
#
# Which clock: Redis's, which all nodes share, and a node whose own is more than APART seconds from it is refused. So
# the birth is set APART seconds later than it was: until a minute after that, any node may have admitted what it was
# sent. An entry lives by Redis's clock until expires_at, and at least KEEP seconds from its admission whatever a clock
# says: a request is timely for no longer than LIFETIME + AHEAD, and the rest is for nodes whose clocks differ.
#
# The birth is kept with the run id of the server that wrote it. A server that was started anew, from nothing or from a
# snapshot that is older than what it had admitted, and a replica that has taken over, have another one: for them the
# store is born again.
_ADMIT: Final = """
local t = tonumber(redis.call('TIME')[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
if not run or policy ~= 'noeviction' then return -2 end
if math.abs(tonumber(ARGV[2]) - t) > APART then return -3 end
local born, by = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%w+)$')
if by ~= run then
  born = string.format('%.0f', t + APART)
  redis.call('SET', KEYS[1], born .. ' ' .. run)
end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local expires_at = tonumber(ARGV[1])
if expires_at - LIFETIME <= tonumber(born) + AHEAD then return -1 end
local left = string.format('%.0f', math.max(expires_at - t, KEEP) * 1000)
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', left) then return 1 end
return 0
"""
_SECONDS: Final = {"LIFETIME": LIFETIME, "AHEAD": AHEAD, "APART": 30, "KEEP": 900}
_ADMITTED: Final = 1
_SEEN: Final = 0
_YOUNG: Final = -1
_EVICTS: Final = -2
_APART: Final = -3


def _connecting(url: str, timeout: float) -> redis.Redis:
    """A client of the server that a URL names; nothing is connected yet. ValueError, without a part of the URL."""
    with suppress(ValueError):
        return redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    # out here: what was caught may quote the password, as that of one with a slash which is not written as %2F
    raise ValueError("the URL of the replay store cannot be read: is each / and @ of its password written as %2F, %40?")


class RedisReplayCache:
    """A replay store in a Redis server, 5 or later, that all who share a key share. Any thread or process may use it.

    `client` is a URL (`redis://`, `rediss://`, `unix://`), or a `redis.Redis`, which must have a `socket_timeout`;
    `timeout`, in seconds, is for the URL's connections. Each id is a key of its own, `prefix` and 64 hex digits, which
    goes by itself after some minutes; the time of the store's birth is in `prefix` + "birth". `clock` tells this node's
    time, in seconds since 1970: it and Redis's may be 30 seconds apart.

    It fails closed: Redis not reachable, too slow, full, read-only, or one that evicts keys (`maxmemory-policy` must be
    `noeviction`) is ReplayStoreError, and so is what was sent until 90 seconds after the server was started, emptied or
    took over from another. Nothing is tried twice. A request that Redis admits when the time is
    over is spent, though it was refused here: its client seals it again.
    """

    def __init__(
        self,
        client: str | redis.Redis,
        *,
        prefix: str = "atoma2:replay:",
        timeout: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(client, str | redis.Redis):
            raise TypeError(f"client must be a URL or a redis.Redis, not {type(client).__name__}")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be str, not {type(prefix).__name__}")
        if not callable(clock):
            raise TypeError("clock must be a function")
        self._owned = isinstance(client, str)
        if isinstance(client, str):
            if not 0 < timeout < math.inf:
                raise ValueError("timeout must be more than 0 seconds")
            client = _connecting(client, timeout)
        elif not client.get_connection_kwargs().get("socket_timeout"):
            raise ValueError("the client has no socket_timeout: a Redis that hangs would hang the node")
        self._client: redis.Redis | None = client
        self._prefix = prefix
        self._clock = clock
        script = _ADMIT
        for name, seconds in _SECONDS.items():
            script = script.replace(name, str(seconds))
        self._script = client.register_script(script)

    def admit(self, request_id: bytes, expires_at: float) -> bool:
        """As `ReplayCache.admit`."""
        check_admission(request_id, expires_at)
        answer, _ = self._ask(request_id, expires_at)
        if answer == _ADMITTED:
            return True
        if answer == _SEEN:
            return False
        if answer == _YOUNG:
            raise ReplayStoreError("a store before this one may have admitted the request")
        raise ReplayStoreError("the replay store does not answer as it should")

    def check(self) -> None:
        """Ask for what admits nothing: ReplayStoreError says what is wrong. For a start, or a probe of readiness."""
        answer, problem = self._ask(bytes(32), 0)  # sent before any store was born
        if answer == _EVICTS:
            raise ReplayStoreError("maxmemory-policy of the replay store must be noeviction: it may forget")
        if answer == _APART:
            raise ReplayStoreError("the clocks of the replay store and of this node differ by more than 30 seconds")
        if answer not in (_YOUNG, _SEEN):
            raise ReplayStoreError(f"the replay store does not answer as it should: {problem}")

    def _ask(self, request_id: bytes, expires_at: float) -> tuple[int | None, str]:
        """The script's answer, or None and the class of what went wrong."""
        client = self._client
        if client is None:
            raise ReplayStoreError("this replay store is closed")
        keys = (f"{self._prefix}birth", self._prefix + request_id.hex())
        try:
            answer: Any = self._script(keys=keys, args=(math.floor(expires_at), round(self._clock())))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing is known to be admitted
            return None, type(exc).__name__  # redis-py's texts name hosts, and hold what was sent
        if type(answer) is int and _APART <= answer <= _ADMITTED:
            return answer, ""
        return None, type(answer).__name__

    def close(self) -> None:
        """Admit nothing more, and close the connections to a URL. What Redis remembers stays. Harmless twice."""
        client, self._client = self._client, None
        if client is not None and self._owned:
            client.close()

    def __enter__(self) -> RedisReplayCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a replay store is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._client is None else ''}>"
