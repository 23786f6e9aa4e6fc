"""The values that calls give, and messages: frozen, with every member kept that this version does not know.

A member that was not sent reads as None, an index as 0. `model_dump(exclude_unset=True)` gives exactly what was sent.
These are your data: printing one prints its text.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from atoma_crypto.adapters._terms import Origin


class Model(BaseModel):
    """What all of them share."""

    # protected_namespaces: OpenAI's members may begin with `model_`
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Answer(Model):
    """What a call gives, whole or in pieces."""

    _origin: Origin | None = PrivateAttr(default=None)

    @property
    def origin(self) -> Origin | None:
        """Who has answered, and what was verified of that before anything was sealed; None if you made it yourself."""
        return self._origin


class FunctionCall(Model):
    """Which function to call; `arguments` is JSON as text, in a stream a piece of it."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(Model):
    """One call of a tool; in a stream `index` says which call this piece belongs to."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class ChatCompletionMessage(Model):
    """One message, of a request or an answer, so that an answer can be sent back as it came."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None


class CompletionUsage(Model):
    """Tokens in and out; embeddings have none out."""

    prompt_tokens: int | None = None
    total_tokens: int | None = None
    completion_tokens: int | None = None


class ChatCompletionChoice(Model):
    """One of the `n` answers."""

    index: int = 0
    message: ChatCompletionMessage
    finish_reason: str | None = None
    logprobs: Any = None


class ChatCompletionResponse(Answer):
    """A whole chat completion."""

    choices: list[ChatCompletionChoice]
    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    usage: CompletionUsage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None


class ChatCompletionChunkDelta(Model):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ChatCompletionChunkChoice(Model):
    """What a chunk adds to one of the `n` answers."""

    index: int = 0
    delta: ChatCompletionChunkDelta
    finish_reason: str | None = None
    logprobs: Any = None


class ChatCompletionChunk(Answer):
    """A piece of a streamed chat completion. The last one mostly has `usage` and no choices."""

    choices: list[ChatCompletionChunkChoice]
    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    usage: CompletionUsage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None

    @property
    def data(self) -> ChatCompletionChunk:
        """The chunk itself: `atoma-sdk` gives events, whose `data` is the chunk, and code is written for that."""
        return self


class CompletionChoice(Model):
    """One of the `n` texts, in a stream a piece of it."""

    index: int = 0
    text: str
    finish_reason: str | None = None
    logprobs: Any = None


class CompletionResponse(Answer):
    """A completion, or a piece of a streamed one: they have the same shape."""

    choices: list[CompletionChoice]
    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    usage: CompletionUsage | None = None
    system_fingerprint: str | None = None


class EmbeddingObject(Model):
    """One vector: numbers, or base64 if `encoding_format` asked for it."""

    index: int = 0
    embedding: list[float] | str
    object: str | None = None


class CreateEmbeddingResponse(Answer):
    """The vectors, in the order of the inputs."""

    data: list[EmbeddingObject]
    object: str | None = None
    model: str | None = None
    usage: CompletionUsage | None = None


class ImageData(Model):
    """One image: where it is, or its bytes in base64, as `response_format` asked."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None


class CreateImageResponse(Answer):
    """The images."""

    data: list[ImageData]
    created: int | None = None
