"""The keyring's keys of protocol v2: rings that know nothing of each other, what offers promise, and their stores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _keys, _state
from atoma_crypto._core import ffi
from helpers import decapsulated, encapsulated
from test_keyring import GRACE, HOUR, Clock, opens, watched, wiped
from threads import Meanwhile, run

NOW: Final = 1763808745.25
BOTH: Final = ("X25519", "X-Wing")
ONE: Final = bytes(32)
LATER: Final = NOW + 1000


class Node:
    """A keyring with both suites and two clocks that go as they are told to."""

    def __init__(self, **more: Any) -> None:
        self.clock, self.wall = Clock(), Clock(NOW)
        self.keys = ac.NodeKeyring(**{"suites": BOTH, "clock": self.clock, "wall_clock": self.wall, **more})

    def go(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds

    def offer(self, suite: str = "X25519") -> ac.KeyOffer:
        (found,) = [one for one in self.keys.offers() if one.protocol == "v2" and one.public_key.suite == suite]
        return found

    def selected(self, key_id: bytes) -> Any:
        found = self.keys.select(key_id)
        assert found is not None
        assert found.key.public_key.key_id == key_id
        return found

    def held(self, number: int) -> list[bytes]:
        return [one.name for one in self.keys._rings[number].held]


# ---- offers ---------------------------------------------------------------------------------------------------------


def test_each_protocol_and_suite_has_an_offer_and_a_key_of_its_own() -> None:
    node = Node()
    v1, x25519, xwing = node.keys.offers()
    assert v1 == ac.KeyOffer("v1", node.keys.public_key, HOUR)
    assert x25519[0] == xwing[0] == "v2"
    assert (x25519.public_key.suite, xwing.public_key.suite) == BOTH
    assert x25519[2:] == xwing[2:] == (HOUR, int(NOW + HOUR), None)
    assert len({bytes(key) for key in (v1[1], x25519[1], xwing[1], bytes(xwing[1])[-32:])}) == 4
    for offer in (x25519, xwing):
        assert offer.key_id == offer.public_key.key_id == bytes.fromhex(offer.public_key.fingerprint())[:8]
    assert len(ac.NodeKeyring().offers()) == 2
    assert len(ac.NodeKeyring(suites=()).offers()) == 1


def test_v1s_key_opens_nothing_of_v2_and_the_reverse() -> None:
    node = Node()
    assert node.keys.select(node.keys.public_key.key_id) is None
    v2 = node.offer().public_key
    assert not opens(node.keys, v2)
    assert opens(node.keys, node.keys.public_key)
    for other in (b"", bytes(8), bytes(v2), node.offer().key_id[:7]):
        assert node.keys.select(other) is None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_rotation_moves_one_ring_alone(number: int) -> None:
    node = Node()
    before = node.keys.offers()
    one = before[number]
    assert node.keys.rotate(one.protocol, one.public_key.suite) == node.keys.offers()[number].public_key
    assert [old == new for old, new in zip(before, node.keys.offers(), strict=True)] == [i != number for i in range(3)]


def test_rings_that_are_not_there() -> None:
    keys = ac.NodeKeyring()
    for protocol, suite in [("v2", "X-Wing"), ("v1", "X-Wing"), ("v3", "X25519")]:
        with pytest.raises(ValueError, match="this keyring has no keys for"):
            keys.rotate(protocol, suite)  # type: ignore[arg-type] # that is what is tested


def test_a_keyring_of_a_given_key_makes_v2s_keys_and_rotates_them_every_hour() -> None:
    clock, key = Clock(), ac.SecretKey.generate()
    for keys in (ac.NodeKeyring.from_key(key, clock=clock), ac.NodeKeyring(rotate_after=None, clock=clock)):
        first = keys.offers()
        assert first[1].public_key != key.public_key
        assert first[1].valid_for == HOUR
        clock.now += HOUR
        second = keys.offers()
        assert second[0] == first[0]
        assert second[1].public_key != first[1].public_key


@pytest.mark.parametrize("ask", [ac.NodeKeyring.offers, ac.NodeKeyring.candidates])
def test_a_key_is_replaced_when_its_time_is_over_and_not_before(
    ask: Callable[[ac.NodeKeyring], tuple[ac.KeyOffer, ...]],
) -> None:
    node = Node()

    def newest() -> ac.PublicKey:
        return next(offer.public_key for offer in ask(node.keys) if offer.protocol == "v2")

    first = newest()
    node.go(HOUR - 0.25)
    assert newest() == first
    node.go(0.25)
    assert newest() != first


def test_a_clock_that_is_set_back_a_little_adds_nothing() -> None:
    node = Node()
    before = [offer.valid_for for offer in node.keys.offers()]
    node.clock.now -= 0.5
    assert [offer.valid_for for offer in node.keys.offers()] == before


def test_the_wall_clock_ends_a_key_one_second_behind_its_not_after() -> None:
    node = Node()
    offer = node.offer()
    assert offer.not_after is not None
    for now, same in ((offer.not_after + 0.75, True), (offer.not_after + 1.0, False)):
        node.wall.now = now
        assert (node.offer() == offer) is same


# ---- not after ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [0.0, 1.0, HOUR - 1])
def test_a_key_lives_until_its_grace_after_its_not_after_is_over_whenever_it_is_replaced(early: float) -> None:
    node = Node()
    offer = node.offer()
    memory = node.keys._rings[1].held[0].key.native
    node.go(HOUR - early)
    node.keys.rotate("v2")
    assert node.offer().key_id != offer.key_id
    node.go(early + GRACE - 1)
    assert node.selected(offer.key_id).replay_cache.admit(ONE, LATER)
    assert any(ffi.buffer(memory.secret))
    node.go(1)
    assert node.keys.select(offer.key_id) is None
    assert node.wall.now >= offer.not_after + GRACE  # type: ignore[operator] # v2's have one


def test_an_offer_whose_not_after_is_past_is_replaced_before_its_time() -> None:
    """The wall clock was set, as at a start: nobody would seal to what is offered."""
    node = Node()
    first = node.offer()
    node.wall.now += HOUR
    assert node.offer() == first  # its last second
    node.wall.now += 1
    second = node.offer()
    assert second.key_id != first.key_id
    assert second.not_after == int(node.wall.now + HOUR)
    assert node.keys.select(first.key_id) is not None
    node.wall.now -= 2 * HOUR  # back: keys stay
    assert node.offer() == second


@pytest.mark.parametrize(
    ("now", "not_after"), [(float("nan"), 0), (float("inf"), 2**53 - 1), (-1e300, 0), (1e300, 2**53 - 1), (-HOUR, 0)]
)
def test_a_wall_clock_that_is_broken(now: float, not_after: int) -> None:
    wall = Clock(now)
    keys = ac.NodeKeyring(wall_clock=wall)
    offer = keys.offers()[1]
    assert offer.not_after == not_after
    wall.now = float("nan")
    assert keys.offers()[1].key_id == offer.key_id
    wall.now = float("inf")
    assert keys.offers()[1].key_id == offer.key_id
    if not_after == 0:
        wall.now = NOW  # and is right again
        assert keys.offers()[1].not_after == int(NOW + HOUR)


# ---- ids ------------------------------------------------------------------------------------------------------------


def test_two_keys_with_one_id_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    taken = [node.offer(suite).public_key for suite in BOTH]
    real, drawn = _keys.SecretKey._generate.__func__, []  # type: ignore[attr-defined] # a class method's function

    def generate(cls: type[ac.SecretKey], suite: Any, store: Any) -> ac.SecretKey:
        key: ac.SecretKey = real(cls, suite, store)
        drawn.append(key)
        if len(drawn) <= 2:  # an id that another key has, of this ring and of the other
            key._public_key = taken[len(drawn) - 1]
        return key

    monkeypatch.setattr(_keys.SecretKey, "_generate", classmethod(generate))
    found = node.keys.rotate("v2")
    assert len(drawn) == 3
    assert found not in taken
    assert [repr(key) for key in drawn] == ["<SecretKey closed>"] * 2 + ["<SecretKey>"]
    with pytest.raises(ac.ReplayStoreError):
        drawn[0].replay_cache.admit(ONE, LATER)


# ---- stores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", BOTH)
def test_a_store_is_its_keys_and_forgets_nothing_until_the_key_is_wiped(suite: Any) -> None:
    node = Node()
    first = node.offer(suite)
    store = node.selected(first.key_id).replay_cache
    assert store.admit(ONE, NOW + 360)  # no quarantine: the key is new
    node.keys.rotate("v2", suite)
    second = node.selected(node.offer(suite).key_id).replay_cache
    assert second is not store
    assert second.admit(ONE, NOW + 360)
    for _ in range(3):
        node.wall.now += 1e9  # the host's to set
        assert not store.admit(ONE, NOW + 360)
        node.wall.now -= 2e9
        assert not store.admit(ONE, NOW + 360)
    assert node.selected(first.key_id).replay_cache is store
    node.go(HOUR + GRACE)
    node.keys.offers()
    with pytest.raises(ac.ReplayStoreError, match="this replay store is closed"):
        store.admit(ONE, NOW + 360)
    with pytest.raises(ac.ReplayStoreError, match="this replay store is closed"):
        store.admit(bytes(31) + b"\x01", LATER)


@pytest.mark.parametrize("suite", BOTH)
def test_who_has_selected_a_key_keeps_it_when_it_is_wiped(suite: Any) -> None:
    """A request in flight: its key goes when it is done, and nothing is admitted to it any more."""
    node = Node()
    offer = node.offer(suite)
    number = BOTH.index(suite) + 1
    held = node.keys._rings[number].held[0]
    using = node.selected(offer.key_id)
    node.keys.close()
    assert held.key._native is None
    assert using.key.public_key == offer.public_key
    if suite == "X-Wing":
        shared, enc = encapsulated(bytes(offer.public_key))
        assert decapsulated(using.key, enc) == shared
    else:
        assert any(ffi.buffer(using.key.native.secret))
    with pytest.raises(ac.ReplayStoreError):
        using.replay_cache.admit(ONE, LATER)


def test_closing_wipes_the_keys_of_all_rings() -> None:
    node = Node()
    node.keys.rotate("v2", "X25519")
    node.keys.rotate("v2", "X-Wing")
    memory = watched(node.keys)
    keys = [one.key for ring in node.keys._rings for one in ring.held]
    uses: list[Callable[[], object]] = [lambda: node.keys.select(bytes(8)), lambda: node.keys.rotate("v2")]
    assert len(keys) == 5
    assert not wiped(memory)
    node.keys.close()
    assert all(key._native is None for key in keys)
    assert wiped(memory)
    for use in uses:
        with pytest.raises(ac.SessionClosedError, match="this keyring is closed"):
            use()


# ---- threads, signal handlers, child processes -------------------------------------------------------------------


def test_many_threads_find_one_rotation_and_one_store() -> None:
    for _ in range(5):
        node = Node()
        node.go(HOUR)
        seen: list[Any] = []
        run(lambda _: seen.append(node.selected(node.offer().key_id).replay_cache))  # noqa: B023 - it ends here
        assert len(set(map(id, seen))) == 1
        admitted: list[bool] = []
        run(lambda _: admitted.append(seen[0].admit(ONE, LATER)))  # noqa: B023 - the same
        assert sorted(admitted) == [False] * 7 + [True]


@pytest.mark.parametrize("suite", BOTH)
def test_a_key_that_rotates_at_any_point_of_its_selection_is_found(suite: Any) -> None:
    for at in count(1):
        node = Node(suites=(suite,))
        offer = node.offer(suite)
        with Meanwhile(at, lambda: node.keys.rotate("v2", suite), lines=True) as meanwhile:  # noqa: B023 - it ends here
            assert node.selected(offer.key_id).key.public_key == offer.public_key
        if meanwhile.left > 0:
            break
    assert at > 10


def test_a_keyring_closed_at_any_point_of_a_rotation_of_v2_stays_closed() -> None:
    for at in count(1):
        node = Node(suites=("X25519",))
        first = node.keys._rings[1].held[0]
        node.go(HOUR)
        meanwhile = Meanwhile(at, node.keys.close, lines=True)
        try:
            with meanwhile:
                node.keys.select(first.name)
        except ac.SessionClosedError:
            pass
        if meanwhile.left > 0:
            break
        assert [ring.held for ring in node.keys._rings] == [(), ()]
        assert first.key._native is None
        with pytest.raises(ac.SessionClosedError):
            node.keys.offers()
    assert at > 10


FORKED: Final = """
import os, sys
sys.path.insert(0, {tests!r})
import atoma_crypto as ac
from test_keyring_v2 import LATER, ONE, Node

node = Node()
v1, x25519, xwing = node.keys.offers()
store = node.selected(x25519.key_id).replay_cache
assert store.admit(ONE, LATER)
child = os.fork()
if child == 0:
    try:
        for offer in (x25519, xwing):
            assert node.keys.select(offer.key_id) is None
        own = node.keys.offers()
        assert own[0] == v1 and own[1].key_id != x25519.key_id and own[2].key_id != xwing.key_id
        assert own == node.keys.offers() and node.held(1) == [own[1].key_id]
        assert node.selected(own[1].key_id).replay_cache.admit(ONE, LATER)
        try:
            store.admit(bytes(31) + b"1", LATER)
        except ac.ReplayStoreError:
            os._exit(0)
    except BaseException as error:
        sys.stderr.write(repr(error))
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert node.keys.offers() == (v1, x25519, xwing)
assert not store.admit(ONE, LATER)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_child_has_keys_of_its_own_for_v2() -> None:
    code = FORKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_the_keys_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, in one process."""
    node = Node()
    before = node.keys.offers()
    monkeypatch.setattr(_state, "_pid", _state._pid + 1)
    after = node.keys.offers()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    assert node.keys.offers() == after
    assert node.keys.select(before[1].key_id) is None
