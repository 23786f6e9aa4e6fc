"""Writes tests/vectors/v2.json out of `reference_v2`: `python tests/make_v2_vectors.py`. docs/vectors.md has the form.

Every secret comes from a fixed text, so that the same bytes come out each time. ML-KEM draws its own randomness where
it encapsulates: those `enc` are taken from the file as it is, and drawn only for what it does not hold yet.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import reference_hpke as hpke
import reference_v2 as v2
from reference_v2 import Envelope, Record

PATH: Final = Path(__file__).parent / "vectors" / "v2.json"
SENT_AT: Final = 1763808745
NOW: Final = SENT_AT + 5
METADATA: Final[dict[str, Any]] = {
    "endpoint": "/v1/chat/completions",
    "model_name": "m",
    "stack_small_id": 42,
    "num_compute_units": 64,
    "stream": True,
    "sent_at": SENT_AT,
}
ABORT: Final = b'{"error":{"code":"UPSTREAM_FAILED","message":"the model has stopped","status":502}}'

Vector = dict[str, Any]


def seed(what: str, length: int = 32) -> bytes:
    return hashlib.shake_256(b"atoma-crypto, vectors of protocol v2: " + what.encode()).digest(length)


SECRETS: Final = {"X25519": seed("node key"), "X-Wing": seed("node seed")}
PUBLICS: Final = {suite: hpke.public_of(suite, secret) for suite, secret in SECRETS.items()}


def shown(raw: bytes) -> str:
    """Text, nearly always; each character is one byte."""
    return raw.decode("latin-1")


class Sealed(NamedTuple):
    """A request, and what only its sender and its node know."""

    suite: str
    sk_e: bytes | None
    envelope: Envelope
    exported: bytes


@cache
def encs_on_file() -> dict[str, bytes]:
    if not PATH.exists():
        return {}
    vectors = json.loads(PATH.read_text(encoding="utf-8"))
    return {v["name"]: bytes.fromhex(v["enc"]) for v in vectors if v["suite"] == "X-Wing" and "enc" in v}


def body_of(metadata: Mapping[str, Any]) -> bytes:
    """As short as they come; `stream` absent where it is false."""
    body = {"model": metadata["model_name"]} | ({"stream": True} if metadata["stream"] else {})
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sealed(name: str, suite: str = "X25519", body: bytes | None = None, **changes: Any) -> Sealed:
    """A request of METADATA with these changes, which need not be allowed."""
    metadata = METADATA | changes
    sk_e = seed(name + ", ephemeral")
    if suite == "X25519":
        encapsulated = hpke.encapsulate(suite, PUBLICS[suite], sk_e)
    elif name in encs_on_file():
        enc = encs_on_file()[name]
        encapsulated = hpke.decapsulate(suite, SECRETS[suite], enc), enc
    else:
        encapsulated = hpke.encapsulate(suite, PUBLICS[suite], sk_e)
        encs_on_file()[name] = encapsulated[1]
    body = body_of(metadata) if body is None else body
    envelope, exported = v2.seal_request(suite, PUBLICS[suite], encapsulated, body, metadata)
    return Sealed(suite, sk_e if suite == "X25519" else None, envelope, exported)


def secret_of(suite: str) -> dict[str, str]:
    return {"sk_r" if suite == "X25519" else "seed": SECRETS[suite].hex()}


def request_part(name: str, request: Sealed, raw: bytes, expect: str, now: int = NOW) -> Vector:
    """What each vector of a request has."""
    return {
        "name": name,
        "suite": request.suite,
        "expect": expect,
        **secret_of(request.suite),
        "now": now,
        "envelope": shown(raw),
    }


def events(keys: v2.ReplyKeys, salt: bytes, records: Sequence[Record], *, event: bool) -> list[bytes]:
    return [
        v2.write_record(record, v2.seal_record(keys, i, record), None if i else salt, event=event)
        for i, record in enumerate(records)
    ]


def record_part(keys: v2.ReplyKeys, index: int, record: Record) -> Vector:
    return {
        "index": index,
        "flag": record.flag,
        "usage": record.usage,
        "aad": v2.record_aad(record.flag, record.usage).hex(),
        "nonce": hpke.nonce_of(keys.base, index).hex(),
        "plaintext": shown(record.plaintext),
        "ciphertext": v2.seal_record(keys, index, record).hex(),
    }


def whole(
    name: str,
    records: Sequence[Record],
    *,
    suite: str = "X25519",
    body: bytes | None = None,
    event: bool | None = None,
    **changes: Any,
) -> Vector:
    """A request that a node takes, and its whole reply."""
    request = sealed(name, suite, body, **changes)
    metadata, envelope = request.envelope.metadata, request.envelope
    text = v2.write_envelope(envelope)
    opened = v2.open_request(suite, SECRETS[suite], text, now=NOW)
    salt = seed(name + ", salt")
    keys = v2.reply_keys(request.exported, envelope.enc, salt)
    texts = events(keys, salt, records, event=metadata["stream"] if event is None else event)
    assert v2.read_reply(request.exported, envelope.enc, metadata["stream"], b"".join(texts)) == list(records)
    return request_part(name, request, text, "ok") | {
        "public_key": PUBLICS[suite].hex(),
        "sk_e": None if request.sk_e is None else request.sk_e.hex(),
        "key_id": envelope.key_id.hex(),
        "enc": envelope.enc.hex(),
        "info": v2.info_of(envelope.key_id).hex(),
        "metadata": metadata,
        "aad": v2.aad_of(metadata).hex(),
        "body": shown(opened.body),
        "exported": opened.exported.hex(),
        "salt": salt.hex(),
        "prk": keys.prk.hex(),
        "key": keys.key.hex(),
        "base": keys.base.hex(),
        "records": [
            record_part(keys, index, record) | {"event": shown(text)}
            for index, (record, text) in enumerate(zip(records, texts, strict=True))
        ],
    }


def text() -> str:
    """The whole file, one vector a line."""
    # they are made of what is above
    import v2_refused_replies as replies
    import v2_refused_requests as requests
    import v2_taken as taken

    vectors = [*taken.vectors(), *requests.vectors(), *replies.vectors()]
    assert len({vector["name"] for vector in vectors}) == len(vectors)
    return "[\n" + ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors) + "\n]\n"


if __name__ == "__main__":
    sys.modules["make_v2_vectors"] = sys.modules["__main__"]
    PATH.write_text(text(), encoding="utf-8")
