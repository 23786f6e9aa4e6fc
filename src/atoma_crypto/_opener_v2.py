"""A handle on the core's v2 opener."""

from typing import Final

from . import _core, _envelope_v2, _v2, _xwing
from ._core import SIZE_MAX, Scratch, ffi, lib
from ._envelope_v2 import Metadata, Record, UsageNumbers
from ._errors import EnvelopeError, FramingError, RemoteProtocolError, TruncatedStreamError
from ._events import Chunk, Limits
from ._keys import PublicKey, suite_sizes
from ._opener import Opener, new_chunk
from ._sse import Decoder
from ._typing import Buffer

_BYTES: Final = ffi.typeof("uint8_t[]")
_SPAN: Final = lib.AC_V2_SPAN
_PUNT: Final = lib.AC_PUNT
_END: Final = lib.AC_FLAG_END
_ABORT: Final = lib.AC_FLAG_ABORT


class V2Opener(Opener):
    """An opener of v2's records, in events or as one object."""

    __slots__ = ("_rest",)

    _type = "ac_v2_opener *"
    _wipe = lib.ac_v2_opener_wipe
    _events_type = "ac_v2_events *"
    _events_at_once = lib.AC_V2_EVENTS
    _events_open = lib.ac_v2_events_open
    _close = lib.ac_v2_opener_close

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._rest: Decoder | None = None  # of what is received behind the end

    def seal_request(self, body: Buffer, node: PublicKey, metadata: Metadata) -> bytes:
        """The request's envelope. InvalidKeyError: the node's key gives an all-zero shared secret."""
        _core.require_new(self._native)
        text, length = _core.lend(body, "body")
        suite, public_key = suite_sizes(node.suite), bytes(node)
        model_json = _envelope_v2.write_model(metadata.model)
        native_metadata, held = _v2.lend_metadata(metadata)
        most = lib.ac_v2_request_max_bytes(length, len(model_json), suite.enc_bytes)
        out, out_len = ffi.new(_BYTES, most), ffi.new("size_t *")  # public: not wiped
        shared, enc = Scratch(_xwing.SHARED_BYTES) if node.suite == "X-Wing" else None, b""
        try:
            if shared:
                enc = _xwing.encapsulate(public_key, shared)
            status = lib.ac_v2_request_seal(
                self._native,
                out,
                most,
                out_len,
                suite.id,
                node.key_id,
                ffi.NULL if shared else public_key,
                shared.ptr if shared else ffi.NULL,
                enc or ffi.NULL,
                len(enc),
                native_metadata,
                model_json,
                len(model_json),
                text,
                length,
            )
        finally:
            if shared:
                shared.wipe()
        del held
        limits = self._limits
        _core.check(
            status
            or lib.ac_v2_opener_set(
                self._native, min(limits.max_event_bytes, SIZE_MAX), min(limits.max_line_bytes, SIZE_MAX)
            )
        )
        return bytes(ffi.buffer(out, out_len[0]))

    def reply(self, raw: bytes) -> bytes:
        """As every opener's. RemoteAbortError: the object says that the node has aborted."""
        scratch = self._room_for_reply(raw)
        span = ffi.new("uint64_t[]", _SPAN)
        status = lib.ac_v2_object_open(self._native, scratch.ptr, scratch.cap, scratch.len, span, raw, len(raw))
        if status == _PUNT:
            record = _envelope_v2.read_record(raw, "the answer", EnvelopeError)
            plaintext, flag, usage = self._sealed(record, 0, EnvelopeError), record.flag, record.usage
        elif status:
            raise _v2.error(status, EnvelopeError)
        else:
            plaintext, (_, flag, has_usage, *numbers) = bytes(scratch.view[: scratch.len[0]]), span
            usage = tuple(numbers) if has_usage else None
        if len(plaintext) > self._limits.max_response_bytes:
            raise self._reply_too_large()
        if flag == _ABORT:
            raise _envelope_v2.abort_of(plaintext, EnvelopeError)
        self._note(usage)
        return plaintext

    def _note(self, usage: UsageNumbers | None) -> dict[str, int] | None:
        """Remember it: values are running totals, of which the last counts."""
        if usage is None:
            return None
        shown = _envelope_v2.usage_mapping(usage)
        self.usage = shown
        return shown

    def _append(self, scratch: Scratch) -> None:
        events, view = self._events, scratch.view
        spans = ffi.unpack(events.spans, _SPAN * events.count) if events.count else ()
        begin = 0
        for at, (length, flag, has_usage) in enumerate(
            zip(spans[::_SPAN], spans[1::_SPAN], spans[2::_SPAN], strict=True)
        ):
            end = begin + length
            if flag or has_usage:
                usage = tuple(spans[_SPAN * at + 3 : _SPAN * (at + 1)]) if has_usage else None
                chunk = self._take_record(view[begin:end], flag, usage)
                if chunk is not None:
                    self.ready.append(chunk)
            else:
                self.ready.append(new_chunk(Chunk, (view[begin:end], self.chunk_count, None)))
                self.chunk_count += 1
            begin = end

    def _open_text(self, text: str) -> Chunk | None:
        record = _envelope_v2.read_record(text, "an event", FramingError)
        return self._take_record(self._sealed(record, 1, FramingError), record.flag, record.usage)

    def _take_record(self, plaintext: bytes, flag: int, usage: UsageNumbers | None) -> Chunk | None:
        """What a record of a stream that has been opened means: the end of it, a chunk, or both."""
        shown = self._note(usage)
        chunk = None
        if flag == _ABORT:
            self.abort = _envelope_v2.abort_of(plaintext, FramingError)
        elif plaintext:
            chunk = Chunk(plaintext, self.chunk_count, shown)
            self.chunk_count += 1
        self.ended = flag in (_END, _ABORT)
        return chunk

    def _sealed(self, record: Record, event: int, malformed: type[RemoteProtocolError]) -> bytes:
        scratch = self._room(lib.ac_base64_decoded_max(len(record.ciphertext)))
        status = lib.ac_v2_sealed_open(
            self._native,
            scratch.ptr,
            scratch.cap,
            scratch.len,
            event,
            record.flag,
            record.ciphertext,
            len(record.ciphertext),
            record.salt,
            len(record.salt),
            _v2.lend_usage(record.usage),
        )
        if status:
            raise _v2.error(status, malformed)
        return bytes(scratch.view[: scratch.len[0]])

    def _error(self, status: int) -> Exception:
        return _v2.error(status, FramingError)

    def end(self) -> None:
        """As every opener's."""
        if self.abort is not None:
            raise self.abort
        if not self.ended:
            raise TruncatedStreamError("the stream ended before its last record")

    def conclude(self) -> None:
        """As every opener's; what stands behind the end is still to be looked at."""
        left = [bytes(memoryview(self._data)[self._pos :]), *self.received]
        super().conclude()
        self.received.extend(piece for piece in left if piece)

    def late(self) -> None:
        """Look at what was received behind the end. FramingError: an event."""
        if self._rest is None:
            self._rest = Decoder(self._limits.max_event_bytes, begun=True)
        while self.received:
            if self._rest.feed(self.received.popleft()):
                raise FramingError("an event stands behind the last one")
