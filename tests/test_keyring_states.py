"""The keyring in any order: clock steps, rotations, questions, requests to every key ever made, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import atoma_crypto as ac
from helpers import REPLY_BODY
from test_keyring import Clock, sealed


class Machine(RuleBasedStateMachine):
    """All that may happen to a keyring, against what its docstring says."""

    @initialize(rotate_after=st.sampled_from([1.0, 50.0, None]), grace=st.sampled_from([0.0, 20.0, 120.0]))
    def begin(self, rotate_after: float | None, grace: float) -> None:
        self.clock = Clock()
        self.rotate_after, self.grace = float("inf") if rotate_after is None else rotate_after, grace
        self.keys = ac.NodeKeyring(rotate_after=rotate_after, grace=grace, clock=self.clock)
        self.seen, self.elapsed, self.closed = self.clock.now, 0.0, False
        self.due = self.rotate_after
        first = self.keys._rings[0].held[0]
        self.made: list[Any] = [first]  # all keys ever; the last one is current
        self.ends: dict[bytes, float] = {}  # of those that were replaced
        self.flying: list[tuple[ac.ClientSession, ac.NodeSession]] = []

    def retire(self) -> None:
        self.ends[self.made[-1].name] = self.elapsed + self.grace
        self.due = self.elapsed + self.rotate_after

    def asked(self, call: Callable[[], Any], *, by_hand: bool = False) -> Any:
        """Ask the keyring: the time goes on, and a key that is due is replaced."""
        if self.closed:
            with pytest.raises(ac.SessionClosedError):
                call()
            return None
        self.elapsed += max(0.0, self.clock.now - self.seen)
        self.seen = self.clock.now
        replaced = by_hand or self.elapsed >= self.due
        if replaced:
            self.retire()
        result = call()
        current = self.keys._rings[0].held[0]
        if replaced:
            assert current.name not in {one.name for one in self.made}
            self.made.append(current)
        assert current is self.made[-1]
        return result

    @rule(step=st.sampled_from([0.0, 1.0, 1.0, 7.0, 19.0, 20.0, 50.0, 119.0, 1e6, -1.0, -60.0, -1e6]))
    def time_goes(self, step: float) -> None:
        self.clock.now += step

    @rule()
    def public_key(self) -> None:
        found = self.asked(lambda: self.keys.public_key)
        assert found == (None if self.closed else self.made[-1].public_key)

    @rule()
    def offers(self) -> None:
        found = self.asked(self.keys.offers)
        if not self.closed:
            assert found[0] == ac.KeyOffer("v1", self.made[-1].public_key, self.due - self.elapsed)
            assert found[0].valid_for > 0

    @rule()
    def rotate(self) -> None:
        found = self.asked(self.keys.rotate, by_hand=True)
        assert found == (None if self.closed else self.made[-1].public_key)

    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """With any key ever made."""
        one = data.draw(st.sampled_from(self.made[-8:]))
        client, envelope = sealed(one.public_key)
        node = ac.NodeSession(self.keys)

        def call() -> bool:
            try:
                return node.open_request(envelope).body == REPLY_BODY
            except ac.AuthenticationError:
                return False

        opened = self.asked(call)
        if not self.closed:
            assert opened == (self.elapsed < self.ends.get(one.name, float("inf")))
            if opened:
                self.flying.append((client, node))

    @precondition(lambda self: self.flying)
    @rule()
    def answer(self) -> None:
        """However long ago it was opened, and whatever has become of its key."""
        client, node = self.flying.pop(0)
        assert client.open_response(node.seal_response(b"{}")) == b"{}"

    @precondition(lambda self: len(self.made) > 2)
    @rule()
    def close(self) -> None:
        self.keys.close()
        self.closed = True

    @invariant()
    def only_what_is_held_is_there(self) -> None:
        if not hasattr(self, "made"):
            return
        held = self.keys._rings[0].held
        assert (len(held) == 0) == self.closed
        for one in self.made:
            assert (one.key._native is None) == (one.name not in {other.name for other in held})
        if not self.closed:
            assert held[0].name == self.made[-1].name
            # what was over at the last question is gone, and nothing else
            assert {one.name for one in held[1:]} == {name for name, end in self.ends.items() if end > self.elapsed}


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = Machine.TestCase
