"""What the tests of the sessions share: pairs of sessions, ways to cut and spoil bytes, and a plain model of SSE.

The model is written from the text of the WHATWG standard, one character at a time: it is what the readers are held to.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto import _xwing
from atoma_crypto._core import Scratch, ffi
from atoma_crypto._state import State
from atoma_crypto._typing import Protocol, Suite, Usage
from atoma_crypto.client import ClientSession

STREAM_BODY: Final = b'{"model":"m","messages":[],"stream":true}'
REPLY_BODY: Final = b'{"model":"m","messages":[]}'
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
BOM: Final = b"\xef\xbb\xbf"
NEWLINES: Final = (b"\n", b"\r\n", b"\r")


_node_key: Final = cache(ac.SecretKey.generate)


def node_key(suite: Suite = "X25519") -> ac.SecretKey:
    """One node's key of a suite for all tests that do not care which."""
    return _node_key(suite)


def new_client(*, suite: Suite = "X25519", **options: Any) -> ClientSession:
    defaults: dict[str, Any] = {"model": "m", "stack_small_id": 42, "protocol": "v1"}
    return ac.ClientSession(node_key(suite).public_key, **(defaults | options))


def new_node(*, suite: Suite = "X25519", **options: Any) -> ac.NodeSession:
    return ac.NodeSession(node_key(suite), **options)


def encapsulated(public: bytes) -> tuple[bytes, bytes]:
    """X-Wing's shared secret, and the encapsulated key."""
    shared = Scratch(_xwing.SHARED_BYTES)
    enc = _xwing.encapsulate(public, shared)
    return bytes(shared.view), enc


def decapsulated(key: ac.SecretKey | _xwing.DecapsulationKey, enc: bytes) -> bytes:
    shared = Scratch(_xwing.SHARED_BYTES)
    key.decapsulate(enc, shared)
    return bytes(shared.view)


class SessionPair:
    """Both ends of one exchange, the request already opened."""

    def __init__(
        self,
        *,
        stream: bool = True,
        protocol: Protocol = "v1",
        suite: Suite = "X25519",
        client: Mapping[str, Any] | None = None,
        node: Mapping[str, Any] | None = None,
    ) -> None:
        self.protocol = protocol
        self.client = new_client(**({"protocol": protocol, "suite": suite} | dict(client or {})))
        self.node = new_node(**({"suite": suite} | dict(node or {})))
        self.envelope = self.client.seal_request(STREAM_BODY if stream else REPLY_BODY, stream=stream)
        self.request = self.node.open_request(self.envelope)


def native(session: ClientSession | ac.NodeSession) -> Any:
    """The C object that holds the session's key."""
    return session._opener._native if isinstance(session, ClientSession) else session._sealer._native


def twin(client: ClientSession) -> ClientSession:
    """Another client in the same state, before it has received anything: so that the same bytes are read twice."""
    other = new_client(limits=client._opener._limits, protocol=client._protocol)
    other._refuse_nonce_reuse = client._refuse_nonce_reuse
    ffi.memmove(native(other), native(client), ffi.sizeof(native(client)[0]))
    other._move(client._state)
    assert client._state in {State.AWAIT_EVENTS, State.AWAIT_RESPONSE}
    return other


def member(raw: bytes, name: str) -> str:
    """One base64 member of an envelope, a reply or an event."""
    found = json.loads(raw.removeprefix(b"data: "))[name]
    assert isinstance(found, str)
    return found


# ---- reading ----------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What a client got out of some bytes: the chunks, and then an end, an error's class, or None (NEED_DATA)."""

    chunks: list[tuple[bytes, int, Usage | None]]
    end: ac.EndOfStream | type[ac.RemoteProtocolError] | None


def read(client: ClientSession, pieces: Iterable[bytes], *, eof: bool = True) -> Reading:
    """Feed the pieces, taking events after each. Any exception but a RemoteProtocolError comes through."""
    chunks: list[tuple[bytes, int, Usage | None]] = []
    event: ac.Chunk | ac.EndOfStream | object = None
    try:
        for piece in pieces:
            client.receive_data(piece)
            while isinstance(event := client.next_event(), ac.Chunk):
                chunks.append((event.plaintext, event.index, event.usage))
            assert event is ac.NEED_DATA or client._protocol == "v2"
        if not eof:
            return Reading(chunks, event if isinstance(event, ac.EndOfStream) else None)
        client.receive_eof()
        while not isinstance(event := client.next_event(), ac.EndOfStream):
            assert isinstance(event, ac.Chunk)
            chunks.append((event.plaintext, event.index, event.usage))
    except ac.RemoteProtocolError as exc:
        return Reading(chunks, type(exc))
    return Reading(chunks, event)


def every_split(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Cut in two at every place, the ends included."""
    for at in range(len(raw) + 1):
        yield raw[:at], raw[at:]


def byte_by_byte(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def cut_at(raw: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(raw)) for place in places), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges)]


def random_cuts(raw: bytes, seed: int) -> list[bytes]:
    """Cut into pieces of up to 40 bytes, empty ones included."""
    random_ = random.Random(seed)
    places, at = [], 0
    while at < len(raw):
        at += random_.randrange(41)
        places.append(at)
    return cut_at(raw, places)


def tamper(raw: bytes, bit: int) -> bytes:
    """Flip one bit, by number."""
    out = bytearray(raw)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


# ---- the model of SSE -------------------------------------------------------------------------------------------


def model_prefixes(raw: bytes) -> Iterator[tuple[list[bytes], bool]]:
    """After 0, 1, 2, ... bytes: the data of each complete event, and whether a stream may end there.

    WHATWG HTML, section 9.2.6, and our rule that a line without its end is no clean end. It is one list, which grows.
    """
    events: list[bytes] = []
    data: list[bytes] = []
    fields = False
    line = b""
    after_cr = False
    yield events, True
    for at, byte in enumerate(raw):
        line_feed_of_cr = after_cr and byte == 0x0A
        after_cr = byte == 0x0D
        if byte not in (0x0A, 0x0D):
            line += raw[at : at + 1]
            if at == 2 and line == BOM:
                line = b""
        elif line_feed_of_cr:
            pass
        elif not line:
            if data:
                events.append(b"\n".join(data))
            data, fields = [], False
        else:
            name, _, value = line.partition(b":")
            fields = fields or name != b""
            if name == b"data":
                data.append(value[1:] if value.startswith(b" ") else value)
            line = b""
        yield events, not line and not fields


def model_sse(raw: bytes) -> tuple[list[bytes], bool]:
    """As above, after all of them."""
    return list(model_prefixes(raw))[-1]


# ---- ways to print one event ------------------------------------------------------------------------------------

Dressing = Callable[[bytes], bytes]


def _escaped(members: dict[str, Any]) -> str:
    """JSON with every other character of names and base64 as \\u00XX."""

    def spell(text: str) -> str:
        return '"' + "".join(f"\\u{ord(c):04x}" if i % 2 else c for i, c in enumerate(text)) + '"'

    values = {name: spell(value) if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
    return "{" + ",".join(f"{spell(name)}:{value}" for name, value in values.items()) + "}"


def reprint(event: bytes, dump: Callable[[dict[str, Any]], str]) -> bytes:
    """The same event, its JSON printed by `dump`; each line of that is a `data` line."""
    text = dump(json.loads(event.removeprefix(b"data: ")))
    return b"".join(b"data: %b\n" % line for line in text.encode().split(b"\n")) + b"\n"


def punted(event: bytes) -> bytes:
    """The same event, as the C reader leaves it to the general parser: an array in a member that nobody knows."""
    assert event.endswith(b"}\n\n")
    return event[:-3] + b',"nested":[{}]}\n\n'


def _with_more(members: dict[str, Any]) -> dict[str, Any]:
    return {"id": 7, "note": "a:b, {c}", **members, "flag": True, "none": None, "flat": {"a": -1.5e3, "b": "x"}}


def _without(members: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


# Each makes one event, printed by the node, into another one that says the same.
DRESSINGS: Final[dict[str, Dressing]] = {
    "as it is": lambda e: e,
    "no space": lambda e: e.replace(b"data: ", b"data:", 1),
    "comments": lambda e: b": keep-alive\n\n:\n" + e.replace(b"\n\n", b"\n: in the event\n\n") + b":bye\n\n",
    "unknown fields": lambda e: b"event: x\nid: 1\nretry: 5\ndatax: 1\n: c\n" + e[:-1] + b"data2:\nid\n\nid: 2\n\n",
    "[DONE]": lambda e: b"data: [DONE]\n\n" + e + b"data:[DONE]\n\n",
    "unknown keys": lambda e: reprint(e, lambda m: json.dumps(_with_more(m))),
    "other order": lambda e: reprint(e, lambda m: json.dumps(dict(reversed(m.items())))),
    "white space": lambda e: reprint(e, lambda m: "\t " + json.dumps(m, separators=(" ,\t", " : ")) + "  "),
    "pretty": lambda e: reprint(e, lambda m: json.dumps(m, indent=2)),
    "two lines": lambda e: e.replace(b',"nonce"', b'\ndata:,"nonce"', 1),
    "escaped slash": lambda e: reprint(e, lambda m: json.dumps(m).replace("/", "\\/")),
    "escaped": lambda e: reprint(e, _escaped),
    "nested": punted,
    "no hash": lambda e: reprint(e, lambda m: json.dumps(_without(m, "response_hash", "signature"))),
    "null": lambda e: reprint(e, lambda m: json.dumps({"usage": None, **m, "response_hash": None, "signature": None})),
}
