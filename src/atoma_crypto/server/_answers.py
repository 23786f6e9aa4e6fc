"""What an OpenAI-compatible service is asked for, and how its answers are read."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator

from atoma_crypto._envelope import load_object
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto._sse import Decoder
from atoma_crypto.server._json import read_object
from atoma_crypto.server.model import Answer, InferenceError

_DONE = b"[DONE]"
_OPTIONS = {"stream_options": {"include_usage": True}}
_ASKING = b',"stream_options":{"include_usage":true}}'
_WHITE = b" \t\n\r"  # JSON's
_MAX_USAGE_CHARS = 4096
# Seconds, or a date: anything else that stands there is not passed on.
_RETRY_AFTER = re.compile(r"[0-9]{1,10}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")


def refusal(status: int, retry_after: str | None) -> InferenceError:
    """The error for an answer with this status: 4xx and 5xx reach the client, any other is a 500 to it."""
    if retry_after is not None and not _RETRY_AFTER.fullmatch(retry_after):
        retry_after = None
    return InferenceError(status, passes=400 <= status <= 599, retry_after=retry_after)


def asking_for_usage(body: bytes) -> bytes:
    """The body of a streamed request, with usage asked for. Raises InferenceError.

    All else of it stays as it was checked, byte for byte, unless it has `stream_options` already.
    """
    try:
        asked = read_object(body)
        if asked and "stream_options" not in asked:
            return body.rstrip(_WHITE).removesuffix(b"}") + _ASKING
        return json.dumps(asked | _OPTIONS, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # a number beyond a float, such as 1e999
        raise InferenceError(400, passes=True) from None


def read_answer(payload: bytes) -> Answer:
    """Read a whole answer or a chunk. Raises InferenceError for what is none, an error that is told late included."""
    try:
        answer = load_object(payload, "the answer", ValueError)
        if "usage" in answer or "error" in answer:
            answer = read_object(payload)  # strictly, since what is read here must be what the client will read
    except ValueError:
        raise InferenceError from None
    usage = answer.get("usage")
    if answer.get("error") is not None or not (usage is None or isinstance(usage, dict)):
        raise InferenceError
    if usage and len(json.dumps(usage)) > _MAX_USAGE_CHARS:  # it stands in clear in each event from here on
        raise InferenceError
    return Answer(payload, usage)


async def read_stream(received: AsyncIterator[bytes], max_event_bytes: int) -> AsyncGenerator[list[Answer], None]:
    """Yield the chunks of each read as a batch, up to `[DONE]`. Raises InferenceError."""
    decoder = Decoder(max_event_bytes)
    async for part in received:
        batch: list[Answer] = []
        ended = failed = False
        try:
            for payload in decoder.feed(part):
                ended = payload.strip() == _DONE
                if ended:
                    break
                batch.append(read_answer(payload))
        except (AtomaCryptoError, InferenceError):
            failed = True
        if batch:  # also before a failure: what came ahead of it is good
            yield batch
        if failed:
            raise InferenceError  # with no cause: the decoder's may quote the answer
        if ended:
            return
    raise InferenceError  # it ended, and did not say so
