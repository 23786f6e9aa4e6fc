"""The SDK: its settings and its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import httpx

import atoma_crypto as ac
from atoma_crypto._padding import PadTo
from atoma_crypto._typing import NonceReuse, Protocol, Suite
from atoma_crypto.adapters._terms import DEFAULT_SUITES, Terms
from atoma_crypto.attestation import Verifier
from atoma_crypto.sdk._endpoints import (
    ConfidentialChat,
    ConfidentialCompletions,
    ConfidentialEmbeddings,
    ConfidentialImages,
)
from atoma_crypto.sdk._retries import RetryConfig
from atoma_crypto.sdk._sender import Sender, Settings

DEFAULT_SERVER_URL = "https://api.atoma.network"
_DEFAULT_TIMEOUT = httpx.Timeout(600, connect=10)


class AtomaSDK:
    """Calls to Atoma's confidential endpoints: sealed here, opened by a node, and back.

    `bearer_auth` is the API token, or a function that gives it for each attempt; if None the environment's
    `ATOMASDK_BEARER_AUTH` is taken. `timeout_ms`: milliseconds that each step on the connection may take; None leaves
    it to the client, whose own default here is 10 minutes, and 10 seconds to connect. `retry_config`: when to ask
    again; None is never. `client` and `async_client` are an `httpx.Client` and an `httpx.AsyncClient` of yours: all
    goes through them, sealed, and they stay yours to close. `protocol`, `verify`, `suites`, `pad_to` and
    `retry_unknown_key`: see `atoma_crypto.adapters.httpx.ConfidentialTransport`; `nonce_reuse` and `limits`: see
    `ClientSession`.

    Use it in a `with` block, or an `async with` block for the methods that end in `_async`. Calls of many threads or
    tasks at once are fine.
    """

    def __init__(
        self,
        bearer_auth: str | Callable[[], str | None] | None = None,
        *,
        server_url: str | None = None,
        client: httpx.Client | None = None,
        async_client: httpx.AsyncClient | None = None,
        retry_config: RetryConfig | None = None,
        timeout_ms: int | None = None,
        protocol: Protocol = "v1",
        verify: Verifier | None = None,
        suites: Sequence[Suite] = DEFAULT_SUITES,
        nonce_reuse: NonceReuse = "warn",
        limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
        pad_to: PadTo = None,
        retry_unknown_key: bool = True,
    ) -> None:
        settings = Settings(
            bearer_auth=bearer_auth,
            server_url=server_url or DEFAULT_SERVER_URL,
            retry_config=retry_config,
            timeout_ms=timeout_ms,
            terms=Terms(
                protocol=protocol,
                verify=verify,
                suites=suites,
                limits=limits,
                nonce_reuse=nonce_reuse,
                pad_to=pad_to,
                retry_unknown_key=retry_unknown_key,
            ),
        )
        self._own_client: httpx.Client | None = None
        self._own_async_client: httpx.AsyncClient | None = None
        if client is None or async_client is None:
            trust = httpx.create_ssl_context()  # once, for it takes long to read the system's certificates
        if client is None:
            client = self._own_client = httpx.Client(timeout=_DEFAULT_TIMEOUT, verify=trust)
        if async_client is None:
            async_client = self._own_async_client = httpx.AsyncClient(timeout=_DEFAULT_TIMEOUT, verify=trust)
        sender = Sender(settings, client, async_client)
        self.confidential_chat = ConfidentialChat(sender)
        self.confidential_completions = ConfidentialCompletions(sender)
        self.confidential_embeddings = ConfidentialEmbeddings(sender)
        self.confidential_images = ConfidentialImages(sender)

    def close(self) -> None:
        """Close the connections of the blocking methods; a client that you passed stays open."""
        if self._own_client is not None:
            self._own_client.close()

    async def aclose(self) -> None:
        """Close all connections; clients that you passed stay open."""
        self.close()
        if self._own_async_client is not None:
            await self._own_async_client.aclose()

    def __enter__(self) -> AtomaSDK:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> AtomaSDK:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
