"""A handle on the core's v1 opener."""

from typing import Final

from . import _core, _envelope
from ._core import SIZE_MAX, Scratch, ffi, lib
from ._errors import EnvelopeError, FramingError, TruncatedStreamError
from ._events import Chunk
from ._keys import PublicKey
from ._opener import Opener, new_chunk
from ._typing import Buffer

_SPAN: Final = lib.AC_V1_SPAN
_PUNT: Final = lib.AC_PUNT


class V1Opener(Opener):
    """An opener of v1's replies and events."""

    __slots__ = ()

    _type = "ac_v1_opener *"
    _wipe = lib.ac_v1_opener_wipe
    _events_type = "ac_v1_events *"
    _events_at_once = lib.AC_V1_EVENTS
    _events_open = lib.ac_v1_events_open
    _close = lib.ac_v1_opener_close

    def seal_request(
        self,
        body: Buffer,
        node: PublicKey,
        *,
        model_json: bytes,
        stack_small_id: int,
        num_compute_units: int | None,
        stream: bool,
        refuse_nonce_reuse: bool,
    ) -> bytes:
        """The request's envelope. InvalidKeyError: the node's key gives an all-zero shared secret."""
        _core.require_new(self._native)
        text, length = _core.lend(body, "body")
        out = bytearray(lib.ac_v1_request_max_bytes(length, len(model_json)))  # public all of it: not wiped
        out_len = ffi.new("size_t *")
        with ffi.from_buffer("uint8_t[]", out) as out_c:
            status = lib.ac_v1_request_seal(
                self._native,
                out_c,
                len(out),
                out_len,
                bytes(node),
                text,
                length,
                model_json,
                len(model_json),
                stack_small_id,
                num_compute_units or 0,
                num_compute_units is not None,
                stream,
            )
        _core.check(status)
        limits = self._limits
        _core.check(
            lib.ac_v1_opener_set(
                self._native,
                min(limits.max_event_bytes, SIZE_MAX),
                min(limits.max_line_bytes, SIZE_MAX),
                refuse_nonce_reuse,
            )
        )
        del out[out_len[0] :]
        return bytes(out)

    def reply(self, raw: bytes) -> bytes:
        """As every opener's."""
        scratch = self._room_for_reply(raw)
        usage = ffi.new("size_t[2]")  # where it stands, and its length
        status = lib.ac_v1_reply_open(
            self._native, scratch.ptr, scratch.cap, scratch.len, usage, usage + 1, raw, len(raw)
        )
        if status == _PUNT:
            message = _envelope.read_sealed(raw, "the answer", EnvelopeError)
            plaintext = self._sealed(message, EnvelopeError)
            self.usage = message.usage
        else:
            if status:
                raise _core.error(status)
            plaintext = bytes(scratch.view[: scratch.len[0]])
            if usage[1]:
                self.usage = _envelope.read_usage(raw[usage[0] : usage[0] + usage[1]], EnvelopeError)
        if len(plaintext) > self._limits.max_response_bytes:
            raise self._reply_too_large()
        return plaintext

    def _append(self, scratch: Scratch) -> None:
        events, data, pos, view = self._events, self._data, self._pos, scratch.view
        spans = iter(ffi.unpack(events.spans, _SPAN * events.count) if events.count else ())
        index, begin = self.chunk_count, 0
        for length, usage_pos, usage_len in zip(spans, spans, spans, strict=True):
            usage = None
            if usage_len:
                at = pos + usage_pos
                usage = self.usage = _envelope.read_usage(bytes(data[at : at + usage_len]), FramingError)
            end = begin + length
            self.ready.append(new_chunk(Chunk, (view[begin:end], index, usage)))
            begin = end
            index += 1
        self.chunk_count = index
        self.nonce_reused = bool(self._native.nonce_reused)

    def _open_text(self, text: str) -> Chunk:
        message = _envelope.read_sealed(text, "an event", FramingError)
        plaintext = self._sealed(message, FramingError)
        if message.usage is not None:
            self.usage = message.usage
        self.nonce_reused = bool(self._native.nonce_reused)
        self.chunk_count += 1
        return Chunk(plaintext, self.chunk_count - 1, message.usage)

    def _sealed(self, message: _envelope.SealedMessage, malformed: type[EnvelopeError | FramingError]) -> bytes:
        scratch = self._room(lib.ac_base64_decoded_max(len(message.ciphertext)))
        status = lib.ac_v1_sealed_open(
            self._native,
            scratch.ptr,
            scratch.cap,
            scratch.len,
            message.ciphertext,
            len(message.ciphertext),
            message.nonce,
            len(message.nonce),
            message.response_hash,
            len(message.response_hash),
        )
        if status:
            raise _core.error(status, malformed)
        return bytes(scratch.view[: scratch.len[0]])

    def _error(self, status: int) -> Exception:
        return _core.error(status, FramingError)

    def end(self) -> None:
        """As every opener's."""
        if lib.ac_v1_events_unfinished(self._native, len(self._data) - self._pos):
            raise TruncatedStreamError("the stream ended inside an event")
