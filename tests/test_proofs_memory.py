"""No secret is left in the memory of a process that has used the library: another process searches all of it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import reference_v2
from leaving import WAYS
from oracle import derive_key
from reference_hpke import Context, decapsulate, dhkem, public_of, x25519, xwing_parts

HERE: Final = Path(__file__).parent
RUN: Final = 8

if not Path("/proc/self/mem").exists():
    pytest.skip("another process's memory is read through /proc", allow_module_level=True)


# ---- what there is to find ------------------------------------------------------------------------------------------


def _sbox() -> list[int]:
    """FIPS 197, section 5.1.1: the inverse in GF(2^8), then an affine map."""
    powers, logs, value = [], {}, 1
    for exponent in range(255):
        powers.append(value)
        logs[value] = exponent
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
    box = []
    for byte in range(256):
        inverse = powers[-logs[byte] % 255] if byte else 0
        box.append(0x63)
        for turn in range(5):
            box[-1] ^= (inverse << turn | inverse >> 8 - turn) & 0xFF
    return box


SBOX: Final = _sbox()


def round_keys(key: bytes) -> bytes:
    """AES-256's (FIPS 197, section 5.2)."""
    words = [key[i : i + 4] for i in range(0, 32, 4)]
    rcon = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ rcon]) + word[1:]
            rcon <<= 1
        elif i % 8 == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word, strict=True)))
    return b"".join(words)


def h_of(key: bytes) -> bytes:
    """GHASH's H: the zero block, encrypted."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))  # noqa: S305 - one block is what H is


def aes_secrets(name: str, key: bytes) -> dict[str, bytes]:
    h = h_of(key)
    return {f"{name}, expanded": round_keys(key), f"H of {name}": h, f"H of {name}, reversed": h[::-1]}


def unb64(text: str) -> bytes:
    return base64.b64decode(text)


def derived_v1(node: bytes, envelope: dict[str, str]) -> dict[str, bytes]:
    peer, salt = unb64(envelope["client_dh_public_key"]), unb64(envelope["salt"])
    key = derive_key(x25519(node, peer), salt)
    return {"the shared secret": x25519(node, peer), **aes_secrets("v1's key", key)}


def derived_v2(suite: str, node: bytes, envelope: dict[str, str], event: bytes | None) -> dict[str, bytes]:
    """`event` is the first of the answer: it shows the salt."""
    enc = unb64(envelope["enc"])
    shared = decapsulate(suite, node, enc)
    context = Context(suite, shared, reference_v2.info_of(unb64(envelope["key_id"])))
    exported = context.export(b"atoma/2 response", 32)
    found = {"the KEM's secret": shared, "HPKE's exporter secret": context._exporter, "the response's secret": exported}
    found |= aes_secrets("the request's key", context._key)
    if suite == "X-Wing":
        mlkem, x_half = xwing_parts(node)
        expanded = hashlib.shake_256(node).digest(96)
        found |= {
            "X-Wing's expanded seed": expanded,
            "ML-KEM's shared secret": mlkem.decapsulate(enc[:1088]),
            "X-Wing's X25519": x25519(x_half, enc[1088:]),
        }
    else:
        found |= {
            "X25519's result": x25519(node, enc),
            "DHKEM's secret": dhkem(x25519(node, enc), enc, public_of(suite, node)),
        }
    if event is not None:
        keys = reference_v2.reply_keys(exported, enc, reference_v2.read_salt(event.removeprefix(b"data: ").strip()))
        found |= {"the response's PRK": keys.prk, **aes_secrets("the response's key", keys.key)}
    return found


class Child:
    """leaving.py, and what it has told."""

    def __init__(self, protocol: str, ways: list[str]) -> None:
        self.protocol = protocol
        command = [sys.executable, str(HERE / "leaving.py"), protocol, *ways]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.nodes: list[bytes] = []
        self.secrets: dict[str, list[bytes]] = {}

    def _take(self, name: str, value: bytes) -> None:
        self.secrets.setdefault(name, []).append(value)

    def until(self, stop: str) -> None:
        """All that it tells before it stops; what follows of that is among the secrets."""
        pending: list[tuple[bytes, dict[str, str], bytes | None]] = []
        node = b""
        while True:
            header = self.stdout.readline()
            assert header, "it has ended"
            name, _, length = header.decode().partition(" ")
            value = self.stdout.read(int(length))
            if name == stop:
                break
            if name == "envelope":
                pending.append((node, json.loads(value), None))
            elif name == "event":
                pending[-1] = (*pending[-1][:2], pending[-1][2] or value)
            else:
                node = value if name == "node" else node
                self._take(name, value)
        for key, members, event in pending:
            if "enc" in members:
                suite = "X-Wing" if self.protocol == "xwing" else "X25519"
                found = derived_v2(suite, key, members, event)
            else:
                found = derived_v1(key, members)
            for name, value in found.items():
                self._take(name, value)

    def memory(self) -> Iterator[memoryview]:
        """What it can write to, 8 bytes at a time."""
        with open(f"/proc/{self.process.pid}/maps") as maps, open(f"/proc/{self.process.pid}/mem", "rb", 0) as memory:
            for line in maps:
                place, mode, *rest = line.split()
                begin, end = (int(number, 16) for number in place.split("-"))
                if mode.startswith("rw") and not (rest and rest[-1].startswith("[v")):
                    memory.seek(begin)
                    yield memoryview(memory.read(end - begin)).cast("Q")

    def left(self) -> set[str]:
        """The names of the secrets of which 15 bytes in a row, or any 8 that are aligned, are found."""
        runs = {
            int.from_bytes(value[i : i + RUN], sys.byteorder): name
            for name, values in self.secrets.items()
            for value in values
            for i in range(len(value) - RUN + 1)
            if len(set(value[i : i + RUN])) > RUN // 2
        }
        found = set()
        for part in self.memory():
            if not runs.keys().isdisjoint(part):
                found |= {runs[word] for word in runs.keys() & set(part)}
        return found

    def go_on(self) -> None:
        self.stdin.write(b"\n")
        self.stdin.flush()

    def close(self) -> None:
        """Its exit says whether all went as it should."""
        self.stdin.close()
        self.stdout.close()
        assert self.process.wait() == 0


def left_after(protocol: str, *ways: str) -> dict[str, set[str]]:
    """In one process, one after the other: what each has left, of all that was before it."""
    child = Child(protocol, list(ways))
    left = {}
    try:
        for way in ways:
            child.until(way)
            left[way] = child.left()
            child.go_on()
        child.close()
    finally:
        child.process.kill()
        child.process.wait()
    return left


def test_the_round_keys() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")  # FIPS 197, appendix A.3
    assert round_keys(key).endswith(bytes.fromhex("fe4890d1e6188d0b046df344706c631e"))
    assert h_of(bytes(32)).hex() == "dc95c078a2408989ad48a21492842087"  # McGrew and Viega, test case 13


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_what_is_in_use_or_was_copied_is_found(protocol: str) -> None:
    left = left_after(protocol, "copied", "live")
    assert left["copied"] == {"node"}
    assert left["live"] >= {"node"}
    assert ("the response's secret" in left["live"]) is (protocol == "v2")  # the client waits with it for the salt


# What `cryptography` does not wipe (see _xwing.py): it is half of what X-Wing's secret is made of.
KNOWN: Final = {"v1": set[str](), "v2": set[str](), "xwing": {"ML-KEM's shared secret"}}
ENDS: Final = [name for name in WAYS if name not in ("live", "copied")]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_nothing_is_left(protocol: str) -> None:
    left = left_after(protocol, "closed", "interrupted", "refused", "dropped")
    assert left == dict.fromkeys(left, KNOWN[protocol])


@pytest.mark.long
@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("protocol", KNOWN)
def test_nothing_is_left_by_any_end(protocol: str, way: str) -> None:
    """Each in a process of its own, where nothing that comes later writes over what was left."""
    if protocol == "xwing" and way == "rotated":
        pytest.skip("v1's keys alone can be known before they are made")
    assert left_after(protocol, way)[way] <= KNOWN[protocol]
