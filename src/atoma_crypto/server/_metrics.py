"""Counts of what a node does, for Prometheus: nothing of what is asked, nor by whom, nor of which model."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atoma_crypto.server._counts import Counts
from atoma_crypto.server._reply import ABORTED, StreamAbortedError

_EVIDENCE = ("made", "failed", "late", "refused")
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
        self._opened = Counter(
            "atoma_crypto_opened",
            "Requests that were opened and admitted, by the protocol that they speak",
            ["endpoint", "protocol"],
            registry=self._registry,
        )
        self._refusals = Counter(
            "atoma_crypto_refusals",
            "Sealed requests that the node has refused, by the code of its answer",
            ["endpoint", "code"],
            registry=self._registry,
        )
        self._events = Counter(
            "atoma_crypto_events", "Events of streams that were sealed", ["endpoint"], registry=self._registry
        )
        self._evidence = Counter(
            "atoma_crypto_evidence",
            'Pieces of evidence for keys that were made, or failed; "late": it has taken too long so far; '
            '"refused": challenges of which there were too many',
            ["outcome"],
            registry=self._registry,
        )
        for outcome in _EVIDENCE:  # there from the start
            self._evidence.labels(outcome)
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

    def counts(self, endpoint: str) -> Counts:
        """What is counted under `endpoint`."""
        return _Counted(endpoint, opened=self._opened, refusals=self._refusals, events=self._events)

    def evidence(self, outcome: str) -> None:
        """Count what became of a piece of evidence. Any thread may do so."""
        self._evidence.labels(outcome).inc()

    def response(self) -> Response:
        """All counts, in Prometheus' text."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def measured(self, endpoint: str, app: ASGIApp) -> ASGIApp:
        """The same application, and each of its requests is counted under `endpoint`."""
        return _Measured(
            app,
            streams=self._streams.labels(endpoint),
            seconds=self._seconds.labels(endpoint),
            count=lambda status: self._requests.labels(endpoint, status).inc(),
        )


class _Counted(Counts):
    def __init__(self, endpoint: str, *, opened: Counter, refusals: Counter, events: Counter) -> None:
        self._endpoint = endpoint
        self._opened = opened
        self._refusals = refusals
        self._events = events.labels(endpoint)  # there from the start

    def opened(self, protocol: str) -> None:
        self._opened.labels(self._endpoint, protocol).inc()

    def refused(self, code: str) -> None:
        self._refusals.labels(self._endpoint, code).inc()

    def sealed(self, events: int) -> None:
        self._events.inc(events)


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
                status = "aborted" if ABORTED in scope else begun

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
