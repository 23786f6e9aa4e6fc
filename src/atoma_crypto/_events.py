"""The values that sessions give and take."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple

from ._typing import Protocol, Usage


class _NeedData(Enum):
    NEED_DATA = "NEED_DATA"

    def __repr__(self) -> str:
        return "NEED_DATA"


NEED_DATA: Final = _NeedData.NEED_DATA
NeedData = Literal[_NeedData.NEED_DATA]


class Chunk(NamedTuple):  # on the per-event path: half the price of a frozen dataclass
    """One verified event of a stream: its plaintext, its number from 0, and the usage shown beside it, if any.

    `usage` stood in clear beside the ciphertext: in protocol v1 nothing protects it, in v2 it was verified.
    """

    plaintext: bytes
    index: int  # type: ignore[assignment] # hides tuple.index, for which a chunk has no use
    usage: Usage | None

    def __repr__(self) -> str:
        return f"Chunk(<{len(self.plaintext)} bytes>, index={self.index}, usage={self.usage!r})"


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The end of a stream. In protocol v1 it ended where an event ended, and nothing proves that this was its true end.

    `chunk_count` is how many chunks came; `usage` is the last one shown, in v2 a running total that was verified.
    """

    chunk_count: int
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a node has opened.

    `body` is the plaintext, bytes of a JSON object, perhaps with spaces behind it. All else stood in clear in the
    envelope. v2 binds it to the body; in v1 nothing does but `stream`, which was compared. `endpoint` is None in v1,
    whose envelope does not name it, and `stack_small_id` may be None in v2.
    """

    body: bytes = field(repr=False)
    model: str
    stack_small_id: int | None
    num_compute_units: int | None
    stream: bool
    endpoint: str | None
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session takes from its peer, in bytes; longer is MessageTooLargeError. A node keeps its own events to it.

    `max_request_bytes`: a request envelope as received. `max_response_bytes`: the plaintext of an answer that is not
    streamed. `max_event_bytes`: one event of a stream as received. `max_line_bytes`: a line of it without data.
    """

    max_request_bytes: int = 32 << 20
    max_response_bytes: int = 64 << 20
    max_event_bytes: int = 2 << 20
    max_line_bytes: int = 64 << 10

    def __post_init__(self) -> None:
        for name in ("max_request_bytes", "max_response_bytes", "max_event_bytes", "max_line_bytes"):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} must be int, not {type(value).__name__}")
            if not 64 <= value <= 1 << 40:
                raise ValueError(f"{name} must be 64 to 2^40 bytes, not {value}")
