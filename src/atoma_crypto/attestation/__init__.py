"""Who holds a key: policies that a client asks before it seals anything to it, and what a node shows for its keys.

A verifier is one method, `verify`. It gives an `AttestedKey`, or raises AttestationError. `PinnedKeys` accepts the keys
that you name; `TdxVerifier` and `SnpVerifier` those that stand in the evidence of a machine which a policy accepts;
`NvidiaGpuVerifier` those for which Atoma's devices have signed; `AllOf` and `AnyOf` combine; `Unverified` accepts any,
and warns.

A provider is one method, `evidence`, which a node asks with the `report_data` of an offer: `TsmProvider`,
`StaticEvidence`, `Together`.
"""

from ._binding import nvidia_nonce, report_data
from ._combined import AllOf, AnyOf
from ._nvidia import NVIDIA_DEVICE_ROOT, NvidiaGpuVerifier
from ._policies import PinnedKeys, Unverified, UnverifiedWarning
from ._providers import EvidenceProvider, StaticEvidence, Together, TsmProvider
from ._snp import SnpMeasurement, SnpPolicy, SnpTcb, SnpVerifier
from ._tdx import TdxVerifier
from ._tdx_policy import TdxMeasurement, TdxPolicy
from ._values import AttestedKey, Evidence, Verifier
from ._wire import evidence_from_json, evidence_to_json

__all__ = [
    "NVIDIA_DEVICE_ROOT",
    "AllOf",
    "AnyOf",
    "AttestedKey",
    "Evidence",
    "EvidenceProvider",
    "NvidiaGpuVerifier",
    "PinnedKeys",
    "SnpMeasurement",
    "SnpPolicy",
    "SnpTcb",
    "SnpVerifier",
    "StaticEvidence",
    "TdxMeasurement",
    "TdxPolicy",
    "TdxVerifier",
    "Together",
    "TsmProvider",
    "Unverified",
    "UnverifiedWarning",
    "Verifier",
    "evidence_from_json",
    "evidence_to_json",
    "nvidia_nonce",
    "report_data",
]
