"""A node's keys that rotate: the current one, and those before it while their grace lasts."""

import threading
import time
from types import TracebackType
from typing import Final, NamedTuple

from . import _state
from ._core import CData
from ._errors import SessionClosedError
from ._keys import PublicKey, SecretKey
from ._state import Clock
from ._typing import Protocol

_FOREVER: Final = float("inf")


class KeyOffer(NamedTuple):
    """What a client needs to know before it can seal: a public key, and the protocol that it is for.

    `valid_for`: seconds until the key is due to be replaced, infinite if it is not. What is sealed to it by then is
    opened for the keyring's grace more. `not_after`: the last second, since 1970, at which a client may seal to a key
    of protocol v2; v1 has no such end.
    """

    protocol: Protocol
    public_key: PublicKey
    valid_for: float
    not_after: int | None = None


class _Held(NamedTuple):
    """A key, and when it ends, in seconds of the keyring: the current one is replaced then, an earlier one wiped."""

    name: bytes  # its public key as envelopes spell it: base64, in which a key has one spelling alone
    public_key: PublicKey
    key: SecretKey
    ends: float


class NodeKeyring:
    """A node's X25519 keys, kept in memory only, that rotate by a clock. NodeSession takes it as it takes a SecretKey.

    After `rotate_after` seconds (None: never by itself) a new key takes the place of the current one, which opens
    requests for `grace` seconds more, so that those in flight are answered, and is wiped then. A session that has
    opened its request needs no key any more.

    There is no thread behind it: rotating and wiping are done when something is asked for (a public key, an offer, a
    request's key), and a grace begins when the keyring rotates. `clock` gives seconds. One that is set back loses no
    key and brings none back: such a step counts as no time at all. One that jumps ahead ends graces, but the key that
    was current gets its whole grace.

    Any thread may use it. A key that is wiped while a thread is inside of it is so when that one is done. A child
    process (fork) has the keys of its parent, and from its next rotation on keys of its own.
    """

    __slots__ = ("_clock", "_closed", "_grace", "_heirs", "_held", "_lock", "_pid", "_rotate_after", "_time")

    def __init__(
        self, *, rotate_after: float | None = 3600.0, grace: float = 300.0, clock: Clock = time.monotonic
    ) -> None:
        self._begin(SecretKey.generate(), rotate_after, grace, clock)

    @classmethod
    def from_key(
        cls,
        key: SecretKey,
        *,
        rotate_after: float | None = None,
        grace: float = 300.0,
        clock: Clock = time.monotonic,
    ) -> "NodeKeyring":
        """A keyring that begins with a key of yours, and keeps it unless told to rotate. It closes the key."""
        if not isinstance(key, SecretKey):
            raise TypeError(f"key must be SecretKey, not {type(key).__name__}")
        keyring = cls.__new__(cls)
        keyring._begin(key, rotate_after, grace, clock)
        return keyring

    def _begin(self, key: SecretKey, rotate_after: float | None, grace: float, clock: Clock) -> None:
        for name, value in (("rotate_after", 1.0 if rotate_after is None else rotate_after), ("grace", grace)):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if rotate_after is not None and not 0 < rotate_after < _FOREVER:
            raise ValueError("rotate_after must be more than 0 seconds, or None")
        if not 0 <= grace < _FOREVER:
            raise ValueError("grace must be 0 seconds or more")
        if not callable(clock):
            raise TypeError("clock must be a function")
        self._rotate_after = _FOREVER if rotate_after is None else rotate_after
        self._grace = grace
        self._clock = clock
        self._closed = False
        self._lock = threading.RLock()  # for one thread, so that what a signal handler asks for is not locked out
        self._pid = _state._pid
        self._heirs: dict[int, threading.RLock] = {}  # the locks of child processes
        self._time = (clock(), 0.0)  # what the clock said last, and the seconds of the keyring, which only grow
        # The current key first. A new tuple takes the place of the old one in one step: a fork finds one or the other.
        self._held: tuple[_Held, ...] = (self._new(key, 0.0),)

    def _new(self, key: SecretKey, now: float) -> _Held:
        public_key = key.public_key
        return _Held(public_key.to_base64().encode(), public_key, key, now + self._rotate_after)

    def _entered(self) -> threading.RLock:
        """The lock. In a child process a new one: who holds the old one may be a thread that only the parent has."""
        if self._pid != _state._pid:
            self._lock = self._heirs.setdefault(_state._pid, threading.RLock())
            self._pid = _state._pid
        return self._lock

    def _now(self) -> float:
        """The seconds of the keyring: all the clock's steps forward."""
        said, elapsed = self._time
        says = self._clock()
        step = says - said
        if 0 < step < _FOREVER:
            elapsed += step
        if -_FOREVER < says < _FOREVER:  # and is a number
            self._time = (says, elapsed)
        return elapsed

    def _open(self) -> tuple[_Held, ...]:
        held = self._held
        if self._closed:
            raise SessionClosedError("this keyring is closed")
        return held

    def _current(self) -> tuple[_Held, ...]:
        """The keys as they are now, rotated and wiped if that is due. To be called with the lock."""
        held = self._open()
        now = self._now()
        if now >= held[0].ends:
            return self._rotate(now)
        if len(held) > 1 and now >= held[-1].ends:  # the oldest ends first: each has the same grace
            return self._keep(held, now)
        return held

    def _rotate(self, now: float) -> tuple[_Held, ...]:
        new = self._new(SecretKey.generate(), now)
        current, *before = self._open()
        return self._keep((new, current._replace(ends=now + self._grace), *before), now)

    def _keep(self, held: tuple[_Held, ...], now: float) -> tuple[_Held, ...]:
        """Keep these but for those before the current one whose grace is over, which are wiped."""
        kept = held[:1] + tuple(one for one in held[1:] if now < one.ends)
        self._held = kept
        for one in held[len(kept) :]:
            one.key.close()
        if self._closed:  # meanwhile, by a signal handler of this thread: it has not seen what is kept here
            self.close()
            raise SessionClosedError("this keyring is closed")
        return kept

    @property
    def public_key(self) -> PublicKey:
        """The key to publish now: that of a v1 lock reply. SessionClosedError after close()."""
        with self._entered():
            return self._current()[0].public_key

    def offers(self) -> tuple[KeyOffer, ...]:
        """What to publish now: one offer for each protocol that the keyring has a key for. SessionClosedError."""
        with self._entered():
            current = self._current()[0]
            return (KeyOffer("v1", current.public_key, current.ends - self._time[1]),)

    def rotate(self) -> PublicKey:
        """Make a new key the current one now; the one before gets its grace. Returns the new public key."""
        with self._entered():
            self._open()
            return self._rotate(self._now())[0].public_key

    def native_for(self, name: bytes) -> CData:
        """What the C core takes to open a request; for this package only. SessionClosedError.

        `name` is the public key in base64, as the envelope has it. For one that is not held it is the current key: the
        core compares too, and refuses the request as it refuses any other that does not hold.
        """
        with self._entered():
            held = self._current()
            for one in held:
                if one.name == name:
                    return one.key.native  # who has this is inside: wiping waits for it
            return held[0].key.native

    def close(self) -> None:
        """Wipe all keys, at once or when the last thread that is using one is done. Harmless when done twice."""
        with self._entered():
            self._closed = True
            held, self._held = self._held, ()
        for one in held:
            one.key.close()

    def __enter__(self) -> "NodeKeyring":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a keyring is not to be pickled or copied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._closed else ''}>"
