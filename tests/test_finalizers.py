"""A finalizer that runs behind the library's own, in a cycle that is collected, finds objects wiped, and not freed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._core import Scratch, ffi
from helpers import STREAM_BODY, SessionPair, native

FILLING: Final = 0xAA
KEY: Final = ac.SecretKey.generate()

Use = Callable[[], object]


def of_session(protocol: Any) -> tuple[Any, Use]:
    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.seal_chunk(b"x"))
    node = pair.node
    return native(node), lambda: node.seal_chunk(b"late")


def of_client(protocol: Any) -> tuple[Any, Use]:
    pair = SessionPair(protocol=protocol)
    client, event = pair.client, pair.node.seal_chunk(b"x")
    client.receive_data(event[:9])

    def read() -> object:
        client.receive_data(event[9:])
        return client.next_event()

    return native(client), read


def of_idle_client(protocol: Any) -> tuple[Any, Use]:
    client = ac.ClientSession(KEY.public_key, model="m", stack_small_id=42, protocol=protocol)
    return native(client), lambda: client.seal_request(STREAM_BODY, stream=True)


def of_idle_node(protocol: Any) -> tuple[Any, Use]:
    client = ac.ClientSession(KEY.public_key, model="m", stack_small_id=42, protocol=protocol)
    raw = client.seal_request(STREAM_BODY, stream=True)
    node = ac.NodeSession(KEY, protocols=(protocol,))
    return native(node), lambda: node.open_request(raw)


def of_key() -> tuple[Any, Use]:
    key = ac.SecretKey.generate()
    enc, _ = hazmat.hpke_setup_sender(bytes(key.public_key), b"")
    return key.native, lambda: hazmat.hpke_setup_recipient(enc, key, b"")


def of_signing_key() -> tuple[Any, Use]:
    key = ac.SigningKey.generate()
    return key.native, lambda: key.public_key


def of_xwing_key() -> tuple[Any, Use]:
    key = ac.SecretKey.generate("X-Wing")
    enc, _ = hazmat.hpke_setup_sender(bytes(key.public_key), b"", suite="X-Wing")
    return key.native._x25519, lambda: hazmat.hpke_setup_recipient(enc, key, b"", suite="X-Wing")


def of_public_key() -> tuple[Any, Use]:
    key = ac.SecretKey.generate()
    return key.native, lambda: key.public_key


def of_aes() -> tuple[Any, Use]:
    key = hazmat.AES256GCM(bytes(32))
    return key._key, lambda: key.seal(bytes(12), b"late")


def of_hpke() -> tuple[Any, Use]:
    _, context = hazmat.hpke_setup_sender(bytes(ac.SecretKey.generate().public_key), b"")
    return context._native, lambda: context.seal(b"late")


def of_sealer() -> tuple[Any, Use]:
    sealer = ac.Sealer(bytes(32), bytes(32))
    return sealer._native, lambda: sealer.seal(b"late")


def of_opener() -> tuple[Any, Use]:
    opener = ac.Opener(bytes(32), bytes(32), bytes(32))
    return opener._native, lambda: opener.open(bytes(17))


def of_scratch() -> tuple[Any, Use]:
    scratch = Scratch(600)
    scratch.view[:] = b"x" * 600
    return ffi.cast("uint8_t(*)[600]", scratch.ptr), scratch.wipe


MADE: Final[dict[str, Callable[[], tuple[Any, Use]]]] = {
    "v1 node": lambda: of_session("v1"),
    "v2 node": lambda: of_session("v2"),
    "v1 client": lambda: of_client("v1"),
    "v2 client": lambda: of_client("v2"),
    "idle v1 node": lambda: of_idle_node("v1"),
    "idle v2 node": lambda: of_idle_node("v2"),
    "idle v1 client": lambda: of_idle_client("v1"),
    "idle v2 client": lambda: of_idle_client("v2"),
    "SecretKey": of_key,
    "SecretKey's public key": of_public_key,
    "SigningKey": of_signing_key,
    "X-Wing": of_xwing_key,
    "AES256GCM": of_aes,
    "HPKEContext": of_hpke,
    "Sealer": of_sealer,
    "Opener": of_opener,
    "Scratch": of_scratch,
}


class Late:
    """Uses what it was given when all of it is let go; made behind it, so that its turn comes behind it."""

    def __init__(self, made: tuple[Any, Use], seen: list[object]) -> None:
        self.object, self.use = made
        self.seen = seen
        self.itself = self

    def __del__(self) -> None:
        size = ffi.sizeof(ffi.typeof(self.object).item)
        # what has been freed is handed out again, and filled
        filling = [ffi.new("uint8_t[]", bytes([FILLING]) * (size + more)) for more in range(16) for _ in range(20)]
        self.seen.append(bytes(ffi.buffer(ffi.cast(f"uint8_t(*)[{size}]", self.object))))
        del filling
        try:
            self.use()
        except ac.AtomaCryptoError as error:
            self.seen.append(error)


@pytest.mark.parametrize("kind", MADE)
def test_what_is_used_by_a_late_finalizer_is_wiped_and_not_freed(kind: str) -> None:
    gc.collect()
    seen: list[Any] = []
    Late(MADE[kind](), seen)
    gc.collect()
    assert bytes([FILLING]) * 8 not in seen[0]
    if kind == "Scratch":
        assert not any(seen[0])
    else:
        assert isinstance(seen[1], ac.LocalProtocolError)
