"""One exchange of protocol v2 between the real sessions, for the tests that stand in the middle of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto._core import ffi
from atoma_crypto._opener_v2 import V2Opener
from atoma_crypto._typing import Suite

NOW: Final = 1763808745
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
CHUNKS: Final = (b'{"n":0}', b'{"n":1}', b'{"n":2}')


@cache
def key_of(suite: Suite = "X25519") -> ac.SecretKey:
    return ac.SecretKey.generate(suite)


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def store() -> ac.MemoryReplayCache:
    """An empty one, of a key that nobody used before."""
    return ac.MemoryReplayCache(fresh_key=True, clock=Clock())


def body(*, stream: bool, model: str = "m") -> bytes:
    return json.dumps({"model": model, "stream": stream}).encode()


def client_of(key: ac.SecretKey, *, clock: Callable[[], float] | None = None, **options: Any) -> ac.ClientSession:
    defaults: dict[str, Any] = {"model": "m", "stack_small_id": 42, "protocol": "v2", "clock": clock or Clock()}
    return ac.ClientSession(key.public_key, **(defaults | options))


class Exchange:
    """A client that has sealed its request, and a node that has opened it."""

    def __init__(self, suite: Suite = "X25519", *, stream: bool = True, admitted: bool = True) -> None:
        self.key, self.stream, self.cache = key_of(suite), stream, store()
        self.client = client_of(self.key)
        self.envelope = self.client.seal_request(body(stream=stream), stream=stream, num_compute_units=64)
        if admitted:
            self.node = self.new_node()
            self.request = self.node.open_request(self.envelope)

    def new_node(self, **options: Any) -> ac.NodeSession:
        """With the store of the exchange, unless the test has another."""
        defaults: dict[str, Any] = {"clock": Clock(), "replay_cache": self.cache}
        return ac.NodeSession(self.key, **(defaults | options))

    def events(self) -> list[bytes]:
        """The whole reply: all of CHUNKS, and the end."""
        return [*(self.node.seal_chunk(chunk, usage=USAGE) for chunk in CHUNKS), self.node.finish(usage=USAGE)]

    def twin(self) -> ac.ClientSession:
        """Another client in the same state, before it has received anything: so that a reply is read many times."""
        other = client_of(self.key)
        other.seal_request(body(stream=self.stream), stream=self.stream)
        opener: Any = other._opener
        assert isinstance(opener, V2Opener)
        mine: Any = self.client._opener
        ffi.memmove(opener._native, mine._native, ffi.sizeof("ac_v2_opener"))
        return other


class Reading(NamedTuple):
    """What a client has made of what it received: plaintexts, and how it ended (an error's type, or EndOfStream)."""

    chunks: list[bytes]
    end: type


def read(client: ac.ClientSession, pieces: Iterable[bytes], *, eof: bool = True) -> Reading:
    chunks: list[bytes] = []
    try:
        for piece in pieces:
            client.receive_data(piece)
            for event in client.events():
                chunks += [event.plaintext] if isinstance(event, ac.Chunk) else []
        if eof:
            client.receive_eof()
        return Reading(chunks, type(client.next_event()))
    except ac.RemoteProtocolError as error:
        return Reading(chunks, type(error))


def refusal(node: ac.NodeSession, envelope: bytes) -> type | None:
    """The error that a node raises; None: it has opened the request."""
    try:
        node.open_request(envelope)
    except ac.AtomaCryptoError as error:
        return type(error)
    return None


# ---- ways to spoil --------------------------------------------------------------------------------------------------


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def members(text: bytes) -> dict[str, Any]:
    """Of an envelope, an object or an event."""
    found: dict[str, Any] = json.loads(text.removeprefix(b"data: "))
    return found


def with_members(text: bytes, **changes: Any) -> bytes:
    """The same with other members; `...` leaves one out."""
    found = {name: value for name, value in (members(text) | changes).items() if value is not ...}
    printed = json.dumps(found).encode()
    return b"data: " + printed + b"\n\n" if text.startswith(b"data: ") else printed


def flips(text: bytes, name: str) -> Iterable[bytes]:
    """The same with each bit of a base64 member flipped in turn."""
    raw = base64.b64decode(members(text)[name])
    for bit in range(8 * len(raw)):
        other = bytearray(raw)
        other[bit // 8] ^= 1 << bit % 8
        yield with_members(text, **{name: b64(bytes(other))})
