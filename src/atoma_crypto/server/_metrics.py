"""Counts of what a node does, for Prometheus: nothing of what is asked, nor by whom, nor of which model."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atoma_crypto.server._reply import StreamAbortedError

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counters in a registry of their own; the only labels are endpoints of the table and statuses."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "atoma_crypto_requests",
            'Requests that have ended, by status: "aborted" if a stream broke off, "left" if the client did',
            ["endpoint", "status"],
            registry=self._registry,
        )
        self._events = Counter(
            "atoma_crypto_events", "Events of streams that were sealed", ["endpoint"], registry=self._registry
        )
        self._streams = Gauge(
            "atoma_crypto_streams_in_flight",
            "Streams that have begun and not ended",
            ["endpoint"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "atoma_crypto_request_seconds",
            "From the head of a request to the end of its answer",
            ["endpoint"],
            registry=self._registry,
            buckets=_SECONDS,
        )

    def count_events(self, endpoint: str, events: int) -> None:
        """Add so many events that were sealed."""
        self._events.labels(endpoint).inc(events)

    def response(self) -> Response:
        """All counts, in Prometheus' text."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def measured(self, endpoint: str, app: ASGIApp) -> ASGIApp:
        """The same application, and each of its requests is counted under `endpoint`."""
        self.count_events(endpoint, 0)  # there from the start
        return _Measured(
            app,
            streams=self._streams.labels(endpoint),
            seconds=self._seconds.labels(endpoint),
            count=lambda status: self._requests.labels(endpoint, status).inc(),
        )


class _Measured:
    def __init__(self, app: ASGIApp, *, streams: Gauge, seconds: Histogram, count: Callable[[str], None]) -> None:
        self._app = app
        self._streams = streams
        self._seconds = seconds
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = status = "left"  # unless an answer comes to its end
        streaming = False

        async def watched(message: Message) -> None:
            nonlocal begun, status, streaming
            if message["type"] == "http.response.start":
                begun = str(message["status"])
                if (b"content-type", b"text/event-stream") in message["headers"]:
                    streaming = True
                    self._streams.inc()
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                status = begun

        start = time.perf_counter()
        try:
            await self._app(scope, receive, watched)
        except HTTPException as refusal:
            status = str(refusal.status_code)
            raise
        except StreamAbortedError:
            status = "aborted"
            raise
        except ClientDisconnect:
            raise
        except Exception:
            status = "500"
            raise
        finally:
            if streaming:
                self._streams.dec()
            self._count(status)
            self._seconds.observe(time.perf_counter() - start)
