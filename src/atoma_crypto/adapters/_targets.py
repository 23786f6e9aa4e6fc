"""Which requests are sealed, which may go in clear, and which are refused: by method and path."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import atoma_crypto as ac
from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, BY_PLAINTEXT, ENDPOINTS, LOCK_PATH, Endpoint

_PLAIN_PATH: Final = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request is sealed to: `prefix` is what stood before OpenAI's path, and stays."""

    endpoint: Endpoint
    prefix: str

    @property
    def lock_path(self) -> str:
        """The path of the lock."""
        return self.prefix + LOCK_PATH

    @property
    def sealed_path(self) -> str:
        """The path that the sealed request goes to."""
        return self.prefix + self.endpoint.confidential


class Paths:
    """The rule. `allow_plaintext` names paths that may go in clear, such as `/v1/models`, and their whole spelling.

    ValueError: a name that is no plain path, or one of a sealed endpoint.
    """

    def __init__(self, allow_plaintext: Collection[str] = ()) -> None:
        if isinstance(allow_plaintext, str):
            raise TypeError("allow_plaintext must be a collection of paths, not one str")
        for name in allow_plaintext:
            if not _PLAIN_PATH.fullmatch(name):
                raise ValueError(f"allow_plaintext: {name!r} is not a path such as '/v1/models'")
            if _is_near_sealed(name) or any(sealed.endswith(name) for sealed in BY_PLAINTEXT):
                raise ValueError(f"allow_plaintext: {name!r} is sealed, and never goes in clear")
        self._allowed = tuple(allow_plaintext)

    def route(self, method: str, target: str) -> Route | None:
        """Where a request goes: sealed by a Route, or in clear as it is by None. LocalProtocolError: nowhere.

        `target` is the path and query as they would be sent. The rule is one of exact spelling: what a server
        might take for a sealed endpoint, but is not spelt like it, is refused, as is all that is not allowed by name.
        """
        path, question_mark, _ = target.partition("?")
        for endpoint in ENDPOINTS:
            if path.endswith(endpoint.plaintext):
                if method != "POST":
                    raise ac.LocalProtocolError(f"{endpoint.plaintext} takes POST alone")
                if question_mark:
                    raise ac.LocalProtocolError("a query would go in clear beside a sealed request: send none")
                return Route(endpoint, path.removesuffix(endpoint.plaintext))
        if path.endswith(self._allowed) and not _is_near_sealed(path):
            return None
        raise ac.LocalProtocolError(
            "this path is not sealed, and nothing goes in clear unless allow_plaintext names it; "
            f"sealed are {', '.join(BY_PLAINTEXT)} (does base_url end with /v1?)"
        )


def _is_near_sealed(path: str) -> bool:
    """Whether some server might take `path` for a sealed endpoint, or for something below one."""
    for _ in range(8):  # encoded over and over
        path, before = unquote(path, errors="replace"), path
        if path == before:
            break
    else:
        return True
    parts: list[str] = []
    for part in re.split(r"[/\\]", path.lower()):
        name = part.partition(";")[0].strip()
        if name == "..":
            del parts[-1:]
        elif name not in {"", "."}:
            parts.append(name)
    plain = "/" + "/".join(parts)
    return any(sealed in plain for sealed in (*BY_PLAINTEXT, *BY_CONFIDENTIAL))
