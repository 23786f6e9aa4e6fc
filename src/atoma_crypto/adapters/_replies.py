"""What an answer is by its status and its members, and how one is written in clear."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import atoma_crypto as ac
from atoma_crypto._envelope import read_members
from atoma_crypto._typing import Protocol

_LOCK_GONE: Final = frozenset((423, 425))
_SEALED_MEMBERS: Final = frozenset(("v", "salt", "ciphertext"))


def is_refusal(status: int, protocol: Protocol = "v1") -> bool:
    """Whether an answer with this status is an error: of a lock, or of a sealed request unless the error is sealed.

    False: 200, whose body is to be read, or in v2 any 2xx: there the body alone counts. EnvelopeError: any other, as a
    redirect, which is never followed.
    """
    if status >= 400:
        return True
    if status != 200 and not (protocol == "v2" and 200 < status < 300):
        raise ac.EnvelopeError(f"the answer's status is {status}, which no node sends")
    return False


def is_lock_gone(status: int) -> bool:
    """Whether a refusal says that the lock was used up, or its stack busy: a new lock, key and salt may do."""
    return status in _LOCK_GONE


def write_error(abort: ac.RemoteAbortError) -> bytes:
    """A sealed error as OpenAI's clients read errors."""
    return json.dumps({"error": {"code": abort.code, "message": abort.message}}).encode()


def is_sealed(raw: bytes) -> bool:
    """Whether a body claims to be a sealed object of protocol v2."""
    with suppress(ac.EnvelopeError):
        # whoever stands between may have sent it: read as what has few members, or it could take all memory
        return {name for name, _ in read_members(raw, "the answer", ac.EnvelopeError)} >= _SEALED_MEMBERS
    return False


def refusal_code(raw: bytes) -> object:
    """What a refusal in clear has as its code, if it is of the shape of all errors."""
    told: object = None
    with suppress(ac.EnvelopeError):
        told = dict(read_members(raw, "the refusal", ac.EnvelopeError)).get("error")  # as above
    return dict(told).get("code") if isinstance(told, tuple) else None  # an array would be a list


def write_event(plaintext: bytes) -> bytes:
    """An event in clear with this data."""
    if b"\n" in plaintext or b"\r" in plaintext:  # between two tokens: in a JSON string they are escaped
        plaintext = b"\ndata: ".join(plaintext.splitlines())
    return b"data: " + plaintext + b"\n\n"
