"""A process whose memory another one searches: it takes part in one exchange, ends it in one of many ways, and waits.

    leaving.py PROTOCOL WAY        PROTOCOL is v1, v2 or xwing; see WAYS

It draws its secrets into bytearrays, straight from the kernel, tells the one who started it what they are, and
overwrites them as soon as the library has them: whatever is found then is the library's, or of what it stands on.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import atoma_crypto as ac
from atoma_crypto._typing import Protocol, Suite
from helpers import REPLY_BODY, STREAM_BODY, tamper

CHUNK: Final = b'{"choices":[]}'


class StopError(Exception):
    """What a caller's own code may raise in the middle of ours."""


def tell(name: str, value: bytes | bytearray) -> None:
    """Its bytes go to the pipe as they are: no copy is made on the way."""
    os.write(1, f"{name} {len(value)}\n".encode())
    done = 0
    with memoryview(value) as view:
        while done < len(view):
            done += os.write(1, view[done:])


def stop(name: str) -> None:
    """Until the other one has looked."""
    gc.collect()
    tell(name, b"")
    assert os.read(0, 1) == b"\n"


def secret(name: str) -> bytearray:
    value = bytearray(32)
    with open("/dev/urandom", "rb", buffering=0) as source:
        assert source.readinto(value) == 32
    tell(name, value)
    return value


def overwrite(value: bytearray) -> None:
    value[:] = bytes(len(value))


class Exchange:
    """Both ends. The request's envelope and all that the node sends are told, so that the other one can derive all."""

    def __init__(
        self, protocol: Protocol, suite: Suite, *, stream: bool = True, node: dict[str, Any] | None = None
    ) -> None:
        raw, seed = secret("node"), secret("seed")
        self.key = ac.SecretKey.from_bytes(raw, suite)
        self.signing = ac.SigningKey.from_bytes(seed)
        overwrite(raw)
        overwrite(seed)
        options = {"signing_key": self.signing} if protocol == "v1" else {}
        self.client = ac.ClientSession(self.key.public_key, model="m", stack_small_id=42, protocol=protocol)
        # a store that was there before: the key's own would refuse what was sent to a key of unknown age
        store = ac.MemoryReplayCache(fresh_key=True)
        self.node = ac.NodeSession(self.key, **({"replay_cache": store} | options | (node or {})))
        self.envelope = self.client.seal_request(STREAM_BODY if stream else REPLY_BODY, stream=stream)
        tell("envelope", self.envelope)

    def open(self) -> Exchange:
        self.node.open_request(self.envelope)
        return self

    def chunk(self) -> bytes:
        event = self.node.seal_chunk(CHUNK)
        tell("event", event)
        return event

    def take(self, raw: bytes) -> None:
        self.client.receive_data(raw)
        for _ in self.client.events():
            pass

    def close_keys(self) -> None:
        self.key.close()
        self.signing.close()

    def close(self) -> None:
        self.client.close()
        self.node.close()
        self.close_keys()


Way = Callable[[Protocol, Suite], object]


def expect(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(error)


def closed(protocol: Protocol, suite: Suite) -> None:
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk())
    exchange.take(exchange.chunk())
    exchange.close()


def ended(protocol: Protocol, suite: Suite) -> None:
    """Nobody closes a session: its end wipes it."""
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk() + exchange.node.finish())
    exchange.client.receive_eof()
    assert isinstance(exchange.client.next_event(), ac.EndOfStream)
    exchange.close_keys()
    KEPT.append(exchange)


def replied(protocol: Protocol, suite: Suite) -> None:
    exchange = Exchange(protocol, suite, stream=False).open()
    raw = exchange.node.seal_response(CHUNK)
    tell("event", raw)
    exchange.client.open_response(raw)
    exchange.close_keys()
    KEPT.append(exchange)


def forged(protocol: Protocol, suite: Suite) -> None:
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk())
    event = exchange.chunk()
    at = event.index(b'"ciphertext":"') + len(b'"ciphertext":"') + 4
    other = b"A" if event[at : at + 1] != b"A" else b"B"
    expect(ac.AuthenticationError, lambda: exchange.take(event[:at] + other + event[at + 1 :]))
    exchange.node.close()
    exchange.close_keys()
    KEPT.append(exchange)  # the client has failed, and that was its end


def aborted(protocol: Protocol, suite: Suite) -> None:
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk())
    if protocol == "v1":  # which cannot say it
        expect(ac.LocalProtocolError, lambda: exchange.node.abort("X", "", 500))
        exchange.close()
        return
    raw = exchange.node.abort("X", "", 500)
    expect(ac.RemoteAbortError, lambda: exchange.take(raw))
    exchange.close_keys()
    KEPT.append(exchange)


def interrupted(protocol: Protocol, suite: Suite) -> None:
    """The caller's own code raises inside of ours: a clock, a store, a usage, a list."""

    class Store:
        def admit(self, _id: bytes, _expires_at: float) -> bool:
            raise StopError

        def close(self) -> None:
            pass

    if protocol == "v2":
        expect(StopError, Exchange(protocol, suite, node={"replay_cache": Store()}).open)
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk())

    class Texts(list[bytes]):
        def __iter__(self) -> Any:
            raise StopError

    expect(StopError, lambda: exchange.node.seal_chunks(Texts([CHUNK])))
    exchange.client.close()
    exchange.close_keys()
    KEPT.append(exchange)


def dropped(protocol: Protocol, suite: Suite) -> None:
    """Nobody closes anything."""
    exchange = Exchange(protocol, suite).open()
    exchange.take(exchange.chunk())


def refused(protocol: Protocol, suite: Suite) -> None:
    """The node's session fails with the request: forged, to another key, replayed; the client's with its arguments."""
    exchange = Exchange(protocol, suite)
    bad = exchange.envelope.index(b'"ciphertext":"') + 30
    flipped = tamper(exchange.envelope, 8 * bad)
    expect(ac.RemoteProtocolError, lambda: exchange.node.open_request(flipped))
    other = ac.SecretKey.generate(suite)
    node = ac.NodeSession(other, replay_cache=ac.MemoryReplayCache(fresh_key=True))
    expect(ac.RemoteProtocolError, lambda: node.open_request(exchange.envelope))
    if protocol == "v2":
        store = ac.MemoryReplayCache(fresh_key=True)
        first, second = (ac.NodeSession(exchange.key, replay_cache=store) for _ in range(2))
        first.open_request(exchange.envelope)
        expect(ac.ReplayedError, lambda: second.open_request(exchange.envelope))
        first.close()
        KEPT.append(second)
    expect(ac.FramingError, lambda: exchange.take(b"data: {}\n\n"))
    long = secret("other")
    expect(ac.InvalidKeyError, lambda: ac.SecretKey.from_bytes(long + b"x", suite))
    overwrite(long)
    other.close()
    exchange.close_keys()
    KEPT.append((exchange, node))


def rotated(protocol: Protocol, suite: Suite) -> None:
    """A key of ours in a keyring that has rotated, past its grace; v2's are made there, and never seen."""
    now = [0.0]
    raw = secret("node")
    key = ac.SecretKey.from_bytes(raw)
    overwrite(raw)
    keyring = ac.NodeKeyring.from_key(key, suites=(suite,), grace=10, clock=lambda: now[0])
    client = ac.ClientSession(keyring.public_key, model="m", stack_small_id=42, protocol="v1")
    node = ac.NodeSession(keyring)
    envelope = client.seal_request(STREAM_BODY, stream=True)
    tell("envelope", envelope)
    node.open_request(envelope)
    node.close()
    client.close()
    keyring.rotate()
    now[0] = 11.0
    assert keyring.public_key
    KEPT.append(keyring)  # which is in use
    assert protocol in ("v1", "v2")


def live(protocol: Protocol, suite: Suite) -> None:
    """The control: all of it is in use."""
    exchange = Exchange(protocol, suite)
    KEPT.append(exchange)


def copied(protocol: Protocol, suite: Suite) -> None:
    """The control: one copy was made and let go."""
    raw = secret("node")
    KEPT.append(bytes(raw[3:27]))
    KEPT.pop()
    overwrite(raw)
    assert protocol
    assert suite


KEPT: Final[list[object]] = []
WAYS: Final[dict[str, Way]] = {
    way.__name__: way
    for way in (closed, ended, replied, forged, aborted, interrupted, dropped, refused, rotated, live, copied)
}


def main(protocol: str, ways: list[str]) -> None:
    suite: Suite = "X-Wing" if protocol == "xwing" else "X25519"
    for name in ways:
        WAYS[name]("v1" if protocol == "v1" else "v2", suite)
        stop(name)
        KEPT.clear()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
