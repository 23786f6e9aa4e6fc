"""Certificates and revocation lists that the tests make themselves."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

NOW: Final = 1_763_812_345  # what the clock says in these tests
HOUR: Final = 3600
DAY: Final = 24 * HOUR


def at(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def iso(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def raw_signature(
    key: ec.EllipticCurvePrivateKey,
    message: bytes,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
    size: int | None = None,
) -> bytes:
    """Signature as r and s, big-endian, one after the other, each of `size` bytes (by default the curve's)."""
    size = size or key.key_size // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm or hashes.SHA256())))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


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
        signs: bool | None = None,
        algorithm: hashes.SHA3_384 | None = None,
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
            signs=not ca if signs is None else signs,
            algorithm=algorithm,
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
    signs: bool = False,
    algorithm: hashes.SHA3_384 | None = None,
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
        x509.KeyUsage(digital_signature=signs, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
    )
    builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(aki, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    usual = hashes.SHA384() if signer.key_size == 384 else hashes.SHA256()
    return Authority(builder.sign(signer, algorithm or usual), key)


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
