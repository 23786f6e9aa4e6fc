"""The four confidential endpoints. What their methods take stands in `_calls`."""

from __future__ import annotations

from atoma_crypto.sdk._call import Call, takes
from atoma_crypto.sdk._calls import chat_call, completions_call, embeddings_call, images_call
from atoma_crypto.sdk._sender import Sender
from atoma_crypto.sdk._streams import EventStream, EventStreamAsync
from atoma_crypto.sdk.models import (
    ChatCompletionChunk,
    ChatCompletionResponse,
    CompletionResponse,
    CreateEmbeddingResponse,
    CreateImageResponse,
)


class _Endpoint:
    def __init__(self, sender: Sender) -> None:
        self._sender = sender


class ConfidentialChat(_Endpoint):
    """Chat completions. Messages are dicts, or models, an answer's own among them."""

    @takes(chat_call)
    def create(self, call: Call) -> ChatCompletionResponse:
        """A whole answer."""
        return self._sender.whole(call.streamed(False), ChatCompletionResponse)

    @takes(chat_call)
    async def create_async(self, call: Call) -> ChatCompletionResponse:
        """A whole answer."""
        return await self._sender.whole_async(call.streamed(False), ChatCompletionResponse)

    @takes(chat_call)
    def create_stream(self, call: Call) -> EventStream[ChatCompletionChunk]:
        """An answer in chunks, as it comes; the usage comes in the last."""
        return self._sender.stream(call.streamed(True), ChatCompletionChunk)

    @takes(chat_call)
    async def create_stream_async(self, call: Call) -> EventStreamAsync[ChatCompletionChunk]:
        """An answer in chunks, as it comes; the usage comes in the last."""
        return await self._sender.stream_async(call.streamed(True), ChatCompletionChunk)


class ConfidentialCompletions(_Endpoint):
    """Completions of a text: the older API, which `atoma-sdk` does not have."""

    @takes(completions_call)
    def create(self, call: Call) -> CompletionResponse:
        """A whole answer."""
        return self._sender.whole(call.streamed(False), CompletionResponse)

    @takes(completions_call)
    async def create_async(self, call: Call) -> CompletionResponse:
        """A whole answer."""
        return await self._sender.whole_async(call.streamed(False), CompletionResponse)

    @takes(completions_call)
    def create_stream(self, call: Call) -> EventStream[CompletionResponse]:
        """An answer in pieces, as it comes."""
        return self._sender.stream(call.streamed(True), CompletionResponse)

    @takes(completions_call)
    async def create_stream_async(self, call: Call) -> EventStreamAsync[CompletionResponse]:
        """An answer in pieces, as it comes."""
        return await self._sender.stream_async(call.streamed(True), CompletionResponse)


class ConfidentialEmbeddings(_Endpoint):
    """Vectors for texts."""

    @takes(embeddings_call)
    def create(self, call: Call) -> CreateEmbeddingResponse:
        """A vector for each input."""
        return self._sender.whole(call, CreateEmbeddingResponse)

    @takes(embeddings_call)
    async def create_async(self, call: Call) -> CreateEmbeddingResponse:
        """A vector for each input."""
        return await self._sender.whole_async(call, CreateEmbeddingResponse)


class ConfidentialImages(_Endpoint):
    """Images for texts."""

    @takes(images_call)
    def generate(self, call: Call) -> CreateImageResponse:
        """`n` images."""
        return self._sender.whole(call, CreateImageResponse)

    @takes(images_call)
    async def generate_async(self, call: Call) -> CreateImageResponse:
        """`n` images."""
        return await self._sender.whole_async(call, CreateImageResponse)
