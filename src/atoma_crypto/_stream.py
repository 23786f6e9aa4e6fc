"""Handles on the core's v1 sealer and opener.

The core lets one thread at a time into either. What an opener keeps in Python is guarded by the session that owns it.
"""

from array import array
from collections import deque
from collections.abc import Sequence
from typing import Final

from . import _core, _envelope, _sse
from ._core import CData, Scratch, ffi, lib
from ._errors import EnvelopeError, FramingError, MessageTooLargeError, TruncatedStreamError
from ._events import Chunk, Limits
from ._keys import PublicKey, SecretKey, SigningKey
from ._typing import Buffer, Usage

_FIRST_SCRATCH: Final = 4096
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around a reply's ciphertext
_BATCH: Final = 64  # events that one call opens at most
_OK: Final = lib.AC_OK
_PUNT: Final = lib.AC_PUNT
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_ROW: Final = lib.AC_V1_SPANS + lib.AC_V1_SPAN * _BATCH  # numbers that it gives back
_ONE: Final = lib.AC_V1_SPANS + lib.AC_V1_SPAN  # the numbers of a call that has opened one
_NO_DATA: Final = b""
_new_chunk: Final = tuple.__new__  # half the price of Chunk(...), which is one Python function more
_ONLY_BYTES: Final = {bytes}
_SIZE_MAX: Final = 2 ** (8 * ffi.sizeof("size_t")) - 1
# size_t as the array module calls it
_SIZE_T: Final = next(code for code in "QLI" if array(code).itemsize == ffi.sizeof("size_t"))


class V1Sealer:
    """A node's side of one v1 exchange: made by opening the request, it seals the answer.

    A call takes the scratch out of `_spare` and puts it back once its output is copied: nobody writes to it in between,
    and where that is interrupted, or a second thread asks, another is made.
    """

    __slots__ = ("_max_event_bytes", "_native", "_spare")

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_sealer *", lib.ac_v1_sealer_wipe)
        self._max_event_bytes = min(limits.max_event_bytes, _SIZE_MAX)
        self._spare: list[Scratch] = []

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

    def _room(self, need: int) -> Scratch:
        """A scratch for one call: the spare one, unless `need` bytes do not fit."""
        if need == _SIZE_MAX:
            raise ValueError("the plaintext is too long for one message")
        try:
            scratch = self._spare.pop()
        except IndexError:
            return Scratch(max(need, _FIRST_SCRATCH))
        return scratch if scratch.cap >= need else Scratch(max(need, 2 * scratch.cap))

    def _taken(self, scratch: Scratch) -> bytes:
        """What C has written, copied."""
        message = scratch.view[: scratch.len[0]]
        self._spare.append(scratch)
        return message  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def event(self, plaintext: Buffer, usage: bytes) -> bytes:
        """One finished SSE event. ValueError: it would be longer than the limit; nothing was spent."""
        if type(plaintext) is bytes:
            text, length = plaintext, len(plaintext)
        else:
            text, length = _core.lend(plaintext, "plaintext")
        spare = self._spare
        try:
            scratch = spare.pop()
        except IndexError:
            scratch = Scratch(_FIRST_SCRATCH)
        cap = scratch.cap
        cap = min(cap, self._max_event_bytes)
        status = lib.ac_v1_event_seal(
            self._native, scratch.ptr, cap, scratch.len, text, length, usage, len(usage)
        )
        if status:
            if status != _CAPACITY:
                raise _core.error(status)
            need = lib.ac_v1_event_bytes(self._native, length, len(usage))
            if need > self._max_event_bytes:
                raise ValueError(f"the event would be longer than the limit of {self._max_event_bytes} bytes")
            spare.append(Scratch(max(need, 2 * scratch.cap)))
            return self.event(plaintext, usage)
        event = scratch.view[: scratch.len[0]]
        spare.append(scratch)
        return event  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def events(self, plaintexts: Sequence[Buffer], usage: bytes) -> bytes:
        """All of them, or none, joined. Errors as for one."""
        parts: list[Buffer] = list(plaintexts)
        if not parts:
            return b""
        if set(map(type, parts)) != _ONLY_BYTES:  # looked at and copied once: they may change under us
            for place, plaintext in enumerate(parts):
                _core.lend(plaintext, "each plaintext")
                parts[place] = bytes(plaintext)
        lens = array(_SIZE_T, map(len, parts))
        joined = b"".join(parts)
        lens_c = ffi.from_buffer("size_t[]", lens)
        count = len(lens)
        need = lib.ac_v1_events_bytes(self._native, len(joined), lens_c, count, len(usage))
        # only then may one of them be too long
        if need > self._max_event_bytes and (
            lib.ac_v1_event_bytes(self._native, max(lens), len(usage)) > self._max_event_bytes
        ):
            raise ValueError(f"an event would be longer than the limit of {self._max_event_bytes} bytes")
        scratch = self._room(need)
        status = lib.ac_v1_events_seal(
            self._native, scratch.ptr, scratch.cap, scratch.len, joined, len(joined), lens_c, count, usage, len(usage)
        )
        _core.check(status)
        return self._taken(scratch)

    def reply(self, plaintext: Buffer, usage: bytes) -> bytes:
        """The JSON object that answers a request which is not a stream."""
        text, length = _core.lend(plaintext, "body")
        scratch = self._room(lib.ac_v1_reply_bytes(self._native, length, len(usage)))
        status = lib.ac_v1_reply_seal(
            self._native, scratch.ptr, scratch.cap, scratch.len, text, length, usage, len(usage)
        )
        _core.check(status)
        return self._taken(scratch)

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is sealing."""
        _core.check(lib.ac_v1_sealer_close(self._native))
        self._spare.clear()


class V1Opener:
    """A client's side of one v1 exchange: made by sealing the request, it opens the answer."""

    __slots__ = (
        *("_data", "_found", "_limits", "_native", "_pos", "_ready", "_received", "_scratch"),
        *("chunk_count", "nonce_reused", "usage"),
    )

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_opener *", lib.ac_v1_opener_wipe)
        self._limits = limits
        self._scratch: Scratch | None = None
        self._found: CData = ffi.NULL
        self._received: deque[bytes] = deque()  # and not looked at
        self._data: bytes | bytearray = _NO_DATA
        self._pos = 0  # bytes of _data that are done with
        self._ready: deque[Chunk] = deque()  # opened, and not given yet
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

    def receive(self, received: Buffer) -> None:
        """Take bytes of a stream, in pieces of any size; of bytes no copy is made. May be called by any thread."""
        if type(received) is not bytes:
            _core.lend(received, "received")
            received = bytes(received)
        self._received.append(received)

    def _join(self) -> None:
        """Put what was received behind what is left over."""
        if not isinstance(self._data, bytearray):
            self._data = bytearray(memoryview(self._data)[self._pos :])
        else:
            del self._data[: self._pos]
        self._pos = 0
        while self._received:
            self._data += self._received.popleft()

    def next_chunk(self) -> Chunk | None:
        """The chunk of the next complete event; all that are complete are opened at once. None: bytes are needed."""
        if self._ready:
            return self._ready.popleft()
        if self._received:
            if self._pos == len(self._data):
                self._data, self._pos = self._received.popleft(), 0
            if self._received:
                self._join()
        while (pos := self._pos) != len(self._data):
            scratch, data, found = self._scratch or self._room(_FIRST_SCRATCH), self._data, self._found
            if pos == 0 and type(data) is bytes:  # the common case: cffi takes bytes as they are
                status = lib.ac_v1_events_open(self._native, scratch.ptr, scratch.cap, found, _BATCH, data, len(data))
            else:
                with ffi.from_buffer("uint8_t[]", data) as start:
                    status = lib.ac_v1_events_open(
                        self._native, scratch.ptr, scratch.cap, found, _BATCH, start + pos, len(data) - pos
                    )
            if status == _OK:
                count, consumed, _, self.nonce_reused, _, length, _, usage_len = ffi.unpack(found, _ONE)
                self._pos = pos + consumed
                if count == 1 and not usage_len:
                    index = self.chunk_count
                    self.chunk_count = index + 1
                    return _new_chunk(Chunk, (scratch.view[:length], index, None))
                if count == 0:
                    return None
                self._take(count, pos, scratch)
                return self._ready.popleft()
            if status == _PUNT:
                return self._open_any()
            if status != _CAPACITY:
                raise _core.error(status, FramingError)
            self._room(found[lib.AC_V1_OUT_LEN])
        return None

    def put_back(self, chunk: Chunk) -> None:
        """Give it once more, next."""
        self._ready.appendleft(chunk)

    def _take(self, count: int, pos: int, scratch: Scratch) -> None:
        """Copy what the core has opened."""
        spans = iter(ffi.unpack(self._found + lib.AC_V1_SPANS, lib.AC_V1_SPAN * count))
        begin = 0
        for length, usage_pos, usage_len in zip(spans, spans, spans, strict=True):
            usage = None
            if usage_len:
                at = pos + usage_pos
                usage = self.usage = _envelope.read_usage(bytes(self._data[at : at + usage_len]), FramingError)
            self._ready.append(_new_chunk(Chunk, (scratch.view[begin : begin + length], self.chunk_count, usage)))
            self.chunk_count += 1
            begin += length

    def _open_any(self) -> Chunk:
        """An event that the C reader leaves to the general parsers: it has data, and that is not `[DONE]`."""
        begin = self._pos + self._found[lib.AC_V1_PUNT_POS]
        self._pos += self._found[lib.AC_V1_CONSUMED]
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
            self._found = ffi.new("size_t[]", _ROW)
        if scratch is None or scratch.cap < need:
            scratch = self._scratch = Scratch(max(need, _FIRST_SCRATCH, 2 * scratch.cap if scratch else 0))
        return scratch

    def end(self) -> None:
        """The bytes have ended, and chunks() has said that no complete event is left. TruncatedStreamError."""
        if lib.ac_v1_events_unfinished(self._native, len(self._data) - self._pos):
            raise TruncatedStreamError("the stream ended inside an event")

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is opening."""
        _core.check(lib.ac_v1_opener_close(self._native))
        self._scratch = None
        self._ready.clear()
        self._received.clear()
        self._data = _NO_DATA
        self._pos = 0
