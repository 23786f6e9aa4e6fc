"""X-Wing: the draft's vectors, a second implementation both ways, what is refused, and what is left in memory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import cryptography_vectors
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem

import atoma_crypto as ac
import reference_hpke
from atoma_crypto import _xwing
from atoma_crypto._core import ffi, lib
from helpers import decapsulated, encapsulated, tamper
from test_keys import LOW_ORDER
from test_secrets import chain

HERE: Final = Path(__file__).parent
VECTORS: Final = json.loads((HERE / "vectors" / "xwing.json").read_text())["vectors"]
HPKE: Final = Path(cryptography_vectors.__file__).parent / "HPKE" / "hpke-pq-test-vectors.json"
SEED: Final = bytes(range(32))
P: Final = 2**255 - 19


def key_of(seed: bytes = SEED) -> ac.SecretKey:
    return ac.SecretKey.from_bytes(seed, "X-Wing")


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_the_drafts_vectors(vector: dict[str, str]) -> None:
    with key_of(bytes.fromhex(vector["seed"])) as key:
        assert bytes(key.public_key).hex() == vector["pk"]
        assert decapsulated(key, bytes.fromhex(vector["ct"])).hex() == vector["ss"]


def test_hpkes_vectors() -> None:
    found = [vector for vector in json.loads(HPKE.read_text()) if vector["kem_id"] == 0x647A]
    assert found
    for vector in found:
        key = key_of(bytes.fromhex(vector["skRm"]))
        assert bytes(key.public_key).hex() == vector["pkRm"]
        assert decapsulated(key, bytes.fromhex(vector["enc"])).hex() == vector["shared_secret"]


def test_a_second_implementation_both_ways() -> None:
    for number in range(50):
        seed = hashlib.sha256(bytes([number])).digest()
        key = key_of(seed)
        public = reference_hpke.public_of("X-Wing", seed)
        assert bytes(key.public_key) == public
        shared, enc = encapsulated(public)
        assert len(enc) == 1120
        assert reference_hpke.decapsulate("X-Wing", seed, enc) == shared == decapsulated(key, enc)
        shared, enc = reference_hpke.encapsulate("X-Wing", public, seed)
        assert decapsulated(key, enc) == shared


def test_new_keys_and_secrets_differ() -> None:
    keys = [ac.SecretKey.generate("X-Wing") for _ in range(10)]
    assert len({bytes(key.public_key) for key in keys}) == 10
    found = [encapsulated(bytes(keys[0].public_key)) for _ in range(10)]
    assert len({shared for shared, _ in found}) == len({enc for _, enc in found}) == 10
    for shared, enc in found:
        assert decapsulated(keys[0], enc) == shared
        assert decapsulated(keys[1], enc) != shared


# ---- public keys ----------------------------------------------------------------------------------------------------


def test_a_public_key() -> None:
    key = key_of().public_key
    assert (key.suite, len(bytes(key)), len(key.to_base64())) == ("X-Wing", 1216, 1624)
    assert key.fingerprint() == hashlib.sha256(b"\x02" + bytes(key)).hexdigest()
    assert key.key_id == bytes.fromhex(key.fingerprint())[:8]
    assert key == ac.PublicKey.from_base64(key.to_base64(), "X-Wing")
    assert ac.PublicKey.from_bytes(bytes(key)[-32:]).key_id != key.key_id


@pytest.mark.parametrize("size", [0, 32, 1184, 1215, 1217, 1216 * 2])
def test_keys_of_other_sizes(size: int) -> None:
    with pytest.raises(ac.InvalidKeyError, match=f"must be 1216 bytes, not {size}"):
        ac.PublicKey.from_bytes(bytes(size), "X-Wing")
    with pytest.raises(ac.InvalidKeyError, match=f"must be 1216 bytes, not {size}"):
        encapsulated(bytes(size))
    with pytest.raises(ac.InvalidKeyError, match="must be 32 bytes"):
        key_of(bytes(size + 1))
    with pytest.raises(ValueError, match=f"enc must be 1120 bytes, not {size}"):
        decapsulated(key_of(), bytes(size))


@pytest.mark.parametrize("at", [0, 1, 767])
def test_a_coefficient_that_is_not_reduced(at: int) -> None:
    raw = bytearray(bytes(key_of().public_key))
    for value, good in ((3328, True), (3329, False), (4095, False)):  # q is 3329
        packed = int.from_bytes(raw[at // 2 * 3 : at // 2 * 3 + 3], "little")
        shift = 12 * (at % 2)
        packed = packed & ~(0xFFF << shift) | value << shift
        raw[at // 2 * 3 : at // 2 * 3 + 3] = packed.to_bytes(3, "little")
        if good:
            assert bytes(ac.PublicKey.from_bytes(raw, "X-Wing")) == raw
            continue
        for use in (lambda: ac.PublicKey.from_bytes(raw, "X-Wing"), lambda: encapsulated(bytes(raw))):
            with pytest.raises(ac.InvalidKeyError, match="not one of ML-KEM-768") as caught:
                use()
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__


# ---- encapsulated keys ----------------------------------------------------------------------------------------------


def test_another_ciphertext_gives_another_secret_and_no_error() -> None:
    key = key_of()
    shared, enc = encapsulated(bytes(key.public_key))
    found = {shared}
    for bit in [*range(0, 8 * 1088, 97), 8 * 1088 - 1]:
        found.add(decapsulated(key, tamper(enc, bit)))
    assert len(found) == 2 + len(range(0, 8 * 1088, 97))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_an_all_zero_result_of_x25519_is_refused_at_both_ends(point: bytes) -> None:
    key = key_of()
    public = bytes(key.public_key)[:-32] + point
    with pytest.raises(ac.InvalidKeyError, match="all-zero shared secret"):
        encapsulated(public)
    _, enc = encapsulated(bytes(key.public_key))
    for end in (point, point[:31] + bytes([point[31] | 0x80])):
        with pytest.raises(ac.AuthenticationError) as caught:
            decapsulated(key, enc[:-32] + end)
        assert len(list(chain(caught.value))) == 1


def test_each_half_alone_goes_into_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shared secret is changed by one bit, each in turn, and nothing else is: neither what was sent nor a key."""
    key = key_of()
    ml_kem, sk_x = reference_hpke.xwing_parts(SEED)
    shared, enc = encapsulated(bytes(key.public_key))
    ss_m, ss_x = ml_kem.decapsulate(enc[:1088]), reference_hpke.x25519(sk_x, enc[1088:])
    public = enc[1088:], bytes(key.public_key)[-32:]
    assert decapsulated(key, enc) == reference_hpke.xwing_combine(ss_m, ss_x, *public) == shared
    found = {shared}
    for bit in range(256):
        other = tamper(ss_m, bit)
        with monkeypatch.context() as patch:
            patch.setattr(key.native, "_mlkem", SimpleNamespace(decapsulate=lambda _, bit=bit: tamper(ss_m, bit)))
            found.add(decapsulated(key, enc))
        assert reference_hpke.xwing_combine(other, ss_x, *public) in found
    for bit in range(256):
        other = tamper(ss_x, bit)

        def x25519(at: Any, _secret: object, _public: object, other: bytes = other) -> int:
            ffi.memmove(at, other, 32)
            return 0

        with monkeypatch.context() as patch:
            patch.setattr(_xwing, "lib", SimpleNamespace(ac_x25519=x25519, AC_ERR_KEY=lib.AC_ERR_KEY))
            found.add(decapsulated(key, enc))
        assert reference_hpke.xwing_combine(ss_m, other, *public) in found
    assert len(found) == 1 + 2 * 256


def test_what_x25519_takes_for_the_same_is_not_the_same() -> None:
    """Bit 255 and u + p: the bytes as received are in the combiner."""
    key = key_of()
    _, enc = encapsulated(bytes(key.public_key))
    for same in (
        [enc[-32:], enc[-32:-1] + bytes([enc[-1] | 0x80])],
        [number.to_bytes(32, "little") for number in (9, 9 + P, 9 + 2**255)],
    ):
        assert len({decapsulated(key, enc[:-32] + each) for each in same}) == len(same)


# ---- keys of two suites ---------------------------------------------------------------------------------------------


def test_keys_of_one_suite_do_not_serve_the_other() -> None:
    xwing, x25519 = key_of(), ac.SecretKey.from_bytes(SEED)
    assert (xwing.suite, x25519.suite) == ("X-Wing", "X25519")
    assert bytes(xwing.public_key)[-32:] != bytes(x25519.public_key)
    with pytest.raises(ValueError, match="keys of suite X25519"):
        decapsulated(x25519, bytes(1120))
    with pytest.raises(ac.AuthenticationError):
        xwing.native_for(xwing.public_key.to_base64().encode())
    xwing.close()
    uses: list[Callable[[], object]] = [lambda: decapsulated(xwing, bytes(1120)), lambda: xwing.native_for(b"")]
    for use in uses:
        with pytest.raises(ac.SessionClosedError):
            use()


# ---- without its library --------------------------------------------------------------------------------------------

MISSING: Final = """
import sys
sys.modules["cryptography"] = None
import atoma_crypto as ac
from atoma_crypto._xwing import encapsulate
ac.SecretKey.generate()
uses = [lambda: ac.SecretKey.generate("X-Wing"), lambda: ac.SecretKey.from_bytes(bytes(32), "X-Wing"),
        lambda: ac.PublicKey.from_bytes(bytes(1216), "X-Wing"), lambda: encapsulate(bytes(1216), None),
        lambda: ac.NodeKeyring(suites=("X-Wing",))]
for use in uses:
    try:
        use()
    except ImportError as error:
        assert "atoma-crypto[pq]" in str(error) and error.__cause__ is None and error.__suppress_context__
    else:
        sys.exit("used without its library")
print("done")
"""


def test_the_extra_is_named_when_it_is_missing() -> None:
    ran = subprocess.run([sys.executable, "-W", "error", "-c", MISSING], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


def test_an_openssl_that_has_no_ml_kem(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: object) -> Any:
        raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(_xwing, "_loaded", None)
    monkeypatch.setattr(mlkem.MLKEM768PrivateKey, "from_seed_bytes", unsupported)
    with pytest.raises(ImportError, match=r"cryptography` 48 or later: pip install 'atoma-crypto\[pq\]'"):
        ac.SecretKey.generate("X-Wing")


# ---- secrets --------------------------------------------------------------------------------------------------------

# Looks for what it must not find in its own memory. What it looks for it has only under a mask, and so has the command.
SCAN: Final = """
import gc, sys
import atoma_crypto as ac
from atoma_crypto import _core, _xwing

MASK = bytes(byte ^ 0xA5 for byte in range(256))

def unmasked(text):
    raw = bytearray(bytes.fromhex(text))
    for at in range(len(raw)):
        raw[at] ^= 0xA5
    return raw

def found(patterns):
    places = []
    block, masked = bytearray(1 << 16), bytearray(1 << 16)
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            where, access, *_ = line.split()
            if not access.startswith("rw") or "[v" in line:
                continue
            first, last = (int(end, 16) for end in where.split("-"))
            for at in range(first, last, len(block) - 64):
                memory.seek(at)
                size = memory.readinto(memoryview(block)[: last - at])
                masked[:] = block.translate(MASK)
                block[:] = bytes(len(block))  # what was read is found nowhere else
                places += [n for n, pattern in enumerate(patterns) if masked.find(bytes.fromhex(pattern), 0, size) >= 0]
    return sorted(set(places))

seed, enc, *patterns = sys.argv[1:]
raw = unmasked(seed)
key = ac.SecretKey.from_bytes(raw, "X-Wing")
raw[:] = bytes(32)
shared = _core.Scratch(_xwing.SHARED_BYTES)
key.decapsulate(bytes.fromhex(enc), shared)
assert len(found(patterns)) >= 3
shared.wipe()
chosen = key.select(key.public_key.key_id)
key.close()
del key, chosen, shared
gc.collect()
print(found([seed, *patterns]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads its own memory as Linux shows it")
def test_nothing_of_a_key_is_left_in_memory() -> None:
    seed = hashlib.sha256(b"of an odd look").digest()
    expanded = hashlib.shake_256(seed).digest(96)
    shared, enc = encapsulated(bytes(key_of(seed).public_key))
    ss_m = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(enc[:1088])
    ss_x = reference_hpke.x25519(expanded[64:], enc[1088:])
    secrets = (seed, expanded[:32], expanded[32:64], expanded[64:], shared, ss_m, ss_x)
    masked = [bytes(byte ^ 0xA5 for byte in secret).hex() for secret in secrets]
    command = [sys.executable, "-c", SCAN, masked[0], enc.hex(), *masked[1:]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n", "")


def test_what_passes_through_pythons_memory_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Python does with the memory next: the expanded seed, and at each end ML-KEM's secret and X-Wing's."""
    wiped: list[tuple[bytes, bytes]] = []  # what it was, and itself
    wipe = _xwing._wipe

    def watched(secret: bytes, length: int) -> None:
        assert length == len(secret)
        wiped.append((bytes(bytearray(secret)), secret))
        wipe(secret, length)

    monkeypatch.setattr(_xwing, "_wipe", watched)
    seed = hashlib.sha256(b"of another look").digest()
    key = ac.SecretKey.from_bytes(seed, "X-Wing")
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=None, protocol="v2")
    raw = client.seal_request(b"{}", stream=False)
    ac.NodeSession(key, replay_cache=ac.MemoryReplayCache(fresh_key=True)).open_request(raw)
    expanded, *client_and_node = [before for before, _ in wiped]
    assert expanded == hashlib.shake_256(seed).digest(96)
    assert client_and_node[:2] == client_and_node[2:]
    assert len({*client_and_node}) == 2
    assert all(len(secret) == 32 and any(secret) for secret in client_and_node)
    assert not any(any(secret) for _, secret in wiped)
