"""Reads 32 secret bytes from a file."""

from __future__ import annotations

import base64
import re
from pathlib import Path

_SECRET_BYTES = 32
_FILE_CAP = 1024  # no form of a secret is longer, white space included


def read_secret(path: Path) -> bytes:
    """Read 32 bytes: raw, in hexadecimal or in base64, white space around it ignored.

    Raises ValueError, which shows nothing of the content, for anything else, and OSError.
    """
    with path.open("rb") as file:
        content = file.read(_FILE_CAP + 1)
    if len(content) == _SECRET_BYTES:  # first, for a raw secret may begin or end with white space
        return content
    content = content.strip()
    if len(content) == _SECRET_BYTES:
        return content
    if re.fullmatch(rb"[0-9A-Fa-f]{64}", content):
        return bytes.fromhex(content.decode())
    if re.fullmatch(rb"[0-9A-Za-z+/]{43}=", content):
        return base64.b64decode(content)
    raise ValueError(f"{path} holds no secret of 32 bytes, as they are, in 64 hexadecimal digits or in base64")
