"""Real exchanges, and ways to spoil what the other end has sealed: as JSON, as base64, as events, as bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fuzz.engine import Program, instrumented, same_each_time

with instrumented():
    import atoma_crypto as ac
    from helpers import BOM, NEWLINES, STREAM_BODY, USAGE, twin

__all__ = [
    "MARK",
    "NODE_SECRET",
    "NOW",
    "Admitting",
    "Exchange",
    "Sealed",
    "exchange",
    "request",
    "spoiled",
    "stream",
    "twin",
]

NOW: Final = 1763808745
MARK: Final = "pl41nt3xt"  # in all that is secret, so that it is noticed elsewhere
NODE_SECRET: Final = bytes(range(101, 133))
ABORT: Final = ("OVERLOADED", MARK, 503)
Members = list[tuple[str, Any]]


class Admitting:
    """A replay cache that has seen nothing."""

    def admit(self, _id: bytes, _expires_at: float) -> bool:
        return True

    def close(self) -> None:
        """Hold nothing."""


class Sealed(NamedTuple):
    """One object that a session has sealed: as it was written, without what makes it an event, and its members."""

    raw: bytes
    members: Members

    @classmethod
    def of(cls, raw: bytes) -> Sealed:
        text = raw.removeprefix(b"data: ").removesuffix(b"\n\n")
        return cls(text, list(json.loads(text).items()))


class Exchange(NamedTuple):
    """A client that waits for its answer, and what the node has sealed for it, in order."""

    client: ac.ClientSession
    request: Sealed
    opened: ac.Request
    sealed: list[Sealed]
    chunks: list[tuple[bytes, Any]]  # plaintexts that are not empty, and their usage
    aborted: bool


def text(number: int) -> bytes:
    """A chunk's plaintext; of very different lengths."""
    return json.dumps({"choices": [{"delta": {"content": MARK + "x" * (number * number * 11)}}]}).encode()


def exchange(protocol: Any, *, stream: bool, abort: bool = False) -> Exchange:
    """A whole exchange, its request included."""
    return same_each_time(lambda: _exchange(protocol, stream, abort))


def _exchange(protocol: Any, stream: bool, abort: bool) -> Exchange:
    key = ac.SecretKey.from_bytes(NODE_SECRET)
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol=protocol, clock=lambda: NOW)
    body = STREAM_BODY[:-1] + b',"x":"%b"}' % MARK.encode()
    if not stream:
        body = body.replace(b"true", b"false")
    envelope = client.seal_request(body, stream=stream, num_compute_units=7)
    node = ac.NodeSession(key, clock=lambda: NOW, replay_cache=Admitting())
    opened = node.open_request(envelope)
    chunks: list[tuple[bytes, Any]] = []
    if stream:
        chunks = [(text(i), USAGE if i % 2 else None) for i in range(4)]
        raw = [node.seal_chunk(plaintext, usage) for plaintext, usage in chunks]
        if abort:
            raw.append(node.abort(*ABORT))
        elif protocol == "v2":
            raw.append(node.finish(USAGE))
    elif abort:
        raw = [node.abort(*ABORT)]
    else:
        chunks = [(text(2), USAGE)]
        raw = [node.seal_response(*chunks[0])]
    sealed = [Sealed.of(one) for one in raw]
    return Exchange(client, Sealed.of(envelope), opened, sealed, chunks, abort)


def request(protocol: Any) -> Exchange:
    """One of which the request is what counts."""
    return exchange(protocol, stream=True)


# ---- as JSON ----------------------------------------------------------------------------------------------------

# What stands for a value as it is: numbers and words that json.dumps does not write, good ones and bad ones.
TOKENS: Final = (
    *("0", "1", "2", "3", "4", "-0", "-1", "01", "1.0", "2.0", "2e0", "-0.0", "1e999", "1E+2", "1.", ".5", "-", "+1"),
    *("9007199254740991", "9007199254740992", "18446744073709551615", "18446744073709551616", "1" * 41, "1" * 5000),
    *("null", "true", "false", "NaN", "Infinity", "nul", '""', '"x"', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"'),
    *('"\u00e9"', '"\x7f"', '"\t"', '"\\/"', '"\\x"', '"A"', '"AAAA"', '"AAA="', '"AAB="', '"AA=="', '"A==="'),
    *("[]", "{}", "{ }", "[[]]", '{"x":1}', '{"x":{"x":1}}', '{"x":1,"x":2}', "[1,]", '{"a":1,}', "{", "}", "[", ""),
    *("[" * 15 + "]" * 15, "[" * 16 + "]" * 16, "[" * 600 + "]" * 600),
    *('{"":' * 15 + "1" + "}" * 15, "[" + "1," * 1001 + "1]", '"===="'),
    *('{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}', '{"prompt_tokens":1,"completion_tokens":2}'),
    *('{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8.0}',),
    *('{"total_tokens":8,"prompt_tokens":3,"completion_tokens":5}'),
)  # fmt: skip
NAMES: Final = (
    "x",
    "",
    "v",
    "salt",
    "flag",
    "usage",
    "nonce",
    "ciphertext",
    "response_hash",
    "signature",
    "stream",
    "\u00e9",
)


class Token(str):
    """A value that is written as it is."""

    __slots__ = ()


def _changed(program: Program, members: Members, others: Sequence[Sealed]) -> None:
    """One member of it is not what it was."""
    at = program.below(len(members))
    name, value = members[at]
    match program.below(9):
        case 0:
            members[at] = name, Token(program.one_of(TOKENS))
        case 1:
            del members[at]
            members.append((name, value))
        case 2 if len(members) > 1:
            del members[at]
        case 3:
            members.insert(
                program.below(len(members) + 1), (name, Token(program.one_of(TOKENS)) if program.byte() & 1 else value)
            )
        case 4:
            members.insert(at, (program.one_of(NAMES), Token(program.one_of(TOKENS))))
        case 5:
            members[at] = program.one_of(NAMES), value
        case 6:
            other = dict(program.one_of(others).members)
            members[at] = name, other.get(name, value)
        case _ if isinstance(value, str):
            members[at] = name, _recoded(program, value)
        case _:
            members[at] = name, Token(program.take(program.below(8)).decode("latin-1"))


def _recoded(program: Program, text: str) -> str:
    """Other base64: of other bytes, or of the same in another spelling."""
    way = program.below(8)
    if way < 4:
        raw = bytearray(base64.b64decode(text + "=" * (-len(text) % 4)) if text.isascii() and _is_base64(text) else b"")
        if way == 0 and raw:
            raw[program.number() % len(raw)] ^= 1 << program.below(8)
        elif way == 1:
            del raw[program.number() % (len(raw) + 1) :]
        elif way == 2:
            raw += program.take(program.below(20))
        else:
            raw[: program.below(20)] = program.take(program.below(20))
        return base64.b64encode(raw).decode()
    at = program.number() % (len(text) + 1)
    if way == 4:
        return text[:at] + chr(program.byte()) + text[at + 1 :]
    if way == 5:
        return text[:at] + program.one_of(("=", "==", " ", "\n", "-", "_", "A", "\u00e9", "\ud800", "\0")) + text[at:]
    if way == 6:
        return text.rstrip("=")
    return text[:at]


def _is_base64(text: str) -> bool:
    return (
        all(c.isalnum() or c in "+/=" for c in text) and "=" not in text.rstrip("=") and len(text.rstrip("=")) % 4 != 1
    )


def _spelled(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if i % 2 else c for i, c in enumerate(text) if c not in '"\\') + '"'


def _printed(program: Program, members: Members) -> bytes:
    """The members as one of the many texts that mean the same."""
    way = program.below(8)
    gap = ("", "", " ", "\t", "\n ", "\r\n", "", "")[way]

    def value(of: Any) -> str:
        if isinstance(of, Token):
            return str(of)
        if way == 6 and isinstance(of, str):
            return _spelled(of)
        return json.dumps(of, separators=(f"{gap},", f":{gap}"), ensure_ascii=way != 7)

    found = f"{gap},{gap}".join(
        f"{_spelled(name) if way == 6 else json.dumps(name)}{gap}:{gap}{value(of)}" for name, of in members
    )
    return f"{gap}{{{gap}{found}{gap}}}{gap}".encode("utf-8", "surrogatepass")


def respelled(program: Program, one: Sealed, others: Sequence[Sealed]) -> bytes:
    """An object as it is, or with other members, in another spelling."""
    way = program.byte()
    if way < 64:
        return one.raw
    members = list(one.members)
    for _ in range(way % 4):
        _changed(program, members, others)
        if not members:
            return b"{}"
    return _printed(program, members)


# ---- as bytes ---------------------------------------------------------------------------------------------------

OF_EVENTS: Final = ("\n\n", "\r\n", "\r\r", "data", "data:", "data: ", ": x\n", "\n:\n", "[DONE]", "\ufeff")
PIECES: Final = (
    *(piece.encode() for piece in (*TOKENS, *OF_EVENTS, *'{}[],:"\\=A+/-_ \t\r\n\x00\x7f') if len(piece) < 100),
    *(b"\xff", b"\xed\xa0\x80", b"\xc3"),
)


def spliced(program: Program, raw: bytes) -> bytes:
    """Up to three edits: a piece, or bytes of the input, instead of some bytes."""
    for _ in range(max(0, program.below(8) - 4)):
        at, gone = program.number() % (len(raw) + 1), program.one_of((0, 0, 0, 1, 1, 2, 4, 30, 400))
        piece = program.one_of(PIECES) if program.byte() < 192 else program.take(program.below(40))
        raw = raw[:at] + piece + raw[at + gone :]
    return raw


def spoiled(program: Program, one: Sealed, others: Sequence[Sealed]) -> bytes:
    """An object, as somebody between the ends might pass it on; or any bytes at all."""
    way = program.byte()
    if way == 0xFF:
        return program.rest()
    return spliced(program, respelled(program, one, others))


# ---- as events --------------------------------------------------------------------------------------------------

BETWEEN: Final = (
    b"",
    b"",
    b"",
    b": keep-alive\n\n",
    b":\n",
    b"\n",
    b"data: [DONE]\n\n",
    b"event: x\nid: 1\n",
    b"data\n\n",
    b"data:\n\n",
    b"x\n\n",
    b"id",
    b"data: {}\n\n",
    b"data: [DONE] \n\n",
)


def _event(program: Program, text: bytes) -> bytes:
    """An object as an event; each of its lines is one of `data`."""
    way = program.below(10)
    if way == 1 and len(text):
        at = program.number() % len(text)
        text = text[:at] + b"\n" + text[at:]
    name = (
        b"data: ",
        b"data: ",
        b"data:",
        b"data:  ",
        b"data :",
        b"data: ",
        b"Data: ",
        b"data:\t",
        b"data: ",
        b"data: ",
    )[way]
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    out = b"".join(name + line + b"\n" for line in lines)
    if way == 5:
        out = b"event: message\nretry: 5\n" + out + b":\nid\n"
    if way == 8:
        out += b"data:\n"
    return out + b"\n"


def stream(program: Program, sealed: Sequence[Sealed]) -> list[bytes]:
    """The events of a node as they might arrive, in pieces."""
    way = program.byte()
    if way == 0xFF:
        raw = program.rest()
        return [raw[: len(raw) // 3], raw[len(raw) // 3 :]]
    order: Sequence[int] = range(len(sealed))
    if way & 1:
        order = [program.below(len(sealed)) for _ in range(program.below(7))]
    spoil = program.below(len(order) + 2)  # mostly one alone, so that what comes before is read
    raw = b""
    for place, at in enumerate(order):
        if way & 2:
            raw += program.one_of(BETWEEN)
        if place == spoil or way & 4:
            raw += _event(program, spoiled(program, sealed[at], sealed))
        else:
            raw += b"data: " + sealed[at].raw + b"\n\n"
    if way & 8:
        raw = program.one_of((BOM, BOM + BOM, b"\n", b"\r", b": x\r\n\r\n", b"")) + raw.replace(
            b"\n", program.one_of(NEWLINES)
        )
    if way & 16:
        raw = spliced(program, raw)
    if way & 32:
        raw = raw[: program.number() % (len(raw) + 1)]
    return _cut(program, raw) if way & 64 else [raw]


def _cut(program: Program, raw: bytes) -> list[bytes]:
    """In pieces of any size, empty ones among them; the last is whatever is left."""
    pieces = []
    for _ in range(program.below(24)):
        length = program.below(700 if program.byte() & 1 else 8)
        pieces.append(raw[:length])
        raw = raw[length:]
    return [*pieces, raw]
