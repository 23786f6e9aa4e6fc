"""What somebody on the wire can make of the recorded bytes, with nothing but the bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import h11

from atoma_crypto._sse import Decoder
from atoma_crypto.cli._proxy import Connection


@dataclass(frozen=True, slots=True)
class Sight:
    """One exchange as the router reads it, as far as it has come."""

    line: str = ""  # the method and the path
    request: Mapping[str, object] = field(default_factory=dict)
    request_len: int = 0  # bytes of the body
    status: int = 0
    events: tuple[bytes, ...] = ()  # the data of each, as it stands on the wire

    @property
    def usage(self) -> Mapping[str, object] | None:
        """The usage that the newest event shows, if any does."""
        usage = parsed(self.events[-1]).get("usage") if self.events else None
        return usage if isinstance(usage, dict) else None


def parsed(data: bytes) -> dict[str, object]:
    """Read a JSON object; empty when it is something else or not whole yet."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def look(connection: Connection) -> Sight:
    """Read one connection's HTTP, request and reply."""
    asked = _read(h11.Connection(h11.SERVER), bytes(connection.up))
    reader = h11.Connection(h11.CLIENT)
    # h11 reads a reply only to a request: any will do.
    reader.send(h11.Request(method="POST", target="/", headers=[("host", "router"), ("content-length", "0")]))
    reader.send(h11.EndOfMessage())
    told = _read(reader, bytes(connection.down))
    head = asked.head if isinstance(asked.head, h11.Request) else None
    return Sight(
        line=f"{head.method.decode()} {head.target.decode()}" if head else "",
        request=parsed(asked.body),
        request_len=len(asked.body),
        status=told.head.status_code if isinstance(told.head, h11.Response) else 0,
        events=tuple(Decoder().feed(told.body)),
    )


@dataclass(frozen=True, slots=True)
class _Message:
    head: h11.Request | h11.Response | None
    body: bytes


def _read(reader: h11.Connection, data: bytes) -> _Message:
    head, body = None, b""
    if data:  # h11 takes none for the end of the connection
        reader.receive_data(data)
    while True:
        event = reader.next_event()
        if isinstance(event, (h11.Request, h11.Response)):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return _Message(head, body)
