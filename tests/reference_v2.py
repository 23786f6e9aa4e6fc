"""Protocol v2 (docs/protocol-v2.md) written a second time, by its text: what the library is held to.

Nothing here imports `atoma_crypto`. Primitives are `cryptography`'s; HPKE and X-Wing (in `reference_hpke`), the records
and all readers are written out. It is slow, it wipes nothing, and it takes the secrets that a session draws itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reference_hpke import Context, decapsulate, expand, extract, nonce_of, public_of

SUITE_IDS: Final = {"X25519": 1, "X-Wing": 2}
ENC_BYTES: Final = {"X25519": 32, "X-Wing": 1120}
INT_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 16
METADATA: Final = ("endpoint", "model_name", "stack_small_id", "num_compute_units", "stream", "sent_at")
USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
ENDPOINT: Final = re.compile(r"/[A-Za-z0-9/_.-]{0,127}\Z")
ABORT_CODE: Final = re.compile(r"[A-Z0-9_]{1,64}\Z")


class RefusedError(Exception):
    """A node refuses a request: in clear before it is admitted, sealed after that."""

    def __init__(self, code: str, *, sealed: bool = False) -> None:
        super().__init__(f"SEALED {code}" if sealed else code)


class ReplyError(Exception):
    """A client refuses a reply. `verified` are the records that came before."""

    def __init__(self, what: str, verified: list[Record]) -> None:
        super().__init__(what)
        self.verified = verified


# ---- strict JSON and base64 -------------------------------------------------------------------------------------


class _Members(dict[str, Any]):
    """A JSON object that knows whether a name was there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._twice = len(self) != len(pairs)

    def once(self) -> _Members:
        if self._twice:
            raise ValueError("a name twice")
        return self


def _integer(text: str) -> object:
    """Digits alone, or no integer at all: a minus sign and more than 2^53 - 1 are both out of range."""
    return int(text) if text.isdigit() and len(text) <= 16 else float("nan")


def _constant(name: str) -> object:
    raise ValueError(name)


def read_object(raw: bytes, depth_max: int | None = DEPTH_MAX) -> dict[str, Any]:
    """One JSON object; ValueError if it is none, is too deep, or has a name twice on its top level."""
    text = raw.decode("utf-8")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    depth = 0
    for bracket in re.findall(r"[][{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth_max is not None and depth > depth_max:
            raise ValueError("too deep")
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise ValueError("not an object")
    members = json.loads(text, object_pairs_hook=_Members, parse_int=_integer, parse_constant=_constant)
    assert isinstance(members, _Members)
    return members.once()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def unb64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no string")
    raw = base64.b64decode(text.encode("ascii"), validate=True)
    if b64(raw) != text:
        raise ValueError("not canonical")
    return raw


def integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INT_MAX:
        raise ValueError("no integer of ours")
    return value


# ---- requests (section 3) ---------------------------------------------------------------------------------------


class Envelope(NamedTuple):
    key_id: bytes
    enc: bytes
    ciphertext: bytes
    metadata: dict[str, Any]


class Request(NamedTuple):
    envelope: Envelope
    body: bytes
    exported: bytes


def key_id_of(suite: str, public: bytes) -> bytes:
    return hashlib.sha256(bytes([SUITE_IDS[suite]]) + public).digest()[:8]


def info_of(key_id: bytes) -> bytes:
    return b"atoma/2 request\x00" + key_id


def aad_of(metadata: Mapping[str, Any]) -> bytes:
    parts = [metadata["endpoint"].encode(), metadata["model_name"].encode()]
    for name in ("stack_small_id", "num_compute_units"):
        value = metadata[name]
        parts.append(b"" if value is None else value.to_bytes(8, "big"))
    parts += [bytes([metadata["stream"]]), metadata["sent_at"].to_bytes(8, "big")]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def dumps(members: Mapping[str, Any]) -> bytes:
    """As all of v2 is sent: ASCII, compact, members ordered by code point."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def write_envelope(envelope: Envelope) -> bytes:
    members = {
        **envelope.metadata,
        "ciphertext": b64(envelope.ciphertext),
        "enc": b64(envelope.enc),
        "key_id": b64(envelope.key_id),
        "v": 2,
    }
    return dumps(members)


def read_envelope(raw: bytes) -> Envelope:
    """Step 2 of section 3."""
    try:
        members = read_object(raw)
        if integer(members["v"]) != 2 or type(members["stream"]) is not bool:
            raise ValueError("no envelope of v2")
        metadata = {name: members[name] for name in ("endpoint", "model_name", "stream", "sent_at")}
        integer(metadata["sent_at"])
        for name in ("stack_small_id", "num_compute_units"):
            metadata[name] = members.get(name)
            if metadata[name] is not None:
                integer(metadata[name])
        if not 1 <= len(metadata["model_name"].encode()) <= 256:
            raise ValueError("model_name")
        if not ENDPOINT.match(metadata["endpoint"]):
            raise ValueError("endpoint")
        envelope = Envelope(unb64(members["key_id"]), unb64(members["enc"]), unb64(members["ciphertext"]), metadata)
        if len(envelope.key_id) != 8 or len(envelope.enc) not in (32, 1120) or len(envelope.ciphertext) < 16:
            raise ValueError("a length")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefusedError("INVALID_BODY") from None
    return envelope


def check_body(body: bytes, metadata: Mapping[str, Any]) -> None:
    """Step 7."""
    try:
        members = read_object(body, None)
        stream = members.get("stream")
        agrees = (False if stream is None else stream) is metadata["stream"]
        if not agrees or members.get("model", metadata["model_name"]) != metadata["model_name"]:
            raise ValueError("the body says otherwise")
    except (ValueError, RecursionError):
        raise RefusedError("INVALID_BODY", sealed=True) from None


def seal_request(
    suite: str, public: bytes, encapsulated: tuple[bytes, bytes], body: bytes, metadata: Mapping[str, Any]
) -> tuple[Envelope, bytes]:
    """The envelope, and the secret of its response. `encapsulated` is what `encapsulate` gave."""
    shared, enc = encapsulated
    key_id = key_id_of(suite, public)
    context = Context(suite, shared, info_of(key_id))
    sealed = context.seal(body, aad_of(metadata))
    return Envelope(key_id, enc, sealed, dict(metadata)), context.export(b"atoma/2 response", 32)


def open_request(suite: str, secret: bytes, raw: bytes, *, now: int, admitted: set[bytes] | None = None) -> Request:
    """What a node with this one key does; `admitted` is its replay store."""
    if len(raw) > 32 << 20:
        raise RefusedError("TOO_LARGE")
    envelope = read_envelope(raw)
    if envelope.key_id != key_id_of(suite, public_of(suite, secret)):
        raise RefusedError("KEY_UNKNOWN")
    if len(envelope.enc) != ENC_BYTES[suite]:
        raise RefusedError("INVALID_BODY")
    sent_at = envelope.metadata["sent_at"]
    if not (sent_at <= now + 60 and now < sent_at + 300):
        raise RefusedError("CLOCK_SKEW")
    try:
        context = Context(suite, decapsulate(suite, secret, envelope.enc), info_of(envelope.key_id))
        body = context.open(envelope.ciphertext, aad_of(envelope.metadata))
    except (ValueError, InvalidTag):
        raise RefusedError("DECRYPTION_FAILED") from None
    if admitted is not None:
        request_id = hashlib.sha256(envelope.enc).digest()
        if request_id in admitted:
            raise RefusedError("REPLAYED")
        admitted.add(request_id)
    check_body(body, envelope.metadata)
    return Request(envelope, body, context.export(b"atoma/2 response", 32))


# ---- responses (section 4) --------------------------------------------------------------------------------------


class ReplyKeys(NamedTuple):
    prk: bytes
    key: bytes
    base: bytes


class Record(NamedTuple):
    flag: int
    usage: dict[str, int] | None
    plaintext: bytes


def reply_keys(exported: bytes, enc: bytes, salt: bytes) -> ReplyKeys:
    prk = extract(enc + salt, exported)
    return ReplyKeys(prk, expand(prk, b"key", 32), expand(prk, b"nonce", 12))


def record_aad(flag: int, usage: Mapping[str, int] | None) -> bytes:
    numbers = [] if usage is None else [usage[name].to_bytes(8, "big") for name in USAGE]
    return bytes([flag]) + b"".join(numbers)


def seal_record(keys: ReplyKeys, index: int, record: Record) -> bytes:
    aad = record_aad(record.flag, record.usage)
    return AESGCM(keys.key).encrypt(nonce_of(keys.base, index), record.plaintext, aad)


def write_record(record: Record, sealed: bytes, salt: bytes | None, *, event: bool) -> bytes:
    """One record as an event, or as an object; `salt` where it is the first."""
    members: dict[str, Any] = {"ciphertext": b64(sealed)}
    if record.flag:
        members["flag"] = record.flag
    if record.usage is not None:
        members["usage"] = record.usage
    if salt is not None:
        members |= {"salt": b64(salt), "v": 2}
    text = dumps(members)
    return b"data: " + text + b"\n\n" if event else text


def abort_of(plaintext: bytes) -> dict[str, Any]:
    """What an abort says: ValueError if it is none."""
    error = read_object(plaintext)["error"]
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise ValueError("no error")
    if not isinstance(error.get("code"), str) or not ABORT_CODE.match(error["code"]):
        raise ValueError("code")
    if not 400 <= integer(error.get("status")) <= 599:
        raise ValueError("status")
    return error


def events_of(raw: bytes) -> list[bytes]:
    """The data of each complete event (WHATWG HTML, section 9.2.6)."""
    lines = re.split(rb"\r\n|\n|\r", raw.removeprefix(b"\xef\xbb\xbf"))
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines[:-1]:  # the last has no end
        name, _, value = line.partition(b":")
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return events


def read_usage(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, _Members) or set(value.once()) != set(USAGE):
        raise ValueError("usage")
    return {name: integer(value[name]) for name in USAGE}


def read_record(text: bytes, index: int, keys: ReplyKeys, flags: set[int]) -> Record:
    members = read_object(text)
    if index and ("salt" in members or "v" in members):
        raise ValueError("not the first")
    flag, usage = integer(members.get("flag", 0)), read_usage(members.get("usage"))
    if flag not in flags:
        raise ValueError("flag")
    sealed = unb64(members["ciphertext"])
    plaintext = AESGCM(keys.key).decrypt(nonce_of(keys.base, index), sealed, record_aad(flag, usage))
    if flag == 0 and not plaintext:
        raise ValueError("an empty chunk")
    if flag == 2:
        abort_of(plaintext)
    return Record(flag, usage, plaintext)


def read_salt(text: bytes) -> bytes:
    members = read_object(text)
    salt = unb64(members["salt"])
    if integer(members["v"]) != 2 or len(salt) != 32:
        raise ValueError("no first record of v2")
    return salt


def read_reply(exported: bytes, enc: bytes, stream: bool, received: bytes) -> list[Record]:
    """The records of a whole reply, the last of them its end; ReplyError REFUSED or TRUNCATED otherwise."""
    is_object = received.lstrip(b" \t\r\n")[:1] == b"{"
    flags = ({2} if stream else {2, 3}) if is_object else {0, 1, 2}
    verified: list[Record] = []
    try:
        if not stream and not is_object:
            raise ValueError("no object")
        texts = [received] if is_object else events_of(received)
        keys = reply_keys(exported, enc, read_salt(texts[0])) if texts else ReplyKeys(b"", b"", b"")
        for index, text in enumerate(texts):
            if verified and verified[-1].flag:
                raise ValueError("after the end")
            verified.append(read_record(text, index, keys, flags))
    except (ValueError, KeyError, TypeError, RecursionError, InvalidTag):
        raise ReplyError("REPLY_REFUSED", verified) from None
    if not verified or not verified[-1].flag:
        raise ReplyError("REPLY_TRUNCATED", verified)
    return verified
