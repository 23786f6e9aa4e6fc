"""What verifiers take and give."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from atoma_crypto._attested import AttestedKey
from atoma_crypto.keyring import KeyOffer

__all__ = ["SEVERAL", "AttestedKey", "Evidence", "Verifier", "wants_challenge"]

SEVERAL: Final = "several"  # the kind of evidence that consists of parts


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a node shows for its key: bytes of one `kind`, and what is needed to check them, if that comes with them.

    Kinds: `"tdx"` (a quote; collateral: JSON), `"snp"` (a report; collateral: its certificates), `"nvidia"` (Atoma's
    list of devices). Evidence of several kinds for one key is made by `Evidence.together`, and has it in `parts`.
    """

    kind: str
    data: bytes = field(repr=False)
    collateral: bytes = field(default=b"", repr=False)
    parts: tuple["Evidence", ...] = field(default=(), repr=False)

    @classmethod
    def together(cls, *parts: "Evidence") -> "Evidence":
        """One value for evidence of several kinds: each verifier takes the part of its kind."""
        flat = tuple(piece for part in parts for piece in part.parts or (part,))
        if not flat:
            raise ValueError("together() takes one piece of evidence or more")
        return flat[0] if len(flat) == 1 else cls(SEVERAL, b"", b"", flat)


class Verifier(Protocol):
    """A policy.

    One that has an attribute `wants_challenge`, and it is True, is asked about evidence that was made for a challenge
    of the client's, wherever the client can get such; without one it is never asked there.
    """

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """Accept the offered key, or raise AttestationError, which says which check has failed.

        `challenge` is empty or the 32 bytes that the evidence has to answer; `now` is in seconds since 1970.
        """


def wants_challenge(verifier: Verifier) -> bool:
    """Whether evidence should answer a challenge before this policy looks at it; the attribute may be missing."""
    return getattr(verifier, "wants_challenge", False) is True
