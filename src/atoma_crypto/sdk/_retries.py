"""When to ask again, and how long to wait before it."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import httpx

RETRY_STATUSES: Final = (423, 425, 429, 500, 502, 503, 504)
"""What a new lock may help against, or waiting. Proxies say 425 when a lock is gone and 500 when a key is stale."""
CONNECTION_ERRORS: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class BackoffStrategy:
    """How long to wait: `initial_interval`, then each time `exponent` times as long, up to `max_interval`.

    All in milliseconds. What is really waited is drawn between a half of it and the whole, so that many clients do
    not come back at once; a longer `Retry-After` is kept to, up to `max_interval`. No attempt begins more than
    `max_elapsed_time` after the first.
    """

    initial_interval: int = 500
    max_interval: int = 60_000
    exponent: float = 1.5
    max_elapsed_time: int = 3_600_000

    def __post_init__(self) -> None:
        for name in ("initial_interval", "max_interval", "max_elapsed_time"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more milliseconds")
        if not 1 <= self.exponent < math.inf:
            raise ValueError("exponent must be 1 or more")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Whether to ask again. Each attempt takes a new lock, and with it a new key and a new salt.

    `strategy`: "backoff" or "none". `status_codes`: which statuses, as 429, "429" or "5XX". With
    `retry_connection_errors` also after a timeout, or a connection that could not be made or broke before an answer:
    the node may then have answered, and charged, more than once. What is not authentic is never asked for again, nor
    is a stream that has begun.
    """

    strategy: Literal["backoff", "none"] = "backoff"
    backoff: BackoffStrategy = field(default_factory=BackoffStrategy)
    retry_connection_errors: bool = False
    status_codes: Sequence[int | str] = RETRY_STATUSES

    def __post_init__(self) -> None:
        if self.strategy not in ("backoff", "none"):
            raise ValueError(f"strategy must be 'backoff' or 'none', not {self.strategy!r}")
        for code in self.status_codes:
            _statuses(code)

    def retries_status(self, status_code: int) -> bool:
        """Whether an answer of this status is asked for again."""
        return self.strategy == "backoff" and any(status_code in _statuses(code) for code in self.status_codes)

    def retries_errors(self) -> bool:
        """Whether a connection that failed is tried again."""
        return self.strategy == "backoff" and self.retry_connection_errors


def _statuses(code: int | str) -> range:
    text = str(code).upper()
    if len(text) == 3 and text[0] in "12345":
        if text.endswith("XX"):
            return range(int(text[0]) * 100, int(text[0]) * 100 + 100)
        if text.isascii() and text.isdigit():
            return range(int(text), int(text) + 1)
    raise ValueError("status_codes must be statuses as 429, or families as '5XX'")


class Waits:
    """The waits between the attempts of one call. `clock` gives seconds and never goes back."""

    def __init__(self, config: RetryConfig | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config or RetryConfig("none")
        self._clock = clock
        backoff = self._config.backoff
        self._interval = min(backoff.initial_interval, backoff.max_interval) / 1000
        self._last_start = clock() + backoff.max_elapsed_time / 1000

    def after_error(self) -> float | None:
        """Seconds to wait after a connection that failed; None to give up."""
        return self._next(self._config.retries_errors())

    def after_status(self, status_code: int, headers: Mapping[str, str]) -> float | None:
        """Seconds to wait after an answer of this status; None to give up."""
        asked = headers.get("retry-after", "")
        at_least = int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 0  # it may be a date too: that is left alone
        return self._next(self._config.retries_status(status_code), at_least)

    def _next(self, again: bool, at_least: float = 0) -> float | None:
        longest = self._config.backoff.max_interval / 1000
        seconds = random.uniform(self._interval / 2, self._interval)  # noqa: S311 - it is no secret
        seconds = max(seconds, min(at_least, longest))
        self._interval = min(self._interval * self._config.backoff.exponent, longest)
        return seconds if again and self._clock() + seconds <= self._last_start else None
