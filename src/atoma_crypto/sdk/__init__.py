"""Calls as Atoma's users know them, sealed end to end: `AtomaSDK`. Needs the extra `sdk`."""

from atoma_crypto.sdk import models
from atoma_crypto.sdk._errors import APIClientError, APIError, APIServerError
from atoma_crypto.sdk._retries import BackoffStrategy, RetryConfig
from atoma_crypto.sdk._sdk import AtomaSDK
from atoma_crypto.sdk._streams import EventStream, EventStreamAsync
from atoma_crypto.sdk._unset import UNSET

__all__ = [
    "UNSET",
    "APIClientError",
    "APIError",
    "APIServerError",
    "AtomaSDK",
    "BackoffStrategy",
    "EventStream",
    "EventStreamAsync",
    "RetryConfig",
    "models",
]
