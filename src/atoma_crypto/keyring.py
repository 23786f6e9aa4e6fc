"""A node's keys that rotate: for each protocol and suite the current one, and those before it while grace lasts."""

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, NamedTuple

from . import _state
from ._core import CData
from ._errors import SessionClosedError
from ._keys import SUITES, NodeKey, PublicKey, SecretKey
from ._state import Clock
from ._typing import Protocol, Suite
from .replay import MemoryReplayCache

__all__ = ["KeyOffer", "NodeKey", "NodeKeyring"]

_FOREVER: Final = float("inf")
_HOUR: Final = 3600.0
_LATEST: Final = 2**53 - 1  # the greatest whole number that JavaScript has for sure


class KeyOffer(NamedTuple):
    """What a client needs to know before it can seal: a public key, and the protocol that it is for.

    `valid_for`: seconds until the key is due to be replaced, infinite if it is not. What is sealed to it by then is
    opened for the keyring's grace more. `not_after`, in v2 only: the second since 1970 after which nothing may be
    sealed to it. `evidence`: the JSON object that shows who holds the key, or None.
    """

    protocol: Protocol
    public_key: PublicKey
    valid_for: float
    not_after: int | None = None
    evidence: Mapping[str, object] | None = None

    @property
    def key_id(self) -> bytes:
        """The 8 bytes by which v2's requests name the key."""
        return self.public_key.key_id


class _Held(NamedTuple):
    """A key, and when it ends, in seconds of the keyring: the current one is replaced then, an earlier one wiped."""

    name: bytes  # as requests spell it: v1's public key in base64, in which a key has one spelling alone; v2's id
    public_key: PublicKey
    key: SecretKey
    ends: float
    not_after: int | None


class _Ring:
    """The keys of one protocol and suite, the current one first.

    A new tuple takes the place of the old one in one step: a fork finds one or the other.
    """

    __slots__ = ("held", "pid", "protocol", "rotate_after", "suite")

    def __init__(self, protocol: Protocol, suite: Suite, rotate_after: float) -> None:
        self.protocol = protocol
        self.suite = suite
        self.rotate_after = rotate_after
        self.pid = _state._pid
        self.held: tuple[_Held, ...] = ()


class NodeKeyring:
    """A node's keys, kept in memory only, that rotate by a clock. NodeSession takes it as it takes a SecretKey.

    It has one ring of keys for v1 and one for each of v2's `suites`, and none knows of the others: no key serves two.
    After `rotate_after` seconds (None: never by itself in v1, every hour in v2) a new key takes the place of the
    current one, which opens requests for `grace` seconds more, so that those in flight are answered, and is wiped then;
    in v2 not before `grace` seconds after its `not_after`, until when clients may seal to it. A session that has opened
    its request needs no key any more. With a key of v2 goes its replay store, which forgets nothing until the key is
    wiped.

    There is no thread behind it: rotating and wiping are done when something is asked for (a public key, an offer, a
    request's key), and a grace begins when the keyring rotates. `clock` gives seconds. One that is set back loses no
    key and brings none back: such a step counts as no time at all. One that jumps ahead ends graces, but the key that
    was current gets its whole grace. `wall_clock`, in seconds since 1970, says only what offers have as `not_after`;
    when it is past that, an offer is good for nobody, and the key is replaced before its time.

    Any thread may use it. A key that is wiped while a thread is inside of it is so when that one is done. A child
    process (fork) has the v1 keys of its parent, and from its next rotation on keys of its own; of v2 it has keys of
    its own at once, since only the parent knows which requests to the others were admitted.
    """

    __slots__ = ("_clock", "_closed", "_grace", "_heirs", "_lock", "_pid", "_rings", "_time", "_wall_clock")

    def __init__(
        self,
        *,
        rotate_after: float | None = _HOUR,
        grace: float = 300.0,
        suites: Sequence[Suite] = ("X25519",),
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._begin(None, rotate_after=rotate_after, grace=grace, suites=suites, clock=clock, wall_clock=wall_clock)

    @classmethod
    def from_key(
        cls,
        key: SecretKey,
        *,
        rotate_after: float | None = None,
        grace: float = 300.0,
        suites: Sequence[Suite] = ("X25519",),
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> "NodeKeyring":
        """A keyring whose v1 begins with a key of yours, and keeps it unless told to rotate. It closes the key.

        Keys of v2 are made here, and rotate. ValueError: the key is not one of suite X25519, as v1's are.
        """
        if not isinstance(key, SecretKey):
            raise TypeError(f"key must be SecretKey, not {type(key).__name__}")
        if key.suite != "X25519":
            raise ValueError(f"v1 takes a key of suite X25519, not {key.suite}")
        keyring = cls.__new__(cls)
        keyring._begin(key, rotate_after=rotate_after, grace=grace, suites=suites, clock=clock, wall_clock=wall_clock)
        return keyring

    def _begin(
        self,
        key: SecretKey | None,
        *,
        rotate_after: float | None,
        grace: float,
        suites: Sequence[Suite],
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        for name, value in (("rotate_after", 1.0 if rotate_after is None else rotate_after), ("grace", grace)):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if rotate_after is not None and not 0 < rotate_after < _FOREVER:
            raise ValueError("rotate_after must be more than 0 seconds, or None")
        if not 0 <= grace < _FOREVER:
            raise ValueError("grace must be 0 seconds or more")
        if isinstance(suites, str) or not isinstance(suites, Sequence):
            raise TypeError("suites must be a tuple of suites")
        if not all(suite in SUITES for suite in suites) or len(set(suites)) != len(suites):
            raise ValueError(f"suites must be of {', '.join(SUITES)}, each once, not {suites!r}")
        for name, function in (("clock", clock), ("wall_clock", wall_clock)):
            if not callable(function):
                raise TypeError(f"{name} must be a function")
        self._grace = grace
        self._clock = clock
        self._wall_clock = wall_clock
        self._closed = False
        self._lock = threading.RLock()  # for one thread, so that what a signal handler asks for is not locked out
        self._pid = _state._pid
        self._heirs: dict[int, threading.RLock] = {}  # the locks of child processes
        self._time = (clock(), 0.0)  # what the clock said last, and the seconds of the keyring, which only grow
        v1 = _Ring("v1", "X25519", _FOREVER if rotate_after is None else rotate_after)
        v2 = [_Ring("v2", suite, _HOUR if rotate_after is None else rotate_after) for suite in suites]
        self._rings = (v1, *v2)
        for ring in self._rings:
            ring.held = (self._new(ring, 0.0, key if ring is v1 else None),)

    def _new(self, ring: _Ring, now: float, key: SecretKey | None = None) -> _Held:
        """A key to be the ring's current one: `key`, or one that is made here."""
        ends = now + ring.rotate_after
        if ring.protocol == "v1":
            key = key or SecretKey.generate()
            return _Held(key.public_key.to_base64().encode(), key.public_key, key, ends, None)
        until = self._wall_clock() + ring.rotate_after
        not_after = int(min(until, _LATEST)) if until > 0 else 0  # a clock that is broken: no client takes it
        key = self._draw(ring.suite)
        return _Held(key.public_key.key_id, key.public_key, key, ends, not_after)

    def _draw(self, suite: Suite) -> SecretKey:
        """A new key of v2, whose id no other has, and the store that is born with it."""
        while True:
            store = MemoryReplayCache(fresh_key=True, keep_until_closed=True)
            key = SecretKey._generate(suite, store)
            if all(key.public_key.key_id != one.name for ring in self._rings for one in ring.held):
                return key
            key.close()

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

    def _open(self, ring: _Ring) -> tuple[_Held, ...]:
        held = ring.held
        if self._closed:
            raise SessionClosedError("this keyring is closed")
        return held

    def _tend(self, ahead: float = 0.0) -> float:
        """Rotate and wipe what is due, of v2 `ahead` of its time, and give the time. To be called with the lock."""
        now = self._now()
        for ring in self._rings:
            held = self._open(ring)
            current = held[0]
            if ring.protocol == "v2" and ring.pid != _state._pid:
                self._renew(ring, now)
            elif now >= current.ends - self._early(ring, ahead) or self._expired(current):
                self._rotate(ring, now)
            elif len(held) > 1 and now >= held[-1].ends:  # the oldest ends first: each has the same grace
                self._keep(ring, held, now)
        return now

    def _early(self, ring: _Ring, ahead: float) -> float:
        return min(ahead, ring.rotate_after / 4) if ring.protocol == "v2" else 0.0

    def _expired(self, one: _Held) -> bool:
        return one.not_after is not None and one.not_after + 1 <= self._wall_clock() < _FOREVER

    def _rotate(self, ring: _Ring, now: float) -> PublicKey:
        new = self._new(ring, now)
        current, *before = self._open(ring)
        # What a v2 offer promises holds whenever the key is replaced.
        ends = now if ring.protocol == "v1" else max(now, current.ends)
        self._keep(ring, (new, current._replace(ends=ends + self._grace), *before), now)
        return new.public_key

    def _renew(self, ring: _Ring, now: float) -> None:
        """In a child process: put a new key in the place of all, which are the parent's."""
        new = self._new(ring, now)
        self._keep(ring, (new, *(one._replace(ends=now) for one in self._open(ring))), now)
        ring.pid = _state._pid

    def _keep(self, ring: _Ring, held: tuple[_Held, ...], now: float) -> None:
        """Keep these but for those before the current one whose grace is over, which are wiped."""
        kept = held[:1] + tuple(one for one in held[1:] if now < one.ends)
        ring.held = kept
        for one in held[len(kept) :]:
            one.key.close()
        if self._closed:  # meanwhile, by a signal handler of this thread: it has not seen what is kept here
            self.close()
            raise SessionClosedError("this keyring is closed")

    @property
    def public_key(self) -> PublicKey:
        """The key to publish for v1 now: that of a lock reply. SessionClosedError after close()."""
        with self._entered():
            self._tend()
            return self._open(self._rings[0])[0].public_key

    def offers(self) -> tuple[KeyOffer, ...]:
        """What to publish now: an offer for v1, and one for each suite of v2. SessionClosedError."""
        with self._entered():
            now = self._tend()
            currents = [(ring.protocol, self._open(ring)[0]) for ring in self._rings]
            return tuple(
                KeyOffer(protocol, one.public_key, one.ends - now, one.not_after) for protocol, one in currents
            )

    def candidates(self, *, ahead: float = 0.0) -> tuple[KeyOffer, ...]:
        """All keys that may be sealed to now, of each ring the newest first: for who offers none without evidence.

        He makes evidence for the newest, and offers of each ring the first that has it. A v2 key that is due within
        `ahead` seconds, and in the last quarter of its time, is replaced now; it may be sealed to until its `not_after`
        as it may if `rotate` has replaced it. A v1 key that was replaced may be for half of the grace, and the other
        half is for what is in flight. `valid_for`: for so many seconds more. SessionClosedError.
        """
        found: list[KeyOffer] = []
        with self._entered():
            now = self._tend(ahead)
            for ring in self._rings:
                current, *before = self._open(ring)
                found.append(KeyOffer(ring.protocol, current.public_key, current.ends - now, current.not_after))
                kept = self._grace if ring.protocol == "v2" else self._grace / 2
                for one in before:
                    valid_for = one.ends - kept - now
                    if valid_for > 0 and not self._expired(one):
                        found.append(KeyOffer(ring.protocol, one.public_key, valid_for, one.not_after))
        return tuple(found)

    def rotate(self, protocol: Protocol = "v1", suite: Suite = "X25519") -> PublicKey:
        """Make a new key the current one of a ring now; the one before gets its grace. Returns the new public key.

        ValueError: the keyring has no such ring.
        """
        for ring in self._rings:
            if (ring.protocol, ring.suite) == (protocol, suite):
                break
        else:
            raise ValueError(f"this keyring has no keys for {protocol!r} and suite {suite!r}")
        with self._entered():
            self._open(ring)
            return self._rotate(ring, self._now())

    def native_for(self, name: bytes) -> CData:
        """What the C core takes to open a v1 request; for this package only. SessionClosedError.

        `name` is the public key in base64, as the envelope has it. For one that is not held it is the current key: the
        core compares too, and refuses the request as it refuses any other that does not hold.
        """
        with self._entered():
            self._tend()
            held = self._open(self._rings[0])
            for one in held:
                if one.name == name:
                    return one.key.native  # who has this is inside: wiping waits for it
            return held[0].key.native

    def select(self, key_id: bytes) -> NodeKey | None:
        """What opens a v2 request that names this id; None: no key that is held has it. For this package only.

        SessionClosedError. A key that is wiped meanwhile is so when who has this is done, and its store then refuses.
        """
        with self._entered():
            self._tend()
            for ring in self._rings[1:]:
                for one in self._open(ring):
                    if one.name == key_id:
                        return one.key.select(key_id)
            return None

    def close(self) -> None:
        """Wipe all keys, at once or when the last thread that is using one is done. Harmless when done twice."""
        with self._entered():
            self._closed = True
            held: list[_Held] = []
            for ring in self._rings:
                held.extend(ring.held)
                ring.held = ()
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
