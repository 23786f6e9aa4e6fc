"""Run by tests/test_faults_memory.py: X-Wing with each allocation failing, and the very objects that held its secrets.

    python faulty_secrets.py RUN OPERATION...        RUN is how many allocations fail in a row

They are kept here from the moment when they are made, no copies of them, and must hold nothing once the call has
returned or raised. It prints of each operation how many points were struck, and which secrets were seen.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found] # CPython's own, without stubs
import gc
import hashlib
import sys
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, Final

import atoma_crypto as ac
from atoma_crypto import _xwing, hazmat
from atoma_crypto._core import Scratch
from helpers import REPLY_BODY, new_client, new_node, node_key

WARM: Final = 30  # as in faulty_memory.py
QUIET: Final = 12
SEED: Final = bytes(range(32))
INFO: Final = b"info"

# What takes no memory to keep.
held: dict[str, Any] = dict.fromkeys(["expanded seed", "ML-KEM's secret", "X-Wing's secret", "scratch"])


def keep(name: str, secret: Any) -> Any:
    """And the places of all small tuples that CPython had at hand are gone: who needs one must ask for memory."""
    held[name] = secret
    gc.collect()
    return secret


class Secret:
    """ML-KEM's secret key."""

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public_key = key.public_key

    def decapsulate(self, ciphertext: bytes) -> Any:
        return keep("ML-KEM's secret", self._key.decapsulate(ciphertext))


class Public:
    def __init__(self, key: Any) -> None:
        self._key = key

    def encapsulate(self) -> Any:
        pair = self._key.encapsulate()
        keep("ML-KEM's secret", pair[0])
        return pair


class Digest:
    def __init__(self, digest: Any, name: str) -> None:
        self._digest, self._name = digest, name
        self.update = digest.update

    def digest(self, *length: int) -> Any:
        return keep(self._name, self._digest.digest(*length))


def watch() -> None:
    mlkem, sha3, shake, init = _xwing._mlkem(), hashlib.sha3_256, hashlib.shake_256, Scratch.__init__
    secret, public = mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey

    def keeping(self: Scratch, cap: int) -> None:
        init(self, cap)
        if cap == 32:
            held["scratch"] = self

    _xwing._loaded = SimpleNamespace(  # type: ignore[assignment] # a module as far as it is used
        MLKEM768PrivateKey=SimpleNamespace(from_seed_bytes=lambda seed: Secret(secret.from_seed_bytes(seed))),
        MLKEM768PublicKey=SimpleNamespace(from_public_bytes=lambda raw: Public(public.from_public_bytes(raw))),
    )
    hashlib.sha3_256 = lambda *data: Digest(sha3(*data), "X-Wing's secret")  # type: ignore[assignment] # as far as it is used
    hashlib.shake_256 = lambda *data: Digest(shake(*data), "expanded seed")  # type: ignore[assignment] # the same
    Scratch.__init__ = keeping  # type: ignore[method-assign] # the same


def seal_request() -> Callable[[], object]:
    client = new_client(protocol="v2", suite="X-Wing")
    return lambda: client.seal_request(REPLY_BODY, stream=False)


def open_request() -> Callable[[], object]:
    raw = new_client(protocol="v2", suite="X-Wing").seal_request(REPLY_BODY, stream=False)
    node = new_node(suite="X-Wing", replay_cache=ac.MemoryReplayCache(fresh_key=True))
    return lambda: node.open_request(raw)


def setup_sender() -> Callable[[], object]:
    public = bytes(node_key("X-Wing").public_key)
    return lambda: hazmat.hpke_setup_sender(public, INFO, suite="X-Wing")


def setup_recipient() -> Callable[[], object]:
    key = node_key("X-Wing")
    enc, _ = hazmat.hpke_setup_sender(bytes(key.public_key), INFO, suite="X-Wing")
    return lambda: hazmat.hpke_setup_recipient(enc, key, INFO, suite="X-Wing")


def from_bytes() -> Callable[[], object]:
    return lambda: ac.SecretKey.from_bytes(SEED, "X-Wing")


OPERATIONS: Final = {
    make.__name__: make for make in (seal_request, open_request, setup_sender, setup_recipient, from_bytes)
}


def left() -> list[str]:
    return [secret for secret, one in held.items() if one and any(bytes(one.view) if isinstance(one, Scratch) else one)]


def main(run: int, names: list[str]) -> None:
    watch()
    gc.freeze()  # collecting is quick then
    for name in names:
        for _ in range(WARM):
            OPERATIONS[name]()()
        points = quiet = 0
        seen: set[str] = set()
        for at in count():
            call = OPERATIONS[name]()
            held.update(dict.fromkeys(held))
            gc.collect()  # each time from the same beginning
            failed = None
            _testcapi.set_nomemory(at, at + run)
            try:
                call()
            except BaseException as exc:  # noqa: BLE001 - `cryptography` raises PanicException
                failed = exc  # with all that its traceback holds
            finally:
                _testcapi.remove_mem_hooks()
            seen.update(secret for secret, one in held.items() if one)
            assert not left(), f"{name}, allocation {at}: {', '.join(left())}, {failed!r}"
            points += failed is not None
            quiet = 0 if failed else quiet + 1
            if quiet == QUIET:
                break
        print(f"{name}: {points}, {', '.join(sorted(seen))}", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
