"""NVIDIA's GPUs and switches, in the evidence that Atoma's nodes make."""

import base64
import json
import zlib
from typing import Any, Final

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._binding import check_offer, evidence_of, nvidia_nonce
from atoma_crypto.attestation._guard import guarded
from atoma_crypto.attestation._values import AttestedKey, Evidence
from atoma_crypto.keyring import KeyOffer

# "NVIDIA Device Identity CA", valid from 2021-11-05 and without an end, in DER. From NVIDIA's own verifier, which is
# nv-local-gpu-verifier 2.7.3 on PyPI: verifier/certs/verifier_device_root.pem. SHA-256:
# 102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48
NVIDIA_DEVICE_ROOT: Final = base64.b64decode(
    "MIICCzCCAZCgAwIBAgIQLTZwscoQBBHB/sDoKgZbVDAKBggqhkjOPQQDAzA1MSIwIAYDVQQDDBlOVklESUEgRGV2aWNlIElkZW50"
    "aXR5IENBMQ8wDQYDVQQKDAZOVklESUEwIBcNMjExMTA1MDAwMDAwWhgPOTk5OTEyMzEyMzU5NTlaMDUxIjAgBgNVBAMMGU5WSURJ"
    "QSBEZXZpY2UgSWRlbnRpdHkgQ0ExDzANBgNVBAoMBk5WSURJQTB2MBAGByqGSM49AgEGBSuBBAAiA2IABA5MFKM7+KViZljbQSlg"
    "fky/RRnEQScW9NDZF8SXgAW96r6u/Ve8ZggtcYpPi2BS4VFu6KfEIrhN6FcHG7WP05W+oM+hxj7nyA1r1jkB2Ry70YfThX3Ba1zO"
    "ryOP+MJ9vaNjMGEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYEFFeF/4PyY8xlfWi3Olv0jUrL+0lf"
    "MB8GA1UdIwQYMBaAFFeF/4PyY8xlfWi3Olv0jUrL+0lfMAoGCCqGSM49BAMDA2kAMGYCMQCPeFM3TASsKQVaT+8S0sO9u97PVGCp"
    "E9d/I42IT7k3UUOLSR/qvJynVOD1vQKVXf0CMQC+EY55WYoDBvs2wPAH1Gw4LbcwUN8QCff8bFmV4ZxjCRr4WXTLFHBKjbfneGSB"
    "WwA="
)

_MAX_COMPRESSED_BYTES: Final = 1024 * 1024
_MAX_JSON_BYTES: Final = 4 * 1024 * 1024
_MAX_DEVICES: Final = 64
_KINDS: Final = ("device", "nvswitch")

# A report is two messages of SPDM 1.1 (DSP0274) and a signature. GET_MEASUREMENTS: version, code, two parameters,
# nonce, slot. MEASUREMENTS: version, code, two parameters, number of blocks, 3 bytes of length, blocks, nonce, 2 bytes
# of length, opaque data. Lengths are little-endian.
_REQUEST_BYTES: Final = 37
_NONCE: Final = slice(4, 36)
_BLOCKS: Final = _REQUEST_BYTES + 8
_NONCE_BYTES: Final = 32
_COORDINATE_BYTES: Final = 48
_SIGNATURE_BYTES: Final = 2 * _COORDINATE_BYTES

_NOT_CHECKED: Final = (
    "measurements: they were not compared with NVIDIA's reference values",
    "revocation: neither NVIDIA's lists nor its OCSP were asked",
    "freshness: the nonce is the contract's, and answers no challenge",
    "the end of the key: it is not bound",
    "the type of a device: GPU or switch, as the node says",
    "who holds the key: whoever owns such a device can make this for any key",
)


class NvidiaGpuVerifier:
    """Accepts a key for which genuine NVIDIA devices have signed Atoma's nonce. Needs the extra `nvidia`.

    Checked for each device: the chain of its certificate to NVIDIA's root, valid at `now`; its signature of the SPDM
    report; that its nonce is the one for the contract's nonce, this key and the slot; that none is there twice. Much is
    *not* checked, and the claims say it: above all, anyone who owns such a device can make this for any key. By itself
    it is no reason to trust one: use it in `AllOf`, beside the evidence of a CPU.

    `contract_nonce` is the u64 of the contract's event; `root` is a root certificate (DER) to go by, not NVIDIA's.
    """

    def __init__(self, contract_nonce: int, *, device_slot: int = 300, root: bytes | None = None) -> None:
        try:
            import blake3  # noqa: F401, PLC0415 - of an extra: is it here?

            from atoma_crypto.attestation import _chain  # noqa: PLC0415 - needs the extra
        except ImportError as error:
            raise ImportError("NvidiaGpuVerifier needs cryptography, blake3: install atoma-crypto[nvidia]") from error
        if not 0 <= contract_nonce < 1 << 64 or not 0 <= device_slot < 1 << 16:
            raise ValueError("contract_nonce has 64 bits, device_slot 16")
        self._chain = _chain
        self._contract_nonce = contract_nonce
        self._device_slot = device_slot
        self._root = _chain.read_certificate(NVIDIA_DEVICE_ROOT if root is None else root)

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """As `Verifier.verify`; no challenge is answered. The claims list the devices, and what is not checked."""
        check_offer(offer, challenge, now)
        ends = check_offer(offer, b"", now)  # so the key's end is looked at as if there were no challenge
        entries = _entries(evidence_of(evidence, "nvidia").data)
        nonce = nvidia_nonce(
            bytes(offer.public_key), contract_nonce=self._contract_nonce, device_slot=self._device_slot
        )
        devices: list[dict[str, str]] = []
        keys: set[bytes] = set()
        for entry in entries:
            path = self._checked(entry, nonce, now)
            ends = min(ends, path.until)
            keys.add(path.signer_key)
            signer, issued = path.names
            devices.append({"type": entry["evidence_type"], "certificate": signer, "family": issued})
        if len(keys) != len(devices):
            raise AttestationError("an NVIDIA device is there twice")
        claims = {
            "policy": "nvidia",
            "binding": "this key and the contract's nonce",
            "fresh": "not known",
            "devices": devices,
            "not_checked": list(_NOT_CHECKED),
        }
        return AttestedKey(offer.public_key, claims, ends)

    def _checked(self, entry: dict[str, str], nonce: bytes, now: float) -> Any:
        """The path of a device's certificate, its report being good."""
        report = _decoded(entry["evidence"])
        path = self._chain.path_of(_decoded(entry["certificate"]), self._root, now)
        _check_form(report)
        signed, r, s = (
            report[:-_SIGNATURE_BYTES],
            report[-_SIGNATURE_BYTES:-_COORDINATE_BYTES],
            report[-_COORDINATE_BYTES:],
        )
        if not guarded(
            "the certificate of an NVIDIA device is malformed",
            lambda: self._chain.signed_by_p384(
                path.certificates[0].public_key(), signed, int.from_bytes(r, "big"), int.from_bytes(s, "big")
            ),
        ):
            raise AttestationError("the report of an NVIDIA device is not signed by its certificate")
        if report[_NONCE] != nonce:
            raise AttestationError("the report of an NVIDIA device is not for this key and the contract's nonce")
        return path


def _entries(data: bytes) -> list[dict[str, str]]:
    """Atoma's list, unpacked: zlib, JSON, and in it base64 (docs/attestation.md)."""
    if len(data) > _MAX_COMPRESSED_BYTES:
        raise AttestationError(f"NVIDIA's evidence is longer than {_MAX_COMPRESSED_BYTES} bytes")
    unpacker = zlib.decompressobj()
    text = guarded("NVIDIA's evidence is not zlib", lambda: unpacker.decompress(data, _MAX_JSON_BYTES))
    if not unpacker.eof or unpacker.unused_data:
        raise AttestationError("NVIDIA's evidence is cut, too long when unpacked, or followed by something")
    entries = guarded("NVIDIA's evidence is not JSON", lambda: json.loads(text.decode()))
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_DEVICES:
        raise AttestationError(f"NVIDIA's evidence is not a list of 1 to {_MAX_DEVICES} devices")
    for entry in entries:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), str) for name in ("evidence_type", "certificate", "evidence")
        ):
            raise AttestationError("a device in NVIDIA's evidence lacks something")
        if entry["evidence_type"] not in _KINDS:
            raise AttestationError("a device in NVIDIA's evidence is neither a GPU nor a switch")
    return entries


def _decoded(text: str) -> bytes:
    return guarded("NVIDIA's evidence is not base64", lambda: base64.b64decode(text, validate=True))


def _check_form(report: bytes) -> None:
    """All of the report is the two messages that it should be, so that its nonce stands where it is looked for."""
    end = len(report) - _SIGNATURE_BYTES
    opaque = _BLOCKS + int.from_bytes(report[_BLOCKS - 3 : _BLOCKS], "little") + _NONCE_BYTES + 2
    if (
        report[:2] != b"\x11\xe0"
        or report[_REQUEST_BYTES : _REQUEST_BYTES + 2] != b"\x11\x60"
        or not opaque <= end
        or opaque + int.from_bytes(report[opaque - 2 : opaque], "little") != end
    ):
        raise AttestationError("the report of an NVIDIA device is malformed")
