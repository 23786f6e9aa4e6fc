"""AMD SEV-SNP: attestation reports, by a policy."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._binding import bound, check_binding, check_offer, evidence_of, freshness
from atoma_crypto.attestation._guard import guarded
from atoma_crypto.attestation._values import AttestedKey, Evidence
from atoma_crypto.keyring import KeyOffer

# SHA-256 of AMD's roots in DER: ARK-Milan, ARK-Genoa, ARK-Turin. AMD gives them out at
# https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain, and virtee/sev and google/go-sev-guest have the same.
AMD_ROOTS: Final = frozenset(
    (
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    )
)
_MAX_COLLATERAL_BYTES: Final = 64 * 1024
_NOT_CHECKED: Final = ("revocation: AMD's list was not asked",)
# Where the parts of a TCB version stand in its 8 bytes, which is the product's matter.
_TCB_BYTES: Final = {
    "Milan": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Genoa": {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Turin": {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}

# An attestation report ("SEV Secure Nested Paging Firmware ABI Specification", table 23). Numbers are little-endian.
_REPORT_BYTES: Final = 1184
_VERSIONS: Final = range(2, 6)
_SIGNED: Final = slice(0, 0x2A0)
_R: Final = slice(0x2A0, 0x2E8)
_S: Final = slice(0x2E8, 0x330)
_ECDSA_P384_SHA384: Final = 1
_MIGRATION_AGENT: Final = 1 << 18  # guest policy: another guest may get at this one's memory
_DEBUG: Final = 1 << 19  # guest policy: the host may
_SIGNING_KEY: Final = 0b11100  # of the bits at 0x48; 0: VCEK


@dataclass(frozen=True, slots=True)
class SnpMeasurement:
    """One guest that is accepted: the measurement of what it began with, 48 bytes, as bytes or hex.

    `host_data`: 32 bytes that the host gave at its start; None: not looked at. ValueError: other lengths.
    """

    measurement: bytes | str
    host_data: bytes | str | None = None

    def __post_init__(self) -> None:
        for name, size in (("measurement", 48), ("host_data", 32)):
            value = getattr(self, name)
            if isinstance(value, str):
                try:
                    value = bytes.fromhex(value)
                except ValueError:
                    raise ValueError(f"{name} is not hex") from None
            if len(value or bytes(size)) != size or value == b"":
                raise ValueError(f"{name} must be {size} bytes")
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class SnpTcb:
    """Security versions of a chip's firmware, each of which must be reached. AMD's bulletins say which close what.

    `fmc` exists from Turin on, and is not looked at before.
    """

    bootloader: int = 0
    tee: int = 0
    snp: int = 0
    microcode: int = 0
    fmc: int = 0


@dataclass(frozen=True, slots=True)
class SnpPolicy:
    """What an `SnpVerifier` accepts.

    `measurements`: the guest must be one of these. `min_tcb`: AMD signs no list of what is up to date, so that has to
    be said here. `max_vmpl`: the least privileged level of the guest that may have asked for the report; 0 is the most
    privileged one. Guests that can be debugged or migrated are never accepted. ValueError: no measurement.
    """

    measurements: Iterable[SnpMeasurement]
    min_tcb: SnpTcb
    max_vmpl: int = 0
    _any: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        measurements = tuple(self.measurements)
        if not all(isinstance(one, SnpMeasurement) for one in measurements) or not isinstance(self.min_tcb, SnpTcb):
            raise TypeError("measurements must be SnpMeasurements, min_tcb an SnpTcb")
        if not measurements and not self._any:
            raise ValueError("no measurement is given: to accept any guest, use SnpPolicy.any_measurement()")
        if not 0 <= self.max_vmpl <= 3:
            raise ValueError("max_vmpl is 0 to 3")
        object.__setattr__(self, "measurements", measurements)

    @classmethod
    def any_measurement(cls, min_tcb: SnpTcb, *, max_vmpl: int = 0) -> "SnpPolicy":
        """Accepts whatever runs in the guest: that proves that the key is in some SNP guest, not in whose."""
        return cls((), min_tcb, max_vmpl, True)


class _Report(NamedTuple):
    """The parts of a report that are looked at."""

    version: int
    policy: int
    vmpl: int
    algorithm: int
    flags: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    chip_id: bytes


class SnpVerifier:
    """Accepts a key whose binding stands in the report of an AMD SEV-SNP guest that the policy accepts.

    Needs the extra `snp`. Checked: the report's signature by its chip (VCEK), the chain to AMD's root, dates at `now`,
    that chip and firmware versions of report and certificate are the same, the policy's least versions, no debugging
    and no migration, the privilege level, the measurement, and that the report was made for this offer and challenge.
    AMD's revocation list is not asked, and the claims say so. Keys of cloud providers (VLEK) are not accepted.

    The collateral is VCEK, ASK and ARK: in PEM in this order, or the table that Linux hands on from the host. `root` is
    a root certificate (DER) to go by instead of AMD's.
    """

    wants_challenge: Final = True

    def __init__(self, policy: SnpPolicy, *, root: bytes | None = None) -> None:
        try:
            from atoma_crypto.attestation import _chain, _vcek  # noqa: PLC0415 - need the extra
        except ImportError as error:
            raise ImportError("SnpVerifier needs cryptography: install atoma-crypto[snp]") from error
        if not isinstance(policy, SnpPolicy):
            raise TypeError(f"policy must be SnpPolicy, not {type(policy).__name__}")
        self._chain = _chain
        self._vcek = _vcek
        self._policy = policy
        self._roots = AMD_ROOTS if root is None else frozenset((hashlib.sha256(root).hexdigest(),))

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """As `Verifier.verify`. The claims hold product, chip, firmware versions, and the measurement in hex."""
        ends = check_offer(offer, challenge, now)
        evidence = evidence_of(evidence, "snp")
        report = _parsed(evidence.data)
        vcek = self._checked(evidence, now)
        tcb = self._check_chip(report, vcek)
        self._check_guest(report)
        check_binding(report.report_data, offer, challenge)
        claims = {
            "policy": "snp",
            "binding": bound(offer, challenge),
            "fresh": freshness(offer, challenge),
            "product": vcek.product,
            "chip": report.chip_id.hex(),
            "tcb": tcb,
            "vmpl": report.vmpl,
            "measurement": report.measurement.hex(),
            "host_data": report.host_data.hex(),
            "measurements_checked": bool(self._policy.measurements),
            "not_checked": list(_NOT_CHECKED),
        }
        return AttestedKey(offer.public_key, claims, min(ends, vcek.until))

    def _checked(self, evidence: Evidence, now: float) -> Any:
        """What the chip's certificate says, the report's signature by it being good."""
        if len(evidence.collateral) > _MAX_COLLATERAL_BYTES:
            raise AttestationError(f"the SNP collateral is longer than {_MAX_COLLATERAL_BYTES} bytes")
        vcek = guarded("the SNP certificates are malformed", lambda: self._read(evidence.collateral, now))
        report = evidence.data
        r, s = (int.from_bytes(report[part], "little") for part in (_R, _S))
        if not guarded(
            "the SNP report's signature is malformed",
            lambda: self._chain.signed_by_p384(vcek.key, report[_SIGNED], r, s),
        ):
            raise AttestationError("the SNP report is not signed by the chip")
        return vcek

    def _read(self, collateral: bytes, now: float) -> Any:
        vcek, ask, ark = self._vcek.certificates_of(collateral)
        if hashlib.sha256(ark).hexdigest() not in self._roots:
            raise AttestationError("the SNP certificates lead to another root")
        read = self._chain.read_certificate
        return self._vcek.read_vcek(vcek, read(ask), read(ark), now)

    def _check_chip(self, report: _Report, vcek: Any) -> Mapping[str, int]:
        where = _TCB_BYTES.get(vcek.product.partition("-")[0])
        if where is None:
            raise AttestationError("the SNP report is of a product that is not known")
        tcb = {name: report.reported_tcb[at] for name, at in where.items()}
        if tcb != {name: vcek.tcb.get(name) for name in where}:
            raise AttestationError("the SNP report and the chip's certificate are of other firmware versions")
        if report.chip_id != vcek.chip_id.ljust(64, b"\0") or not vcek.chip_id:
            raise AttestationError("the SNP report is of another chip than the certificate")
        low = [name for name, least in asdict(self._policy.min_tcb).items() if name in tcb and tcb[name] < least]
        if low:
            raise AttestationError(f"the chip's firmware is older than the policy accepts: {', '.join(low)}")
        return tcb

    def _check_guest(self, report: _Report) -> None:
        if report.policy & (_DEBUG | _MIGRATION_AGENT):
            raise AttestationError("the SNP guest may be debugged or migrated")
        if report.vmpl > self._policy.max_vmpl:
            raise AttestationError(f"the SNP report was asked for at level {report.vmpl} of the guest")
        accepted = tuple(self._policy.measurements)
        if accepted and not any(
            one.measurement == report.measurement and one.host_data in (None, report.host_data) for one in accepted
        ):
            raise AttestationError(f"the measurement is none that the policy accepts; it is {report.measurement.hex()}")


def _parsed(report: bytes) -> _Report:
    if len(report) != _REPORT_BYTES:
        raise AttestationError(f"an SNP report has {_REPORT_BYTES} bytes")

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(report[at : at + size], "little")

    parsed = _Report(
        version=number(0),
        policy=number(0x08, 8),
        vmpl=number(0x30),
        algorithm=number(0x34),
        flags=number(0x48),
        report_data=report[0x50:0x90],
        measurement=report[0x90:0xC0],
        host_data=report[0xC0:0xE0],
        reported_tcb=report[0x180:0x188],
        chip_id=report[0x1A0:0x1E0],
    )
    if parsed.version not in _VERSIONS or parsed.algorithm != _ECDSA_P384_SHA384:
        raise AttestationError("the SNP report is of an unknown version, or signed in an unknown way")
    if parsed.flags & _SIGNING_KEY:
        raise AttestationError("the SNP report is not signed by the chip's own key (VCEK)")
    return parsed
