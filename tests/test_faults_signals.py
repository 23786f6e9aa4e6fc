"""A signal during a long call: its handler runs and raises, and the session is then usable or failed for good.

tests/test_interrupts.py interrupts between any two lines; here real signals arrive while the core is at work. The timer
decides where one strikes, and no more: what must hold does so wherever that is.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._typing import Protocol
from faulty_sessions import Case, opening_request, opening_response, requesting, sealing

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals are sent to threads here")

MIB: Final = 1 << 20
LIMITS: Final = ac.Limits(max_event_bytes=128 * MIB)


class StruckError(Exception):
    """What the handler raises."""


class Handler:
    """How often it ran."""

    def __init__(self) -> None:
        self.ran = 0

    def __call__(self, *_: object) -> None:
        self.ran += 1
        raise StruckError


@pytest.fixture(params=["SIGALRM", "SIGINT"])
def handler(request: pytest.FixtureRequest) -> Iterator[tuple[Handler, signal.Signals]]:
    number, handler = signal.Signals[request.param], Handler()
    before = signal.signal(number, handler)
    yield handler, number
    signal.signal(number, before)


def struck_after(seconds: float, number: signal.Signals, call: Callable[[], Any]) -> Any:
    """What the call gives; None: the signal came first. It has come in any case."""
    main = threading.main_thread().ident
    assert main is not None
    given = None
    timer = threading.Timer(seconds, signal.pthread_kill, [main, number])
    try:
        timer.start()
        given = call()
        while True:
            time.sleep(1e-3)
    except StruckError:
        timer.join()
        return given


def chunk(protocol: Protocol, size: int) -> Case:
    text = b"x" * size
    return sealing(protocol, lambda node: node.seal_chunk(text), [text], begun=True, limits=LIMITS)


def chunks(protocol: Protocol, size: int) -> Case:
    texts = [b"y" * (size // 64)] * 64
    return sealing(protocol, lambda node: node.seal_chunks(texts), texts, begun=True, limits=LIMITS)


def body(stream: str, size: int) -> bytes:
    return b'{"stream":%s,"x":"%s"}' % (stream.encode(), b"x" * size)


def aes(_: Protocol, size: int) -> Case:
    key, out = hazmat.AES256GCM(bytes(32)), bytearray(size + 16)
    text = bytes(size)

    def check(_: object) -> None:
        assert key.open(bytes(12), key.seal(bytes(12), b"x")) == b"x"
        key.seal_into(bytes(12), text, out)
        assert key.open_into(bytes(12), out, out) == size

    return Case(lambda: key.seal_into(bytes(12), text, out), check, key.close)


MAKE: Final[dict[str, Callable[[Protocol, int], Case]]] = {
    "seal_chunk": chunk,
    "seal_chunks": chunks,
    "seal_request": lambda protocol, size: requesting(protocol, body("true", size * 2 // 3)),  # base64, within limits
    "open_request": lambda protocol, size: opening_request(protocol, body("false", size * 2 // 3)),
    "open_response": lambda protocol, size: opening_response(protocol, b"z" * size),
    "AES256GCM.seal_into": aes,
}


def hit(make: Callable[[], Case], delays: list[float], handler: tuple[Handler, signal.Signals]) -> int:
    """How often the call did not come to its end."""
    cut = 0
    for delay in delays:
        case = make()
        before = handler[0].ran
        given = struck_after(delay, handler[1], case.call)
        assert handler[0].ran == before + 1
        cut += given is None
        thread = threading.Thread(target=case.check, args=(given,))  # a thread's failure is an error, as warnings are
        thread.start()
        thread.join()
        case.close()
    return cut


@pytest.mark.parametrize("name", MAKE)
def test_a_signal_during_a_call(name: str, handler: tuple[Handler, signal.Signals]) -> None:
    hit(partial(MAKE[name], "v2", MIB), [1e-6, 5e-4], handler)


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["v1", "v2"])
@pytest.mark.parametrize("name", MAKE)
def test_signals_during_a_long_call(name: str, protocol: Protocol, handler: tuple[Handler, signal.Signals]) -> None:
    assert hit(partial(MAKE[name], protocol, 32 * MIB), [2e-6, 8e-3], handler)
