"""A handle on the core's v1 opener, and what was received and opened and is not given yet."""

from collections import deque
from typing import Final, TypeAlias

from . import _core, _envelope, _sse
from ._core import SIZE_MAX, CData, Scratch, ffi, lib
from ._errors import ConcurrentUseError, EnvelopeError, FramingError, MessageTooLargeError, TruncatedStreamError
from ._events import Chunk, Limits
from ._keys import PublicKey
from ._typing import Buffer, Usage

_FIRST_SCRATCH: Final = 4096
_AT_ONCE: Final = 48 << 10  # bytes that events received together are opened into; a larger one still gets its room
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around a reply's ciphertext
_SPAN: Final = lib.AC_V1_SPAN
_ONE: Final = lib.AC_ONE
_PUNT: Final = lib.AC_PUNT
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_NO_DATA: Final = b""
_events_open: Final = lib.ac_v1_events_open  # looked up once, as it is called for each chunk
# A scratch, and before it what opening one event takes and reads: events, view.
_Place: TypeAlias = tuple[CData, CData, Scratch]
_new_chunk: Final = tuple.__new__  # half the price of Chunk(...), which is one Python function more


class V1Opener:
    """A client's side of one v1 exchange: made by sealing the request, it opens the answer.

    Whoever reads takes the place out of `_idle` or `_held` and puts it back when all is in order again: there is one,
    so that no two threads read, and an interrupted one leaves none. It lies in `_idle` where nothing is left over of
    what was received before.
    """

    __slots__ = (
        *(
            "_closed",
            "_data",
            "_events",
            "_held",
            "_idle",
            "_limits",
            "_native",
            "_place",
            "_pos",
            "_scratch",
            "_status",
        ),
        *("chunk_count", "nonce_reused", "ready", "received", "usage"),
    )

    def __init__(self, limits: Limits) -> None:
        self._native: CData = _core.new("ac_v1_opener *", lib.ac_v1_opener_wipe)
        self._limits = limits
        self._scratch: Scratch | None = None
        self._events: CData = ffi.NULL
        self._place: _Place | None = None
        self._idle: list[_Place] = []
        self._held: list[_Place | None] = [None]
        self._closed = False
        self._data: bytes | bytearray = _NO_DATA
        self._pos = 0  # bytes of _data that are done with
        self._status: int | None = None  # what the core has said of the rest of _data, if it was asked
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

    def next_one(self) -> Chunk | None:
        """The next chunk in the commonest of cases: what was received next is one event. None: see next_chunk()."""
        if self.ready:
            try:
                return self.ready.popleft()
            except IndexError:  # another thread has it
                return None
        try:
            place = self._idle.pop()
        except IndexError:  # something is left over, or another thread is reading
            return None
        if not self.received:
            self._idle.append(place)
            return None
        data = self.received.popleft()
        events, view, _ = place
        status = _events_open(events, data, len(data))
        if status >= _ONE:
            index = self.chunk_count
            self.chunk_count = index + 1
            chunk: Chunk = _new_chunk(Chunk, (view[: status - _ONE], index, None))
            self._idle.append(place)
            return chunk
        self._data, self._pos, self._status = data, 0, status
        self._held.append(place)
        return None

    def wants_data(self) -> bool:
        """Whether nothing is left to be looked at."""
        return bool(self._idle) and not self.received

    def take(self) -> bool:
        """Be the one who reads; the caller owes a give(). False: another thread is, or was when it was interrupted."""
        for places in (self._idle, self._held):
            try:
                places.pop()
            except IndexError:
                continue
            return True
        return False

    def give(self) -> None:
        """All is in order again."""
        place = self._place
        if place is None or self._pos != len(self._data) or self.ready:
            self._held.append(place)
        else:
            self._idle.append(place)

    def next_chunk(self) -> Chunk | None:
        """The chunk of the next complete event; all that are complete are opened at once. None: bytes are needed.

        The caller has taken the place.
        """
        chunk = self._opened_before()  # by now: another thread has read
        if chunk is not None:
            return chunk
        while True:
            status, self._status = self._status, None
            if status is None:  # else the core was asked, and what it has opened lies where it is
                if not self._gather():
                    return None
                data, pos = self._data, self._pos
                self._room(min(len(data) - pos, _AT_ONCE))
                if pos == 0 and type(data) is bytes:  # cffi takes bytes as they are
                    status = _events_open(self._events, data, len(data))
                else:
                    with ffi.from_buffer("uint8_t[]", data) as start:
                        status = _events_open(self._events, start + pos, len(data) - pos)
            if status == _CAPACITY:
                self._room(self._events.out_len)
                continue
            if status == _PUNT:
                return self._open_any()
            if status < 0:
                raise _core.error(status, FramingError)
            chunk = self._take_first(self._room(0))
            # none: another thread has taken them all, or what was looked at has none and more was received meanwhile
            if chunk is not None or not (self._events.count or self.received):
                return chunk

    def _gather(self) -> bool:
        """Put what was received behind what is left over; False: there is nothing to be looked at."""
        if self._pos == len(self._data):
            if not self.received:
                return False
            self._data, self._pos = self.received.popleft(), 0
        if self.received:
            self._join()
        return self._pos != len(self._data)

    def put_back(self, chunk: Chunk) -> None:
        """Give it once more, next."""
        self.ready.appendleft(chunk)

    def _take_first(self, scratch: Scratch) -> Chunk | None:
        """Copy what the core has opened; the first of it, if there is any that no other thread has taken."""
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
        return self._opened_before()

    def _opened_before(self) -> Chunk | None:
        try:
            return self.ready.popleft() if self.ready else None
        except IndexError:  # another thread has it
            return None

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
            self._events.opener, self._events.event_cap = self._native, lib.AC_V1_EVENTS
        if scratch is None or scratch.cap < need:
            scratch = self._scratch = Scratch(max(need, _FIRST_SCRATCH, 2 * scratch.cap if scratch else 0))
            self._events.out, self._events.out_cap = scratch.ptr, scratch.cap
            self._place = self._events, scratch.view, scratch
        return scratch

    def end(self) -> None:
        """The bytes have ended, and chunks() has said that no complete event is left. TruncatedStreamError."""
        if lib.ac_v1_events_unfinished(self._native, len(self._data) - self._pos):
            raise TruncatedStreamError("the stream ended inside an event")

    def close(self, *, reading: bool = False) -> None:
        """Wipe. ConcurrentUseError: another thread is inside. `reading`: the caller is, or one who failed was."""
        if not reading and not self._closed and not self.take():
            raise ConcurrentUseError("another thread is inside this session, or was interrupted there")
        try:
            _core.check(lib.ac_v1_opener_close(self._native))
        except ConcurrentUseError:
            if not reading:
                self.give()
            raise
        self._closed = True
        self._scratch = self._place = None
        self._idle.clear()
        self._held.clear()
        self.ready.clear()
        self.received.clear()
        self._data = _NO_DATA
        self._pos = 0
