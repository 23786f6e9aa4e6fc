"""What a session may do when: the tables, and what all sessions share. Diagrams are made from these tables."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, TypeAlias

from . import _core
from ._errors import ConcurrentUseError, LocalProtocolError, SessionClosedError


class State(Enum):
    """Where a session stands."""

    IDLE = "idle"  # nothing was sealed or opened yet
    AWAIT_RESPONSE = "await response"  # client: one answer is to come
    AWAIT_EVENTS = "await events"  # client: events are to come
    EVENTS_ENDED = "events ended"  # client: no more bytes will come
    STREAM_ENDED = "stream ended"  # client: all events were given, and the end
    RESPOND = "respond"  # node: one answer is to be sealed
    STREAM = "stream"  # node: events are to be sealed
    REFUSED = "refused"  # node, v2: the request was admitted, and its body refused: that can be sealed
    DONE = "done"
    FAILED = "failed"
    CLOSED = "closed"

    __hash__ = object.__hash__  # there is one of each: a function of Python's less for each step


Action: TypeAlias = Literal[
    "seal_request",
    "seal_request, stream",
    "open_response",
    "receive_data",
    "receive_data, late",
    "receive_eof",
    "next_event",
    "next_event, end",
    "open_request",
    "open_request, stream",
    "open_request, refused",
    "seal_response",
    "seal_chunk",
    "finish",
    "abort",
]
Table: TypeAlias = dict[State, dict[Action, State]]

CLIENT_V1: Final[Table] = {
    State.IDLE: {"seal_request": State.AWAIT_RESPONSE, "seal_request, stream": State.AWAIT_EVENTS},
    State.AWAIT_RESPONSE: {"open_response": State.DONE},
    State.AWAIT_EVENTS: {
        "receive_data": State.AWAIT_EVENTS,
        "receive_eof": State.EVENTS_ENDED,
        "next_event": State.AWAIT_EVENTS,
    },
    State.EVENTS_ENDED: {
        "receive_eof": State.EVENTS_ENDED,
        "next_event": State.EVENTS_ENDED,
        "next_event, end": State.STREAM_ENDED,
    },
    State.STREAM_ENDED: {"receive_eof": State.STREAM_ENDED, "next_event": State.STREAM_ENDED},
}
NODE_V1: Final[Table] = {
    State.IDLE: {"open_request": State.RESPOND, "open_request, stream": State.STREAM},
    State.RESPOND: {"seal_response": State.DONE},
    State.STREAM: {"seal_chunk": State.STREAM, "finish": State.DONE},
}
# In v2 a stream says where it ends, and what comes behind that is looked at; one object can say that there is none,
# and nothing else.
CLIENT_V2: Final[Table] = {
    State.IDLE: {"seal_request": State.AWAIT_RESPONSE, "seal_request, stream": State.AWAIT_EVENTS},
    State.AWAIT_RESPONSE: {"open_response": State.DONE},
    State.AWAIT_EVENTS: {
        "open_response": State.FAILED,
        "receive_data": State.AWAIT_EVENTS,
        "receive_eof": State.EVENTS_ENDED,
        "next_event": State.AWAIT_EVENTS,
        "next_event, end": State.STREAM_ENDED,
    },
    State.EVENTS_ENDED: {
        "receive_eof": State.EVENTS_ENDED,
        "next_event": State.EVENTS_ENDED,
        "next_event, end": State.STREAM_ENDED,
    },
    State.STREAM_ENDED: {
        "receive_data, late": State.STREAM_ENDED,
        "receive_eof": State.STREAM_ENDED,
        "next_event": State.STREAM_ENDED,
    },
}
NODE_V2: Final[Table] = {
    State.IDLE: {
        "open_request": State.RESPOND,
        "open_request, stream": State.STREAM,
        "open_request, refused": State.REFUSED,
    },
    State.RESPOND: {"seal_response": State.DONE, "abort": State.DONE},
    State.STREAM: {"seal_chunk": State.STREAM, "finish": State.DONE, "abort": State.DONE},
    State.REFUSED: {"abort": State.DONE},
}
# A client's or a node's table for each protocol that it speaks.
CLIENT: Final[dict[str, Table]] = {"v1": CLIENT_V1, "v2": CLIENT_V2}
NODE: Final[dict[str, Table]] = {"v1": NODE_V1, "v2": NODE_V2}
# A session fails without needing memory for it, of which there may be none: to look up a member is to call a function.
FAILED: Final = State.FAILED
_CLOSED: Final = State.CLOSED
_NOTHING: Final[dict[Action, State]] = {}


def require_protocol(protocol: object, tables: dict[str, Table]) -> Table:
    """The table of a protocol. ValueError: no such protocol."""
    if not isinstance(protocol, str) or protocol not in tables:
        raise ValueError(f"protocol must be 'v1' or 'v2', not {protocol!r}")
    return tables[protocol]


_pid = os.getpid()  # asked for once: a system call for each chunk would cost too much


def _forked() -> None:
    global _pid  # noqa: PLW0603 - there is one process
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork()
    os.register_at_fork(after_in_child=_forked)


class Session(ABC):
    """Order of calls, one thread at a time, failure that stays, and an end that wipes.

    What is called for each chunk, and has nothing in Python to guard, goes without the lock while nobody is `_inside`:
    what it does is one step there, or the core's, which refuses a second thread.

    The lock belongs to a thread, so that an exception that strikes between two lines (KeyboardInterrupt) cannot lock
    that thread out: it finds `_inside` still set, and the session has failed.
    """

    __slots__ = ("_allowed", "_heirs", "_inside", "_lock", "_pid", "_state", "_table")

    def __init__(self, table: Table) -> None:
        self._lock = threading.RLock()
        self._inside = False
        self._pid = _pid
        self._heirs: dict[int, threading.RLock] = {}  # the locks of child processes
        self._table = table
        self._move(State.IDLE)

    def _move(self, state: State) -> None:
        self._state = state
        self._allowed = self._table.get(state, _NOTHING)

    def _step(self, action: Action) -> None:
        """An action that was begun has succeeded."""
        if action not in self._allowed:  # this thread has closed the session meanwhile, in a signal handler
            raise self._refusal(action)
        self._move(self._allowed[action])

    def _follow(self, table: Table) -> None:
        """Go on by another table, of the protocol that is known by now."""
        self._table = table
        self._allowed = table.get(self._state, _NOTHING)

    def _enter(self) -> None:
        if self._pid != _pid:
            self._inherit()
        if not self._lock.acquire(False):
            raise ConcurrentUseError("another thread is inside this session")

    def _inherit(self) -> None:
        # A child process: who holds the lock may be a thread that only the parent has. What that one has left
        # half done stays `_inside`. All threads of the child get one and the same lock.
        self._lock = self._heirs.setdefault(_pid, threading.RLock())
        self._pid = _pid

    def _begin(self, action: Action) -> None:
        """Enter for an action; the caller owes an _end. Refused, it has changed nothing."""
        if self._pid != _pid:  # as in _enter, without a call more for each chunk
            self._inherit()
        if not self._lock.acquire(False):
            raise ConcurrentUseError("another thread is inside this session")
        if self._inside or action not in self._allowed:
            self._refuse(action)
        self._inside = True

    def _refuse(self, action: Action) -> NoReturn:
        """Leave, the action being impossible."""
        if self._inside:
            self._fail()
            self._free()
            raise LocalProtocolError(
                f"{action.partition(',')[0]}: a call before was interrupted: the session has failed"
            )
        self._lock.release()
        raise self._refusal(action)

    def _free(self) -> None:
        """Leave, however often this thread has entered: the session holds nothing any more that needs the lock."""
        self._inside = False
        lock: Any = self._lock
        while lock._is_owned():  # as threading.Condition asks; a new lock instead needs memory, and there may be none
            lock.release()

    def _end(self) -> None:
        self._inside = False
        try:  # noqa: SIM105 - suppress() would cost a call for each chunk
            self._lock.release()
        except RuntimeError:
            pass  # this thread has entered a second time meanwhile (a signal handler), and that has freed the lock

    def _require(self, action: Action) -> None:
        """For what goes without the lock: refuse it where the lock would have."""
        self._begin(action)
        self._end()

    def _refusal(self, action: Action) -> LocalProtocolError:
        method = action.partition(",")[0]
        if self._state is State.CLOSED:
            return SessionClosedError(f"{method}: the session is closed")
        if self._state is State.FAILED:
            return LocalProtocolError(f"{method}: the session has failed before")
        return LocalProtocolError(f"{method} is not possible now: the session's state is {self._state.value!r}")

    def _judge(self, exc: BaseException) -> None:
        """After an error inside: whatever is not the caller's own, harmless mistake fails the session for good."""
        if _core.is_final(exc):
            self._fail()

    def _fail(self) -> None:
        if self._state is not _CLOSED:  # by another thread
            self._move(FAILED)
        try:  # noqa: SIM105 - contextlib is not worth its import here
            self._wipe()
        except ConcurrentUseError:
            pass  # a second thread is in the core: what is left is wiped by close(), or with the session

    @abstractmethod
    def _wipe(self) -> None:
        """Drop and wipe all that is secret; harmless when done twice."""

    def close(self) -> None:
        """Wipe the session's secrets; it can do nothing after that. ConcurrentUseError: another thread is inside."""
        self._enter()
        try:
            self._wipe()
            self._move(State.CLOSED)
        finally:
            self._free()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a session is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.value}>"


Clock: TypeAlias = Callable[[], float]
