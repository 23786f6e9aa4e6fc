"""Replay against a node's sessions: early requests, restarts with a saved key, and garbage in a victim's name."""

from __future__ import annotations

import os
from typing import Any, Final

import pytest

import atoma_crypto as ac
from helpers import REPLY_BODY
from test_keyring import Clock

NOW: Final = 1763808745.0


class Site:
    """A node with a key that is saved, its store and its clock, and what was sealed to it."""

    def __init__(self, suite: Any = "X25519") -> None:
        self.raw, self.suite, self.clock = os.urandom(32), suite, Clock(NOW)
        self.start(fresh=True)

    def start(self, *, fresh: bool = False) -> None:
        """With what a restart leaves: the key."""
        self.key = ac.SecretKey.from_bytes(self.raw, self.suite)
        self.cache = ac.MemoryReplayCache(clock=self.clock, fresh_key=fresh)

    def sealed(self, ahead: float = 0.0) -> bytes:
        client = ac.ClientSession(
            self.key.public_key, model="m", stack_small_id=1, protocol="v2", clock=lambda: self.clock.now + ahead
        )
        return client.seal_request(REPLY_BODY, stream=False)

    def open(self, envelope: bytes) -> str:
        node = ac.NodeSession(self.key, replay_cache=self.cache, clock=self.clock)
        try:
            assert node.open_request(envelope).body == REPLY_BODY
        except (ac.ReplayedError, ac.ReplayStoreError, ac.ClockSkewError, ac.AuthenticationError) as error:
            return type(error).__name__
        return "opened"


@pytest.mark.parametrize("ahead", [0, 5, 60])
def test_a_request_is_replayed_every_second_until_it_is_too_old(ahead: int) -> None:
    site = Site()
    envelope = site.sealed(ahead)
    answers = []
    for _ in range(ahead + 302):
        answers.append(site.open(envelope))
        site.clock.now += 1
    assert answers == ["opened"] + ["ReplayedError"] * (ahead + 299) + ["ClockSkewError"] * 2
    site.clock.now = NOW  # the clock goes back
    assert site.open(envelope) in ("ReplayedError", "ReplayStoreError")


@pytest.mark.parametrize("ahead", [0, 5, 60])
def test_after_a_restart_nothing_is_opened_that_was_before(ahead: int) -> None:
    site = Site()
    envelope = site.sealed(ahead)
    assert site.open(envelope) == "opened"
    site.start()
    answers = set()
    for _ in range(ahead + 302):
        answers.add(site.open(envelope))
        site.clock.now += 1
    assert answers == {"ReplayStoreError", "ClockSkewError"}


def test_after_a_restart_new_requests_are_served_once_its_minute_is_over() -> None:
    site = Site()
    site.start()
    answers = []
    for _ in range(63):
        answers.append(site.open(site.sealed()))
        site.clock.now += 1
    assert answers == ["ReplayStoreError"] * 61 + ["opened"] * 2


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_garbage_under_the_key_of_another_request_does_not_spend_it(suite: Any) -> None:
    site = Site(suite)
    envelope = site.sealed()
    at = envelope.index(b'"ciphertext":"') + 20
    garbage = envelope[:at] + (b"B" if envelope[at : at + 1] == b"A" else b"A") + envelope[at + 1 :]
    assert site.open(garbage) == "AuthenticationError"
    assert len(site.cache) == 0
    assert [site.open(one) for one in (envelope, garbage, envelope)] == [
        "opened",
        "AuthenticationError",
        "ReplayedError",
    ]
