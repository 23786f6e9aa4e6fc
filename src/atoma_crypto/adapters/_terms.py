"""What is agreed on once for many requests: the protocol, whose keys are sealed to, and the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import atoma_crypto as ac
from atoma_crypto._padding import PadTo, check_pad_to
from atoma_crypto._state import CLIENT, require_protocol
from atoma_crypto._typing import NonceReuse, Protocol, Suite
from atoma_crypto.adapters._trust import Trust
from atoma_crypto.attestation import Verifier

DEFAULT_SUITES: Final[tuple[Suite, ...]] = ("X25519",)
EXTENSION: Final = "atoma_crypto"
"""The name under which a response of a transport has its Origin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a client speaks; `trust` is None where nobody looks at whose key it is, as v1 does if it is not told to.

    TypeError: v2 without `verify`, and `suites` where v1 is spoken, which knows but one.
    """

    protocol: Protocol = "v1"
    verify: Verifier | None = None
    suites: Sequence[Suite] = DEFAULT_SUITES
    limits: ac.Limits = field(default_factory=ac.Limits)
    nonce_reuse: NonceReuse = "warn"
    pad_to: PadTo = None
    retry_unknown_key: bool = True
    trust: Trust | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        require_protocol(self.protocol, CLIENT)
        if self.nonce_reuse not in ("warn", "error"):
            raise ValueError(f"nonce_reuse must be 'warn' or 'error', not {self.nonce_reuse!r}")
        check_pad_to(self.pad_to)
        if not isinstance(self.limits, ac.Limits):
            raise TypeError(f"limits must be Limits, not {type(self.limits).__name__}")
        if not isinstance(self.retry_unknown_key, bool):
            raise TypeError("retry_unknown_key must be bool")
        if self.protocol == "v1" and tuple(self.suites) != DEFAULT_SUITES:
            raise TypeError("suites are protocol v2's: v1 has one alone")
        if self.verify is not None:
            object.__setattr__(self, "trust", Trust(self.verify, self.suites))
        elif self.protocol == "v2":
            raise TypeError("protocol v2 needs verify=: PinnedKeys, say, or Unverified() if nobody is to look")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an answer comes from: `response.extensions["atoma_crypto"]` of every response of a transport.

    `sealed`: the node has sealed it for this request, be it an answer or an error (a stream's events are verified as
    they come); what is not is somebody's text in clear, and the rest then says nothing. `public_key` is the key that
    the request was sealed to. Before that it was verified: `claims` is what the policy has found, and `expires_at`, in
    seconds since 1970, when the key or the verdict on it ends. In v1 without `verify` they are empty and None.
    """

    sealed: bool
    protocol: Protocol
    public_key: ac.PublicKey | None = None
    claims: Mapping[str, object] = field(default_factory=dict)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        # A copy down to the last list: the verdict is kept, and what a caller writes into this is not for the next one.
        object.__setattr__(self, "claims", MappingProxyType(deepcopy(dict(self.claims))))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Copies and pickles, which the view of the claims does not by itself."""
        return type(self), (self.sealed, self.protocol, self.public_key, dict(self.claims), self.expires_at)
