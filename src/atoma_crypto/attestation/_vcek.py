"""AMD's certificates: the one of a chip (VCEK), and those above it. Needs `cryptography`.

A VCEK is read here and not by `cryptography`: AMD numbers all of them 0, which RFC 5280 forbids and that library will
refuse, as it says. Checked are its form, signature, issuer and dates, and that it has no critical extension.
"""

import base64
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._chain import check_path

_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OID: Final = 0x06
_IA5_STRING: Final = 0x16
_TIMES: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
# RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt (RFC 4055); AMD writes the default trailer field as well.
_PSS: Final = bytes.fromhex(
    "06092a864886f70d01010a3034a00f300d06096086480165030402020500"
    "a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
_PSS_AND_TRAILER: Final = _PSS.replace(b"\x30\x34\xa0", b"\x30\x39\xa0") + bytes.fromhex("a303020101")
_ARC: Final = bytes.fromhex("2b060104019c78")  # 1.3.6.1.4.1.3704, AMD's
_TABLE_ENTRY: Final = 24
# GUIDs of the table that a host hands to its guests ("GHCB specification", 4.1.8.1), as they stand in memory.
_IN_TABLE: Final = tuple(
    map(
        bytes.fromhex,
        (
            "8d75da6364e66445adc5f4b93be8accd",  # VCEK: 63da758d-e664-4564-adc5-f4b93be8accd
            "79b3b74aacbbe44fa02f05aef327c782",  # ASK: 4ab7b379-bbac-4fe4-a02f-05aef327c782
            "a406b4c003a8524997433fb6014cd0ae",  # ARK: c0b406a4-a803-4952-9743-3fb6014cd0ae
        ),
    )
)


class Vcek(NamedTuple):
    """What a VCEK says of its chip, once it has been checked, and when the first of its chain ends."""

    key: object
    product: str
    tcb: dict[str, int]
    chip_id: bytes
    until: float


def certificates_of(collateral: bytes) -> list[bytes]:
    """VCEK, ASK and ARK in DER, out of PEM in this order, or out of a host's table. AttestationError, ValueError."""
    if collateral.lstrip().startswith(b"-----BEGIN"):
        # No hyphen inside: it then stops at the next line of the kind, and many beginnings take no time.
        blocks = re.findall(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----", collateral)
        found = [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    else:
        table = dict(_table(collateral))
        found = [table[guid] for guid in _IN_TABLE if guid in table]
    if len(found) != len(_IN_TABLE):
        raise AttestationError("the SNP collateral is not the three certificates VCEK, ASK and ARK")
    return found


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for at in range(0, len(data) - _TABLE_ENTRY + 1, _TABLE_ENTRY):
        guid = data[at : at + 16]
        if not any(guid):
            return
        begin = int.from_bytes(data[at + 16 : at + 20], "little")
        yield guid, data[begin : begin + int.from_bytes(data[at + 20 : at + 24], "little")]


def read_vcek(vcek: bytes, ask: x509.Certificate, ark: x509.Certificate, now: float) -> Vcek:
    """The chip's certificate, good at `now` and issued under this root. AttestationError, ValueError."""
    until = check_path((ask, ark), now, depth=1)
    (whole,) = _items(vcek)
    signed, algorithm, signature = _items(_content(whole, _SEQUENCE))
    if _content(algorithm, _SEQUENCE) not in (_PSS, _PSS_AND_TRAILER):
        raise AttestationError("the VCEK is not signed with RSASSA-PSS and SHA-384")
    unused, *_ = signature_bits = _content(signature, _BIT_STRING)
    if unused:
        raise AttestationError("the VCEK's signature is not made of bytes")
    _check_signature(ask, signed, signature_bits[1:])
    fields = list(_items(_content(signed, _SEQUENCE)))
    if len(fields) != 8 or fields[0] != bytes.fromhex("a003020102") or fields[7][0] != 0xA3:
        raise AttestationError("the VCEK is not an X.509 certificate of version 3 with extensions")
    issuer, validity, spki = fields[3], fields[4], fields[6]
    if fields[2] != algorithm or issuer != ask.subject.public_bytes():
        raise AttestationError("the VCEK is not issued by the ASK")
    begins, ends = (_time(item) for item in _items(_content(validity, _SEQUENCE)))
    if not begins <= now <= ends:
        raise AttestationError("the VCEK has expired, or is not valid yet")
    extensions = _extensions(_content(fields[7], 0xA3))
    product = _content(extensions[_ARC + b"\x01\x02"], _IA5_STRING).decode("ascii")
    return Vcek(load_der_public_key(spki), product, _tcb(extensions), extensions[_ARC + b"\x01\x04"], min(until, ends))


def _check_signature(ask: x509.Certificate, signed: bytes, signature: bytes) -> None:
    key = ask.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise AttestationError("the ASK is not a certificate of an RSA key")
    try:
        key.verify(signature, signed, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    except InvalidSignature:
        raise AttestationError("the VCEK is not signed by the ASK") from None


def _tcb(extensions: dict[bytes, bytes]) -> dict[str, int]:
    numbers = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 8, "fmc": 9}
    found = {}
    for name, number in numbers.items():
        value = extensions.get(_ARC + bytes([1, 3, number]))
        if value is not None:
            found[name] = int.from_bytes(_content(value, _INTEGER), "big")
    return found


def _extensions(content: bytes) -> dict[bytes, bytes]:
    """Values by the content of their object identifiers; none may be critical or be there twice."""
    found: dict[bytes, bytes] = {}
    (listed,) = _items(content)
    for extension in _items(_content(listed, _SEQUENCE)):
        oid, *critical, value = _items(_content(extension, _SEQUENCE))
        if any(critical) or _content(oid, _OID) in found:
            raise AttestationError("the VCEK has an extension that is critical, or one twice")
        found[_content(oid, _OID)] = _content(value, _OCTET_STRING)
    return found


def _time(item: bytes) -> float:
    text = item[2:].decode("ascii")
    return datetime.strptime(text, _TIMES[item[0]]).replace(tzinfo=timezone.utc).timestamp()


# ---- DER (X.690): what an encoded value is made of ---------------------------------------------------------------


def _items(data: bytes) -> Iterator[bytes]:
    """The values that stand one after the other, each with its head. ValueError."""
    while data:
        size = _head(data) + _size(data)
        if size > len(data):
            raise ValueError("a value is cut")
        yield data[:size]
        data = data[size:]


def _content(item: bytes, tag: int) -> bytes:
    if item[0] != tag:
        raise ValueError("a value is of another type")
    return item[_head(item) :]


def _head(data: bytes) -> int:
    """Bytes of tag and length: the length is short, or in one or two bytes more."""
    if len(data) < 2 or data[1] == 0x80 or data[1] > 0x82:
        raise ValueError("a value has no head")
    return 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)


def _size(data: bytes) -> int:
    return data[1] if data[1] < 0x80 else int.from_bytes(data[2 : _head(data)], "big")
