"""Policies that look at the key alone."""

import math
import warnings
from collections.abc import Iterable

from atoma_crypto._errors import AttestationError
from atoma_crypto._keys import PublicKey
from atoma_crypto.attestation._values import AttestedKey, Evidence
from atoma_crypto.keyring import KeyOffer


class UnverifiedWarning(UserWarning):
    """A key is used that nobody has looked at: whoever could put it there can read all that is sealed to it."""


class PinnedKeys:
    """Accepts these keys, whole, and no other; needs no evidence."""

    def __init__(self, keys: PublicKey | Iterable[PublicKey]) -> None:
        self._keys = frozenset((keys,) if isinstance(keys, PublicKey) else keys)
        if not self._keys or not all(isinstance(key, PublicKey) for key in self._keys):
            raise TypeError("PinnedKeys takes one PublicKey or more")

    def verify(
        self,
        evidence: Evidence | None,  # noqa: ARG002 - a pin needs none
        offer: KeyOffer,
        *,
        challenge: bytes = b"",  # noqa: ARG002 - the same
        now: float,  # noqa: ARG002 - the same
    ) -> AttestedKey:
        """As `Verifier.verify`."""
        if offer.public_key not in self._keys:
            raise AttestationError(f"the key {offer.public_key.fingerprint()} is not one of those that are pinned")
        return AttestedKey(offer.public_key, {"policy": "pinned"}, math.inf)


class Unverified:
    """Accepts any key. It has to be spelled out, and warns once (UnverifiedWarning): for tests and first steps."""

    def __init__(self) -> None:
        warnings.warn("any key is accepted: nobody knows who can read what is sealed", UnverifiedWarning, stacklevel=2)

    def verify(
        self,
        evidence: Evidence | None,  # noqa: ARG002 - nothing is looked at
        offer: KeyOffer,
        *,
        challenge: bytes = b"",  # noqa: ARG002 - the same
        now: float,  # noqa: ARG002 - the same
    ) -> AttestedKey:
        """As `Verifier.verify`."""
        return AttestedKey(offer.public_key, {"policy": "unverified"}, math.inf)
