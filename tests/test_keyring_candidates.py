"""What a keyring says may be sealed to: for who offers no key without evidence."""

from __future__ import annotations

import threading
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _state
from test_keyring import GRACE, HOUR, opens
from test_keyring_v2 import NOW, Node

AHEAD: Final = 300.0


def v2_of(node: Node, **more: Any) -> list[ac.KeyOffer]:
    return [
        offer for offer in node.keys.candidates(**more) if offer[:2][1].suite == "X25519" and offer.protocol == "v2"
    ]


def test_at_first_they_are_what_is_offered() -> None:
    node = Node()
    assert node.keys.candidates() == node.keys.offers()
    assert node.keys.candidates(ahead=AHEAD) == node.keys.offers()


@pytest.mark.parametrize(("ahead", "early"), [(0.0, 0.0), (AHEAD, AHEAD), (HOUR, HOUR / 4), (1e9, HOUR / 4)])
def test_v2_rotates_ahead_of_its_time_but_in_its_last_quarter(ahead: float, early: float) -> None:
    node = Node()
    first = node.keys.offers()
    node.go(HOUR - early - 1)
    assert [offer.public_key for offer in node.keys.candidates(ahead=ahead)] == [offer.public_key for offer in first]
    node.go(1)
    if early:
        new, old = v2_of(node, ahead=ahead)
        assert new.not_after == int(NOW + HOUR - early + HOUR)
        assert new.valid_for == HOUR
        assert old == first[1]._replace(valid_for=early)
        # and no other question does that
        assert node.keys.offers()[0] == first[0]._replace(valid_for=early)
    assert v2_of(node, ahead=ahead) == v2_of(node, ahead=ahead)


def test_a_key_before_may_be_sealed_to_until_its_not_after_and_is_opened_for_its_grace() -> None:
    node = Node()
    (first,) = v2_of(node)
    node.go(HOUR - AHEAD)
    v2_of(node, ahead=AHEAD)
    node.go(AHEAD - 1)
    assert [offer.key_id for offer in v2_of(node)][1:] == [first.key_id]
    node.go(1)
    assert [offer.key_id for offer in v2_of(node) if offer.key_id == first.key_id] == []
    assert node.keys.select(first.key_id) is not None
    node.go(GRACE)
    assert node.keys.select(first.key_id) is None


def test_several_keys_before_stand_newest_first() -> None:
    node = Node()
    ids = [v2_of(node)[0].key_id]
    for _ in range(3):
        node.keys.rotate("v2")
        ids.insert(0, v2_of(node)[0].key_id)
        node.go(1)
    assert [offer.key_id for offer in v2_of(node)] == ids


def test_the_wall_clock_ends_what_the_other_has_not() -> None:
    node = Node()
    node.keys.rotate("v2")
    node.wall.now += HOUR + 1
    assert len(v2_of(node)) == 1  # a new one, as both are over


def test_of_v1_half_of_the_grace_is_for_what_is_in_flight() -> None:
    node = Node()
    old = node.keys.public_key
    new = node.keys.rotate()
    found = [offer for offer in node.keys.candidates() if offer.protocol == "v1"]
    assert found == [ac.KeyOffer("v1", new, HOUR), ac.KeyOffer("v1", old, GRACE / 2)]
    node.go(GRACE / 2)
    assert [offer.public_key for offer in node.keys.candidates() if offer.protocol == "v1"] == [new]
    assert opens(node.keys, old)
    node.go(GRACE / 2)
    assert not opens(node.keys, old)


def test_without_a_grace_there_is_nothing_before() -> None:
    node = Node(grace=0.0)
    node.keys.rotate()
    node.keys.rotate("v2")
    assert len([offer for offer in node.keys.candidates() if offer.protocol == "v1"]) == 1
    assert len(v2_of(node)) == 2  # what an offer of v2 has promised holds


def test_v1_that_never_rotates_does_not_do_it_ahead_either() -> None:
    node = Node(rotate_after=None)
    node.go(1e7)
    first, *_ = node.keys.candidates(ahead=1e9)
    assert (first.public_key, first.valid_for) == (node.keys.public_key, float("inf"))


def test_a_child_has_none_of_its_parents_keys_of_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.keys.rotate("v2")
    node.keys.rotate()
    parents = node.keys.candidates()
    monkeypatch.setattr(_state, "_pid", _state._pid + 1)
    own = node.keys.candidates()
    assert own[:2] == parents[:2]  # v1's are its parent's
    assert not {offer.public_key for offer in own[2:]} & {offer.public_key for offer in parents}
    assert len(own) == 4


def test_closed() -> None:
    node = Node()
    node.keys.close()
    with pytest.raises(ac.SessionClosedError):
        node.keys.candidates()


def test_threads_that_ask_ahead_make_one_key() -> None:
    node = Node()
    node.go(HOUR - 1)
    found: list[ac.KeyOffer] = []
    threads = [threading.Thread(target=lambda: found.extend(v2_of(node, ahead=AHEAD))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({offer.key_id for offer in found}) == 2
