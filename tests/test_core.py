"""The border to C: loading, status and exception, buffers, lifetime."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core, _sealer, hazmat
from atoma_crypto._core import Aes256Gcm, Scratch, ffi, lib

SODIUM: Final[Any] = vars(_core)["_sodium_lib"]
SODIUM_FFI: Final[Any] = vars(_core)["_sodium_ffi"]
HEADER: Final = (Path(__file__).parent.parent / "csrc" / "atoma_crypto.h").read_text(encoding="utf-8")


# ---- loading ----------------------------------------------------------------------------------------------------


class Spoiled:
    """PyNaCl's ffi, with one function missing or another in its place."""

    def __init__(self, name: str, function: Any) -> None:
        self._name = name
        self._function = function

    def addressof(self, sodium: Any, name: str) -> Any:
        if name != self._name:
            return SODIUM_FFI.addressof(sodium, name)
        if self._function is None:
            raise AttributeError(name)
        return self._function

    def cast(self, ctype: str, function: Any) -> Any:
        return (ffi if function is self._function else SODIUM_FFI).cast(ctype, function)


@contextmanager
def loaded_again() -> Iterator[None]:
    """Whatever happens inside, the core stands on the true table afterwards."""
    before = hazmat.aes_backend()
    try:
        yield
    finally:
        _core._load(SODIUM, SODIUM_FFI, before)
    assert hazmat.aes_backend() == before
    assert hazmat.blake2b256(b"").hex().startswith("0e5751c0")


@pytest.mark.parametrize("name", _core._TABLE.values())
def test_a_libsodium_without_a_name(name: str) -> None:
    with loaded_again(), pytest.raises(ImportError, match=f"does not offer libsodium's {name}$") as caught:
        _core._load(SODIUM, Spoiled(name, None), None)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", _core._TABLE.values())
def test_a_libsodium_with_an_empty_place(name: str) -> None:
    with loaded_again(), pytest.raises(ImportError, match="cannot be used here"):
        _core._load(SODIUM, Spoiled(name, ffi.NULL), None)


@pytest.mark.parametrize(
    ("member", "answer", "blamed"),
    [
        ("hash_sha256", 0, "SHA-256"),
        ("hash_sha256", -1, "SHA-256"),
        ("blake2b", 0, "BLAKE2b"),
        ("scalarmult", 0, "X25519"),
        ("scalarmult", -1, "X25519"),
        ("sign_seed_keypair", -1, "Ed25519"),
        ("sign", 0, "Ed25519"),
        ("sign", -1, "Ed25519"),
        ("aes256gcm_encrypt", 0, "sodium"),
        ("aes256gcm_encrypt", -1, "sodium"),
        ("aes256gcm_decrypt", 0, "sodium"),
        ("aes256gcm_decrypt", -1, "sodium"),
    ],
)
def test_a_libsodium_that_does_not_do_what_it_says(member: str, answer: int, blamed: str) -> None:
    """Each function replaced by one that does nothing: the self-test finds it and says which it was."""
    if blamed == "sodium" and "sodium" not in hazmat.aes_backends():
        pytest.skip("libsodium has no AES-256-GCM on this CPU")
    ctype = ffi.typeof(getattr(ffi.new("ac_sodium *"), member))
    idle = ffi.callback(ctype, lambda *_: answer)
    with loaded_again(), pytest.raises(ImportError, match=f"^the self-test of {blamed} failed: not safe to use$"):
        _core._load(SODIUM, Spoiled(_core._TABLE[member], idle), None)


def test_a_cpu_without_aes_instructions() -> None:
    """libsodium says that it has no AES-256-GCM there, as on such a CPU: the portable backend is left, and works."""
    ctype = ffi.typeof(ffi.new("ac_sodium *").aes256gcm_is_available)
    absent = ffi.callback(ctype, lambda: 0)
    spoiled = Spoiled("crypto_aead_aes256gcm_is_available", absent)
    with loaded_again():
        _core._load(SODIUM, spoiled, None)
        assert "sodium" not in hazmat.aes_backends()
        assert hazmat.aes_backend() == hazmat.aes_backends()[0]
        key = hazmat.AES256GCM(bytes(32))
        assert key.open(bytes(12), key.seal(bytes(12), b"text")) == b"text"
        with pytest.raises(KeyError):
            Aes256Gcm(bytes(32), backend="sodium")
        with pytest.raises(ImportError, match="usable: portable$" if len(hazmat.aes_backends()) == 1 else "usable: "):
            _core._load(SODIUM, spoiled, "sodium")


def test_a_failed_self_test_is_forgotten_by_the_next_load() -> None:
    with loaded_again():
        pass
    assert ffi.string(lib.ac_self_test_failure()) == b""


@pytest.mark.parametrize("name", ["nonsense", "SODIUM", "portable ", "\u00e9"])
def test_a_backend_that_is_not_there(name: str) -> None:
    usable = ", ".join(hazmat.aes_backends())
    with loaded_again(), pytest.raises(ImportError) as caught:
        _core._load(SODIUM, SODIUM_FFI, name)
    assert str(caught.value) == f"ATOMA_CRYPTO_AES_BACKEND={name!r} cannot be used here; usable: {usable}"


def imported(backend: str) -> subprocess.CompletedProcess[str]:
    code = "import atoma_crypto.hazmat as h; print(h.aes_backend())"
    environment = os.environ | {"ATOMA_CRYPTO_AES_BACKEND": backend}
    return subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=False)


def test_the_environment_chooses_the_backend() -> None:
    for name in hazmat.aes_backends():
        assert imported(name).stdout.strip() == name
    assert imported("").stdout.strip() == hazmat.aes_backends()[0]
    for wrong in ("nonsense", "\udcff", hazmat.aes_backends()[0] + "\udc80"):  # the latter two: bytes of no text
        failed = imported(wrong)
        assert failed.returncode != 0
        assert failed.stderr.splitlines()[-1] == (
            f"ImportError: ATOMA_CRYPTO_AES_BACKEND={wrong!r} cannot be used here; "
            f"usable: {', '.join(hazmat.aes_backends())}"
        )


def test_the_core_itself_refuses_an_empty_table() -> None:
    assert lib.ac_init(ffi.NULL, ffi.NULL) == lib.AC_ERR_ARGUMENT
    assert lib.ac_init(ffi.new("ac_sodium *"), ffi.NULL) == lib.AC_ERR_ARGUMENT
    assert hazmat.aes_backend() in hazmat.aes_backends()


def test_numbers_of_backends_end() -> None:
    count = next(n for n in range(100) if lib.ac_aes_backend_name(n) == ffi.NULL)
    assert count >= 2
    assert lib.ac_aes_backend_usable(count) == 0
    key = ffi.new("ac_aes256gcm *")
    assert lib.ac_aes256gcm_init(key, bytes(32), count) == lib.AC_ERR_ARGUMENT


# ---- status → exception -----------------------------------------------------------------------------------------

STATUSES: Final = {
    "AC_ERR_ARGUMENT": ValueError,
    "AC_ERR_CAPACITY": ValueError,
    "AC_ERR_OVERLAP": ValueError,
    "AC_ERR_KEY": ac.InvalidKeyError,
    "AC_ERR_AUTH": ac.AuthenticationError,
    "AC_ERR_FORMAT": ac.EnvelopeError,
    "AC_ERR_TOO_LARGE": ac.MessageTooLargeError,
    "AC_ERR_NONCE_REUSE": ac.NonceReuseError,
    "AC_ERR_STATE": ac.LocalProtocolError,
    "AC_ERR_BUSY": ac.ConcurrentUseError,
    "AC_ERR_FORKED": ac.LocalProtocolError,
    "AC_ERR_LIMIT": ac.LimitExceededError,
    "AC_ERR_PRIMITIVE": ac.NativeError,
}


def test_every_status_has_its_class() -> None:
    declared = dict(re.findall(r"^#define (AC_ERR_\w+) (-\d+)", HEADER, re.MULTILINE))
    assert {name: getattr(lib, name) for name in STATUSES} == {name: int(value) for name, value in declared.items()}
    for name, cls in STATUSES.items():
        status = getattr(lib, name)
        assert type(_core.error(status)) is cls
        with pytest.raises(cls):
            _core.check(status)
    assert type(_core.error(lib.AC_ERR_FORMAT, ac.FramingError)) is ac.FramingError
    assert _core.check(lib.AC_OK) is None  # type: ignore[func-returns-value] # that is what is tested


@pytest.mark.parametrize("status", [-99, 1, 2])
def test_a_status_that_is_not_known(status: int) -> None:
    with pytest.raises(ac.NativeError, match=f"the C core returned status {status}$"):
        _core.check(status)


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ac.RemoteProtocolError("x"), True),
        (ac.AuthenticationError(), True),
        (ac.NativeError("x"), True),
        (MemoryError(), True),
        (RuntimeError(), True),
        (KeyboardInterrupt(), True),
        (ac.LocalProtocolError("x"), False),
        (ac.ConcurrentUseError("x"), False),
        (ac.InvalidKeyError("x"), False),
        (ac.LimitExceededError("x"), False),
        (TypeError(), False),
        (ValueError(), False),
    ],
)
def test_which_errors_are_final(error: BaseException, final: bool) -> None:
    assert _core.is_final(error) is final


# ---- buffers ----------------------------------------------------------------------------------------------------


class Text(bytes):
    """A subclass of bytes."""


@pytest.mark.parametrize(
    "value", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"abcd").cast("I"), Text(b"abcd"), b""]
)
def test_what_can_be_lent(value: Any) -> None:
    cdata, length = _core.lend(value, "it")
    assert length == memoryview(value).nbytes
    out = bytearray(length)
    ffi.memmove(out, cdata, length)
    assert out == bytes(value)


@pytest.mark.parametrize("value", ["abcd", None, 5, [1], object(), (b"",)])
def test_what_cannot_be_lent(value: Any) -> None:
    for lend in (_core.lend, _core.lend_writable):
        with pytest.raises(TypeError, match=f"it must be bytes, bytearray or memoryview, not {type(value).__name__}"):
            lend(value, "it")


def test_what_is_not_contiguous() -> None:
    for view in (memoryview(b"abcd")[::2], memoryview(b"abcd")[::-1]):
        with pytest.raises(ValueError, match="it must be contiguous"):
            _core.lend(view, "it")
    with pytest.raises(ValueError, match="it must be contiguous"):
        _core.lend_writable(memoryview(bytearray(4))[::2], "it")
    released = memoryview(b"abcd")
    released.release()
    with pytest.raises(ValueError, match="released"):
        _core.lend(released, "it")


@pytest.mark.parametrize("value", [b"abcd", memoryview(b"abcd"), memoryview(bytearray(4)).toreadonly()])
def test_what_cannot_be_written_to(value: Any) -> None:
    with pytest.raises(TypeError, match="it must be writable"):
        _core.lend_writable(value, "it")
    target = bytearray(4)
    cdata, length = _core.lend_writable(memoryview(target)[1:3], "it")
    ffi.memmove(cdata, b"xy", length)
    assert target == b"\x00xy\x00"


def test_exact_sizes() -> None:
    assert ffi.buffer(_core.lend_exactly(bytearray(b"abcd"), 4, "it"))[:] == b"abcd"
    for size in (3, 5):
        with pytest.raises(ValueError, match=f"it must be {size} bytes, not 4"):
            _core.lend_exactly(b"abcd", size, "it")
        with pytest.raises(ac.InvalidKeyError, match=f"it must be {size} bytes, not 4"):
            _core.lend_exactly(b"abcd", size, "it", ac.InvalidKeyError)


def test_memory_is_wiped_when_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, and by C alone: no Python function runs that something could interrupt."""
    kept = []

    class Keeping:
        def __getattr__(self, name: str) -> Any:
            return getattr(ffi, name)

        def new(self, ctype: str, *init: object) -> Any:
            memory = ffi.new(ctype, *init)
            kept.append(memory)  # outlives the Scratch: else the test would read what was freed
            return memory

    with monkeypatch.context() as patch:
        patch.setattr(_core, "ffi", Keeping())
        scratch = Scratch(64)
    memory, _ = kept
    scratch.view[:] = b"s" * 64
    assert bytes(ffi.buffer(memory.at, 64)) == b"s" * 64
    calls: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del scratch
    finally:
        sys.setprofile(before)
    assert calls == []
    assert bytes(ffi.buffer(memory.at, 64)) == bytes(64)
    assert memory.cap == 64


def test_an_object_is_wiped_when_it_is_let_go() -> None:
    wiped: list[bytes] = []

    def wipe(native: Any) -> None:
        lib.ac_secret_key_wipe(native)
        wiped.append(bytes(ffi.buffer(native)))

    memory, native = _core.new("ac_secret_key *", wipe)
    assert lib.ac_secret_key_generate(native) == lib.AC_OK
    assert any(bytes(ffi.buffer(native)))
    del native
    assert bytes(ffi.buffer(memory)) == bytes(64)
    gc.collect()
    assert wiped == [bytes(64)]


# ---- AES-256-GCM ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", hazmat.aes_backends())
def test_a_backend_of_choice(backend: str) -> None:
    key = Aes256Gcm(bytes(32), backend=backend)
    assert key.open(bytes(12), hazmat.AES256GCM(bytes(32)).seal(bytes(12), b"text", b"aad"), b"aad") == b"text"
    with pytest.raises(KeyError):
        Aes256Gcm(bytes(32), backend="nonsense")


@pytest.mark.parametrize("make", [hazmat.AES256GCM, Aes256Gcm])
def test_a_closed_key(make: Callable[[bytes], Aes256Gcm]) -> None:
    key = make(bytes(32))
    assert repr(key) == f"<{make.__name__}>"
    key.close()
    key.close()
    assert repr(key) == f"<{make.__name__} closed>"
    out = bytearray(64)
    for use in (
        lambda: key.seal(bytes(12), b"x"),
        lambda: key.open(bytes(12), bytes(17)),
        lambda: key.seal_into(bytes(12), b"x", out),
        lambda: key.open_into(bytes(12), bytes(17), out),
    ):
        with pytest.raises(ac.SessionClosedError, match="this key is closed"):
            use()
    assert out == bytes(64)


def test_a_key_that_was_never_set_up() -> None:
    key, out = ffi.new("ac_aes256gcm *"), ffi.new("uint8_t[]", 32)
    assert lib.ac_aes256gcm_seal(key, out, 32, bytes(12), b"x", 1, b"", 0) == lib.AC_ERR_STATE
    assert lib.ac_aes256gcm_open(key, out, 32, bytes(12), bytes(17), 17, b"", 0) == lib.AC_ERR_STATE
    sealer, opener, size = ffi.new("ac_v1_sealer *"), ffi.new("ac_v1_opener *"), ffi.new("size_t *")
    assert lib.ac_v1_event_seal(sealer, ffi.new("uint8_t[]", 500), 500, b"x", 1) == lib.AC_ERR_STATE
    assert lib.ac_v1_reply_seal(sealer, ffi.new("uint8_t[]", 500), 500, size, b"x", 1, b"", 0) == lib.AC_ERR_STATE
    assert lib.ac_v1_sealed_open(opener, out, 32, size, b"", 0, b"", 0, b"", 0) == lib.AC_ERR_STATE
    assert lib.ac_v1_opener_set(opener, 1, 1, 0) == lib.AC_ERR_STATE


def test_wrong_types_and_sizes() -> None:
    key = hazmat.AES256GCM(bytes(32))
    out = bytearray(64)
    wrong: list[Callable[[], object]] = [
        lambda: key.seal("x" * 12, b""),  # type: ignore[arg-type] # that is what is tested
        lambda: key.seal(bytes(12), "x"),  # type: ignore[arg-type] # the same
        lambda: key.seal(bytes(12), b"", "x"),  # type: ignore[arg-type] # the same
        lambda: key.seal_into(bytes(12), b"", "x"),  # type: ignore[arg-type] # the same
        lambda: key.seal_into(bytes(12), b"", bytes(16)),
        lambda: key.open_into(bytes(12), bytes(16), memoryview(bytes(16))),
        lambda: key.open(bytes(12), None),  # type: ignore[arg-type] # the same
        lambda: hazmat.blake2b256("x"),  # type: ignore[arg-type] # the same
        lambda: hazmat.hkdf_sha256("x", salt=b"", info=b"", length=1),  # type: ignore[arg-type] # the same
        lambda: hazmat.x25519("x" * 32, bytes(32)),  # type: ignore[arg-type] # the same
        lambda: hazmat.x25519_public_key(None),  # type: ignore[arg-type] # the same
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    for size in (11, 13):
        with pytest.raises(ValueError, match=f"nonce must be 12 bytes, not {size}"):
            key.seal_into(bytes(size), b"", out)
        with pytest.raises(ValueError, match=f"nonce must be 12 bytes, not {size}"):
            key.open_into(bytes(size), bytes(16), out)
    with pytest.raises(ValueError, match="length must be 0 to 8160 bytes, not -1"):
        hazmat.hkdf_sha256(b"", salt=b"", info=b"", length=-1)
    assert hazmat.hkdf_sha256(b"", salt=b"", info=b"", length=0) == b""
    assert out == bytes(64)


def test_lengths_are_handed_over_as_the_core_takes_them() -> None:
    assert array(_sealer._SIZE_T).itemsize == ffi.sizeof("size_t")
