"""Handles on the core's openers, and what was received and opened and is not given yet: what both protocols share."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any, ClassVar, Final, TypeAlias

from . import _core, _sse
from ._core import CData, Scratch, ffi, lib
from ._errors import ConcurrentUseError, MessageTooLargeError
from ._events import Chunk, Limits
from ._typing import Usage

_FIRST_SCRATCH: Final = 4096
_AT_ONCE: Final = 48 << 10  # bytes that events received together are opened into; a larger one still gets its room
_REPLY_ALLOWANCE: Final = 64 << 10  # what stands around a reply's ciphertext
_ONE: Final = lib.AC_ONE
_PUNT: Final = lib.AC_PUNT
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_NO_DATA: Final = b""
# A scratch, and around it what opening one event takes and reads: events, view, and the function itself.
_Place: TypeAlias = tuple[CData, CData, Scratch, Any]
new_chunk: Final = tuple.__new__  # half the price of Chunk(...), which is one Python function more


class Opener(ABC):
    """A client's side of one exchange: made by sealing the request, it opens the answer.

    Whoever reads takes the place out of `_idle` or `_held` and puts it back when all is in order again: there is one,
    so that no two threads read, and an interrupted one leaves none. It lies in `_idle` where nothing is left over of
    what was received before, and nothing is to be said but that bytes are needed.
    """

    __slots__ = (
        *(
            "_closed",
            "_data",
            "_events",
            "_held",
            "_idle",
            "_limits",
            "_memory",
            "_native",
            "_place",
            "_pos",
            "_scratch",
            "_status",
        ),
        *("abort", "chunk_count", "ended", "nonce_reused", "ready", "received", "usage"),
    )

    _type: ClassVar[str]  # of the native object and of what its events are opened with, and their functions
    _wipe: ClassVar[Any]
    _events_type: ClassVar[str]
    _events_at_once: ClassVar[int]
    _events_open: ClassVar[Any]
    _close: ClassVar[Any]

    def __init__(self, limits: Limits) -> None:
        self._memory, self._native = _core.new(self._type, self._wipe)
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
        self.ended = False  # whether a record said that it is the last
        self.abort: Exception | None = None  # what that one is to be raised as, if it is no end
        self.usage: Usage | None = None  # the last one shown

    def __reduce__(self) -> str:
        raise TypeError("an opener is not to be pickled or copied")

    @abstractmethod
    def reply(self, raw: bytes) -> bytes:
        """Open an answer that is one object; the caller has taken the place."""

    @abstractmethod
    def end(self) -> None:
        """The bytes have ended, and next_chunk() has said that no complete event is left. TruncatedStreamError."""

    @abstractmethod
    def _error(self, status: int) -> Exception:
        """What a status of the core says about an event."""

    @abstractmethod
    def _append(self, scratch: Scratch) -> None:
        """Copy the plaintexts of the events that the core has opened to `ready`."""

    @abstractmethod
    def _open_text(self, text: str) -> Chunk | None:
        """Open an event, given its data, which the C reader leaves to the general parser. None: it ends the stream."""

    def answer(self, raw: bytes) -> bytes:
        """As reply(), alone: the session's lock keeps no thread out that reads events. ConcurrentUseError."""
        if not self.take():
            raise ConcurrentUseError("another thread is inside this session, or was interrupted there")
        try:
            return self.reply(raw)
        finally:
            self.give()

    def _room_for_reply(self, raw: bytes) -> Scratch:
        limit = self._limits.max_response_bytes
        if len(raw) > limit // 3 * 4 + _REPLY_ALLOWANCE:
            raise self._reply_too_large()
        return self._room(lib.ac_base64_decoded_max(len(raw)))

    def _reply_too_large(self) -> MessageTooLargeError:
        return MessageTooLargeError(f"the answer is longer than {self._limits.max_response_bytes} bytes")

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
        events, view, _, events_open = place
        status = events_open(events, data, len(data))
        if status >= _ONE:
            index = self.chunk_count
            self.chunk_count = index + 1
            chunk: Chunk = new_chunk(Chunk, (view[: status - _ONE], index, None))
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
        if place is None or self._pos != len(self._data) or self.ready or self.ended:
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
            if self.ended:
                return None
            status, self._status = self._status, None
            if status is None:  # else the core was asked, and what it has opened lies where it is
                if not self._gather():
                    return None
                data, pos = self._data, self._pos
                self._room(min(len(data) - pos, _AT_ONCE))
                if pos == 0 and type(data) is bytes:  # cffi takes bytes as they are
                    status = self._events_open(self._events, data, len(data))
                else:
                    with ffi.from_buffer("uint8_t[]", data) as start:
                        status = self._events_open(self._events, start + pos, len(data) - pos)
            if status == _CAPACITY:
                self._room(self._events.out_len)
                continue
            if status == _PUNT:
                return self._open_any()
            if status < 0:
                raise self._error(status)
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
        self._append(scratch)
        self._pos += self._events.consumed
        return self._opened_before()

    def _opened_before(self) -> Chunk | None:
        try:
            return self.ready.popleft() if self.ready else None
        except IndexError:  # another thread has it
            return None

    def _open_any(self) -> Chunk | None:
        """An event that the C reader leaves to the general parsers: it has data."""
        begin = self._pos + self._events.punt_pos
        self._pos += self._events.consumed
        data = _sse.data_of(bytes(self._data[begin : self._pos])) or b""
        return self._open_text(_sse.text_of(data))

    def _room(self, need: int) -> Scratch:
        scratch = self._scratch
        if scratch is None:
            self._events = ffi.new(self._events_type)
            self._events.opener, self._events.event_cap = self._native, self._events_at_once
        if scratch is None or scratch.cap < need:
            scratch = self._scratch = Scratch(max(need, _FIRST_SCRATCH, 2 * scratch.cap if scratch else 0))
            self._events.out, self._events.out_cap = scratch.ptr, scratch.cap
            self._place = self._events, scratch.view, scratch, self._events_open
        return scratch

    def conclude(self) -> None:
        """The end was reached: wipe. The caller has taken the place."""
        self.close(reading=True)

    def late(self) -> None:  # noqa: B027 - not every protocol has an end of its own
        """Look at what was received behind the end."""

    def close(self, *, reading: bool = False) -> None:
        """Wipe. ConcurrentUseError: another thread is inside. `reading`: the caller is, or one who failed was."""
        if not reading and not self._closed and not self.take():
            raise ConcurrentUseError("another thread is inside this session, or was interrupted there")
        try:
            _core.check(self._close(self._native))
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
