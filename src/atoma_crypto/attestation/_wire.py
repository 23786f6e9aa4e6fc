"""Evidence in JSON: the member `evidence` of a key offer (docs/attestation.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._values import Evidence

_MAX_PARTS: Final = 8
_MAX_KIND: Final = 32
_MAX_BASE64: Final = 4 * 1024 * 1024


def evidence_to_json(evidence: Evidence | None) -> object:
    """What stands for it in an offer: null, an object, or a list of objects for evidence of several kinds."""
    if evidence is None:
        return None
    if evidence.parts:
        return [evidence_to_json(part) for part in evidence.parts]
    value = {"kind": evidence.kind, "data": base64.b64encode(evidence.data).decode()}
    if evidence.collateral:
        value["collateral"] = base64.b64encode(evidence.collateral).decode()
    return value


def evidence_from_json(value: object) -> Evidence | None:
    """The evidence of an offer, as parsed JSON has it. AttestationError: malformed, or too long."""
    if value is None:
        return None
    if isinstance(value, list):
        if not 0 < len(value) <= _MAX_PARTS:
            raise AttestationError(f"evidence has 1 to {_MAX_PARTS} parts")
        return Evidence.together(*(_piece(one) for one in value))
    return _piece(value)


def _piece(value: object) -> Evidence:
    if not isinstance(value, dict) or not isinstance(kind := value.get("kind"), str) or not 0 < len(kind) <= _MAX_KIND:
        raise AttestationError("evidence is an object with a kind")
    return Evidence(kind, _bytes(value.get("data")), _bytes(value.get("collateral", "")))


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > _MAX_BASE64:
        raise AttestationError("evidence has its bytes in base64, of a limited length")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AttestationError("evidence is not base64") from None
