"""Nodes whose keys are offered with evidence, and what is asked of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx

import atoma_crypto as ac
from atoma_crypto._offers import read_offers
from atoma_crypto.adapters._routes import KEYS_PATH
from atoma_crypto.attestation import Evidence, evidence_from_json, report_data
from serving import NO_CAS, Client, Clock, ScriptedModel, node

KIND: Final = "echo"
SECRET: Final = "xylophone-evidence-5519"  # noqa: S105 - what a provider's error may quote


class Echo:
    """Evidence that is the binding itself; `hangs` until it is set, and fails with `error`."""

    def __init__(self) -> None:
        self.bindings: list[bytes] = []
        self.error: BaseException | None = None
        self.hangs: threading.Event | None = None
        self.makes: Callable[[bytes], Any] = lambda binding: Evidence(KIND, binding)

    def evidence(self, binding: bytes) -> Evidence:
        self.bindings.append(binding)
        if self.hangs is not None:
            self.hangs.wait(60)
        if self.error is not None:
            raise self.error
        made: Evidence = self.makes(binding)
        return made


class Times:
    """Both clocks of a keyring and its node."""

    def __init__(self, wall: float = 1763808745.5) -> None:
        self.clock, self.wall = Clock(), Clock()
        self.wall.now = wall

    def go(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds

    def keys(self, **more: Any) -> ac.NodeKeyring:
        return ac.NodeKeyring(**{"clock": self.clock, "wall_clock": self.wall} | more)


@contextlib.contextmanager
def attested(
    provider: Any, *, key: ac.SecretKey | ac.NodeKeyring | None = None, times: Times | None = None, **more: Any
) -> Iterator[tuple[Client, ac.NodeKeyring]]:
    times = times or Times()
    keys: Any = key or times.keys()
    with node(ScriptedModel(), key=keys, evidence=provider, wall_clock=times.wall, **more) as client:
        yield client, keys


def new_challenge() -> tuple[bytes, str]:
    challenge = os.urandom(32)
    return challenge, urlsafe_b64encode(challenge).decode().rstrip("=")


def published(client: Client, challenge: str | None = None) -> httpx.Response:
    """The node's keys, asked for without a token."""
    path = KEYS_PATH if challenge is None else f"{KEYS_PATH}?challenge={challenge}"
    return httpx.get(client.url + path, trust_env=False, timeout=60, verify=NO_CAS)


def offers_of(told: dict[str, Any]) -> list[ac.KeyOffer]:
    """All that a reply offers, of v1 too."""
    found = list(read_offers(told["keys"]))
    if "public_key" in told:
        key = ac.PublicKey.from_base64(told["public_key"])
        found.insert(0, ac.KeyOffer("v1", key, float("inf"), None, told.get("evidence")))
    return found


def check(offers: list[ac.KeyOffer], challenge: bytes = b"") -> None:
    """Each has evidence, and that speaks for it and this challenge."""
    assert offers
    for offer in offers:
        assert evidence_from_json(offer.evidence) == Evidence(KIND, report_data(offer, challenge)), offer


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)
