"""`atoma-crypto attest`: who holds a node's keys, as far as its evidence and a policy tell."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import atoma_crypto as ac
from atoma_crypto._envelope import load_object
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto.adapters._lock import MAX_LOCK_BYTES, read_keys
from atoma_crypto.adapters._routes import KEYS_PATH, LOCK_PATH
from atoma_crypto.attestation import AttestedKey, Evidence, Verifier, evidence_from_json
from atoma_crypto.attestation._binding import CHALLENGE_BYTES
from atoma_crypto.attestation._values import wants_challenge
from atoma_crypto.attestation.policy_file import load_policy
from atoma_crypto.cli._proven import Proven, explain

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_SECONDS: Final = 60.0  # a quote may take its time
_YEAR_10000: Final = 253_402_300_800
_MAX_NAMES: Final = 8  # of suites, and their characters: they are others' words
_MAX_NAME: Final = 32


def add_parser(subparsers: SubParsers) -> None:
    """Add `attest` to the sub-commands."""
    parser = subparsers.add_parser(
        "attest",
        help="say who holds a node's keys, by its evidence and a policy",
        description="Ask a node for its keys and their evidence, verify each by a policy, and print what is proven, "
        "what is not, and until when. The exit status is 0 if there are keys and all of them pass, 1 if not, and 2 if "
        "the node could not be asked. A client may be given any of them, so all have to pass.",
    )
    parser.add_argument("url", metavar="URL", help="the node's, with or without /v1")
    parser.add_argument(
        "--policy", metavar="FILE", type=Path, help="TOML (docs/attestation.md); without one nothing is proven"
    )
    parser.add_argument(
        "--challenge",
        action=argparse.BooleanOptionalAction,
        help="whether the evidence has to be made now, for 32 random bytes (by default as the policy wants it)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="take a lock for this model, whose reply has the keys: behind a router, and for v1; it is not used",
    )
    parser.add_argument("--protocol", choices=("v1", "v2"), default="v2", help="whose keys; v1 needs --model (v2)")
    parser.add_argument(
        "--token",
        metavar="T",
        default=os.environ.get("ATOMA_CRYPTO_TOKEN"),
        help="the bearer token for the lock; better ATOMA_CRYPTO_TOKEN, for others can see the flag",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run, extra="server")


@dataclass(frozen=True, slots=True)
class _Judged:
    """An offered key, and what the policy says of it."""

    offer: ac.KeyOffer
    evidence: Evidence | None = None
    verdict: AttestedKey | None = None
    problem: str = ""

    @property
    def until(self) -> float | None:
        """When to look again: the verdict's end or the key's; None if neither has one."""
        end = min(
            inf if self.offer.not_after is None else self.offer.not_after,
            inf if self.verdict is None else self.verdict.expires_at,
        )
        return None if end == inf else end


def run(arguments: argparse.Namespace) -> int:
    """Ask, verify and print."""
    problem = ""
    try:
        policy = None if arguments.policy is None else load_policy(arguments.policy)
        wanted = policy is not None and wants_challenge(policy)
        challenge = b""
        if wanted if arguments.challenge is None else arguments.challenge:
            challenge = secrets.token_bytes(CHALLENGE_BYTES)
        raw = _ask(arguments, challenge)
        offers = read_keys(raw, arguments.protocol)
        unknown = _unknown_suites(raw, offers) if arguments.protocol == "v2" else []
        judged = [_judge(policy, offer, challenge) for offer in offers]
    except (OSError, ValueError, AtomaCryptoError) as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"atoma-crypto attest: {_printable(problem)}\n")
        return 2
    passed = bool(judged) and not unknown and all(one.verdict is not None for one in judged)
    if arguments.json:
        told = _json(arguments, challenge, judged, passed) | {"unknown_suites": unknown}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{_printable(line)}\n" for line in _lines(arguments, challenge, judged, unknown))
    return 0 if passed else 1


def _ask(arguments: argparse.Namespace, challenge: bytes) -> bytes:
    """The reply that has the keys. ValueError: there is none."""
    import httpx  # noqa: PLC0415 - the extra may be missing, and then main() says so

    from atoma_crypto.server._nodes import base_url  # noqa: PLC0415 - needs the extra too

    if arguments.protocol == "v1" and arguments.model is None:
        raise ValueError("--protocol v1 needs --model: its key is in the reply to a lock alone")
    told = {"challenge": urlsafe_b64encode(challenge).rstrip(b"=").decode()} if challenge else {}
    base = base_url(arguments.url)
    try:
        with httpx.Client(trust_env=False, timeout=_SECONDS, headers={"Accept-Encoding": "identity"}) as client:
            if arguments.model is None:
                request = client.build_request("GET", base + KEYS_PATH, params=told)
            else:
                headers = {} if arguments.token is None else {"Authorization": f"Bearer {arguments.token}"}
                body = {"model": arguments.model, **told}
                request = client.build_request("POST", base + LOCK_PATH, json=body, headers=headers)
            response = client.send(request, stream=True)
            try:
                raw = bytearray()
                for part in response.iter_raw():  # as it comes: what is packed might unpack to any size
                    raw += part
                    if len(raw) > MAX_LOCK_BYTES:
                        raise ValueError(f"the reply is longer than {MAX_LOCK_BYTES} bytes")
            finally:
                response.close()
    except httpx.HTTPError as error:
        problem = f"{base} could not be asked: {type(error).__name__}"
    else:
        if response.status_code == httpx.codes.OK:
            return bytes(raw)
        problem = f"{request.url.copy_with(query=None)} answered with status {response.status_code}"
        if arguments.model is None and response.status_code == httpx.codes.NOT_FOUND:
            problem += ": no keys of v2 are published there; behind a router ask with --model NAME"
    raise ValueError(problem)


def _unknown_suites(raw: bytes, offers: Sequence[ac.KeyOffer]) -> list[str]:
    """Suites of keys that others may be given, and that are passed over here: unknown, or an extra is missing."""
    listed = load_object(raw, "the lock reply", ac.EnvelopeError).get("keys") or []
    names = {each["suite"] for each in listed} - {offer.public_key.suite for offer in offers}
    return sorted(name[:_MAX_NAME] for name in names)[:_MAX_NAMES]


def _judge(policy: Verifier | None, offer: ac.KeyOffer, challenge: bytes) -> _Judged:
    evidence = None
    try:
        evidence = evidence_from_json(offer.evidence)
        if policy is None:
            return _Judged(offer, evidence, None, "no --policy was given: nothing was verified")
        verdict = policy.verify(evidence, offer, challenge=challenge, now=time.time())
    except ac.AttestationError as error:
        return _Judged(offer, evidence, None, str(error))
    if offer.not_after is not None and time.time() > offer.not_after:  # a pin does not look
        return _Judged(offer, evidence, None, "the offered key is over: its not_after has passed")
    return _Judged(offer, evidence, verdict)


def _kinds(evidence: Evidence | None) -> list[str]:
    return [] if evidence is None else [piece.kind for piece in evidence.parts or (evidence,)]


def _json(arguments: argparse.Namespace, challenge: bytes, judged: Sequence[_Judged], passed: bool) -> dict[str, Any]:
    keys = []
    for one in judged:
        said = Proven() if one.verdict is None else explain(one.verdict.claims)
        keys.append(
            {
                "protocol": one.offer.protocol,
                "suite": one.offer.public_key.suite,
                "public_key": one.offer.public_key.to_base64(),
                "fingerprint": one.offer.public_key.fingerprint(),
                "not_after": one.offer.not_after,
                "evidence": _kinds(one.evidence),
                "passed": one.verdict is not None,
                "problem": one.problem or None,
                "claims": None if one.verdict is None else dict(one.verdict.claims),
                "proven": said.proven,
                "not_proven": said.not_proven,
                "until": one.until,
            }
        )
    return {"url": arguments.url, "challenge": challenge.hex() or None, "keys": keys, "passed": passed}


def _lines(
    arguments: argparse.Namespace, challenge: bytes, judged: Sequence[_Judged], unknown: Sequence[str]
) -> Iterator[str]:
    policy = "no policy" if arguments.policy is None else f"policy {arguments.policy}"
    asked = "with a challenge" if challenge else "without a challenge"
    yield f"{arguments.url}, protocol {arguments.protocol}, {policy}, {asked}"
    for one in judged:
        yield f"key {one.offer.public_key.fingerprint()} ({one.offer.public_key.suite})"
        yield f"  evidence    {', '.join(_kinds(one.evidence)) or 'none'}"
        if one.verdict is None:
            yield f"  refused     {one.problem}"
            continue
        said = explain(one.verdict.claims)
        yield from _block("proven", said.proven)
        yield from _block("not proven", said.not_proven)
        yield f"  until       {_time(one.until)}"
    for name in unknown:
        yield f"keys of suite {name}, which is not known here, were not looked at"
    yield f"keys that pass: {sum(one.verdict is not None for one in judged)} of {len(judged)}"


def _block(name: str, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"  {'' if number else name:<11} {line}"


def _time(until: float | None) -> str:
    if until is None:
        return "you change the policy"
    if not 0 <= until < _YEAR_10000:
        return str(until)
    return f"{datetime.fromtimestamp(until, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _printable(text: str) -> str:
    """Names in certificates and the like are others' words, and this may be a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
