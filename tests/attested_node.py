"""A node of either protocol that shows evidence for its keys, made under the tests' own maker of TDX machines."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import atoma_crypto as ac
from atoma_crypto._offers import write_offer
from atoma_crypto.adapters import _terms
from atoma_crypto.adapters._routes import KEYS_PATH
from atoma_crypto.adapters._trust import Trust
from atoma_crypto.attestation import (
    Evidence,
    TdxMeasurement,
    TdxPolicy,
    TdxVerifier,
    evidence_to_json,
    report_data,
)
from attestation_pki import MR_TD, maker
from certificates import HOUR, NOW
from confidential_node import Node
from serving import Clock

OTHER_MR_TD: Final = bytes(range(48))


def verifier() -> TdxVerifier:
    return TdxVerifier(TdxPolicy([TdxMeasurement(mr_td=MR_TD)]), root=maker().root.der)


def at_now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which clients judge keys from now on in this test; the maker's certificates are good at its time."""
    clock = Clock()
    clock.now = NOW
    monkeypatch.setattr(_terms, "Trust", partial(Trust, clock=clock))
    return clock


def tdx(offer: ac.KeyOffer, challenge: bytes, **machine: Any) -> Evidence:
    """What a machine of this maker says of an offer."""
    return Evidence("tdx", maker().quote(report_data(offer, challenge), **machine), maker().collateral())


def challenge_in(raw: bytes) -> bytes:
    """That of a lock request."""
    text = json.loads(raw).get("challenge")
    if text is None:
        return b""
    assert len(text) == 43
    return urlsafe_b64decode(text + "=")


@dataclass
class Attested(Node):
    """`shows` is the evidence that it has for an offer; keys of v2 end after `lasting` seconds, or at `ends`."""

    shows: Callable[[ac.KeyOffer, bytes], Evidence | None] = tdx
    lasting: int = HOUR
    ends: int | None = None
    now: Clock = field(default_factory=Clock)
    challenges: list[bytes] = field(default_factory=list)

    def app(self) -> Starlette:
        app = super().app()
        app.routes.append(Route(KEYS_PATH, self._keys))
        return app

    def offer(self, key: ac.SecretKey | None = None) -> ac.KeyOffer:
        public = (key or self.key).public_key
        if self.v2:
            return ac.KeyOffer("v2", public, inf, self.ends or int(self.now()) + self.lasting)
        return ac.KeyOffer("v1", public, inf)

    def told(self, challenge: bytes) -> dict[str, Any]:
        """The members of a lock reply."""
        if not self.v2:
            return {"public_key": self.key.public_key.to_base64(), "evidence": self._shown(self.offer(), challenge)}
        offers = [self.offer(key) for key in (self.key, *self.more_keys)]
        return {
            "keys": [write_offer(one._replace(evidence=self._shown(one, challenge))) for one in offers],
            "stack_small_id": self.small_id,
        }

    def _shown(self, offer: ac.KeyOffer, challenge: bytes) -> dict[str, object] | None:
        evidence = self.shows(offer, challenge)
        return None if evidence is None else evidence_to_json(evidence)

    async def _lock(self, request: Request) -> Response:
        reply = await super()._lock(request)
        if reply.status_code != 200:
            return reply
        self.challenges.append(challenge_in(await request.body()))
        return JSONResponse(json.loads(bytes(reply.body)) | self.told(self.challenges[-1]))

    async def _keys(self, request: Request) -> Response:
        told = request.query_params.get("challenge")
        self.challenges.append(b"" if told is None else urlsafe_b64decode(told + "="))
        return JSONResponse({"keys": self.told(self.challenges[-1])["keys"]})
