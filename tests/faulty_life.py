"""What threads do to one object, all at once, for test_faults_threads.py: a life of each class that has a close().

`do_NAME` uses what is public under NAME. It looks at once at what can be looked at, and notes what is judged when all
threads are done (`judge`), mostly by `cryptography` and by the second writings of the protocols. What it raises has to
be documented for that very method: `always` and `may` have what may come at any time, `closing` what may come once
somebody has begun to close. `never` has the methods that cannot succeed on such an object, and why.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

from cryptography.exceptions import InvalidTag

import atoma_crypto as ac

SECRET: Final = bytes(range(101, 133))
NODE: Final = ac.SecretKey.from_bytes(SECRET)
NOW: Final = 1763808745
SEED: Final = bytes(range(32))
KEY: Final = bytes(range(32, 64))
ENC: Final = bytes(range(64, 96))
ENDS: Final = frozenset(("close", "finish", "abort", "receive_eof"))
SESSION: Final = (ac.LocalProtocolError, ac.ConcurrentUseError)
# The core's object is closed, and Python's does not know yet.
CLOSING: Final = (ac.SessionClosedError, ac.LocalProtocolError)
Errors = tuple[type[Exception], ...]


class NotYetError(Exception):
    """There is nothing to be given at this time: neither a success nor a refusal."""


class Life:
    """One object, and who uses it."""

    kind: ClassVar[type]
    always: ClassVar[Errors] = ()
    closing: ClassVar[Errors] = (ac.SessionClosedError,)

    def __init__(
        self, one: Any, *, never: Mapping[str, str] | None = None, may: Mapping[str, Errors] | None = None
    ) -> None:
        self.one = one
        self.never = dict(never or {})
        self.may = dict(may or {})
        self.ends = set(ENDS)
        self.wanted = self.names() - set(self.never)  # what has to succeed, on this object or on another one like it
        self.is_closing = False
        self.lock = threading.Lock()  # around what only one thread can do in order
        self.notes: list[Any] = []
        self._numbers = itertools.count()

    @classmethod
    def names(cls) -> set[str]:
        return {name.removeprefix("do_") for name in dir(cls) if name.startswith("do_")}

    def text(self, length: int = 60) -> bytes:
        """One that no other call has."""
        return b"%d " % next(self._numbers) + random.randbytes(random.randrange(length))

    def do(self, name: str) -> bool | None:
        """Whether it has succeeded; None: it may later. AssertionError: it has given, or raised, what it should not."""
        try:
            getattr(self, f"do_{name}")()
        except NotYetError:
            return None
        except (ac.AtomaCryptoError, ValueError) as error:
            may = (*self.always, *self.may.get(name, ()), *(self.closing if self.is_closing else ()))
            assert type(error) in may, f"{name}: {error!r}"  # noqa: PT017 - a subclass is another error
            return None if type(error) is ac.ConcurrentUseError else False
        assert name not in self.never, f"{name} has succeeded"
        return True

    def do_close(self) -> None:
        self.is_closing = True
        self.one.close()

    def judge(self) -> None:
        """When all threads are done. The object is closed by then."""


def matched(texts: Mapping[bytes, bytes], opened: Callable[[int, bytes], bytes]) -> None:
    """Each sealed text, by what was sealed, is one of the first so many numbers, each number once."""
    left = dict(texts)
    for number in range(len(texts)):
        for text, sealed in left.items():
            with suppress(InvalidTag):
                assert opened(number, sealed) == text
                del left[text]
                break
        else:
            raise AssertionError(f"nothing was sealed under number {number}")
