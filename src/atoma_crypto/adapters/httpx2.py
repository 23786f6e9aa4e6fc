"""Transports that make any client of `httpx2` confidential, the `openai` package's among them (extra `httpx2`).

`httpx2.Client(transport=ConfidentialTransport())` seals every request for one of OpenAI's endpoints and opens its
answer; what is not sealed is refused.
"""

from __future__ import annotations

from typing import Any, ClassVar

import httpx2

from atoma_crypto.adapters._terms import Origin
from atoma_crypto.adapters._transport import AsyncTransport, BlockingTransport
from atoma_crypto.adapters._wire import AsyncEvents, Events

__all__ = ["AsyncConfidentialTransport", "ConfidentialTransport", "Origin"]

_CUT = (httpx2.RemoteProtocolError, httpx2.ReadError)


class _Events(Events, httpx2.SyncByteStream):
    _cut = _CUT


class _AsyncEvents(AsyncEvents, httpx2.AsyncByteStream):
    _cut = _CUT


class ConfidentialTransport(
    BlockingTransport[httpx2.BaseTransport, httpx2.Request, httpx2.Response], httpx2.BaseTransport
):
    """Around `inner` (a new `httpx2.HTTPTransport` if None), through which all goes.

    A POST to `…/v1/chat/completions`, `…/v1/completions`, `…/v1/embeddings` or `…/v1/images/generations` takes a lock,
    is sealed with a new key, salt and nonce, and goes to the confidential path under the same prefix; the answer is
    OpenAI's, whole or streamed. Any other request is a LocalProtocolError, unless `allow_plaintext` names its path.

    An error of the lock or of the node (4xx, 5xx) is handed on as it is; 423 and 425, which say that the lock is gone,
    only after two more attempts. What could not be verified raises a RemoteProtocolError: of a stream, in its body,
    TruncatedStreamError if it ended before the answer did. A redirect is never followed. `nonce_reuse` and `pad_to`:
    see `ClientSession`. The requests' bodies are read whole, up to `limits.max_request_bytes`.

    `verify` says whose keys may be sealed to, such as `PinnedKeys(key)` or a verifier of evidence; it may be asked by
    any thread. Nothing is sealed before it has accepted a key, once until that verdict ends. Without it v1 takes any.

    With `protocol="v2"`, which accepts nothing else, there must be one. `suites` are those that are accepted, the
    preferred one first: a router may delete what it does not like, so to require one, name it alone. An error that the
    node has sealed is handed on with the status that it has inside, and in the middle of a stream it raises
    RemoteAbortError. A node that does not know the key is asked again once, with another key if it has one: unless
    `retry_unknown_key` is False, for that error comes in clear, and whoever forges it makes a request run twice.

    Each response has an `Origin` as `extensions["atoma_crypto"]`: whether the node has sealed it, and whose it is.

    Give proxies and certificates to `inner`: `proxy=` or `mounts=` of the client would lead around this transport.
    """

    _http: ClassVar[Any] = httpx2
    _events: ClassVar[Any] = _Events


class AsyncConfidentialTransport(
    AsyncTransport[httpx2.AsyncBaseTransport, httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """As `ConfidentialTransport`, for an `AsyncClient`."""

    _http: ClassVar[Any] = httpx2
    _events: ClassVar[Any] = _AsyncEvents
