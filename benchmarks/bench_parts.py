"""What the whole is made of: the native calls behind a session, so that one sees where the time goes."""

from typing import Any

import atoma_crypto as ac
from atoma_crypto._core import ffi, lib
from conftest import Run

Pair = tuple[ac.ClientSession, ac.NodeSession]
TEXT = bytes(32 + i % 90 for i in range(300))
SECRET, SALT, NONCE = bytes(range(32)), bytes(range(16)), bytes(12)
PUBLIC = bytes(ac.SecretKey.from_bytes(bytes(range(1, 33))).public_key)
MANY = 640


def good(status: int) -> None:
    assert status == lib.AC_OK


def test_nothing(run: Run) -> None:
    assert lib.ac_base64_decoded_max(4) == 3
    run("part: a call of C that does nothing", "atoma-crypto", lambda: lib.ac_base64_decoded_max(4))


def test_blake2b(run: Run) -> None:
    out = ffi.new("uint8_t[32]")
    good(lib.ac_blake2b256(out, TEXT, len(TEXT)))
    run("part: BLAKE2b-256 of 300 bytes", "libsodium", lambda: lib.ac_blake2b256(out, TEXT, len(TEXT)))


def test_aes(run: Run) -> None:
    aes, out = ffi.new("ac_aes256gcm *"), ffi.new("uint8_t[316]")
    good(lib.ac_aes256gcm_init(aes, SECRET, lib.ac_aes_backend_default()))

    def seal() -> int:
        return int(lib.ac_aes256gcm_seal(aes, out, 316, NONCE, TEXT, 300, b"", 0))

    good(seal())
    run("part: AES-256-GCM of 300 bytes", "atoma-crypto", seal)


def test_seal(run: Run, pair: Pair) -> None:
    _, node = pair
    node.seal_chunk(TEXT)  # makes the place that the event is written to
    native, ptr, cap, *_ = node._sealer._places[0]
    event_seal = lib.ac_v1_event_seal
    assert event_seal(native, ptr, cap, TEXT, 300) > 300
    run("part: the native call of seal 300", "atoma-crypto", lambda: event_seal(native, ptr, cap, TEXT, 300))


def test_open(run: Run, pair: Pair) -> None:
    client, node = pair
    client.receive_data(node.seal_chunk(TEXT))
    client.next_event()
    native, *_ = client._opener._idle[0]
    events_open = lib.ac_v1_events_open

    def open_each(events: list[bytes]) -> None:
        for event in events:
            status: Any = events_open(native, event, len(event))
            assert status == lib.AC_ONE + 300

    fresh = lambda: [node.seal_chunk(TEXT) for _ in range(MANY)]  # noqa: E731 - shorter so
    run("part: the native call of open 300", "atoma-crypto", open_each, per=MANY, fresh=fresh)


def test_public_key(run: Run) -> None:
    out = ffi.new("uint8_t[32]")
    good(lib.ac_x25519_public(out, SECRET))
    run("part: X25519 public key", "libsodium", lambda: lib.ac_x25519_public(out, SECRET))


def test_exchange(run: Run) -> None:
    out = ffi.new("uint8_t[32]")
    good(lib.ac_x25519(out, SECRET, PUBLIC))
    run("part: X25519", "libsodium", lambda: lib.ac_x25519(out, SECRET, PUBLIC))


def test_hkdf(run: Run) -> None:
    out = ffi.new("uint8_t[32]")

    def derive() -> int:
        return int(lib.ac_hkdf_sha256(out, 32, SECRET, 32, SALT, 16, ffi.NULL, 0))

    good(derive())
    run("part: HKDF-SHA256", "atoma-crypto", derive)
