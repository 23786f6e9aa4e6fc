"""A signal during a long call: its handler runs and raises, and the session is then usable or failed for good.

tests/test_interrupts.py interrupts between any two lines; here real signals arrive while the core is at work. The timer
decides where one strikes, and no more: what must hold does so wherever that is. They strike programs of their own: the
one that runs the tests they could strike in coverage, which would then wait for ever for a lock that it holds.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._typing import Protocol
from faulty_sessions import Case, opening_request, opening_response, requesting, sealing
from programs import run_program

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


def struck_after(seconds: float, number: signal.Signals, handler: Handler, call: Callable[[], Any]) -> Any:
    """What the call gives; None: the signal came first. It has come in any case."""
    main = threading.main_thread().ident
    assert main is not None
    given, before = None, handler.ran
    timer = threading.Timer(seconds, signal.pthread_kill, [main, number])
    try:
        timer.start()
        given = call()
        while handler.ran == before:  # also where a finalizer was struck, which lets nothing out
            time.sleep(1e-3)
    except StruckError:
        pass
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


def strike(protocol: Protocol, size: int, delays: list[float], number: signal.Signals) -> None:
    """In such a program. Prints of each call how often it did not come to its end."""
    handler, struck = Handler(), 0
    signal.signal(number, handler)
    with ThreadPoolExecutor(1) as another:
        for name, make in MAKE.items():
            cut = 0
            for delay in delays:
                case = make(protocol, size)
                given = struck_after(delay, number, handler, case.call)
                struck += 1
                assert handler.ran == struck, name
                cut += given is None
                another.submit(case.check, given).result()
                case.close()
            print(name, cut, sep=": ", flush=True)  # noqa: T201 - the test reads it


STRIKE: Final = """
import signal
from test_faults_signals import strike

strike({protocol!r}, {size}, {delays}, signal.{number})
"""


def cut_short(**what: object) -> dict[str, int]:
    done = run_program("-W", "error", "-c", STRIKE.format(**what))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    cut = {name: int(count) for name, count in (line.split(": ") for line in done.stdout.splitlines())}
    assert list(cut) == list(MAKE)
    return cut


@pytest.mark.parametrize("number", ["SIGALRM", "SIGINT"])
def test_a_signal_during_a_call(number: str) -> None:
    cut_short(protocol="v2", size=MIB, delays=[1e-6, 5e-4], number=number)


@pytest.mark.long
@pytest.mark.parametrize("number", ["SIGALRM", "SIGINT"])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_signals_during_a_long_call(protocol: Protocol, number: str) -> None:
    assert all(cut_short(protocol=protocol, size=32 * MIB, delays=[2e-6, 8e-3], number=number).values())
