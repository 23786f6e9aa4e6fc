"""Who holds a key: policies that a client asks before it seals anything to it.

A verifier is one method, `verify`. It gives an `AttestedKey`, or raises AttestationError. `PinnedKeys` accepts the keys
that you name; `Unverified` accepts any, and warns.
"""

from ._policies import PinnedKeys, Unverified, UnverifiedWarning
from ._values import AttestedKey, Evidence, Verifier

__all__ = ["AttestedKey", "Evidence", "PinnedKeys", "Unverified", "UnverifiedWarning", "Verifier"]
