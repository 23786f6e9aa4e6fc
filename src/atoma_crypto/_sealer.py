"""Handles on the core's sealers, which let one thread at a time in: what both protocols share."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeAlias

from . import _core
from ._core import SIZE_MAX, CData, Scratch, ffi, lib
from ._events import Limits
from ._typing import Buffer, Usage

_FIRST_SCRATCH: Final = 4096
_CAPACITY: Final = lib.AC_ERR_CAPACITY
_ARGUMENT: Final = lib.AC_ERR_ARGUMENT
_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("uint8_t[]")
# A scratch, and around it what a call for one event takes and reads: sealer, ptr, cap, view, and the function itself.
_Place: TypeAlias = tuple[CData, CData, int, CData, Scratch, Any]
# The last two arguments of what seals events: the usage that they show, and what else the protocol has to say.
Shown: TypeAlias = tuple[Any, Any]
# size_t as the array module calls it; L is the fastest to make
_SIZE_T: Final = next(code for code in "LQI" if array(code).itemsize == ffi.sizeof("size_t"))


class Sealer(ABC):
    """A node's side of one exchange: made by opening the request, it seals the answer.

    A call takes the place out of `_places` and puts it back once its output is copied: nobody writes to it in between,
    and where that is interrupted, or a second thread asks, another is made.
    """

    __slots__ = ("_max_event_bytes", "_memory", "_native", "_places")

    _type: ClassVar[str]  # of the native object, and its functions
    _wipe: ClassVar[Any]
    _event_seal: ClassVar[Any]
    _events_seal: ClassVar[Any]
    _close: ClassVar[Any]
    _nothing_shown: ClassVar[Shown]
    _takes_empty: ClassVar[bool]  # whether an event can be of an empty plaintext

    def __init__(self, limits: Limits) -> None:
        self._memory, self._native = _core.new(self._type, self._wipe)
        self._max_event_bytes = min(limits.max_event_bytes, SIZE_MAX)
        self._places: list[_Place] = []

    def __reduce__(self) -> str:
        raise TypeError("a sealer is not to be pickled or copied")

    @abstractmethod
    def shown(self, usage: Usage) -> Shown:
        """To be asked for before a call is begun: it runs the caller's code. TypeError, ValueError: no usage."""

    @abstractmethod
    def _size(self, length: int, lens: CData, count: int, shown: Shown) -> int:
        """Of `count` events, joined; SIZE_MAX: impossible."""

    @abstractmethod
    def reply(self, plaintext: Buffer, shown: Shown | None) -> bytes:
        """The JSON object that answers a request which is not a stream."""

    @abstractmethod
    def finish(self, shown: Shown | None) -> bytes:
        """The end of a stream, as it is written; then it can seal no more. ConcurrentUseError: a thread is sealing."""

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
        return self._native, scratch.ptr, cap, scratch.view, scratch, self._event_seal

    def _taken(self, place: _Place) -> bytes:
        """What C has written, copied."""
        _, _, _, view, scratch, _ = place
        message = view[: scratch.len[0]]
        self._places.append(place)
        return message  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def event(self, plaintext: Buffer, shown: Shown | None) -> bytes:
        """One finished SSE event. ValueError: it would be longer than the limit; nothing was spent."""
        if shown is not None or type(plaintext) is not bytes:
            return self._event(plaintext, shown)
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._event(plaintext, shown)
        native, ptr, cap, view, _, seal = place
        written = seal(native, ptr, cap, plaintext, len(plaintext))
        if written < 0:
            if written not in (_CAPACITY, _ARGUMENT):
                raise _core.error(written)
            self._places.append(place)
            return self._event(plaintext, shown)
        event = view[:written]
        self._places.append(place)
        return event  # type: ignore[no-any-return] # a slice of a cffi buffer is bytes

    def _event(self, plaintext: Buffer, shown: Shown | None) -> bytes:
        """As `event`, from any buffer, of any size."""
        text, length = _core.lend(plaintext, "plaintext")
        if not length and not self._takes_empty:
            raise ValueError("the plaintext of an event must not be empty")
        return self._one(text, length, shown or self._nothing_shown)

    def _one(self, text: CData, length: int, shown: Shown) -> bytes:
        lens = ffi.new("size_t *", length)
        need = self._size(length, lens, 1, shown)
        if need > self._max_event_bytes:
            raise ValueError(f"the event would be longer than the limit of {self._max_event_bytes} bytes")
        place = self._place(need)
        native, ptr, cap, _, scratch, _ = place
        _core.check(self._events_seal(native, ptr, cap, scratch.len, text, length, lens, 1, *shown))
        return self._taken(place)

    def events(self, plaintexts: Sequence[Buffer], shown: Shown | None) -> bytes:
        """All of them, or none, joined. Errors as for one."""
        parts = list(plaintexts)
        shown = shown or self._nothing_shown
        if not parts:
            return b""
        try:  # copied once: they may change under us
            joined = b"".join(parts)
            lens = array(_SIZE_T, list(map(len, parts)))
        except TypeError:  # it says which of them is at fault
            return self._events(parts, shown)
        try:
            place = self._places.pop()
        except IndexError:  # the first one, or another thread has it
            return self._events(parts, shown)
        native, ptr, cap, _, scratch, _ = place
        lens_c = ffi.from_buffer("size_t[]", lens)
        status = self._events_seal(native, ptr, cap, scratch.len, joined, len(joined), lens_c, len(lens), *shown)
        if status in (_CAPACITY, _ARGUMENT):  # also where a memoryview's len() is not its bytes: they do not add up
            self._places.append(place)
            return self._events(parts, shown)
        _core.check(status)
        return self._taken(place)

    def _events(self, plaintexts: list[Buffer], shown: Shown) -> bytes:
        """As `events`, of any size."""
        for plaintext in plaintexts:
            _core.lend(plaintext, "each plaintext")
        parts = [bytes(plaintext) for plaintext in plaintexts]
        if b"" in parts and not self._takes_empty:
            raise ValueError("the plaintext of an event must not be empty")
        joined = b"".join(parts)
        longest = max(map(len, parts))
        if self._size(longest, ffi.new("size_t *", longest), 1, shown) > self._max_event_bytes:
            raise ValueError(f"an event would be longer than the limit of {self._max_event_bytes} bytes")
        lens = ffi.new("size_t[]", list(map(len, parts)))
        place = self._place(self._size(len(joined), lens, len(lens), shown))
        native, ptr, _, _, scratch, _ = place
        status = self._events_seal(native, ptr, scratch.cap, scratch.len, joined, len(joined), lens, len(lens), *shown)
        _core.check(status)
        return self._taken(place)

    def close(self) -> None:
        """Wipe. ConcurrentUseError: another thread is sealing."""
        _core.check(self._close(self._native))
        self._places.clear()
