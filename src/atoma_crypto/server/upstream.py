"""An OpenAI-compatible service over HTTP as the model behind a node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from atoma_crypto import Limits
from atoma_crypto._errors import AtomaCryptoError
from atoma_crypto._sse import Decoder
from atoma_crypto.server._json import read_object
from atoma_crypto.server._work import run_work
from atoma_crypto.server.model import Answer, InferenceError

_DONE = b"[DONE]"
# A model may think for minutes before its first word, and between two words.
_TIMEOUT = httpx.Timeout(600, connect=10)


class HttpUpstream:
    """A model that is asked over HTTP and answers as it goes: nothing of a stream is held back.

    `url` is the service's base, with or without its `/v1`. The plaintext goes there and nowhere else:
    redirects are not followed, cookies are not kept, and proxies and credentials are not taken from the
    environment. Raises ValueError for a URL that is not plain `http(s)://host[:port][/path]`.
    """

    def __init__(self, url: str) -> None:
        self._endpoint = _endpoint(url)
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # locks bound them
            trust_env=False,
            # what the upstream sets for one client must not go out with another's request
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # a compressed stream could be held back until a block of it is full
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
        )

    def serves(self, model: str) -> bool:  # noqa: ARG002 - the interface's name; the upstream knows its models
        """Whether requests for `model` may be sent here: always, the upstream refuses what it lacks."""
        return True

    async def complete(self, body: bytes) -> Answer:
        """Post `body` as it is and return the JSON object that comes back. Raises InferenceError."""
        limit = Limits().max_response_bytes
        reply = bytearray()
        async with self._post(body, accept="application/json") as response:
            async for received in response.aiter_bytes():
                reply += received
                if len(reply) > limit:
                    raise InferenceError
        answer = await run_work(_answer, bytes(reply))
        if answer is None:
            raise InferenceError
        return answer

    async def stream(self, body: bytes) -> AsyncIterator[list[Answer]]:
        """Post `body`; yield the chunks of each read as a batch, up to `[DONE]`. Raises InferenceError."""
        asked = await run_work(_asking_for_usage, body)
        decoder = Decoder(Limits().max_event_bytes)  # a longer one could not be sealed either
        async with self._post(asked, accept="text/event-stream") as response:
            async for received in response.aiter_bytes():
                batch: list[Answer] = []
                ended = failed = False
                for payload in decoder.feed(received):
                    ended = payload.strip() == _DONE
                    answer = None if ended else _answer(payload)
                    if answer is None:
                        failed = not ended
                        break
                    batch.append(answer)
                if batch:  # also before a failure: what came ahead of it is good
                    yield batch
                if failed:
                    raise InferenceError
                if ended:
                    return
        raise InferenceError  # it ended, and did not say so

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _post(self, body: bytes, *, accept: str) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream(
                "POST", self._endpoint, content=body, headers={"Accept": accept}
            ) as response:
                if response.status_code != httpx.codes.OK:
                    raise InferenceError(response.status_code)
                yield response
        except (httpx.HTTPError, AtomaCryptoError):
            # with no cause: those errors hold the request, and the decoder's may quote the answer
            raise InferenceError from None


def _endpoint(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        base = httpx.URL()
    if base.scheme not in {"http", "https"} or not base.host or base.userinfo or base.query or base.fragment:
        raise ValueError("an upstream is http(s)://host[:port][/path], without user name, query or fragment")
    path = base.path.rstrip("/").removesuffix("/v1")
    return base.copy_with(path=f"{path}/v1/chat/completions")


def _asking_for_usage(body: bytes) -> bytes:
    try:
        asked = read_object(body) | {"stream_options": {"include_usage": True}}
        return json.dumps(asked, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # a number beyond a float, such as 1e999
        raise InferenceError(400) from None


def _answer(payload: bytes) -> Answer | None:
    """Read a completion or a chunk; None for what is none, an error that is reported late included."""
    try:
        answer = read_object(payload)
    except ValueError:
        return None
    usage = answer.get("usage")
    if answer.get("error") is not None or not (usage is None or isinstance(usage, dict)):
        return None
    return Answer(payload, usage)
