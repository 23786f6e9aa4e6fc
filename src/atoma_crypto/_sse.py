"""Server-sent events (WHATWG HTML, section 9.2) in plain Python. Knows no keys.

For streams in clear, and for those events that the C reader leaves to the general case.
"""

from typing import Final

from ._errors import FramingError, MessageTooLargeError, TruncatedStreamError

_MARK: Final = b"\xef\xbb\xbf"  # a byte order mark: nothing, where a stream begins


def data_of(block: bytes) -> bytes | None:
    """The data of one event, given its lines: all `data` values joined by LF, or None if it has none."""
    values = []
    for line in block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None


class Decoder:
    """An event stream in clear, fed in pieces of any size.

    `max_event_bytes` bounds what is held back for one event: MessageTooLargeError. `begun`: this is the rest of a
    stream, in which a byte order mark is none.
    """

    __slots__ = ("_data", "_fields", "_line", "_max", "_size", "_skip_lf", "_start")

    def __init__(self, max_event_bytes: int = 16 << 20, *, begun: bool = False) -> None:
        self._data: list[bytes] = []  # the `data` values of the current event
        self._fields = False  # it has a line that is not a comment
        self._line = bytearray()  # its unfinished line
        self._size = 0
        self._skip_lf = False  # a CR ended the last line; a LF that follows belongs to it
        self._start = not begun
        self._max = max_event_bytes

    def feed(self, received: bytes) -> list[bytes]:
        """The data of each event that `received` completes, in order."""
        if not received:
            return []
        whole = not (self._line or self._fields) and received.endswith(b"\n\n") and b"\r" not in received
        if whole and len(received) <= self._max:
            # What nearly every server writes: events of one line each.
            plain = received[:-2].split(b"\n\n")
            if all(event.startswith(b"data: ") and b"\n" not in event for event in plain):
                self._start = self._skip_lf = False
                return [event[6:] for event in plain]
        ends_with_cr = received.endswith(b"\r")
        if self._skip_lf:
            received = received.removeprefix(b"\n")
        self._skip_lf = ends_with_cr
        lines = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        found = []
        for ended in lines[:-1]:
            self._hold(ended)
            line = bytes(self._line)
            self._line.clear()
            if self._start:
                line = line.removeprefix(_MARK)
                self._start = False
            if line.startswith(b":"):
                self._size -= len(line)
                continue
            if line:
                self._fields = True
                value = data_of(line)
                if value is None:
                    self._size -= len(line)
                else:
                    self._data.append(value)
                continue
            if self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
            self._fields = False
            self._size = 0
        self._hold(lines[-1])
        return found

    def _hold(self, piece: bytes) -> None:
        self._line += piece
        self._size += len(piece)
        if self._size > self._max:
            raise MessageTooLargeError(f"an event of the stream is longer than {self._max} bytes")

    def close(self) -> None:
        """The stream has ended. TruncatedStreamError if that was inside an event."""
        mark = self._start and self._line == _MARK
        if (self._line and not mark) or self._fields:
            raise TruncatedStreamError("the stream ended inside an event")


def text_of(data: bytes) -> str:
    """The data of an event as text. FramingError: not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FramingError("an event is not UTF-8") from None
