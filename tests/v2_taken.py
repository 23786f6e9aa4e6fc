"""The vectors of v2.json that are taken: requests that a node opens, and replies that a client reads to their end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import reference_v2 as v2
from make_v2_vectors import (
    ABORT,
    NOW,
    SECRETS,
    SENT_AT,
    Sealed,
    Vector,
    record_part,
    request_part,
    sealed,
    shown,
    whole,
)
from reference_v2 import Record

USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
EMBEDDED: Final = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}


def chunk(content: str) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": content}, "index": 0}]}, separators=(",", ":")).encode()


def stream(*contents: str, last: bytes = b"", usage: dict[str, int] | None = None) -> list[Record]:
    return [*(Record(0, None, chunk(content)) for content in contents), Record(1, usage, last)]


ANSWER: Final = Record(3, USAGE, b'{"choices":[{"index":0,"message":{"content":"Hello","role":"assistant"}}]}')


def reprinted(dump: Callable[[dict[str, Any]], str]) -> Callable[[bytes], bytes]:
    return lambda text: dump(json.loads(text)).encode()


def with_more(members: dict[str, Any]) -> str:
    """Members that v2 does not know, one of them as deep as it may be."""
    deep: Any = 1
    for _ in range(15):
        deep = [deep]
    more = {"V": 1, "id": -1.5e300, "note": 'a "quoted" {[', "deep": deep, "": None, "big": 1 << 70}
    return json.dumps({**more, **members})


def escaped(members: dict[str, Any]) -> str:
    """Each character of each string as its escape."""

    def spell(text: str) -> str:
        units = text.encode("utf-16-be").hex().upper()
        return '"' + "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4)) + '"'

    values = (spell(value) if isinstance(value, str) else json.dumps(value) for value in members.values())
    return "{" + ",".join(f"{spell(name)}:{value}" for name, value in zip(members, values, strict=True)) + "}"


def without(members: dict[str, Any], *names: str) -> str:
    return json.dumps({name: value for name, value in members.items() if name not in names})


NULLS: Final[dict[str, Any]] = {"stack_small_id": None, "num_compute_units": None}
FORMS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "other order": reprinted(lambda m: json.dumps(dict(reversed(m.items())))),
    "white space": lambda text: b"\t\r\n " + reprinted(lambda m: json.dumps(m, indent=1))(text) + b" \r\n\t",
    "unknown members": reprinted(with_more),
    "every character escaped": reprinted(escaped),
    "UTF-8": reprinted(lambda m: json.dumps(m, ensure_ascii=False)),
    "ids are absent": reprinted(lambda m: without(m, *NULLS)),
    "slashes escaped": lambda text: text.replace(b"/", rb"\/"),
}


def vectors() -> Iterator[Vector]:
    yield whole("stream of three records", stream("Hel", "lo"))
    yield whole("stream with usage", stream("Hello", usage=USAGE))
    yield whole("usage in every record", [Record(0, EMBEDDED, chunk("Hello")), Record(1, USAGE, b"")])
    yield whole("last record with plaintext", stream("Hel", last=chunk("lo"), usage=USAGE))
    yield whole("empty stream", [Record(1, None, b"")])
    yield whole("abort in mid-stream", [Record(0, None, chunk("Hel")), Record(2, None, ABORT)])
    yield whole("abort before the first chunk", [Record(2, USAGE, ABORT)])
    yield whole("abort of a stream as an object", [Record(2, None, ABORT + b"  ")], event=False)
    yield whole("not streamed", [ANSWER], stream=False)
    yield whole("not streamed, without usage", [ANSWER._replace(usage=None)], stream=False)
    yield whole("not streamed, empty", [Record(3, EMBEDDED, b"")], stream=False, endpoint="/v1/embeddings")
    yield whole("abort, not streamed", [Record(2, None, ABORT)], stream=False)
    for title, changes in METADATA.items():
        request = sealed(title, **changes)
        yield opened(title, request, v2.write_envelope(request.envelope))
    for form, raw in FORMS.items():
        request = sealed(f"envelope: {form}", **(NULLS if "absent" in form else {}), model_name="Möbius-\U0001f600")
        yield opened(f"envelope: {form}", request, raw(v2.write_envelope(request.envelope)))
    for title, body, changes in BODIES:
        request = sealed(f"body: {title}", body=body, **changes)
        yield opened(f"body: {title}", request, v2.write_envelope(request.envelope))
    for title, now in (("latest", SENT_AT + 299), ("earliest", SENT_AT - 60)):
        name = f"the {title} time"
        request = sealed(name)
        yield opened(name, request, v2.write_envelope(request.envelope), now)
    yield whole("X-Wing: stream", stream("Hello", last=chunk("!"), usage=USAGE), suite="X-Wing")
    yield whole("X-Wing: not streamed", [ANSWER], suite="X-Wing", stream=False, model_name="Möbius")
    yield whole("X-Wing: abort", [Record(2, None, ABORT)], suite="X-Wing", stack_small_id=None)
    yield far_records()


def opened(name: str, request: Sealed, raw: bytes, now: int = NOW) -> Vector:
    """A request that a node takes, without a reply."""
    body = v2.open_request(request.suite, SECRETS[request.suite], raw, now=now).body
    metadata = request.envelope.metadata
    return request_part(name, request, raw, "ok", now) | {
        "metadata": metadata,
        "aad": v2.aad_of(metadata).hex(),
        "body": shown(body),
    }


def far_records() -> Vector:
    """Records of a long stream, where the counter fills more than one byte."""
    vector = whole("records far along", [Record(1, None, b"")])
    keys = v2.ReplyKeys(*(bytes.fromhex(vector[name]) for name in ("prk", "key", "base")))
    records = [(index, Record(0, None, b"x")) for index in (255, 256, 65535, 65536, 2**32 - 2)]
    records.append((2**32 - 1, Record(2, None, ABORT)))
    vector["records"] = [record_part(keys, index, record) for index, record in records]
    return vector


METADATA: Final[dict[str, dict[str, Any]]] = {
    "ids are null": NULLS,
    "ids are zero": {"stack_small_id": 0, "num_compute_units": 0},
    "ids are the largest": {"stack_small_id": v2.INT_MAX, "num_compute_units": v2.INT_MAX},
    "model is not ASCII": {"model_name": "org/Möbius-\U0001f600\x7f\x00\u2028"},
    "model is not normalised": {"model_name": "e\u0301"},
    "model of 256 bytes": {"model_name": "\u00e9m/" * 64},
    "endpoint of 128 characters": {"endpoint": "/Z9._-".ljust(128, "a")},
    "shortest endpoint": {"endpoint": "/"},
}
BODIES: Final[Sequence[tuple[str, bytes, dict[str, Any]]]] = (
    ("padded with spaces", b'{"model":"m","stream":true}'.ljust(64), {}),
    ("white space before", b' \n{"model":"m","stream":true}', {}),
    ("no model", b'{"stream":true}', {}),
    ("model as escapes", b'{"\\u006dodel":"\\u006d","stream":true}', {}),
    ("inner names do not count", b'{"stream":true,"x":{"stream":false,"model":"n","a":1,"a":2}}', {}),
    ("stream is false", b'{"model":"m","stream":false}', {"stream": False}),
    ("stream is null", b'{"model":"m","stream":null}', {"stream": False}),
    ("empty object", b"{}", {"stream": False}),
)
