"""JSON from outside, read strictly."""

from __future__ import annotations

import json


def read_object(text: bytes | bytearray) -> dict[str, object]:
    """Read one JSON object in UTF-8. Raises ValueError for anything else, with no word of what it was."""
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _refuse(constant: str) -> None:
    # NaN and the infinities, which Python reads and JSON does not have
    raise ValueError(constant)
