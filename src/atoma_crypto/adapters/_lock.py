"""The reply to a request for a lock."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import atoma_crypto as ac
from atoma_crypto._envelope import load_members, load_object
from atoma_crypto._offers import read_offers
from atoma_crypto._typing import Protocol

MAX_LOCK_BYTES: Final = 4 << 20
"""What a lock reply may have at most, evidence of many devices for several keys among it."""
_MAX_INTEGER: Final[dict[Protocol, int]] = {"v1": 2**64 - 1, "v2": 2**53 - 1}
_HEADER_VALUE: Final = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock reply says: in protocol v1 one key; in v2 keys to choose from; and evidence for them, if any."""

    offers: tuple[ac.KeyOffer, ...]
    stack_small_id: int | None
    node_small_id: int | None
    stack_entry_digest: str | None

    @classmethod
    def read(cls, raw: bytes, protocol: Protocol = "v1") -> Lock:
        """Read a lock reply strictly; unknown members are ignored. MessageTooLargeError, EnvelopeError."""
        if len(raw) > MAX_LOCK_BYTES:
            raise ac.MessageTooLargeError(f"the lock reply is longer than {MAX_LOCK_BYTES} bytes")
        members = load_members(raw, "the lock reply", ac.EnvelopeError)
        found = dict(members)
        if len(found) != len(members):
            raise ac.EnvelopeError("a member of the lock reply stands twice")
        digest = found.get("stack_entry_digest")
        if digest is not None and not (isinstance(digest, str) and _HEADER_VALUE.fullmatch(digest)):
            raise ac.EnvelopeError("'stack_entry_digest' of the lock reply is no digest")  # it goes into a header
        small_id = found.get("stack_small_id")
        return cls(
            offers=read_keys(raw, protocol),
            stack_small_id=_small_id(small_id, "stack_small_id", protocol, optional=protocol == "v2"),
            node_small_id=_small_id(found.get("node_small_id"), "node_small_id", protocol, optional=True),
            stack_entry_digest=digest,
        )


def read_keys(raw: bytes, protocol: Protocol) -> tuple[ac.KeyOffer, ...]:
    """The keys in a lock reply, or in the node's list of those of v2. EnvelopeError."""
    found = load_object(raw, "the lock reply", ac.EnvelopeError)  # in which objects are dicts
    if protocol == "v2":
        keys = found.get("keys")
        return () if keys is None else read_offers(keys)
    text, evidence = found.get("public_key"), found.get("evidence")
    if isinstance(text, str):
        with suppress(ac.InvalidKeyError):
            key = ac.PublicKey.from_base64(text)
            # what else v1's nodes may mean by that name is no evidence
            return (ac.KeyOffer("v1", key, float("inf"), None, evidence if isinstance(evidence, dict) else None),)
    raise ac.EnvelopeError("'public_key' of the lock reply is missing or not a key")


def _small_id(value: object, name: str, protocol: Protocol, *, optional: bool) -> int | None:
    if value is None and optional:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER[protocol]:
        raise ac.EnvelopeError(f"{name!r} of the lock reply is missing or not an integer from 0 on")
    return value
