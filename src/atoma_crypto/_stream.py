"""Handles on the core's v1 sealer and opener.

The core lets one thread at a time into either. What an opener keeps in Python is guarded by the session that owns it.
"""

from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeAlias

from . import _core, _envelope, _sse
from ._core import CData, Scratch, ffi, lib
from ._errors import EnvelopeError, FramingError, MessageTooLargeError, TruncatedStreamError
from ._events import Chunk, Limits
from ._keys import PublicKey, SecretKey, SigningKey
from ._typing import Buffer, Usage

_FIRST_SCRATCH: Final = 4096
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around a reply's ciphertext
_OK: Final = lib.AC_OK
_SPAN: Final = lib.AC_V1_SPAN
_ONE: Final = lib.AC_ONE
_PUNT: Final = lib.AC_PUNT
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_ARGUMENT: Final = lib.AC_ERR_ARGUMENT
_NO_DATA: Final = b""
# Looked up once, as they are called for each chunk.
_event_seal: Final = lib.ac_v1_event_seal
_events_open: Final = lib.ac_v1_events_open
# A scratch, and before it what a call for one event takes and reads: sealer, ptr, cap, len, view.
_Place: TypeAlias = tuple[CData, CData, int, CData, CData, Scratch]
_new_chunk: Final = tuple.__new__  # half the price of Chunk(...), which is one Python function more
_SIZE_MAX: Final = 2 ** (8 * ffi.sizeof("size_t")) - 1
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
        self._max_event_bytes = min(limits.max_event_bytes, _SIZE_MAX)
        self._places: list[_Place] = []

    def open_request(self, envelope: _envelope.RequestEnvelope, key: SecretKey, signing: SigningKey | None) -> bytes:
        """The body of the request. EnvelopeError, AuthenticationError."""
        texts = (
            ("ciphertext", envelope.ciphertext),
            ("nonce", envelope.nonce),
            ("salt", envelope.salt),
            ("client_public", envelope.client_public),
            ("node_public", envelope.node_public),
            ("body_hash", envelope.body_hash),
        )
        members = ffi.new("ac_v1_envelope *")
        lent = [ffi.from_buffer("uint8_t[]", text) for _, text in texts]  # the struct does not keep them alive
        for (name, _), cdata in zip(texts, lent, strict=True):
            setattr(members, name, cdata)
            setattr(members, f"{name}_len", len(cdata))
        body = Scratch(max(1, lib.ac_base64_decoded_max(len(envelope.ciphertext))))
        status = lib.ac_v1_request_open(
            self._native,
            body.ptr,
            body.cap,
            body.len,
            key.native,
            signing.native if signing is not None else ffi.NULL,
            members,
        )
        _core.check(status)
        return bytes(body.view[: body.len[0]])

    def _place(self, need: int) -> _Place:
        """Where `need` bytes can be written: the one that is there, or a larger one."""
        if need == _SIZE_MAX:
            raise ValueError("the plaintext is too long for one message")
        before = 0
        try:
            place = self._places.pop()
        except IndexError:
            pass
        else:
            before = place[5].cap
            if before >= need:
                return place
        scratch = Scratch(max(need, 2 * before, _FIRST_SCRATCH))
        cap = min(scratch.cap, self._max_event_bytes)
        return self._native, scratch.ptr, cap, scratch.len, scratch.view, scratch

    def _taken(self, place: _Place) -> bytes:
        """What C has written, copied."""
        _, _, _, written, view, _ = place
        message = view[: written[0]]
        self._places.append(place)
        return message  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def event(self, plaintext: Buffer, usage: bytes) -> bytes:
        """One finished SSE event. ValueError: it would be longer than the limit; nothing was spent."""
        if type(plaintext) is not bytes:
            return self._event(plaintext, usage)
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._event(plaintext, usage)
        native, ptr, cap, written, view, _ = place
        status = _event_seal(native, ptr, cap, written, plaintext, len(plaintext), usage, len(usage))
        if status:
            if status != _CAPACITY:
                raise _core.error(status)
            self._places.append(place)
            return self._event(plaintext, usage)
        event = view[: written[0]]
        self._places.append(place)
        return event  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def _event(self, plaintext: Buffer, usage: bytes) -> bytes:
        """As `event`, from any buffer, of any size."""
        text, length = _core.lend(plaintext, "plaintext")
        need = lib.ac_v1_event_bytes(self._native, length, len(usage))
        if need > self._max_event_bytes:
            raise ValueError(f"the event would be longer than the limit of {self._max_event_bytes} bytes")
        place = self._place(need)
        native, ptr, cap, written, _, _ = place
        _core.check(_event_seal(native, ptr, cap, written, text, length, usage, len(usage)))
        return self._taken(place)

    def events(self, plaintexts: Sequence[Buffer], usage: bytes) -> bytes:
        """All of them, or none, joined. Errors as for one."""
        parts = list(plaintexts)
        if not parts:
            return b""
        try:  # copied once: they may change under us
            joined = b"".join(parts)
            lens = array(_SIZE_T, map(len, parts))
        except (TypeError, BufferError):
            for plaintext in parts:
                _core.lend(plaintext, "each plaintext")
            return self._events(parts, usage)  # pragma: no cover - a memoryview without dimensions, since Python 3.12
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._events(parts, usage)
        native, ptr, cap, written, _, _ = place
        lens_c = ffi.from_buffer("size_t[]", lens)
        status = lib.ac_v1_events_seal(
            native, ptr, cap, written, joined, len(joined), lens_c, len(lens), usage, len(usage)
        )
        if status in (_CAPACITY, _ARGUMENT):  # or len() of one is not its bytes
            self._places.append(place)
            return self._events(parts, usage)
        _core.check(status)
        return self._taken(place)

    def _events(self, plaintexts: list[Buffer], usage: bytes) -> bytes:
        """As `events`, of any size."""
        parts = [bytes(plaintext) for plaintext in plaintexts]
        joined = b"".join(parts)
        lens = ffi.new("size_t[]", list(map(len, parts)))
        if lib.ac_v1_event_bytes(self._native, max(lens), len(usage)) > self._max_event_bytes:
            raise ValueError(f"an event would be longer than the limit of {self._max_event_bytes} bytes")
        place = self._place(lib.ac_v1_events_bytes(self._native, len(joined), lens, len(lens), len(usage)))
        native, ptr, _, written, _, scratch = place
        status = lib.ac_v1_events_seal(
            native, ptr, scratch.cap, written, joined, len(joined), lens, len(lens), usage, len(usage)
        )
        _core.check(status)
        return self._taken(place)

    def reply(self, plaintext: Buffer, usage: bytes) -> bytes:
        """The JSON object that answers a request which is not a stream."""
        text, length = _core.lend(plaintext, "body")
        place = self._place(lib.ac_v1_reply_bytes(self._native, length, len(usage)))
        native, ptr, _, written, _, scratch = place
        _core.check(lib.ac_v1_reply_seal(native, ptr, scratch.cap, written, text, length, usage, len(usage)))
        return self._taken(place)

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is sealing."""
        _core.check(lib.ac_v1_sealer_close(self._native))
        self._places.clear()


class V1Opener:
    """A client's side of one v1 exchange: made by sealing the request, it opens the answer."""

    __slots__ = (
        *("_data", "_events", "_limits", "_native", "_pos", "_scratch"),
        *("chunk_count", "nonce_reused", "ready", "received", "usage"),
    )

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_opener *", lib.ac_v1_opener_wipe)
        self._limits = limits
        self._scratch: Scratch | None = None
        self._events: CData = ffi.NULL
        self._data: bytes | bytearray = _NO_DATA
        self._pos = 0  # bytes of _data that are done with
        self.received: deque[bytes] = deque()  # and not looked at: any thread may add to it
        self.ready: deque[Chunk] = deque()  # opened, and not given yet: any thread may take from it
        self.chunk_count = 0  # opened so far
        self.nonce_reused = False  # whether two chunks came under one nonce
        self.usage: Usage | None = None  # the last one shown

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
        text, length = _core.lend(body, "body")
        out = Scratch(lib.ac_v1_request_max_bytes(length, len(model_json)))
        status = lib.ac_v1_request_seal(
            self._native,
            out.ptr,
            out.cap,
            out.len,
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
                min(limits.max_event_bytes, _SIZE_MAX),
                min(limits.max_line_bytes, _SIZE_MAX),
                refuse_nonce_reuse,
            )
        )
        return bytes(out.view[: out.len[0]])

    def reply(self, raw: bytes) -> bytes:
        """Open an answer that is not streamed."""
        limit = self._limits.max_response_bytes
        if len(raw) > limit // 3 * 4 + _REPLY_ALLOWANCE:
            raise MessageTooLargeError(f"the answer is longer than {limit} bytes")
        scratch = self._room(lib.ac_base64_decoded_max(len(raw)))
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
        if len(plaintext) > limit:
            raise MessageTooLargeError(f"the answer is longer than {limit} bytes")
        return plaintext

    def _join(self) -> None:
        """Put what was received behind what is left over."""
        if not isinstance(self._data, bytearray):
            self._data = bytearray(memoryview(self._data)[self._pos :])
        else:
            del self._data[: self._pos]
        self._pos = 0
        while self.received:
            self._data += self.received.popleft()

    def next_chunk(self) -> Chunk | None:
        """The chunk of the next complete event; all that are complete are opened at once. None: bytes are needed."""
        data, pos = self._data, self._pos
        if self.received:
            if pos == len(data):
                data = self._data = self.received.popleft()
                pos = self._pos = 0
            if self.received:
                self._join()
                data, pos = self._data, 0
        while pos != len(data):
            scratch = self._scratch or self._room(_FIRST_SCRATCH)
            if pos == 0 and type(data) is bytes:  # the common case: cffi takes bytes as they are
                status = _events_open(self._native, self._events, data, len(data))
            else:
                with ffi.from_buffer("uint8_t[]", data) as start:
                    status = _events_open(self._native, self._events, start + pos, len(data) - pos)
            if status == _ONE:
                self._pos = len(data)
                index = self.chunk_count
                self.chunk_count = index + 1
                return _new_chunk(Chunk, (scratch.view[: self._events.out_len], index, None))
            if status == _OK:
                self._take(scratch)
                return self.ready.popleft() if self.ready else None
            if status == _PUNT:
                return self._open_any()
            if status != _CAPACITY:
                raise _core.error(status, FramingError)
            self._room(self._events.out_len)
        return None

    def put_back(self, chunk: Chunk) -> None:
        """Give it once more, next."""
        self.ready.appendleft(chunk)

    def _take(self, scratch: Scratch) -> None:
        """Copy what the core has opened."""
        events, data, pos, view = self._events, self._data, self._pos, scratch.view
        spans = iter(ffi.unpack(events.spans, _SPAN * events.count) if events.count else ())
        index, begin = self.chunk_count, 0
        for length, usage_pos, usage_len in zip(spans, spans, spans, strict=True):
            usage = None
            if usage_len:
                at = pos + usage_pos
                usage = self.usage = _envelope.read_usage(bytes(data[at : at + usage_len]), FramingError)
            end = begin + length
            self.ready.append(_new_chunk(Chunk, (view[begin:end], index, usage)))
            begin = end
            index += 1
        self.chunk_count = index
        self.nonce_reused = bool(self._native.nonce_reused)
        self._pos = pos + events.consumed

    def _open_any(self) -> Chunk:
        """An event that the C reader leaves to the general parsers: it has data, and that is not `[DONE]`."""
        begin = self._pos + self._events.punt_pos
        self._pos += self._events.consumed
        data = _sse.data_of(bytes(self._data[begin : self._pos])) or b""
        message = _envelope.read_sealed(_sse.text_of(data), "an event", FramingError)
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

    def _room(self, need: int) -> Scratch:
        scratch = self._scratch
        if scratch is None:
            self._events = ffi.new("ac_v1_events *")
            self._events.event_cap = lib.AC_V1_EVENTS
        if scratch is None or scratch.cap < need:
            scratch = self._scratch = Scratch(max(need, _FIRST_SCRATCH, 2 * scratch.cap if scratch else 0))
            self._events.out, self._events.out_cap = scratch.ptr, scratch.cap
        return scratch

    def end(self) -> None:
        """The bytes have ended, and chunks() has said that no complete event is left. TruncatedStreamError."""
        if lib.ac_v1_events_unfinished(self._native, len(self._data) - self._pos):
            raise TruncatedStreamError("the stream ended inside an event")

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is opening."""
        _core.check(lib.ac_v1_opener_close(self._native))
        self._scratch = None
        self.ready.clear()
        self.received.clear()
        self._data = _NO_DATA
        self._pos = 0
