"""Which paths of an inference server take prompts in clear, however they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

from starlette.types import Scope

# Paths, as lists of their segments. These are refused wherever they stand, and whatever follows them: an application
# may be mounted, and may have routes below them.
_ANYWHERE: Final = (
    ("chat", "completions"),
    ("completions",),
    ("embeddings",),
    ("images", "generations"),
    ("images", "edits"),
    ("images", "variations"),
    ("extras",),
    ("api", "chat"),
    ("api", "embed"),
    ("api", "embeddings"),
    ("api", "generate"),
    ("v2", "chat"),
    ("v2", "embed"),
)
# What else vLLM, SGLang and llama.cpp's servers have, at the root or below a version.
_AT_ROOT: Final = frozenset(
    (
        *("apply-template", "classify", "completion", "detokenize", "embedding", "encode", "generate"),
        *("generate_from_file", "generative_scoring", "infill", "inference", "invocations", "parse_function_call"),
        *("pooling", "rerank", "reranking", "score", "separate_reasoning", "tokenize", "vertex_generate"),
    )
)
_BELOW_VERSION: Final = _AT_ROOT | {"audio", "messages", "moderations", "realtime", "responses", "videos"}
_VERSION: Final = re.compile(r"v[0-9]+")
_NOISE: Final = re.compile(r"[;?#].*|[\x00-\x20\x7f]", re.DOTALL)
_DECODINGS: Final = 8
_MAX_PATH_CHARS: Final = 4096


def route_of(scope: Scope) -> tuple[str, str]:
    """Split the path of a request into what it is mounted below, and the route in there."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root + "/"):
        return root, path[len(root) :]
    return "", path  # a server that tells the root apart


def takes_plaintext(scope: Scope, more: Iterable[str] = ()) -> bool:
    """Whether the path, read as any router might read it, could lead to inference in clear, or to a path of `more`.

    Encoded once or many times, doubled, dotted or trailing slashes, another case, parameters: all are read through.
    """
    root = scope.get("root_path", "")
    written = {scope["path"], root + scope["path"], bytes(scope.get("raw_path") or b"").decode("latin-1")}
    if any(len(path) > _MAX_PATH_CHARS for path in written):  # no route is so long, and reading it would take long
        return True
    further = [_segments(path) or [] for path in more]
    below = _segments(root) or []
    for path in written:
        segments = _segments(path)
        if segments is None:
            return True
        for read in (segments, _resolved(segments)):
            inside = read[len(below) :] if read[: len(below)] == below else read
            if any(_is_inference(each) for each in (read, inside)):
                return True
            if any(inside[: len(known)] == known for known in further):
                return True
    return False


def _segments(path: str) -> list[str] | None:
    """The segments of a path, read as far as it goes; None for one that is encoded without end."""
    for _ in range(_DECODINGS):
        decoded = unquote(path, errors="replace")
        if decoded == path:
            named = (_NOISE.sub("", segment) for segment in path.casefold().replace("\\", "/").split("/"))
            return [segment for segment in named if segment not in {"", "."}]
        path = decoded
    return None


def _resolved(segments: Sequence[str]) -> list[str]:
    found: list[str] = []
    for segment in segments:
        if segment != "..":
            found.append(segment)
        elif found:
            found.pop()
    return found


def _is_inference(segments: Sequence[str]) -> bool:
    for index in range(len(segments)):
        if any(tuple(segments[index : index + len(known)]) == known for known in _ANYWHERE):
            return True
    if segments and segments[0] in _AT_ROOT:
        return True
    return any(_VERSION.fullmatch(version) and name in _BELOW_VERSION for version, name in pairwise(segments))
