"""A key, and what is known of who holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ._keys import PublicKey


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A key that a policy has accepted, and what was found out about who holds it.

    `claims` says so in words and numbers, which JSON can hold; `expires_at` is when that has to be looked at anew, in
    seconds since 1970. A ClientSession takes it as it takes a PublicKey, until then.
    """

    public_key: PublicKey
    claims: Mapping[str, object] = field(hash=False)
    expires_at: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Copies and pickles, which the view of the claims does not by itself."""
        return type(self), (self.public_key, dict(self.claims), self.expires_at)
