"""A chip maker of our own for the tests: root, certificates, revocation lists, collateral, and quotes that they sign.

Written from Intel's "TDX DCAP Quoting Library API" (quote version 4) and "PCK Certificate and CRL Specification", not
from the library that reads them. Integers of quotes are little-endian.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW: Final = 1_763_812_345  # what the clock says in these tests
HOUR: Final = 3600
DAY: Final = 24 * HOUR
FMSPC: Final = bytes.fromhex("50806f000000")
CPU_SVN: Final = bytes([5] * 16)
TEE_TCB_SVN: Final = bytes([3, 1, 5] + [0] * 13)  # version 1 of the TDX module, its ISVSVN 3
QE_SIGNER: Final = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
SGX: Final = "1.2.840.113741.1.13.1"
MR_TD: Final = hashlib.sha384(b"the firmware").digest()
RT_MR: Final = tuple(hashlib.sha384(b"register %d" % i).digest() for i in range(4))


def at(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def iso(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def raw_signature(
    key: ec.EllipticCurvePrivateKey, message: bytes, algorithm: hashes.HashAlgorithm | None = None
) -> bytes:
    """Signature as r and s, big-endian, one after the other."""
    size = key.key_size // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm or hashes.SHA256())))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


# ---- DER, as much as Intel's extension needs --------------------------------------------------------------------


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, 0x82, *size.to_bytes(2, "big")]) + content


def der_oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    out = bytearray([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, 0x80 | arc & 0x7F)
        out += bytes(groups)
    return der(6, bytes(out))


def der_list(*items: bytes) -> bytes:
    return der(0x30, b"".join(items))


def sgx_extension(*, cpu_svn: bytes = CPU_SVN, pce_svn: int = 11, fmspc: bytes = FMSPC) -> x509.UnrecognizedExtension:
    """What a PCK certificate says of its platform."""

    def item(arc: str, value: bytes) -> bytes:
        return der_list(der_oid(f"{SGX}.{arc}"), value)

    tcb = [item(f"2.{i + 1}", der(2, bytes([svn]))) for i, svn in enumerate(cpu_svn)]
    tcb += [item("2.17", der(2, bytes([pce_svn]))), item("2.18", der(4, cpu_svn))]
    value = der_list(
        item("1", der(4, bytes(range(16)))),
        item("2", der_list(*tcb)),
        item("3", der(4, bytes(2))),
        item("4", der(4, fmspc)),
        item("5", der(10, b"\x01")),
        item("6", der(4, bytes(range(16, 32)))),
        item("7", der_list(*(item(f"7.{i}", der(1, b"\x00")) for i in (1, 2, 3)))),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX), value)


# ---- certificates -----------------------------------------------------------------------------------------------


@dataclass
class Authority:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        name: str,
        *,
        ca: bool = False,
        path_length: int | None = None,
        begins: float = NOW - DAY,
        ends: float = NOW + 365 * DAY,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Authority:
        return issue(
            self,
            name,
            ca=ca,
            path_length=path_length,
            begins=begins,
            ends=ends,
            extensions=extensions,
            key=key or new_key(self.key.curve),
        )

    def revocations(self, *revoked: Authority, begins: float = NOW - DAY, ends: float = NOW + 30 * DAY) -> bytes:
        """A list of revoked certificates, in DER."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(at(begins)).next_update(at(ends))
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(aki, critical=False)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(at(begins)).build())
        return builder.sign(self.key, self._hash()).public_bytes(serialization.Encoding.DER)

    def _hash(self) -> hashes.SHA256 | hashes.SHA384:
        return hashes.SHA384() if self.key.key_size == 384 else hashes.SHA256()


def issue(
    issuer: Authority | None,
    name: str,
    *,
    ca: bool,
    path_length: int | None,
    begins: float,
    ends: float,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    key: ec.EllipticCurvePrivateKey,
) -> Authority:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(at(begins)).not_valid_after(at(ends))
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    usage |= {"encipher_only": False, "decipher_only": False}
    builder = builder.add_extension(
        x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
    )
    builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(aki, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    algorithm = hashes.SHA384() if signer.key_size == 384 else hashes.SHA256()
    return Authority(builder.sign(signer, algorithm), key)


def new_root(name: str, curve: ec.EllipticCurve | None = None, *, ends: float = NOW + 3650 * DAY) -> Authority:
    return issue(
        None,
        name,
        ca=True,
        path_length=None,
        begins=NOW - 3650 * DAY,
        ends=ends,
        extensions=(),
        key=new_key(curve),
    )


# ---- a maker of TDX machines ------------------------------------------------------------------------------------


def tcb_level(status: str, *, svn: int = 5, module: int = 3, advisories: Sequence[str] = ()) -> dict[str, Any]:
    """A level that a platform reaches whose components are all at least `svn`."""
    level: dict[str, Any] = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn}] * 16,
            "pcesvn": 11,
            "tdxtcbcomponents": [{"svn": module}, {"svn": 0}, {"svn": svn}] + [{"svn": 0}] * 13,
        },
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": status,
    }
    return level | ({"advisoryIDs": list(advisories)} if advisories else {})


@dataclass
class Maker:
    """Intel's part, with a root of the tests' own."""

    root: Authority = field(default_factory=lambda: new_root("Test Root CA"))

    def __post_init__(self) -> None:
        self.platform_ca = self.root.issue("Test PCK Platform CA", ca=True, path_length=0)
        self.tcb_signer = self.root.issue("Test TCB Signing")
        self.pck = self.new_pck()

    def new_pck(self, **options: Any) -> Authority:
        extension = sgx_extension(**{k: options.pop(k) for k in ("cpu_svn", "pce_svn", "fmspc") if k in options})
        return self.platform_ca.issue("Test PCK Certificate", extensions=[(extension, False)], **options)

    def tcb_info(self, **changes: Any) -> dict[str, Any]:
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        module_levels = [{"tcb": {"isvsvn": 3}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}]
        return {
            "id": "TDX",
            "version": 3,
            "issueDate": iso(NOW - DAY),
            "nextUpdate": iso(NOW + 29 * DAY),
            "fmspc": FMSPC.hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": 17,
            "tdxModule": module,
            "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": module_levels}],
            "tcbLevels": [tcb_level("UpToDate")],
        } | changes

    def qe_identity(self, **changes: Any) -> dict[str, Any]:
        return {
            "id": "TD_QE",
            "version": 2,
            "issueDate": iso(NOW - DAY),
            "nextUpdate": iso(NOW + 29 * DAY),
            "tcbEvaluationDataNumber": 17,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 2,
            "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}],
        } | changes

    def collateral(
        self,
        *,
        tcb_info: Mapping[str, Any] | None = None,
        qe_identity: Mapping[str, Any] | None = None,
        revoked: Sequence[Authority] = (),
        revoked_by_root: Sequence[Authority] = (),
        revocations_end: float = NOW + 30 * DAY,
        tcb_signer: Sequence[Authority] = (),
        qe_signer: Sequence[Authority] = (),
    ) -> bytes:
        """All that is needed to judge a quote, in the JSON that dcap-qvl takes; a signer is a chain, leaf first."""

        def signed(document: Mapping[str, Any], chain: Sequence[Authority]) -> tuple[str, str, str]:
            text = json.dumps(document, separators=(",", ":"))
            return text, raw_signature(chain[0].key, text.encode()).hex(), "".join(one.pem for one in chain)

        ours = (self.tcb_signer, self.root)
        tcb, tcb_signature, tcb_chain = signed(tcb_info or self.tcb_info(), tcb_signer or ours)
        qe, qe_signature, qe_chain = signed(qe_identity or self.qe_identity(), qe_signer or ours)
        return json.dumps(
            {
                "pck_crl_issuer_chain": self.platform_ca.pem + self.root.pem,
                "root_ca_crl": self.root.revocations(*revoked_by_root, ends=revocations_end).hex(),
                "pck_crl": self.platform_ca.revocations(*revoked, ends=revocations_end).hex(),
                "tcb_info_issuer_chain": tcb_chain,
                "tcb_info": tcb,
                "tcb_info_signature": tcb_signature,
                "qe_identity_issuer_chain": qe_chain,
                "qe_identity": qe,
                "qe_identity_signature": qe_signature,
            }
        ).encode()

    def quote(self, report_data: bytes, *, pck: Authority | None = None, qe_svn: int = 4, **td: Any) -> bytes:
        """A quote of version 4 over a report with this data (or of version 5, where `td` asks for a TDX 1.5 report)."""
        pck = pck or self.pck
        attestation_key = new_key()
        point = attestation_key.public_key().public_numbers()
        raw_key = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        auth = bytes(range(32))
        qe_report = enclave_report(
            hashlib.sha256(raw_key + auth).digest() + bytes(32), qe_svn, td.pop("qe_debug", False)
        )
        chain = (pck.pem + self.platform_ca.pem + self.root.pem).encode() + b"\x00"
        certified = qe_report + raw_signature(pck.key, qe_report) + len(auth).to_bytes(2, "little") + auth
        certified += (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little") + chain
        signed = signed_part(report_data, **td)
        tail = raw_signature(attestation_key, signed) + raw_key
        tail += (6).to_bytes(2, "little") + len(certified).to_bytes(4, "little") + certified
        return signed + len(tail).to_bytes(4, "little") + tail


def enclave_report(report_data: bytes, isv_svn: int, debug: bool) -> bytes:
    """The 384 bytes of the quoting enclave."""
    attributes = bytes([0x13 if debug else 0x11]) + bytes(7) + b"\xe7" + bytes(7)
    body = CPU_SVN + bytes(4) + bytes(28) + attributes + bytes(32) + bytes(32) + QE_SIGNER + bytes(96)
    return body + (2).to_bytes(2, "little") + isv_svn.to_bytes(2, "little") + bytes(60) + report_data


def signed_part(
    report_data: bytes,
    *,
    mr_td: bytes = MR_TD,
    rt_mr: Sequence[bytes] = RT_MR,
    debug: bool = False,
    tee_tcb_svn: bytes = TEE_TCB_SVN,
    version_15: bool = False,
    service_td: bytes = bytes(48),
) -> bytes:
    """Header and TD report."""
    header = (5 if version_15 else 4).to_bytes(2, "little") + (2).to_bytes(2, "little") + (0x81).to_bytes(4, "little")
    header += bytes(4) + bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)
    attributes = bytes([1 if debug else 0, 0, 0, 0x10, 0, 0, 0, 0])  # SEPT_VE_DISABLE
    report = tee_tcb_svn + bytes(48) + bytes(48) + bytes(8) + attributes + bytes.fromhex("e702060000000000")
    report += mr_td + bytes(48) * 3 + b"".join(rt_mr) + report_data
    if not version_15:
        return header + report
    report += tee_tcb_svn + service_td
    return header + (3).to_bytes(2, "little") + len(report).to_bytes(4, "little") + report


@cache
def maker() -> Maker:
    """One maker for all tests that need no other."""
    return Maker()


# ---- and one of GPUs --------------------------------------------------------------------------------------------


def spdm_report(key: ec.EllipticCurvePrivateKey, nonce: bytes) -> bytes:
    """GET_MEASUREMENTS and MEASUREMENTS of SPDM 1.1 (DSP0274), signed over both."""
    request = bytes([0x11, 0xE0, 0x01, 0xFF]) + nonce + b"\x00"
    block = bytes([1, 1]) + (51).to_bytes(2, "little") + b"\x81" + (48).to_bytes(2, "little") + bytes(range(48))
    response = bytes([0x11, 0x60, 0, 0, 1]) + len(block).to_bytes(3, "little") + block + bytes(32)
    opaque = b"\x01\x00\x04\x00test"
    response += len(opaque).to_bytes(2, "little") + opaque
    return request + response + raw_signature(key, request + response, hashes.SHA384())


@dataclass
class GpuMaker:
    """NVIDIA's part."""

    root: Authority = field(default_factory=lambda: new_root("Test Device Identity CA", ec.SECP384R1()))

    def __post_init__(self) -> None:
        self.identity = self.root.issue("Test GH100 Identity", ca=True)
        self.provisioner = self.identity.issue("Test GH100 Provisioner", ca=True)

    def device(
        self, nonce: bytes, *, kind: str = "device", chain: Sequence[Authority] = (), **options: Any
    ) -> dict[str, str]:
        """One entry of Atoma's list, for a device of its own; `chain`: leaf first."""
        chain = chain or (self.provisioner.issue("Test GSP FMC", **options), self.provisioner, self.identity, self.root)
        pem = "".join(one.pem for one in chain).encode()
        report = spdm_report(chain[0].key, nonce)
        return {
            "evidence_type": kind,
            "certificate": base64.b64encode(pem).decode(),
            "evidence": base64.b64encode(report).decode(),
        }


@cache
def gpu_maker() -> GpuMaker:
    return GpuMaker()
