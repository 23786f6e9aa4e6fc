"""Key offers: written, read back, and refused in every way in which they can be wrong."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atoma_crypto as ac
from atoma_crypto import _xwing
from atoma_crypto._offers import read_offers, write_offer

KEY: Final = ac.PublicKey.from_bytes(bytes(range(32)))
PQ: Final = ac.SecretKey.from_bytes(bytes(range(32)), "X-Wing").public_key
OFFER: Final = ac.KeyOffer("v2", KEY, float("inf"), 1763812345)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_an_offer_as_the_document_shows_it() -> None:
    assert json.dumps(write_offer(OFFER), separators=(",", ":")) == (
        f'{{"key_id":"{b64(bytes.fromhex(KEY.fingerprint())[:8])}","suite":"X25519",'
        f'"public_key":"{KEY.to_base64()}","not_after":1763812345,"evidence":null}}'
    )


def test_what_a_keyring_offers_is_read_back() -> None:
    keys = ac.NodeKeyring(suites=("X-Wing", "X25519"))
    v1, *v2 = keys.offers()
    read = read_offers(json.loads(json.dumps([write_offer(one) for one in v2])))
    assert read == tuple(one._replace(valid_for=float("inf")) for one in v2)
    assert [one.key_id for one in read] == [one.key_id for one in v2]
    for none in (v1, v2[0]._replace(not_after=None)):
        with pytest.raises(ValueError, match=r"only offers of protocol v2 are written"):
            write_offer(none)


def test_evidence_is_kept_as_it_is() -> None:
    evidence = {"kind": "x", "quote": "AA==", "more": [1, {"a": None}]}
    offer = OFFER._replace(evidence=evidence)
    assert read_offers(json.loads(json.dumps([write_offer(offer)]))) == (offer,)
    assert read_offers([{name: value for name, value in write_offer(OFFER).items() if name != "evidence"}]) == (OFFER,)


def test_unknown_suites_are_skipped_whatever_else_they_say() -> None:
    written = write_offer(OFFER)
    others: list[dict[str, Any]] = [{"suite": "X-Wing-2"}, {"suite": "", "key_id": 5}, {**written, "suite": "x25519"}]
    assert read_offers(others) == ()
    assert read_offers([*others, {**written, "unknown": 1}, *others]) == (OFFER,)
    assert read_offers([]) == ()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_of_several_in_one_suite_the_latest_counts(order: tuple[int, ...]) -> None:
    keys = {number: ac.SecretKey.generate().public_key for number in order}
    offers = [ac.KeyOffer("v2", keys[number], float("inf"), number) for number in order]
    pq = ac.KeyOffer("v2", PQ, float("inf"), 0)
    read = read_offers([write_offer(pq), *map(write_offer, offers)])
    assert read == (pq, ac.KeyOffer("v2", keys[3], float("inf"), 3))


def test_of_two_that_end_together_the_first_counts() -> None:
    other = OFFER._replace(public_key=ac.SecretKey.generate().public_key)
    assert read_offers([write_offer(OFFER), write_offer(other)]) == (OFFER,)


WRONG: Final[list[tuple[str, Any]]] = [
    ("suite", None),
    ("suite", 1),
    ("suite", ["X25519"]),
    *[("public_key", value) for value in (None, 5, "", "AAAA", b64(bytes(31)), KEY.to_base64() + "\n", "A" * 43 + "é")],
    ("public_key", PQ.to_base64()),
    *[("not_after", value) for value in (None, -1, 2**53, 1.0, "1763812345", True, [1])],
    *[("key_id", value) for value in (None, "", 5, b64(bytes(8)), KEY.key_id.hex(), b64(KEY.key_id)[:-1])],
    ("key_id", b64(bytes.fromhex(KEY.fingerprint())[:9])),
    ("evidence", ""),
    ("evidence", []),
    ("evidence", [{}]),
    ("evidence", False),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_wrong_is_refused(name: str, value: Any) -> None:
    for offers in ([{**write_offer(OFFER), name: value}], [write_offer(OFFER), {**write_offer(OFFER), name: value}]):
        with pytest.raises(ac.EnvelopeError) as caught:
            read_offers(offers)
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_members_that_are_missing() -> None:
    for name in ("key_id", "suite", "public_key", "not_after"):
        with pytest.raises(ac.EnvelopeError):
            read_offers([{key: value for key, value in write_offer(OFFER).items() if key != name}])


def test_a_key_that_ml_kem_refuses_is_no_offer() -> None:
    raw = b"\xff\xff\xff" + bytes(PQ)[3:]
    with pytest.raises(ac.EnvelopeError, match="not a key of its suite"):
        read_offers([{**write_offer(OFFER._replace(public_key=PQ)), "public_key": b64(raw)}])


def test_without_its_library_x_wing_is_a_suite_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = [write_offer(OFFER._replace(public_key=PQ)), write_offer(OFFER)]

    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(_xwing, "_mlkem", missing)
    assert read_offers(offers) == (OFFER,)


def test_the_end_of_time() -> None:
    for until in (0, 2**53 - 1):
        assert read_offers([write_offer(OFFER._replace(not_after=until))])[0].not_after == until


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(KEY.to_base64()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(JSON | st.lists(st.fixed_dictionaries({"suite": st.just("X25519") | JSON, "public_key": JSON, "key_id": JSON})))
def test_anything_else_is_an_envelope_error(value: Any) -> None:
    try:
        read = read_offers(value)
    except ac.EnvelopeError:
        return
    assert isinstance(value, list)
    assert len(read) <= len(value)
