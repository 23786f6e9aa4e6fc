"""KeyboardInterrupt at a chosen point of a session's code, and calls of every kind to be interrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _state, _xwing, client, node
from atoma_crypto._core import ffi
from atoma_crypto._typing import Protocol, Suite
from helpers import USAGE, SessionPair, native, new_client, new_node

Session = ac.ClientSession | ac.NodeSession
FILES: Final = {module.__file__ for module in (_state, client, node, _xwing)}


class Striking:
    """Raises KeyboardInterrupt at the n-th point (call, line or return) of the sessions' own code, and of X-Wing's."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self._trace

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def key_is_gone(session: Session) -> bool:
    held = native(session)
    return not any(bytes(ffi.buffer(ffi.addressof(held, "aes" if hasattr(held, "aes") else "key"))))


# What is called again, after an interrupt, brings the same bytes, and v2 takes nothing twice.
REFUSED: Final[dict[Protocol, tuple[type[Exception], ...]]] = {"v1": (), "v2": (ac.RemoteProtocolError,)}


def sealing(protocol: Protocol = "v1") -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    return pair.node, lambda: (pair.node.seal_chunk(b"x", USAGE), pair.node.seal_chunks([b"y"]))


def finishing(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    return pair.node, pair.node.finish


def aborting(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    return pair.node, lambda: pair.node.abort("CODE", "message", 500)


def receiving(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    raw = pair.node.seal_chunks([b"x", b"y"])
    pair.client._warned = True  # what was interrupted is called again, with the same bytes

    def call() -> None:
        pair.client.receive_data(raw)
        with suppress(*REFUSED[protocol]):
            for _ in range(2):
                pair.client.next_event()

    return pair.client, call


def ending(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    raw = pair.node.seal_chunk(b"x") + pair.node.finish() if protocol == "v2" else b""

    def call() -> None:
        if pair.client._state is _state.State.AWAIT_EVENTS and raw:
            pair.client.receive_data(raw)
        pair.client.receive_eof()
        with suppress(*REFUSED[protocol]):
            for _ in range(3):
                pair.client.next_event()

    return pair.client, call


def looking_behind(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.finish() + b": left\n\n")
    assert isinstance(pair.client.next_event(), ac.EndOfStream)

    def call() -> None:
        pair.client.receive_data(b": more\n\n")
        pair.client.next_event()

    return pair.client, call


def opening(protocol: Protocol, suite: Suite = "X25519") -> tuple[Session, Callable[[], object]]:
    session = new_node(suite=suite)
    raw = new_client(protocol=protocol, suite=suite).seal_request(b'{"stream":true}', stream=True)
    return session, lambda: session.open_request(raw)


def requesting(protocol: Protocol, suite: Suite = "X25519") -> tuple[Session, Callable[[], object]]:
    session = new_client(protocol=protocol, suite=suite)
    return session, lambda: session.seal_request(b"{}", stream=False)


def answering(protocol: Protocol) -> tuple[Session, Callable[[], object]]:
    pair = SessionPair(protocol=protocol, stream=False)
    raw = pair.node.seal_response(b"x")
    return pair.client, lambda: pair.client.open_response(raw)


BOTH: Final[list[Callable[[Protocol], tuple[Session, Callable[[], object]]]]] = [
    *(sealing, receiving, ending, opening, requesting, answering)
]
V2_ALONE: Final = [finishing, aborting, looking_behind]
CASES: Final = [
    *(pytest.param(partial(make, "v1"), id=f"{make.__name__} v1") for make in BOTH),
    *(pytest.param(partial(make, "v2"), id=f"{make.__name__} v2") for make in [*BOTH, *V2_ALONE]),
    *(pytest.param(partial(make, "v2", "X-Wing"), id=f"{make.__name__} X-Wing") for make in (opening, requesting)),
]


def points(make: Callable[[], tuple[Session, Callable[[], object]]]) -> int:
    """How many points there are."""
    _, call = make()
    striking = Striking(0)
    with striking:
        call()
    assert striking.left < -10
    return -striking.left
