"""Key offers as JSON (docs/protocol-v2.md, section 2): what a lock reply and the node's list of keys hold."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from ._errors import EnvelopeError, InvalidKeyError
from ._keys import SUITES, PublicKey
from .keyring import KeyOffer

_LATEST: Final = 2**53 - 1


def _id_of(public_key: PublicKey) -> str:
    return base64.b64encode(public_key.key_id).decode()


def write_offer(offer: KeyOffer) -> dict[str, object]:
    """The JSON object of an offer of protocol v2. ValueError: it is of v1, which has none."""
    if offer.protocol != "v2" or offer.not_after is None:
        raise ValueError("only offers of protocol v2 are written")
    return {
        "key_id": _id_of(offer.public_key),
        "suite": offer.public_key.suite,
        "public_key": offer.public_key.to_base64(),
        "not_after": offer.not_after,
        "evidence": None if offer.evidence is None else dict(offer.evidence),
    }


def read_offers(offers: Any) -> tuple[KeyOffer, ...]:
    """What stands under "keys", parsed JSON: the offer of each suite, in their order, of several the latest.

    Suites that are not known here are skipped, and so is X-Wing where the extra `pq` is missing. How long a key will be
    current is not said: `valid_for` is infinite, and `not_after` is what counts. EnvelopeError: anything else than
    offers, or a `key_id` that is not that of its key.
    """
    if not isinstance(offers, list):
        raise EnvelopeError("'keys' is not a list of offers")
    found: dict[str, KeyOffer] = {}
    for each in offers:
        if not isinstance(each, dict) or not isinstance(each.get("suite"), str):
            raise EnvelopeError("an offer is not an object with a suite")
        if each["suite"] not in SUITES:
            continue
        offer = _read(each)
        if offer is None:
            continue
        before = found.get(each["suite"])
        if before is None or _not_after(before) < _not_after(offer):
            found[each["suite"]] = offer
    return tuple(found.values())


def _not_after(offer: KeyOffer) -> int:
    return offer.not_after or 0


def _read(found: Mapping[str, Any]) -> KeyOffer | None:
    """One offer of a suite that is known; None: its library is not there."""
    text, until, evidence = (found.get(name) for name in ("public_key", "not_after", "evidence"))
    if type(text) is not str:
        raise EnvelopeError("the public key of an offer is missing or not text")
    if type(until) is not int or not 0 <= until <= _LATEST:
        raise EnvelopeError("'not_after' of an offer is missing or not an integer from 0 to 2^53 - 1")
    if evidence is not None and not isinstance(evidence, dict):
        raise EnvelopeError("'evidence' of an offer is neither null nor an object")
    public_key = None
    try:
        public_key = PublicKey.from_base64(text, found["suite"])
    except InvalidKeyError:
        pass
    except ImportError:
        return None
    if public_key is None:
        raise EnvelopeError("the public key of an offer is not a key of its suite")
    if found.get("key_id") != _id_of(public_key):
        raise EnvelopeError("'key_id' of an offer is not that of its key")
    return KeyOffer("v2", public_key, float("inf"), until, evidence)
