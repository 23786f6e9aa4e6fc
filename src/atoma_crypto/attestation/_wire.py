"""Evidence in JSON: the member `evidence` of a key offer (docs/attestation.md)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._values import SEVERAL, Evidence

_MAX_PARTS: Final = 8
_MAX_KIND: Final = 32
_MAX_BASE64: Final = 4 * 1024 * 1024


def evidence_to_json(evidence: Evidence) -> dict[str, object]:
    """The JSON object that stands for it in an offer; one that has `parts` where it is of several kinds."""
    if evidence.parts:
        return {"kind": evidence.kind, "parts": [evidence_to_json(part) for part in evidence.parts]}
    value: dict[str, object] = {"kind": evidence.kind, "data": base64.b64encode(evidence.data).decode()}
    if evidence.collateral:
        value["collateral"] = base64.b64encode(evidence.collateral).decode()
    return value


def evidence_from_json(value: Mapping[str, object] | None) -> Evidence | None:
    """The evidence of an offer (`KeyOffer.evidence`). AttestationError: malformed, or too long."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or "parts" not in value:
        return _piece(value)
    parts = value["parts"]
    if value.get("kind") != SEVERAL or not isinstance(parts, list) or not 0 < len(parts) <= _MAX_PARTS:
        raise AttestationError(f"evidence of several kinds has 1 to {_MAX_PARTS} parts")
    return Evidence.together(*(_piece(one) for one in parts))


def _piece(value: object) -> Evidence:
    if not isinstance(value, Mapping):
        raise AttestationError("evidence is a JSON object")
    kind = value.get("kind")
    if not isinstance(kind, str) or not 0 < len(kind) <= _MAX_KIND or kind == SEVERAL:
        raise AttestationError("evidence has a kind")
    return Evidence(kind, _bytes(value.get("data")), _bytes(value.get("collateral", "")))


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > _MAX_BASE64:
        raise AttestationError("evidence has its bytes in base64, of a limited length")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AttestationError("evidence is not base64") from None
