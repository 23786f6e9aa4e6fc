"""Chains of certificates to a root (RFC 5280), as far as makers of chips use it. Needs `cryptography`."""

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._guard import guarded

_MAX_CERTIFICATES: Final = 10
_HASHES: Final = frozenset(("sha256", "sha384", "sha512"))
# What is looked at below, or says nothing about whether a certificate may sign.
_UNDERSTOOD: Final = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    )
)


class Path(NamedTuple):
    """Certificates that lead to a root, the signer's first and the root last, and when the first of them ends."""

    certificates: tuple[x509.Certificate, ...]
    until: float

    @property
    def names(self) -> tuple[str, str]:
        """The common names of the signer and of what the root has issued, as certificates have them, or empty."""
        found = [one.subject.get_attributes_for_oid(NameOID.COMMON_NAME) for one in self.certificates]
        signer, issued = (str(names[0].value) if names else "" for names in (found[0], found[-2]))
        return signer, issued

    @property
    def signer_key(self) -> bytes:
        """The signer's public key, in DER."""
        return self.certificates[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_certificate(der: bytes) -> x509.Certificate:
    """A root. ValueError: it is not a certificate in DER."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise ValueError("the root is not a certificate in DER") from None


def path_of(pem: bytes, root: x509.Certificate, now: float) -> Path:
    """The path of a PEM chain, leaf first, to the root, which it may or may not hold itself; good at `now`.

    Checked are names, signatures, dates, who may issue, path lengths, and that no critical extension is unknown.
    Revocation is not. AttestationError.
    """
    return guarded("a chain of certificates is malformed", lambda: _checked(pem, root, now))


def _checked(pem: bytes, root: x509.Certificate, now: float) -> Path:
    chain = x509.load_pem_x509_certificates(pem)
    if len(chain) > _MAX_CERTIFICATES:
        raise AttestationError(f"more than {_MAX_CERTIFICATES} certificates in a chain")
    # What the chain has in the root's place is not looked at: the root that counts is ours.
    below = chain[:-1] if chain[-1].public_key() == root.public_key() else chain
    if not below:
        raise AttestationError("there is no certificate under the root")
    path = (*below, root)
    return Path(path, check_path(path, now))


def check_path(path: Sequence[x509.Certificate], now: float, *, depth: int = 0) -> float:
    """The path, its root last, is good at `now`; `depth` certificates stand under its first. Returns when it ends.

    AttestationError, and whatever the library raises.
    """
    moment = datetime.fromtimestamp(now, timezone.utc)
    for under, certificate in enumerate(path, depth):
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise AttestationError("a certificate has expired, or is not valid yet")
        _check_extensions(certificate, under)
    for certificate, issuer in pairwise(path):
        _check_issued(certificate, issuer)
    return min(certificate.not_valid_after_utc.timestamp() for certificate in path)


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if certificate.issuer != issuer.subject:
        raise AttestationError("a chain of certificates does not lead to the root")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name not in _HASHES:
        raise AttestationError("a certificate is signed with a hash that is not accepted")
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        raise AttestationError("a certificate is not signed by its issuer") from None


def _check_extensions(certificate: x509.Certificate, depth: int) -> None:
    """`depth` is how many certificates stand under this one: none under the leaf."""
    constraints: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise AttestationError("a certificate has a critical extension that is not understood")
        if isinstance(extension.value, x509.BasicConstraints):
            constraints = extension.value
        elif isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
    if depth == 0:
        if constraints is not None and constraints.ca:
            raise AttestationError("the certificate of the signer is an issuer's")
        if usage is not None and not usage.digital_signature:
            raise AttestationError("the certificate of the signer is not for signing")
        return
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise AttestationError("a certificate has issued another, and may not")
    if constraints.path_length is not None and depth - 1 > constraints.path_length:
        raise AttestationError("a chain of certificates is longer than one of them allows")


def signed_by_p384(key: object, message: bytes, r: int, s: int) -> bool:
    """Whether the key is one of P-384, and (r, s) its ECDSA signature, with SHA-384, of the message."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False
    try:
        key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True
