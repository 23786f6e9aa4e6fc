"""Evidence for the keys that a node offers: made before they are offered, kept, and made anew for a challenge.

What a provider is asked for is `report_data` of an offer, a hash; nothing here hands it bytes that a client has chosen.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import atoma_crypto as ac
from atoma_crypto import _state
from atoma_crypto.attestation import (
    Evidence,
    EvidenceProvider,
    TsmProvider,
    evidence_from_json,
    evidence_to_json,
    report_data,
)
from atoma_crypto.keyring import KeyOffer
from atoma_crypto.server._http import RefusalError
from atoma_crypto.server._limited import Gate, Job

_log = logging.getLogger("atoma_crypto.server")

_MAX_BYTES: Final = 1 << 20  # of an offer's evidence, as JSON
_AHEAD_SECONDS = 300.0  # before the end of a v2 key the next one is made, and evidence for it
_SECONDS = 10.0  # for a provider, with all that is to be made at once
_RETRY_SECONDS = 5.0
# The evidence of a key that stays is made anew so often: its collateral ends some day.
_FRESH_SECONDS = 24 * 3600.0

_Key: TypeAlias = tuple[str, ac.PublicKey, int | None]


def open_provider(source: str, collateral: Path | None = None) -> EvidenceProvider:
    """`tsm`: what Linux makes, and the collateral beside it; anything else: a file. ValueError: a file has its own."""
    if source == "tsm":
        return TsmProvider(collateral=b"" if collateral is None else collateral)
    if collateral is not None:
        raise ValueError("collateral of its own is for evidence of tsm: a file has it inside")
    return _JsonFile(Path(source))


class _JsonFile:
    """Evidence as an offer has it (docs/attestation.md), which another program makes. It is read each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def evidence(self, binding: bytes) -> Evidence:  # noqa: ARG002 - it is what it is
        """As `EvidenceProvider.evidence`. ValueError: it is none."""
        problem = "not JSON"
        try:
            found = evidence_from_json(json.loads(self._path.read_bytes()))
            if found is not None:
                return found
        except ac.AttestationError as error:
            problem = str(error)
        except (ValueError, RecursionError):
            pass
        raise ValueError(f"{self._path}: {problem}")


def make_evidence(provider: EvidenceProvider, offer: KeyOffer, challenge: bytes = b"") -> Mapping[str, object]:
    """The JSON object of evidence for an offer. ValueError: no client could read it. And whatever a provider raises."""
    made = evidence_to_json(provider.evidence(report_data(offer, challenge)))
    problem = None
    try:
        evidence_from_json(made)
    except ac.AttestationError as error:
        problem = str(error)
    if problem is None and len(json.dumps(made)) > _MAX_BYTES:
        problem = f"evidence is longer than {_MAX_BYTES} bytes"
    if problem is not None:
        raise ValueError(problem)
    return made


class _Made(NamedTuple):
    """Evidence, and when it is to be made anew."""

    evidence: Mapping[str, object]
    stale: float


class _Look(NamedTuple):
    """What is there now."""

    ready: list[KeyOffer]  # of each ring the newest that has evidence, and that
    missing: list[KeyOffer]  # the newest ones that need some
    lacking: frozenset[str]  # protocols that have a ring with none that is ready
    known: frozenset[_Key]  # whose evidence is worth keeping


def _gate_of_strangers() -> Gate:
    return Gate(per_second=2, burst=8, inside=8, at_once=2)


def _gate_of_locks() -> Gate:
    return Gate(per_second=10, burst=32, inside=32, at_once=4)


@dataclass(slots=True)
class _Process:
    """What belongs to one process: after fork() a lock may be held by a thread that the child does not have."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    # Strangers have threads and a rate of their own, and so have those with a token, and the node itself.
    strangers: Gate = field(default_factory=_gate_of_strangers)
    locks: Gate = field(default_factory=_gate_of_locks)
    slots: threading.Semaphore = field(default_factory=partial(threading.Semaphore, 2))
    made: Mapping[_Key, _Made] = field(default_factory=dict)
    making: Job[None] | None = None
    not_before: float = 0.0


class Attested:
    """Offers with evidence by `provider`, and none without.

    Evidence without a challenge is made once for each key, ahead of its time, and each day anew. Until a new key has
    it, the key before is offered while that may be sealed to, and then none: 503. `candidates` gives, for seconds
    ahead, all keys that may be sealed to, of each ring the newest first. `count` is told what became of each piece of
    evidence: "made", "failed" or "late" (which may still be made, or fail), or "refused" of a challenge.
    """

    def __init__(
        self,
        provider: EvidenceProvider,
        candidates: Callable[[float], Sequence[KeyOffer]],
        count: Callable[[str], None],
    ) -> None:
        self._provider = provider
        self._candidates = candidates
        self._count = count
        self._processes: dict[int, _Process] = {}

    def tend(self) -> None:
        """Begin to make what is missing, if anything is. SessionClosedError: the keys are closed."""
        here = self._here()
        self._begin(here, self._look(here))

    async def offers(self, challenge: bytes, protocols: Collection[str], *, stranger: bool) -> Sequence[KeyOffer]:
        """What to publish for these protocols, with evidence that answers the challenge, if there is one.

        RefusalError: 503 if there is no evidence, 429 for too many challenges.
        """
        here = self._here()
        if not challenge:
            return await self._current(here, protocols)
        gate = here.strangers if stranger else here.locks
        try:
            with gate.entered():
                offers = await self._current(here, protocols)
                job = Job(partial(self._answered, offers, challenge), gate.slots, _SECONDS)
                if not await job.over():
                    self._late()
                answered = job.result if job.done else None
        except RefusalError as refusal:
            if refusal.status_code == 429:
                self._count("refused")
            raise
        if answered is None:
            raise _unavailable()
        return answered

    def _here(self) -> _Process:
        return self._processes.get(_state._pid) or self._processes.setdefault(_state._pid, _Process())

    async def _current(self, here: _Process, protocols: Collection[str]) -> list[KeyOffer]:
        look = self._look(here)
        for _ in range(2):  # a key may be replaced while evidence for others is made
            job = self._begin(here, look)
            if look.lacking.isdisjoint(protocols):
                break
            if job is not None:
                await job.over()
            look = self._look(here)
        ready = [offer for offer in look.ready if offer.protocol in protocols]
        if not ready:
            raise _unavailable()
        return ready

    def _look(self, here: _Process) -> _Look:
        rings: dict[tuple[str, str], list[KeyOffer]] = {}
        for offer in self._candidates(_AHEAD_SECONDS):
            rings.setdefault((offer.protocol, offer.public_key.suite), []).append(offer)
        made, now = here.made, time.monotonic()
        ready: list[KeyOffer] = []
        missing: list[KeyOffer] = []
        lacking: set[str] = set()
        for newest, *before in rings.values():
            if _is_missing(newest, made, now):
                missing.append(newest)
            for offer in (newest, *before):
                found = made.get(_key(offer))
                if found is not None:
                    ready.append(offer._replace(evidence=found.evidence))
                    break
            else:
                lacking.add(newest.protocol)
        known = frozenset(_key(offer) for ring in rings.values() for offer in ring)
        return _Look(ready, missing, frozenset(lacking), known)

    def _begin(self, here: _Process, look: _Look) -> Job[None] | None:
        """The job that makes what is missing: one at a time, and none for a while after one that has failed."""
        if not look.missing:
            return None
        with here.lock:
            job = here.making
            if job is not None and not job.done:
                if job.left:
                    return job
                here.making, here.not_before = None, time.monotonic() + _RETRY_SECONDS
                self._late()
            now = time.monotonic()
            missing = [offer for offer in look.missing if _is_missing(offer, here.made, now)]  # it may be there by now
            if now < here.not_before or not missing:
                return None
            here.making = Job(partial(self._make, here, missing, look.known), here.slots, _SECONDS)
            return here.making

    def _make(self, here: _Process, missing: Sequence[KeyOffer], known: Container[_Key]) -> None:
        """Make what is missing, in a thread."""
        for offer in missing:
            evidence = self._evidence(offer, b"")
            with here.lock:
                if evidence is None:
                    here.not_before = time.monotonic() + _RETRY_SECONDS
                    continue
                kept = {key: made for key, made in here.made.items() if key in known}
                here.made = kept | {_key(offer): _Made(evidence, time.monotonic() + _FRESH_SECONDS)}

    def _answered(self, offers: Sequence[KeyOffer], challenge: bytes) -> list[KeyOffer] | None:
        """The offers with evidence that was made now, in a thread; all of them, or None."""
        answered: list[KeyOffer] = []
        for offer in offers:
            evidence = self._evidence(offer, challenge)
            if evidence is None:
                return None
            answered.append(offer._replace(evidence=evidence))
        return answered

    def _evidence(self, offer: KeyOffer, challenge: bytes) -> Mapping[str, object] | None:
        try:
            evidence = make_evidence(self._provider, offer, challenge)
        except Exception as error:  # noqa: BLE001 - a provider may raise anything, and quote anything in it
            number = error.errno if isinstance(error, OSError) else None
            kind = type(error).__name__ if number is None else os.strerror(number)
            _log.warning("no evidence for the key of %s: %s", offer.protocol, kind)
            self._count("failed")
            return None
        self._count("made")
        return evidence

    def _late(self) -> None:
        _log.warning("no evidence within %d seconds", _SECONDS)
        self._count("late")


def _key(offer: KeyOffer) -> _Key:
    return offer.protocol, offer.public_key, offer.not_after


def _is_missing(offer: KeyOffer, made: Mapping[_Key, _Made], now: float) -> bool:
    found = made.get(_key(offer))
    return found is None or now >= found.stale


def _unavailable() -> RefusalError:
    headers = {"Retry-After": str(int(_RETRY_SECONDS))}
    return RefusalError(503, "EVIDENCE_UNAVAILABLE", "There is no evidence for the node's keys now", headers=headers)
