"""A handle on the core's v1 sealer, which lets one thread at a time in."""

from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

from . import _core, _envelope
from ._core import SIZE_MAX, CData, Scratch, ffi, lib
from ._events import Limits
from ._keys import SigningKey
from ._typing import Buffer

_FIRST_SCRATCH: Final = 4096
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_ARGUMENT: Final = lib.AC_ERR_ARGUMENT
_event_seal: Final = lib.ac_v1_event_seal  # looked up once, as it is called for each chunk
_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("uint8_t[]")
# A scratch, and before it what a call for one event takes and reads: sealer, ptr, cap, view.
_Place: TypeAlias = tuple[CData, CData, int, CData, Scratch]
# size_t as the array module calls it
_SIZE_T: Final = next(code for code in "QLI" if array(code).itemsize == ffi.sizeof("size_t"))


class V1Sealer:
    """A node's side of one v1 exchange: made by opening the request, it seals the answer.

    A call takes the place out of `_places` and puts it back once its output is copied: nobody writes to it in between,
    and where that is interrupted, or a second thread asks, another is made.
    """

    __slots__ = ("_max_event_bytes", "_native", "_places")

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_sealer *", lib.ac_v1_sealer_wipe)
        self._max_event_bytes = min(limits.max_event_bytes, SIZE_MAX)
        self._places: list[_Place] = []

    def open_request(self, envelope: _envelope.RequestEnvelope, key: CData, signing: SigningKey | None) -> bytes:
        """The body of the request; `key` is a secret key's `native`. EnvelopeError, AuthenticationError."""
        texts = envelope.ciphertext, envelope.nonce, envelope.salt, envelope.client_public, envelope.node_public
        lent = [_from_buffer(_BYTES, text) for text in (*texts, envelope.body_hash)]  # which the struct does not keep
        members = ffi.new("ac_v1_envelope *", [value for text in lent for value in (text, len(text))])
        body = Scratch(max(1, lib.ac_base64_decoded_max(len(envelope.ciphertext))))
        status = lib.ac_v1_request_open(
            self._native,
            body.ptr,
            body.cap,
            body.len,
            key,
            signing.native if signing is not None else ffi.NULL,
            members,
        )
        _core.check(status)
        return bytes(body.view[: body.len[0]])

    def _place(self, need: int) -> _Place:
        """Where `need` bytes can be written: the one that is there, or a larger one."""
        if need == SIZE_MAX:
            raise ValueError("the plaintext is too long for one message")
        before = 0
        try:
            place = self._places.pop()
        except IndexError:
            pass
        else:
            before = place[4].cap
            if before >= need:
                return place
        scratch = Scratch(max(need, 2 * before, _FIRST_SCRATCH))
        cap = min(scratch.cap, self._max_event_bytes)
        return self._native, scratch.ptr, cap, scratch.view, scratch

    def _taken(self, place: _Place) -> bytes:
        """What C has written, copied."""
        _, _, _, view, scratch = place
        message = view[: scratch.len[0]]
        self._places.append(place)
        return message  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def event(self, plaintext: Buffer, usage: bytes) -> bytes:
        """One finished SSE event. ValueError: it would be longer than the limit; nothing was spent."""
        if usage or type(plaintext) is not bytes:
            return self._event(plaintext, usage)
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._event(plaintext, usage)
        native, ptr, cap, view, _ = place
        written = _event_seal(native, ptr, cap, plaintext, len(plaintext))
        if written < 0:
            if written != _CAPACITY:
                raise _core.error(written)
            self._places.append(place)
            return self._event(plaintext, usage)
        event = view[:written]
        self._places.append(place)
        return event  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def _event(self, plaintext: Buffer, usage: bytes) -> bytes:
        """As `event`, from any buffer, of any size."""
        text, length = _core.lend(plaintext, "plaintext")
        need = lib.ac_v1_event_bytes(self._native, length, len(usage))
        if need > self._max_event_bytes:
            raise ValueError(f"the event would be longer than the limit of {self._max_event_bytes} bytes")
        place = self._place(need)
        native, ptr, cap, _, scratch = place
        status = lib.ac_v1_events_seal(
            native, ptr, cap, scratch.len, text, length, ffi.new("size_t *", length), 1, usage, len(usage)
        )
        _core.check(status)
        return self._taken(place)

    def events(self, plaintexts: Sequence[Buffer], usage: bytes) -> bytes:
        """All of them, or none, joined. Errors as for one."""
        parts = list(plaintexts)
        if not parts:
            return b""
        if memoryview in map(type, parts):  # whose len() need not be its bytes
            return self._events(parts, usage)
        try:  # copied once: they may change under us
            joined = b"".join(parts)
            lens = array(_SIZE_T, map(len, parts))
        except TypeError:  # it says which of them is at fault
            return self._events(parts, usage)
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._events(parts, usage)
        native, ptr, cap, _, scratch = place
        lens_c = ffi.from_buffer("size_t[]", lens)
        status = lib.ac_v1_events_seal(
            native, ptr, cap, scratch.len, joined, len(joined), lens_c, len(lens), usage, len(usage)
        )
        if status in (_CAPACITY, _ARGUMENT):
            self._places.append(place)
            return self._events(parts, usage)
        _core.check(status)
        return self._taken(place)

    def _events(self, plaintexts: list[Buffer], usage: bytes) -> bytes:
        """As `events`, of any size."""
        for plaintext in plaintexts:
            _core.lend(plaintext, "each plaintext")
        parts = [bytes(plaintext) for plaintext in plaintexts]
        joined = b"".join(parts)
        lens = ffi.new("size_t[]", list(map(len, parts)))
        if lib.ac_v1_event_bytes(self._native, max(lens), len(usage)) > self._max_event_bytes:
            raise ValueError(f"an event would be longer than the limit of {self._max_event_bytes} bytes")
        place = self._place(lib.ac_v1_events_bytes(self._native, len(joined), lens, len(lens), len(usage)))
        native, ptr, _, _, scratch = place
        status = lib.ac_v1_events_seal(
            native, ptr, scratch.cap, scratch.len, joined, len(joined), lens, len(lens), usage, len(usage)
        )
        _core.check(status)
        return self._taken(place)

    def reply(self, plaintext: Buffer, usage: bytes) -> bytes:
        """The JSON object that answers a request which is not a stream."""
        text, length = _core.lend(plaintext, "body")
        place = self._place(lib.ac_v1_reply_bytes(self._native, length, len(usage)))
        native, ptr, _, _, scratch = place
        _core.check(lib.ac_v1_reply_seal(native, ptr, scratch.cap, scratch.len, text, length, usage, len(usage)))
        return self._taken(place)

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is sealing."""
        _core.check(lib.ac_v1_sealer_close(self._native))
        self._places.clear()
