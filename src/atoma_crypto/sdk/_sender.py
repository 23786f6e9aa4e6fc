"""Sends a call through a confidential transport, again if it is to be tried again, and reads what comes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import httpx

import atoma_crypto as ac
from atoma_crypto.adapters._terms import Terms
from atoma_crypto.adapters.httpx import AsyncConfidentialTransport, ConfidentialTransport
from atoma_crypto.sdk._call import Call
from atoma_crypto.sdk._checks import write_body
from atoma_crypto.sdk._errors import APIError, api_error
from atoma_crypto.sdk._retries import CONNECTION_ERRORS, RetryConfig, Waits
from atoma_crypto.sdk._streams import EventStream, EventStreamAsync, ModelT, origin_of, read_model
from atoma_crypto.sdk._unset import UNSET

BEARER_VARIABLE = "ATOMASDK_BEARER_AUTH"
_MAX_ERROR_BYTES = 64 << 10
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")


class _Through(httpx.BaseTransport):
    """The caller's client as a transport: its proxies, certificates and hooks see what is sealed alone."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._client.send(request, stream=True, follow_redirects=False)


class _AsyncThrough(httpx.AsyncBaseTransport):
    """As above."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True, follow_redirects=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every call."""

    bearer_auth: str | Callable[[], str | None] | None = field(repr=False)
    server_url: str
    retry_config: RetryConfig | None
    timeout_ms: int | None
    terms: Terms


class Sender:
    """Both ways of sending, over the two clients."""

    def __init__(self, settings: Settings, client: httpx.Client, async_client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._async_client = async_client
        self._transport = ConfidentialTransport.of_terms(_Through(client), settings.terms)
        self._async_transport = AsyncConfidentialTransport.of_terms(_AsyncThrough(async_client), settings.terms)

    def whole(self, call: Call, model: type[ModelT]) -> ModelT:
        """The answer to a call that is not streamed."""
        response = self._send(call, "application/json")
        try:
            return read_model(model, response.read(), response, _not_a(model))
        finally:
            response.close()

    async def whole_async(self, call: Call, model: type[ModelT]) -> ModelT:
        """As above."""
        response = await self._send_async(call, "application/json")
        try:
            return read_model(model, await response.aread(), response, _not_a(model))
        finally:
            await response.aclose()

    def stream(self, call: Call, model: type[ModelT]) -> EventStream[ModelT]:
        """The answer to a call that is streamed, once it has begun."""
        return EventStream(self._send(call, "text/event-stream"), model, self._settings.terms.limits.max_event_bytes)

    async def stream_async(self, call: Call, model: type[ModelT]) -> EventStreamAsync[ModelT]:
        """As above."""
        response = await self._send_async(call, "text/event-stream")
        return EventStreamAsync(response, model, self._settings.terms.limits.max_event_bytes)

    def _send(self, call: Call, accept: str) -> httpx.Response:
        waits = self._waits(call)
        body = write_body(call.body)
        while True:
            request = self._request(self._client, call, body, accept)
            try:
                response = self._transport.handle_request(request)
            except CONNECTION_ERRORS:
                seconds = waits.after_error()
                if seconds is None:
                    raise
            else:
                if response.status_code < 400:  # 200 in fact: the transport takes no other
                    return response
                failed = _read_error(response)
                seconds = waits.after_status(failed.status_code, failed.headers)
                if seconds is None:
                    raise failed
            time.sleep(seconds)

    async def _send_async(self, call: Call, accept: str) -> httpx.Response:
        waits = self._waits(call)
        body = write_body(call.body)
        while True:
            request = self._request(self._async_client, call, body, accept)
            try:
                response = await self._async_transport.handle_async_request(request)
            except CONNECTION_ERRORS:
                seconds = waits.after_error()
                if seconds is None:
                    raise
            else:
                if response.status_code < 400:  # 200 in fact: the transport takes no other
                    return response
                failed = await _read_error_async(response)
                seconds = waits.after_status(failed.status_code, failed.headers)
                if seconds is None:
                    raise failed
            await anyio.sleep(seconds)

    def _waits(self, call: Call) -> Waits:
        return Waits(self._settings.retry_config if call.retries is UNSET else call.retries)

    def _request(self, client: httpx.Client | httpx.AsyncClient, call: Call, body: bytes, accept: str) -> httpx.Request:
        settings = self._settings
        url = (settings.server_url if call.server_url is None else call.server_url).rstrip("/") + call.path
        headers = httpx.Headers({"Accept": accept, "Content-Type": "application/json"})
        token = self._token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        for name, value in (call.http_headers or {}).items():
            if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):  # else the HTTP library quotes it
                raise ValueError("http_headers has a name or a value that cannot stand in a header")
        headers.update(call.http_headers)
        timeout_ms = settings.timeout_ms if call.timeout_ms is None else call.timeout_ms
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_ms is None else httpx.Timeout(timeout_ms / 1000)
        return client.build_request("POST", url, content=body, headers=headers, timeout=timeout)

    def _token(self) -> str | None:
        given = self._settings.bearer_auth
        token = given() if callable(given) else given
        if token is None:
            token = os.environ.get(BEARER_VARIABLE) or None
        if token is not None and not re.fullmatch("[!-~]+", token):
            # the HTTP library's own error would quote it
            raise ValueError("bearer_auth has characters that cannot stand in a header")
        return token


def _not_a(model: type[ModelT]) -> ac.EnvelopeError:
    return ac.EnvelopeError(f"the answer is not a {model.__name__}")


def _read_error(response: httpx.Response) -> APIError:
    body = bytearray()
    try:
        for part in response.iter_raw(_MAX_ERROR_BYTES):
            body += part
            if len(body) >= _MAX_ERROR_BYTES:
                break
    finally:
        response.close()
    return _error(response, body)


async def _read_error_async(response: httpx.Response) -> APIError:
    body = bytearray()
    try:
        async for part in response.aiter_raw(_MAX_ERROR_BYTES):
            body += part
            if len(body) >= _MAX_ERROR_BYTES:
                break
    finally:
        await response.aclose()
    return _error(response, body)


def _error(response: httpx.Response, body: bytearray) -> APIError:
    text, sealed = body.decode(errors="replace"), origin_of(response).sealed
    return api_error(response.status_code, text, response.headers, sealed=sealed)
