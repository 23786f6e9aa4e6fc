"""All rings of a keyring in any order of clock steps, rotations and questions, against a model of each."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import atoma_crypto as ac
from test_keyring import Clock

RINGS: Final[list[Any]] = [("v1", "X25519"), ("v2", "X25519"), ("v2", "X-Wing")]


class Ring:
    """What is to be true of one ring."""

    def __init__(self, protocol: str, rotate_after: float, grace: float, wall: float) -> None:
        self.v2 = protocol == "v2"
        self.rotate_after, self.grace = rotate_after, grace
        self.made: list[Any] = []
        self.replaced: dict[bytes, float] = {}  # when it ends
        self.begin(0.0, wall)

    def begin(self, now: float, wall: float) -> None:
        self.due = now + self.rotate_after
        self.not_after = int(wall + self.rotate_after) if self.v2 else None

    def is_due(self, now: float, wall: float) -> bool:
        return now >= self.due or (self.not_after is not None and int(wall) > self.not_after)

    def replace(self, now: float, wall: float) -> None:
        self.replaced[self.made[-1].name] = (max(now, self.due) if self.v2 else now) + self.grace
        self.begin(now, wall)


class Machine(RuleBasedStateMachine):
    """All that may happen to a keyring, against what its docstring says."""

    @initialize(rotate_after=st.sampled_from([2.0, 50.0, None]), grace=st.sampled_from([0.0, 20.0]))
    def begin(self, rotate_after: float | None, grace: float) -> None:
        self.clock, self.wall, self.closed = Clock(), Clock(1.7e9), False
        self.keys = ac.NodeKeyring(
            rotate_after=rotate_after,
            grace=grace,
            suites=("X25519", "X-Wing"),
            clock=self.clock,
            wall_clock=self.wall,
        )
        after = {"v1": rotate_after or float("inf"), "v2": rotate_after or 3600.0}
        self.rings = [Ring(protocol, after[protocol], grace, self.wall.now) for protocol, _ in RINGS]
        self.seen, self.now = self.clock.now, 0.0
        self.stores: dict[bytes, Any] = {}
        self.found()

    def tended(self, by_hand: int | None = None) -> None:
        """What any question does first: the time goes on, and keys that are due are replaced."""
        self.now += max(0.0, self.clock.now - self.seen)
        self.seen = self.clock.now
        for number, ring in enumerate(self.rings):
            if number == by_hand or (by_hand is None and ring.is_due(self.now, self.wall.now)):
                ring.replace(self.now, self.wall.now)

    def found(self) -> None:
        """After a question: what is new is remembered, and what is not cannot be."""
        for ring, real in zip(self.rings, self.keys._rings, strict=True):
            if len(ring.made) == len(ring.replaced):
                assert real.held[0].name not in {one.name for other in self.rings for one in other.made}
                ring.made.append(real.held[0])
                self.stores[real.held[0].name] = real.held[0].key.replay_cache
            assert real.held[0] is ring.made[-1]

    @rule(step=st.sampled_from([1.0, 2.0, 19.0, 20.0, 50.0, 1e6, -1.0, -1e6]))
    def time_goes(self, step: float) -> None:
        self.clock.now += step
        self.wall.now += step

    @rule(step=st.sampled_from([1.0, 51.0, 1e6, -1.0, -3600.0, -1e6]))
    def the_wall_clock_is_set(self, step: float) -> None:
        self.wall.now += step

    @precondition(lambda self: not self.closed)
    @rule()
    def offers(self) -> None:
        self.tended()
        offers = self.keys.offers()
        self.found()
        for (protocol, suite), offer, ring in zip(RINGS, offers, self.rings, strict=True):
            assert offer == ac.KeyOffer(protocol, ring.made[-1].public_key, ring.due - self.now, ring.not_after)
            assert offer.public_key.suite == suite
            assert offer.valid_for > 0

    @precondition(lambda self: not self.closed)
    @rule(number=st.integers(0, 2))
    def rotate(self, number: int) -> None:
        self.tended(by_hand=number)
        public_key = self.keys.rotate(*RINGS[number])
        self.found()
        assert public_key == self.rings[number].made[-1].public_key

    @precondition(lambda self: not self.closed)
    @rule(data=st.data(), number=st.integers(0, 2))
    def select(self, data: st.DataObject, number: int) -> None:
        """With any key ever made."""
        ring = self.rings[number]
        one = data.draw(st.sampled_from(ring.made[-6:]))
        self.tended()
        selected = self.keys.select(one.public_key.key_id)
        self.found()
        if number == 0 or self.now >= ring.replaced.get(one.name, float("inf")):
            assert selected is None
        else:
            assert selected is not None
            assert selected.key.public_key == one.public_key
            assert selected.replay_cache is self.stores[one.name]
            first = len(self.stores[one.name]) == 0
            assert selected.replay_cache.admit(bytes(32), self.wall.now + 360) is first

    @precondition(lambda self: len(self.rings[1].made) > 2)
    @rule()
    def close(self) -> None:
        self.keys.close()
        self.closed = True

    @invariant()
    def only_what_is_held_is_there(self) -> None:
        if not hasattr(self, "stores"):
            return
        for ring, real in zip(self.rings, self.keys._rings, strict=True):
            held = {one.name for one in real.held}
            assert (len(held) == 0) == self.closed
            for one in ring.made:
                assert (one.key._native is None) == (one.name not in held)
                assert (repr(one.key.replay_cache) == "<MemoryReplayCache closed>") == (one.name not in held)
        if self.closed:
            with pytest.raises(ac.SessionClosedError):
                self.keys.select(bytes(8))


Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestAnyOrder = Machine.TestCase
