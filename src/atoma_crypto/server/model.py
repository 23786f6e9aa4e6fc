"""What stands behind a node and answers: the interface, with no HTTP in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Usage: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answer:
    """One JSON text to be sealed as it is: a whole `chat.completion`, or one `chat.completion.chunk`."""

    plaintext: bytes = field(repr=False)
    usage: Usage | None = None
    """What the reply may show in clear, or None; the plaintext holds its own copy."""


class InferenceError(Exception):
    """What answers has failed. It carries a status and nothing of what was asked or answered."""

    def __init__(self, status: int = 502) -> None:
        """Keep `status`: the upstream's own, or 502 when it answered nothing that could be used."""
        super().__init__(f"inference failed with status {status}")
        self.status = status


class Model(Protocol):
    """Something that answers OpenAI chat completion requests, each given as the JSON text of its body."""

    def serves(self, model: str) -> bool:
        """Whether requests for the model of this name may be sent here."""
        ...

    async def complete(self, body: bytes) -> Answer:
        """Answer a request that is not streamed. Raises InferenceError."""
        ...

    def stream(self, body: bytes) -> AsyncIterator[list[Answer]]:
        """Answer a streamed request: each item is the chunks that are there now, never none.

        The end of the iterator is the end of a complete answer; one that breaks off raises InferenceError. An
        iterator that has an `aclose()` is closed with it when its reader stops early.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is held; nothing is asked afterwards."""
        ...
