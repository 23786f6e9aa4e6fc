"""Length hiding (docs/protocol-v2.md, section 7): JSON may end in spaces, which mean nothing. Knows no keys."""

from typing import Final, Literal, TypeAlias

from ._typing import Buffer

PadTo: TypeAlias = Literal["auto"] | int | None
_MOST: Final = 1 << 20  # that a multiple is of: more would be a mistake
_REQUEST_LEAST: Final = 1024
_REQUEST_STEPS: Final = 4  # as a power of two: 16 for each power of two
_RECORD: Final = 256


def check_pad_to(pad_to: object) -> None:
    """TypeError, ValueError: neither "auto", nor an integer from 1 to 2^20, nor None."""
    if pad_to is None or pad_to == "auto":
        return
    if type(pad_to) is not int:
        raise TypeError(f"pad_to must be 'auto', an int or None, not {pad_to!r}")
    if not 1 <= pad_to <= _MOST:
        raise ValueError(f"pad_to must be 1 to 2^20 bytes, not {pad_to}")


def _padded(plaintext: Buffer, size: int) -> bytes:
    text = bytes(plaintext)
    return text.ljust(size, b" ")


def _multiple(length: int, of: int) -> int:
    return -(-length // of) * of


def request_size(length: int) -> int:
    """The next of 16 steps for each power of two, from 1 KiB: at most a sixteenth more."""
    if length <= _REQUEST_LEAST:
        return _REQUEST_LEAST
    return _multiple(length, 1 << ((length - 1).bit_length() - 1 - _REQUEST_STEPS))


def pad_request(body: Buffer, pad_to: PadTo) -> Buffer:
    """A request's body, padded as `pad_to` says; it is a buffer."""
    if pad_to is None:
        return body
    length = memoryview(body).nbytes
    return _padded(body, request_size(length) if pad_to == "auto" else _multiple(length, pad_to))


def pad_record(plaintext: Buffer, pad_to: PadTo) -> Buffer:
    """An answer or the plaintext of one event, padded as `pad_to` says. One that is empty, or no buffer, stays so."""
    if pad_to is None or not isinstance(plaintext, bytes | bytearray | memoryview):
        return plaintext
    return _padded(plaintext, _multiple(memoryview(plaintext).nbytes, _RECORD if pad_to == "auto" else pad_to))
