"""An OpenAI-compatible service over HTTP as the model behind a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from anyio import move_on_after

from atoma_crypto import Limits
from atoma_crypto.adapters._routes import ENDPOINTS, Endpoint
from atoma_crypto.server._answers import asking_for_usage, read_answer, read_stream, refusal
from atoma_crypto.server._work import run_work
from atoma_crypto.server.model import Answer, InferenceError

# A model may think for minutes before its first word, and between two words.
_TIMEOUT = httpx.Timeout(600, connect=10)
_END_SECONDS = 0.25
# These blame the node: its address for the upstream, or that the upstream wants credentials.
_OWN_FAULT = frozenset((401, 403, 404, 405, 407))


class HttpUpstream:
    """A model that is asked over HTTP and answers as it goes: nothing of a stream is held back.

    `url` is the service's base, with or without its `/v1`. The plaintext goes there and nowhere else:
    redirects are not followed, cookies are not kept, and proxies and credentials are not taken from the
    environment. Raises ValueError for a URL that is not plain `http(s)://host[:port][/path]`.
    """

    def __init__(self, url: str) -> None:
        self._urls = _urls(url)
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

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        """Post `body` as it is and return the JSON object that comes back. Raises InferenceError."""
        limit = Limits().max_response_bytes
        reply = bytearray()
        async with self._post(endpoint, body, accept="application/json") as response:
            async for received in response.aiter_bytes():
                reply += received
                if len(reply) > limit:
                    raise InferenceError
        return await run_work(read_answer, bytes(reply), size=len(reply))

    async def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        """Post `body`; yield the chunks of each read as a batch, up to `[DONE]`. Raises InferenceError."""
        asked = await run_work(asking_for_usage, body, size=len(body))
        limit = Limits().max_event_bytes  # a longer one could not be sealed either
        async with self._post(endpoint, asked, accept="text/event-stream") as response:
            parts = response.aiter_bytes()
            async with aclosing(read_stream(parts, limit)) as batches:
                async for batch in batches:
                    yield batch
            # It may still have to end: hung up on, it would take that for a failure.
            with move_on_after(_END_SECONDS), suppress(httpx.HTTPError):
                async for _ in parts:
                    pass

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _post(self, endpoint: Endpoint, body: bytes, *, accept: str) -> AsyncIterator[httpx.Response]:
        url = self._urls[endpoint]
        try:
            async with self._client.stream("POST", url, content=body, headers={"Accept": accept}) as response:
                status = response.status_code
                if status in _OWN_FAULT:
                    raise InferenceError(status)
                if status != httpx.codes.OK:
                    raise refusal(status, response.headers.get("retry-after"))
                yield response
        except httpx.HTTPError:
            raise InferenceError from None  # with no cause: those errors hold the request


def _urls(url: str) -> dict[Endpoint, httpx.URL]:
    """Where each endpoint is: OpenAI's paths begin with the `/v1` that `url` may end in."""
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        base = httpx.URL()
    if base.scheme not in {"http", "https"} or not base.host or base.userinfo or base.query or base.fragment:
        raise ValueError("an upstream is http(s)://host[:port][/path], without user name, query or fragment")
    path = base.path.rstrip("/").removesuffix("/v1")
    return {endpoint: base.copy_with(path=path + endpoint.plaintext) for endpoint in ENDPOINTS}
