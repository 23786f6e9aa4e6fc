"""Handles on the core's v1 sealer and opener. One thread at a time: the session that owns a handle sees to that."""

from array import array
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
_SPAN: Final = lib.AC_V1_SPAN
_SIZE_MAX: Final = 2 ** (8 * ffi.sizeof("size_t")) - 1
# size_t as the array module calls it
_SIZE_T: Final = next(code for code in "QLI" if array(code).itemsize == ffi.sizeof("size_t"))


class V1Sealer:
    """A node's side of one v1 exchange: made by opening the request, it seals the answer."""

    __slots__ = ("_len", "_native", "_scratch")

    def __init__(self) -> None:
        self._native: CData = _core.new("ac_v1_sealer *", lib.ac_v1_sealer_wipe)
        self._len: CData = ffi.new("size_t *")
        self._scratch: Scratch | None = None

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
            self._len,
            key.native,
            signing.native if signing is not None else ffi.NULL,
            members,
        )
        _core.check(status)
        return bytes(body.view[: self._len[0]])

    def _room(self, need: int) -> Scratch:
        if need == _SIZE_MAX:
            raise ValueError("the plaintext is too long for one message")
        scratch = self._scratch
        if scratch is None or scratch.cap < need:
            scratch = self._scratch = Scratch(max(need, _FIRST_SCRATCH, 2 * scratch.cap if scratch else 0))
        return scratch

    def event(self, plaintext: Buffer, usage: bytes, max_event_bytes: int) -> bytes:
        """One finished SSE event. ValueError: it would be longer than `max_event_bytes`; nothing was spent."""
        text, length = _core.lend(plaintext, "plaintext")
        need = lib.ac_v1_event_bytes(self._native, length, len(usage))
        if need > max_event_bytes:
            raise ValueError(f"the event would be longer than the limit of {max_event_bytes} bytes")
        scratch = self._room(need)
        status = lib.ac_v1_event_seal(
            self._native, scratch.ptr, scratch.cap, self._len, text, length, usage, len(usage)
        )
        if status:
            raise _core.error(status)
        return scratch.view[:need]  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def events(self, plaintexts: Sequence[Buffer], usage: bytes, max_event_bytes: int) -> bytes:
        """All of them, or none, joined. Errors as for one."""
        if not plaintexts:
            return b""
        parts = []  # looked at and copied once: they may change under us
        for plaintext in plaintexts:
            _core.lend(plaintext, "each plaintext")
            parts.append(bytes(plaintext))
        lens = array(_SIZE_T, map(len, parts))
        joined = b"".join(parts)
        if lib.ac_v1_event_bytes(self._native, max(lens), len(usage)) > max_event_bytes:
            raise ValueError(f"an event would be longer than the limit of {max_event_bytes} bytes")
        lens_c = ffi.from_buffer("size_t[]", lens)
        need = lib.ac_v1_events_bytes(self._native, len(joined), lens_c, len(lens), len(usage))
        scratch = self._room(need)
        status = lib.ac_v1_events_seal(
            self._native,
            scratch.ptr,
            scratch.cap,
            self._len,
            joined,
            len(joined),
            lens_c,
            len(lens),
            usage,
            len(usage),
        )
        _core.check(status)
        return scratch.view[:need]  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def reply(self, plaintext: Buffer, usage: bytes) -> bytes:
        """The JSON object that answers a request which is not a stream."""
        text, length = _core.lend(plaintext, "body")
        need = lib.ac_v1_reply_bytes(self._native, length, len(usage))
        scratch = self._room(need)
        status = lib.ac_v1_reply_seal(
            self._native, scratch.ptr, scratch.cap, self._len, text, length, usage, len(usage)
        )
        _core.check(status)
        return scratch.view[:need]  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is sealing."""
        _core.check(lib.ac_v1_sealer_close(self._native))
        self._scratch = None


class V1Opener:
    """A client's side of one v1 exchange: made by sealing the request, it opens the answer."""

    __slots__ = ("_chunks", "_data", "_limits", "_native", "_outputs", "_pos", "_scratch", "_sizes", "_spans", "_usage")

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_opener *", lib.ac_v1_opener_wipe)
        self._limits = limits
        self._scratch: Scratch | None = None
        self._spans: CData = ffi.NULL
        self._sizes: CData = ffi.new("size_t[4]")  # out_len, count, punt_pos, consumed
        self._outputs = tuple(self._sizes + place for place in range(4))
        self._data: bytes | bytearray = b""
        self._pos = 0  # bytes of _data that are done with
        self._chunks = 0
        self._usage: Usage | None = None

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
            self._sizes,
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
        return bytes(out.view[: self._sizes[0]])

    @property
    def chunk_count(self) -> int:
        """Chunks opened so far."""
        return self._chunks

    @property
    def usage(self) -> Usage | None:
        """The last usage shown."""
        return self._usage

    @property
    def nonce_reused(self) -> bool:
        """Whether two chunks came under one nonce."""
        return bool(self._native.nonce_reused)

    def reply(self, raw: bytes) -> bytes:
        """Open an answer that is not streamed."""
        limit = self._limits.max_response_bytes
        if len(raw) > limit // 3 * 4 + _REPLY_ALLOWANCE:
            raise MessageTooLargeError(f"the answer is longer than {limit} bytes")
        scratch = self._room(lib.ac_base64_decoded_max(len(raw)))
        sizes = self._sizes
        status = lib.ac_v1_reply_open(self._native, scratch.ptr, scratch.cap, *self._outputs[:3], raw, len(raw))
        if status == _PUNT:
            message = _envelope.read_sealed(raw, "the answer", EnvelopeError)
            plaintext = self._sealed(message, EnvelopeError)
            self._usage = message.usage
        else:
            if status:
                raise _core.error(status)
            plaintext = bytes(scratch.view[: sizes[0]])
            if sizes[2]:
                self._usage = _envelope.read_usage(raw[sizes[1] : sizes[1] + sizes[2]], EnvelopeError)
        if len(plaintext) > limit:
            raise MessageTooLargeError(f"the answer is longer than {limit} bytes")
        return plaintext

    def receive(self, received: Buffer) -> None:
        """Take bytes of a stream, in pieces of any size. Without a copy if nothing is left over and they are bytes."""
        length = _core.lend(received, "received")[1]
        if self._pos == len(self._data):
            self._data = received if type(received) is bytes else bytes(received)
            self._pos = 0
        elif length:
            if isinstance(self._data, bytes):
                self._data = bytearray(memoryview(self._data)[self._pos :])
            else:
                del self._data[: self._pos]
            self._pos = 0
            self._data += received

    def chunks(self) -> list[Chunk]:
        """The chunks of the next complete events, at most a batch. Empty: more bytes are needed."""
        while self._pos != len(self._data):
            if type(self._data) is bytes and self._pos == 0:  # the common case: cffi takes bytes as they are
                status = self._open(self._data, len(self._data))
            else:
                with ffi.from_buffer("uint8_t[]", self._data) as data:
                    status = self._open(data + self._pos, len(self._data) - self._pos)
            if status == _OK:
                return self._opened()
            if status == _PUNT:
                return [self._open_any()]
            if status == _CAPACITY:
                self._room(self._sizes[0])
            else:
                raise _core.error(status, FramingError)
        return []

    def _open(self, data: CData, length: int) -> int:
        """Let the core open what is complete."""
        scratch = self._scratch or self._room(_FIRST_SCRATCH)
        out_len, count, punt_pos, consumed = self._outputs
        return lib.ac_v1_events_open(
            self._native,
            scratch.ptr,
            scratch.cap,
            out_len,
            self._spans,
            _BATCH,
            count,
            punt_pos,
            consumed,
            data,
            length,
        )

    def _opened(self) -> list[Chunk]:
        """What the core has opened, copied out at once."""
        _, count, _, consumed = ffi.unpack(self._sizes, 4)
        base = self._pos
        self._pos += consumed
        view = self._room(_FIRST_SCRATCH).view
        spans = ffi.unpack(self._spans, _SPAN * count)
        found = []
        begin = 0
        for place in range(0, _SPAN * count, _SPAN):
            end = begin + spans[place]
            usage = None
            if spans[place + 2]:
                at = base + spans[place + 1]
                usage = self._usage = _envelope.read_usage(bytes(self._data[at : at + spans[place + 2]]), FramingError)
            found.append(Chunk(view[begin:end], self._chunks, usage))
            self._chunks += 1
            begin = end
        return found

    def _open_any(self) -> Chunk:
        """An event that the C reader leaves to the general parsers: it has data, and that is not `[DONE]`."""
        begin = self._pos + self._sizes[2]
        self._pos += self._sizes[3]
        data = _sse.data_of(bytes(self._data[begin : self._pos])) or b""
        message = _envelope.read_sealed(_sse.text_of(data), "an event", FramingError)
        plaintext = self._sealed(message, FramingError)
        if message.usage is not None:
            self._usage = message.usage
        self._chunks += 1
        return Chunk(plaintext, self._chunks - 1, message.usage)

    def _sealed(self, message: _envelope.SealedMessage, malformed: type[EnvelopeError | FramingError]) -> bytes:
        scratch = self._room(lib.ac_base64_decoded_max(len(message.ciphertext)))
        status = lib.ac_v1_sealed_open(
            self._native,
            scratch.ptr,
            scratch.cap,
            self._sizes,
            message.ciphertext,
            len(message.ciphertext),
            message.nonce,
            len(message.nonce),
            message.response_hash,
            len(message.response_hash),
        )
        if status:
            raise _core.error(status, malformed)
        return bytes(scratch.view[: self._sizes[0]])

    def _room(self, need: int) -> Scratch:
        scratch = self._scratch
        if scratch is None:
            self._spans = ffi.new("size_t[]", _SPAN * _BATCH)
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
        self._data = b""
        self._pos = 0
