"""What verifiers take and give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from atoma_crypto._keys import PublicKey
from atoma_crypto.keyring import KeyOffer

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


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A key that a policy has accepted, and what was found out about who holds it.

    `claims` says so in words and numbers, which JSON can hold; `expires_at` is when that has to be looked at anew, in
    seconds since 1970.
    """

    public_key: PublicKey
    claims: Mapping[str, object]
    expires_at: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))


class Verifier(Protocol):
    """A policy."""

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """Accept the offered key, or raise AttestationError, which says which check has failed.

        `challenge` is empty or the 32 bytes that the evidence has to answer; `now` is in seconds since 1970.
        """
