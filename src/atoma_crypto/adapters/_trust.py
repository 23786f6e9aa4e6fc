"""Which key a client seals to: of the suites that it accepts, and only what its policy has accepted."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto._keys import SUITES
from atoma_crypto._state import Clock
from atoma_crypto._typing import Suite
from atoma_crypto.attestation import AttestedKey, Verifier, evidence_from_json
from atoma_crypto.attestation._binding import CHALLENGE_BYTES
from atoma_crypto.attestation._values import wants_challenge

_AT_ONCE: Final = 4
"""Challenges that are under way at a time: nodes answer few a second, and mostly the first makes the rest needless."""
_TURN_SECONDS: Final = 20.0
"""How long one is taken to be under way at most."""
_MAX_VERDICTS: Final = 1024
"""Keys whose verdicts are kept: nodes, times suites, times the rotations until a verdict ends."""


class _Kept(NamedTuple):
    """A verdict, and the `not_after` that it was given for: evidence binds that too, so another one is another case."""

    verdict: AttestedKey
    not_after: int | None


class Trust:
    """A policy, the suites in order of preference, and the verdicts so far. Any thread may use it.

    `verify` is asked once for each key, until its verdict ends. `clock` gives seconds since 1970. TypeError,
    ValueError: arguments that are no policy, or no suites.
    """

    def __init__(self, verify: Verifier, suites: Sequence[Suite], *, clock: Clock = time.time) -> None:
        if isinstance(verify, type) or not callable(getattr(verify, "verify", None)):
            raise TypeError("verify must be a policy such as PinnedKeys(key): it has no method 'verify'")
        check_suites(suites)
        self._verify = verify
        self._suites = tuple(suites)
        self._clock = clock
        self._lock = threading.Lock()
        self._verdicts: dict[ac.PublicKey, _Kept] = {}  # by suite and bytes: key ids are too short to trust
        self._turns: dict[object, float] = {}  # when each challenge that is under way has begun

    def choose(self, offers: Sequence[ac.KeyOffer]) -> ac.KeyOffer:
        """The offer to seal to: of the first suite that there is one of, the one that lasts longest. EnvelopeError."""
        for suite in self._suites:
            found = [offer for offer in offers if offer.protocol == "v2" and offer.public_key.suite == suite]
            if found:
                return max(found, key=_not_after)
        raise ac.EnvelopeError(f"no key for protocol v2 is offered in a suite that is accepted: {self._accepted}")

    @property
    def _accepted(self) -> str:
        return ", ".join(self._suites)

    @property
    def wants_challenge(self) -> bool:
        """Whether the policy is asked about evidence alone that answers a challenge."""
        return wants_challenge(self._verify)

    def new_challenge(self) -> bytes:
        """For a node whose key may be a new one: 32 random bytes, or none where the policy wants none."""
        return secrets.token_bytes(CHALLENGE_BYTES) if self.wants_challenge else b""

    @property
    def knows_none(self) -> bool:
        """Whether no verdict is left, so that whatever is offered has to be verified."""
        now = self._clock()
        with self._lock:
            return all(not now < kept.verdict.expires_at for kept in self._verdicts.values())

    def begin(self) -> object | None:
        """A turn to ask with a challenge, to be ended; None: enough others are under way."""
        now, turn = time.monotonic(), object()
        with self._lock:
            self._turns = {each: begun for each, begun in self._turns.items() if now - begun < _TURN_SECONDS}
            if len(self._turns) >= _AT_ONCE:
                return None
            self._turns[turn] = now
        return turn

    def end(self, turn: object) -> None:
        """The turn is over. Harmless when done twice."""
        with self._lock:
            self._turns.pop(turn, None)

    def knows(self, offer: ac.KeyOffer) -> bool:
        """Whether there is a verdict, so that `accept` takes no time, and needs no challenge."""
        return self._kept(offer, self._clock()) is not None

    def accept(self, offer: ac.KeyOffer, challenge: bytes = b"") -> AttestedKey:
        """The policy's verdict on an offered key, to be asked for right before sealing. AttestationError.

        `challenge` is what the offer was asked for with, or empty. The verdict holds until the offer's `not_after` at
        most: nothing may be sealed to the key after that.
        """
        verdict = self._kept(offer, self._clock())
        if verdict is None:
            if self.wants_challenge and not challenge:  # also where a verdict has ended since then
                raise ac.AttestationError("the offered key was asked for without a challenge, and is not known")
            evidence = evidence_from_json(offer.evidence)
            verdict = self._verify.verify(evidence, offer, challenge=challenge, now=self._clock())
            if not isinstance(verdict, AttestedKey):
                raise TypeError(f"verify() must give an AttestedKey, not {type(verdict).__name__}")
            if verdict.public_key != offer.public_key:
                raise ac.AttestationError("the verdict is on another key than the one that is offered")
            self._keep(offer, verdict)
        now = self._clock()  # again: a policy may take its time
        if not now < verdict.expires_at:
            raise ac.AttestationError("what is known of the offered key is out of date")
        if not now <= _not_after(offer):
            raise ac.AttestationError("the offered key is out of date: nothing may be sealed to it any more")
        return verdict

    def _kept(self, offer: ac.KeyOffer, now: float) -> AttestedKey | None:
        kept = self._verdicts.get(offer.public_key)
        if kept is None or kept.not_after != offer.not_after or not now < kept.verdict.expires_at:
            return None
        return kept.verdict

    def _keep(self, offer: ac.KeyOffer, verdict: AttestedKey) -> None:
        with self._lock:
            self._verdicts.pop(offer.public_key, None)  # so that it stands last
            self._verdicts[offer.public_key] = _Kept(verdict, offer.not_after)
            while len(self._verdicts) > _MAX_VERDICTS:
                del self._verdicts[next(iter(self._verdicts))]


def check_suites(suites: Sequence[Suite]) -> None:
    """TypeError, ValueError: not one or more suites, each once."""
    if isinstance(suites, str):
        raise TypeError("suites must be a sequence of suites, not one str")
    if not suites or len(set(suites)) != len(suites) or not all(suite in SUITES for suite in suites):
        raise ValueError(f"suites must be one or more of {', '.join(SUITES)}, in order of preference")


def _not_after(offer: ac.KeyOffer) -> float:
    return float("inf") if offer.not_after is None else offer.not_after
