"""AMD's part for the tests: roots, chips and reports that they sign, from the "SEV-SNP Firmware ABI Specification"."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from certificates import DAY, NOW, at

ARC: Final = "1.3.6.1.4.1.3704.1"
TCB: Final = {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 200}
TCB_OIDS: Final = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 8, "fmc": 9}
MEASUREMENT: Final = hashlib.sha384(b"the guest").digest()
HOST_DATA: Final = hashlib.sha256(b"the host").digest()
SignerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass
class Issuer:
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def integer(value: int) -> bytes:
    body = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(body)]) + body


def certificate(
    name: str,
    key: SignerKey,
    issuer: Issuer | None,
    *,
    ca: bool = True,
    begins: float = NOW - DAY,
    ends: float = NOW + 365 * DAY,
    extensions: Mapping[str, bytes] | None = None,
    critical: bool = False,
    salt: int = 48,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(at(begins)).not_valid_after(at(ends))
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, None if issuer is None else 0), critical=True)
    for arc, value in (extensions or {}).items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{ARC}.{arc}"), value)
        builder = builder.add_extension(extension, critical=critical)
    signer = issuer.key if issuer else key
    assert isinstance(signer, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt)
    return builder.sign(signer, hashes.SHA384(), rsa_padding=pss)


def new_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)  # AMD's have 4096 bits, which takes long to make


@dataclass
class Chip:
    """One with its certificate, and what stands above it."""

    vcek: bytes
    key: ec.EllipticCurvePrivateKey
    above: tuple[bytes, bytes]
    chip_id: bytes
    product: str

    @property
    def collateral(self) -> bytes:
        return b"".join(pem(one) for one in (self.vcek, *self.above))

    @property
    def table(self) -> bytes:
        """As a host hands the certificates to its guests."""
        guids = (
            "63da758d-e664-4564-adc5-f4b93be8accd",
            "4ab7b379-bbac-4fe4-a02f-05aef327c782",
            "c0b406a4-a803-4952-9743-3fb6014cd0ae",
        )
        certificates = (self.vcek, *self.above)
        begin = 24 * 4
        head, body = b"", b""
        for guid, one in zip(guids, certificates, strict=True):
            head += (
                uuid.UUID(guid).bytes_le + (begin + len(body)).to_bytes(4, "little") + len(one).to_bytes(4, "little")
            )
            body += one
        return head + bytes(24) + body

    def report(
        self,
        report_data: bytes,
        *,
        tcb: Mapping[str, int] | None = None,
        version: int = 2,
        policy: int = 0x30000,
        vmpl: int = 0,
        flags: int = 0,
        algorithm: int = 1,
        chip_id: bytes | None = None,
        measurement: bytes = MEASUREMENT,
    ) -> bytes:
        where = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
        if self.product.startswith("Turin"):
            where = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
        versions = bytearray(8)
        for name, value in (TCB if tcb is None else tcb).items():
            versions[where[name]] = value
        report = bytearray(0x2A0)
        report[0:4] = version.to_bytes(4, "little")
        report[0x08:0x10] = policy.to_bytes(8, "little")
        report[0x30:0x34] = vmpl.to_bytes(4, "little")
        report[0x34:0x38] = algorithm.to_bytes(4, "little")
        report[0x48:0x4C] = flags.to_bytes(4, "little")
        report[0x50:0x90] = report_data
        report[0x90:0xC0] = measurement
        report[0xC0:0xE0] = HOST_DATA
        report[0x180:0x188] = versions
        report[0x1A0:0x1E0] = (self.chip_id if chip_id is None else chip_id).ljust(64, b"\0")
        r, s = decode_dss_signature(self.key.sign(bytes(report), ec.ECDSA(hashes.SHA384())))
        return bytes(report) + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def encoded(one: x509.Certificate) -> bytes:
    return one.public_bytes(serialization.Encoding.DER)


class AmdMaker:
    """AMD's part, with a root of the tests' own."""

    def __init__(self, *, ark_ends: float = NOW + 3650 * DAY, ask_ca: bool = True) -> None:
        ark_key, ask_key = new_rsa(), new_rsa()
        self.ark = Issuer(certificate("ARK-Test", ark_key, None, ends=ark_ends), ark_key)
        self.ask = Issuer(certificate("SEV-Test", ask_key, self.ark, ca=ask_ca), ask_key)

    @property
    def root(self) -> bytes:
        return encoded(self.ark.certificate)

    def chip(
        self,
        *,
        product: str = "Milan-B0",
        tcb: Mapping[str, int] | None = None,
        chip_id: bytes = bytes(range(64)),
        left_out: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        **options: Any,
    ) -> Chip:
        key = key or ec.generate_private_key(ec.SECP384R1())
        extensions = {"2": bytes([0x16, len(product)]) + product.encode(), "4": chip_id}
        extensions |= {f"3.{TCB_OIDS[name]}": integer(value) for name, value in (TCB if tcb is None else tcb).items()}
        extensions.pop(left_out, None)
        vcek = certificate("SEV-VCEK", key, self.ask, ca=False, extensions=extensions, **options)
        return Chip(encoded(vcek), key, (encoded(self.ask.certificate), self.root), chip_id, product)


@cache
def amd_maker() -> AmdMaker:
    return AmdMaker()


@cache
def chip() -> Chip:
    """One chip for all tests that need no other."""
    return amd_maker().chip()
