"""The vectors of v2.json with a reply that a client refuses, or of which it misses the end.

Each has the bytes as `received`, and as `records` what was verified, and may be delivered, before that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import reference_v2 as v2
from make_v2_vectors import ABORT, Sealed, Vector, events, sealed, seed, shown
from reference_v2 import Record

REFUSED, TRUNCATED = "REPLY_REFUSED", "REPLY_TRUNCATED"
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
CHUNKS: Final = (Record(0, None, b'{"n":0}'), Record(0, None, b'{"n":1}'), Record(1, USAGE, b'{"n":2}'))
ANSWER: Final = (Record(3, USAGE, b'{"n":0}'),)
FAILED: Final = (Record(0, None, b'{"n":0}'), Record(2, None, ABORT))


class Reply:
    """A reply of the node, event by event, to be spoilt."""

    def __init__(
        self, name: str, records: Sequence[Record] = CHUNKS, *, stream: bool = True, event: bool = True
    ) -> None:
        self.name, self.stream, self.records = name, stream, records
        self.request: Sealed = sealed(name, stream=stream)
        self.salt = seed(name + ", salt")
        self.keys = v2.reply_keys(self.request.exported, self.request.envelope.enc, self.salt)
        self.events = events(self.keys, self.salt, records, event=event)

    def members(self, index: int) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.events[index].removeprefix(b"data: "))
        return members

    def with_members(self, index: int, **changes: Any) -> list[bytes]:
        """One event with other members; None leaves one out."""
        members = {name: value for name, value in (self.members(index) | changes).items() if value is not None}
        return self.with_text(index, v2.dumps(members))

    def with_text(self, index: int, text: bytes) -> list[bytes]:
        return [*self.events[:index], b"data: " + text + b"\n\n", *self.events[index + 1 :]]

    def edited(self, index: int, old: bytes, new: bytes) -> list[bytes]:
        assert self.events[index].count(old) == 1, old
        return [*self.events[:index], self.events[index].replace(old, new), *self.events[index + 1 :]]

    def vector(self, pieces: Sequence[bytes], expect: str, verified: int) -> Vector:
        """What comes of these bytes, as the reference says too."""
        received = b"".join(pieces)
        envelope = self.request.envelope
        read, said = self.records, "ok"
        try:
            read = v2.read_reply(self.request.exported, envelope.enc, self.stream, received)
        except v2.ReplyError as error:
            read, said = error.verified, str(error)
        assert (list(read), said) == (list(self.records[:verified]), expect), self.name
        records = [
            {"flag": record.flag, "usage": record.usage, "plaintext": shown(record.plaintext)} for record in read
        ]
        return {
            "name": "reply: " + self.name,
            "suite": self.request.suite,
            "expect": expect,
            "stream": self.stream,
            "enc": envelope.enc.hex(),
            "exported": self.request.exported.hex(),
            "received": shown(received),
            "records": records,
        }


Spoil = Callable[[Reply], list[bytes]]


def flipped(text: str, at: int = 0) -> str:
    """The base64 of the same bytes with one bit of byte `at` flipped."""
    raw = bytearray(v2.unb64(text))
    raw[at] ^= 1
    return v2.b64(bytes(raw))


def _flip(index: int, name: str, at: int = 0) -> Spoil:
    return lambda reply: reply.with_members(index, **{name: flipped(reply.members(index)[name], at)})


def _set(index: int, **changes: Any) -> Spoil:
    return lambda reply: reply.with_members(index, **changes)


def _edit(index: int, old: bytes, new: bytes) -> Spoil:
    return lambda reply: reply.edited(index, old, new)


def _usage(**changes: Any) -> Spoil:
    return _set(2, usage={name: value for name, value in (USAGE | changes).items() if value is not None})


# What is done to CHUNKS, and how many records are verified before it shows.
STREAMS: Final[Mapping[str, tuple[Spoil, int]]] = {
    "the first record is dropped": (lambda r: r.events[1:], 0),
    "a record is dropped": (lambda r: [r.events[0], r.events[2]], 1),
    "a record comes twice": (lambda r: [r.events[0], r.events[1], r.events[1], r.events[2]], 2),
    "the first record comes twice": (lambda r: [r.events[0], *r.events], 1),
    "two records are exchanged": (lambda r: [r.events[0], r.events[2], r.events[1]], 1),
    "the end comes twice": (lambda r: [*r.events, r.events[2]], 3),
    "a chunk after the end": (lambda r: [*r.events, r.events[1]], 3),
    "[DONE] after the end": (lambda r: [*r.events, b"data: [DONE]\n\n"], 3),
    "[DONE] for the end": (lambda r: [*r.events[:2], b"data: [DONE]\n\n"], 2),
    "an event without text": (lambda r: [*r.events[:2], b"data\n\n", r.events[2]], 2),
    "an error in clear": (lambda r: [r.events[0], b"data: " + ABORT + b"\n\n"], 1),
    "a bit of the ciphertext": (_flip(1, "ciphertext"), 1),
    "a bit of the tag": (_flip(2, "ciphertext", -1), 2),
    "a bit of the salt": (_flip(0, "salt"), 0),
    "salt of 31 bytes": (_set(0, salt=v2.b64(bytes(31))), 0),
    "salt is missing": (_set(0, salt=None), 0),
    "v is missing": (_set(0, v=None), 0),
    "v is 1": (_set(0, v=1), 0),
    "v in the second event": (_set(1, v=2), 1),
    "salt in the second event": (lambda r: r.with_members(1, salt=r.members(0)["salt"]), 1),
    "salt is null in the second event": (_edit(1, b'"}', b'","salt":null}'), 1),
    "salt is empty in the second event": (_set(1, salt="", v=2), 1),
    "salt is empty in the second event, escaped": (_edit(1, b'"}', b'","\\u0073alt":"","v":2}'), 1),
    "the end is unsaid": (_set(2, flag=None), 2),
    "a chunk is said to be the end": (_set(1, flag=1), 1),
    "a chunk is said to be an abort": (_set(1, flag=2), 1),
    "the end is said to be an abort": (_set(2, flag=2), 2),
    "flag is 3": (_set(2, flag=3), 2),
    "flag is 4": (_set(2, flag=4), 2),
    "flag is 257": (_set(2, flag=257), 2),
    "flag is true": (_set(2, flag=True), 2),
    "flag is null": (_edit(2, b'"flag":1', b'"flag":null'), 2),
    "flag is a string": (_set(2, flag="1"), 2),
    "usage is left out": (_set(2, usage=None), 2),
    "usage is added": (_set(1, usage=USAGE), 1),
    "usage: other prompt_tokens": (_usage(prompt_tokens=4), 2),
    "usage: other completion_tokens": (_usage(completion_tokens=8), 2),
    "usage: other total_tokens": (_usage(total_tokens=13), 2),
    "usage: two members exchanged": (_usage(prompt_tokens=9, completion_tokens=3), 2),
    "usage: a member is missing": (_usage(completion_tokens=None), 2),
    "usage: one member more": (_usage(prompt_tokens_details={}), 2),
    "usage: a string": (_usage(total_tokens="12"), 2),
    "usage: 2^53": (_usage(total_tokens=2**53), 2),
    "usage: an array": (_set(2, usage=[3, 9, 12]), 2),
    "ciphertext is missing": (_set(1, ciphertext=None), 1),
    "ciphertext of 15 bytes": (_set(1, ciphertext=v2.b64(bytes(15))), 1),
    "ciphertext with a space": (_edit(1, b'"ciphertext":"', b'"ciphertext":" '), 1),
    "an event that is not JSON": (lambda r: r.with_text(1, b"{"), 1),
    "an event that is an array": (lambda r: r.with_text(1, b"[" + r.events[1][6:-2] + b"]"), 1),
    "an event that is not UTF-8": (_edit(0, b'"v"', b'"x":"\xe9","v"'), 0),
}
CUTS: Final[Mapping[str, tuple[Spoil, int]]] = {
    "no bytes": (lambda _: [], 0),
    "a comment alone": (lambda _: [b": keep-alive\n\n"], 0),
    "without its end": (lambda r: r.events[:2], 2),
    "cut in an event": (lambda r: [*r.events[:2], r.events[2][:-20]], 2),
    "cut before the blank line": (lambda r: [*r.events[:2], r.events[2][:-2]], 2),
    "cut in the blank line": (lambda r: [*r.events[:2], r.events[2][:-1]], 2),
}


def sealed_as(name: str, records: Sequence[Record], verified: int) -> Vector:
    """A node that seals what it must not."""
    reply = Reply(name, records)
    return reply.vector(reply.events, REFUSED, verified)


def of_streams() -> Iterator[Vector]:
    for expect, table in ((REFUSED, STREAMS), (TRUNCATED, CUTS)):
        for name, (spoil, verified) in table.items():
            reply = Reply(name)
            yield reply.vector(spoil(reply), expect, verified)
    reply, other = Reply("a record of another reply"), Reply("another reply")
    yield reply.vector([reply.events[0], other.events[1], reply.events[2]], REFUSED, 1)
    reply = Reply("the whole of another reply")
    yield reply.vector(other.events, REFUSED, 0)
    reply = Reply("an abort is said to be a chunk", FAILED)
    yield reply.vector(reply.with_members(1, flag=None), REFUSED, 1)
    yield sealed_as("a chunk without plaintext", [CHUNKS[0], Record(0, None, b""), Record(1, None, b"")], 1)
    for name, plaintext in (
        ("not JSON", b"stopped"),
        ("no error", b"{}"),
        ("status is 200", b'{"error":{"code":"X","message":"","status":200}}'),
        ("status is a string", b'{"error":{"code":"X","message":"","status":"502"}}'),
        ("code in small letters", b'{"error":{"code":"x","message":"","status":502}}'),
        ("code of 65 letters", b'{"error":{"code":"' + b"X" * 65 + b'","message":"","status":502}}'),
        ("no message", b'{"error":{"code":"X","status":502}}'),
    ):
        yield sealed_as(f"an abort: {name}", [CHUNKS[0], Record(2, None, plaintext)], 1)


def of_forms() -> Iterator[Vector]:
    """A stream for an object, and the reverse; a request for a reply."""
    reply = Reply("a stream for an object", [Record(1, None, b"{}")], stream=False)
    yield reply.vector(reply.events, REFUSED, 0)
    reply = Reply("the answer as an event", ANSWER, stream=False)
    yield reply.vector(reply.events, REFUSED, 0)
    reply = Reply("an answer with flag 1", [Record(1, None, b"{}")], stream=False, event=False)
    yield reply.vector(reply.events, REFUSED, 0)
    reply = Reply("an answer with flag 0", [Record(0, None, b"{}")], stream=False, event=False)
    yield reply.vector(reply.events, REFUSED, 0)
    reply = Reply("a stream of one record, printed as an answer", [Record(1, None, b"{}")], stream=False, event=False)
    yield reply.vector([reply.events[0].replace(b'"flag":1', b'"flag":3')], REFUSED, 0)
    reply = Reply("an object for a stream", ANSWER, event=False)
    yield reply.vector(reply.events, REFUSED, 0)
    reply = Reply("an answer, printed as a stream of one record", ANSWER, event=False)
    one = reply.events[0].replace(b'"flag":3', b'"flag":1')
    yield reply.vector([b"data: " + one + b"\n\n"], REFUSED, 0)
    reply = Reply("two objects", ANSWER, stream=False, event=False)
    yield reply.vector([reply.events[0], reply.events[0]], REFUSED, 0)
    reply = Reply("text after the object", ANSWER, stream=False, event=False)
    yield reply.vector([reply.events[0], b"\n."], REFUSED, 0)
    reply = Reply("an error in clear for an answer", ANSWER, stream=False, event=False)
    yield reply.vector([ABORT], REFUSED, 0)
    reply = Reply("the request for a reply", ANSWER, stream=False, event=False)
    yield reply.vector([v2.write_envelope(reply.request.envelope)], REFUSED, 0)
    reply = Reply("the request's ciphertext for a reply's", ANSWER, stream=False, event=False)
    reflected = reply.members(0) | {"ciphertext": v2.b64(reply.request.envelope.ciphertext)}
    yield reply.vector([v2.dumps(reflected)], REFUSED, 0)


PRINTINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "comments and other fields": lambda e: b": x\nevent: y\nid: 1\nretry: 5\n" + e + b":\n\n",
    "CRLF": lambda e: e.replace(b"\n", b"\r\n"),
    "CR": lambda e: e.replace(b"\n", b"\r"),
    "no space after the colon": lambda e: e.replace(b"data: ", b"data:"),
    "two data lines": lambda e: e.replace(b",", b",\ndata: ", 1),
    "unknown members": lambda e: e.replace(b"{", b'{"id":[{}],', 1),
    "usage and flag written out": lambda e: e if b"flag" in e else e.replace(b"{", b'{"flag":0,"usage":null,', 1),
}


def of_printings() -> Iterator[Vector]:
    """What a router may do to events: taken."""
    for name, dress in PRINTINGS.items():
        reply = Reply(f"{name}, taken")
        received = b"".join(dress(event) for event in reply.events)
        if name == "CRLF":
            received = b"\xef\xbb\xbf" + received
        yield reply.vector([received], "ok", 3)


def vectors() -> Iterator[Vector]:
    yield from of_printings()
    yield from of_streams()
    yield from of_forms()
