"""The endpoints of both protocols: OpenAI's path, the confidential one, and what a lock for it must hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LOCK_PATH: Final = "/v1/nodes/lock"
KEYS_PATH: Final = "/.well-known/atoma-node-keys"
"""Where a node publishes the keys of protocol v2."""
DEFAULT_TOKENS: Final = 8192
"""The size of a lock, and of a request, that does not name one; for images it is that of one of 1024 x 1024."""
DEFAULT_PIXELS: Final = 1024 * 1024
_U64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: `default_units` is what deployed proxies take an absent `num_compute_units` for."""

    plaintext: str
    confidential: str
    streams: bool
    default_units: int


ENDPOINTS: Final = (
    Endpoint("/v1/chat/completions", "/v1/confidential/chat/completions", True, DEFAULT_TOKENS),
    Endpoint("/v1/completions", "/v1/confidential/completions", True, DEFAULT_TOKENS),
    Endpoint("/v1/embeddings", "/v1/confidential/embeddings", False, DEFAULT_TOKENS),
    Endpoint("/v1/images/generations", "/v1/confidential/images/generations", False, DEFAULT_PIXELS),
)
BY_PLAINTEXT: Final[Mapping[str, Endpoint]] = {endpoint.plaintext: endpoint for endpoint in ENDPOINTS}
BY_CONFIDENTIAL: Final[Mapping[str, Endpoint]] = {endpoint.confidential: endpoint for endpoint in ENDPOINTS}
_IMAGES: Final = BY_PLAINTEXT["/v1/images/generations"]


def compute_units(endpoint: Endpoint, body: Mapping[str, object]) -> int | None:
    """What a request says that it will use: tokens of output, or pixels; None where it does not say.

    For text `max_completion_tokens`, or `max_tokens`. For images all their pixels, from `size` and `n`: always a
    number, as what deployed proxies assume otherwise is larger than a lock that does not name its size.
    """
    if endpoint is _IMAGES:
        size = body.get("size")
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", size) if isinstance(size, str) else None
        pixels = int(found[1]) * int(found[2]) if found else DEFAULT_PIXELS
        return pixels * (_positive(body.get("n")) or 1)
    if not endpoint.streams:
        return None
    return _positive(body.get("max_completion_tokens")) or _positive(body.get("max_tokens"))


def _positive(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= _U64_MAX // DEFAULT_PIXELS else None
