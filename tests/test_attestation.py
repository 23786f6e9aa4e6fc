"""The policies that look at the key alone."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import AttestedKey, Evidence, PinnedKeys, Unverified, UnverifiedWarning, Verifier


def offer_of(key: ac.PublicKey) -> ac.KeyOffer:
    return ac.KeyOffer("v2", key, math.inf, 1763812345)


def some_key(suite: Any = "X25519") -> ac.PublicKey:
    return ac.SecretKey.generate(suite).public_key


def test_pinned_keys_are_accepted_and_no_other_is() -> None:
    mine, other = some_key(), some_key()
    pinned: Verifier = PinnedKeys([mine, other])
    for key in (mine, other):
        found = pinned.verify(None, offer_of(key), now=0.0)
        assert (found.public_key, dict(found.claims), found.expires_at) == (key, {"policy": "pinned"}, math.inf)
    foreign = some_key()
    with pytest.raises(ac.AttestationError, match=foreign.fingerprint()):
        pinned.verify(None, offer_of(foreign), now=0.0)
    with pytest.raises(ac.AttestationError):
        PinnedKeys(mine).verify(Evidence("x", b""), offer_of(other), challenge=bytes(32), now=0.0)


def test_a_pin_is_the_whole_key_and_its_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys with one id are two keys; so are the halves of a key of X-Wing."""
    xwing, other = some_key("X-Wing"), some_key("X-Wing")
    half = ac.PublicKey.from_bytes(bytes(xwing)[-32:])
    mixed = ac.PublicKey.from_bytes(bytes(xwing)[:1184] + bytes(other)[1184:], "X-Wing")
    monkeypatch.setattr(ac.PublicKey, "key_id", bytes(8))
    pinned = PinnedKeys(xwing)
    assert pinned.verify(None, offer_of(xwing), now=0.0).public_key == xwing
    for key in (half, mixed, other):
        assert key.key_id == xwing.key_id
        with pytest.raises(ac.AttestationError):
            pinned.verify(None, offer_of(key), now=0.0)


@pytest.mark.parametrize("wrong", [[], (), ["fingerprint"], [bytes(32)], [some_key(), None]])
def test_pins_are_keys(wrong: Any) -> None:
    with pytest.raises(TypeError, match="PinnedKeys takes one PublicKey or more"):
        PinnedKeys(wrong)


def test_accepting_any_key_warns() -> None:
    with pytest.warns(UnverifiedWarning, match="any key is accepted") as told:
        policy: Verifier = Unverified()
    assert told[0].filename == __file__
    key = some_key()
    found = policy.verify(None, offer_of(key), now=0.0)
    assert (found.public_key, dict(found.claims)) == (key, {"policy": "unverified"})


def test_the_values_do_not_change_and_show_no_evidence() -> None:
    claims = {"policy": "x"}
    found = AttestedKey(some_key(), claims, 1.0)
    claims["policy"] = "y"
    assert found.claims["policy"] == "x"
    changed: Any = found
    with pytest.raises(TypeError):
        changed.claims["policy"] = "z"
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed.expires_at = math.inf
    assert repr(Evidence("tdx", b"secret", b"more")) == "Evidence(kind='tdx')"
    assert copy.deepcopy(found) == pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own
    assert len({found, copy.copy(found)}) == 1
