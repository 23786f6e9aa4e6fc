"""Policies made of policies."""

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._values import AttestedKey, Evidence, Verifier, wants_challenge
from atoma_crypto.keyring import KeyOffer


class AllOf:
    """Accepts a key that all of these accept. Each takes the part of the evidence that is of its kind."""

    def __init__(self, *verifiers: Verifier) -> None:
        if not verifiers:
            raise ValueError("AllOf takes one verifier or more: none would accept every key")
        self._verifiers = verifiers

    @property
    def wants_challenge(self) -> bool:
        """Whether one of them does."""
        return any(wants_challenge(one) for one in self._verifiers)

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """As `Verifier.verify`. The claims hold those of each, in their order; the earliest end counts."""
        keys = [one.verify(evidence, offer, challenge=challenge, now=now) for one in self._verifiers]
        if any(key.public_key != offer.public_key for key in keys):
            raise AttestationError("a policy has accepted another key than the one that is offered")
        claims = {"policy": "all of", "parts": [dict(key.claims) for key in keys]}
        return AttestedKey(offer.public_key, claims, min(key.expires_at for key in keys))


class AnyOf:
    """Accepts a key that one of these accepts; they are asked in this order."""

    def __init__(self, *verifiers: Verifier) -> None:
        if not verifiers:
            raise ValueError("AnyOf takes one verifier or more")
        self._verifiers = verifiers

    @property
    def wants_challenge(self) -> bool:
        """Whether one of them does."""
        return any(wants_challenge(one) for one in self._verifiers)

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """As `Verifier.verify`, as the first that accepts says it. The error says of each why it does not."""
        failures: list[str] = []
        for one in self._verifiers:
            try:
                return one.verify(evidence, offer, challenge=challenge, now=now)
            except AttestationError as error:  # noqa: PERF203 - each may fail
                failures.append(f"{type(one).__name__}: {error}")
        raise AttestationError("; ".join(failures))
