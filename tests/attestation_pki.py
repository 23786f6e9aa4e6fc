"""A chip maker of our own for the tests: root, certificates, revocation lists, collateral, and quotes that they sign.

Written from Intel's "TDX DCAP Quoting Library API" (quote version 4) and "PCK Certificate and CRL Specification", not
from the library that reads them. Integers of quotes are little-endian.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import DAY, NOW, Authority, iso, new_key, new_root, raw_signature

FMSPC: Final = bytes.fromhex("50806f000000")
CPU_SVN: Final = bytes([5] * 16)
TEE_TCB_SVN: Final = bytes([3, 1, 5] + [0] * 13)  # version 1 of the TDX module, its ISVSVN 3
QE_SIGNER: Final = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")  # Intel
SGX: Final = "1.2.840.113741.1.13.1"
MR_TD: Final = hashlib.sha384(b"the firmware").digest()
RT_MR: Final = tuple(hashlib.sha384(b"register %d" % i).digest() for i in range(4))


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A public key as x and y, big-endian, one after the other."""
    point = key.public_key().public_numbers()
    return point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")


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

    def quote(
        self, report_data: bytes, *, pck: Authority | None = None, qe_svn: int = 4, qe_debug: bool = False, **td: Any
    ) -> bytes:
        """A quote of version 4 over a report with this data (or of version 5, where `td` asks for a TDX 1.5 report)."""
        key = new_key()
        certified = self._certified(key, pck or self.pck, isv_svn=qe_svn, debug=qe_debug)
        signed = signed_part(report_data, **td)
        tail = raw_signature(key, signed) + raw_point(key)
        tail += (6).to_bytes(2, "little") + len(certified).to_bytes(4, "little") + certified
        return signed + len(tail).to_bytes(4, "little") + tail

    def sgx_quote(self, report_data: bytes) -> bytes:
        """A quote of version 3, of an enclave."""
        key = new_key()
        signed = bytes([3, 0, 2, 0]) + bytes(8) + QE_VENDOR + bytes(20) + enclave_report(report_data)
        tail = raw_signature(key, signed) + raw_point(key) + self._certified(key, self.pck)
        return signed + len(tail).to_bytes(4, "little") + tail

    def _certified(self, key: ec.EllipticCurvePrivateKey, pck: Authority, **options: Any) -> bytes:
        """What the quoting enclave says of the key that signs a quote, and the certificates for that."""
        auth = bytes(range(32))
        report = enclave_report(hashlib.sha256(raw_point(key) + auth).digest() + bytes(32), **options)
        chain = (pck.pem + self.platform_ca.pem + self.root.pem).encode() + b"\x00"
        certified = report + raw_signature(pck.key, report) + len(auth).to_bytes(2, "little") + auth
        return certified + (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little") + chain


def enclave_report(report_data: bytes, isv_svn: int = 4, debug: bool = False) -> bytes:
    """The 384 bytes of an enclave, such as the quoting one."""
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
    header += bytes(4) + QE_VENDOR + bytes(20)
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
    return request + response + raw_signature(key, request + response, hashes.SHA384(), 48)


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
