"""What stands behind a node and answers: the interface, with no HTTP in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, TypeAlias

from atoma_crypto.adapters._routes import Endpoint

Usage: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answer:
    """One JSON object, as text to be sealed as it is: a whole answer, or one chunk of a stream."""

    plaintext: bytes = field(repr=False)
    usage: Usage | None = None
    """What the reply may show in clear, or None; the plaintext holds its own copy."""


class InferenceError(Exception):
    """What answers has failed. It carries a status and nothing of what was asked or answered."""

    def __init__(self, status: int = 502, *, passes: bool = False, retry_after: str | None = None) -> None:
        """Keep `status`: the upstream's own, or 502 when it answered nothing that could be used.

        It reaches the client if it `passes` and is 4xx or 5xx, and 429 always does, with `retry_after` as its header;
        all else is a 500.
        """
        super().__init__(f"inference failed with status {status}")
        self.status = status
        passes = (passes and 400 <= status <= 599) or status == HTTPStatus.TOO_MANY_REQUESTS
        self.shown_status = status if passes else 500
        self.retry_after = retry_after


class Model(Protocol):
    """Something that answers OpenAI requests, each given as its endpoint and the JSON text of its body.

    `endpoint.plaintext` is OpenAI's path, such as `/v1/chat/completions`. One that a model does not serve it refuses:
    `InferenceError(404, passes=True)`.
    """

    def serves(self, model: str) -> bool:
        """Whether requests for the model of this name may be sent here."""
        ...

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        """Answer a request that is not streamed. Raises InferenceError."""
        ...

    def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        """Answer a streamed request: each item is the chunks that are there now, never none.

        Only endpoints that stream are asked. The end of the iterator is the end of a complete answer; one that
        breaks off raises InferenceError. An iterator that has an `aclose()` is closed with it when its reader stops
        early.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is held; nothing is asked afterwards."""
        ...
