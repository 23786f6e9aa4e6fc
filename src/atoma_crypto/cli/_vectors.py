"""What `atoma-crypto vectors` checks of one vector (docs/vectors.md). The secrets in vectors are nobody's."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._core import ffi
from atoma_crypto._errors import http_error

Vector = Mapping[str, Any]
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
_CODE, _ABORT_STATUS = "INVALID_BODY", 400


class Reading(NamedTuple):
    """What a client has made of a reply: the chunks with their usage, and the end, the abort or the error."""

    chunks: list[tuple[bytes, dict[str, int] | None]]
    end: str


def differences(vector: Vector) -> list[str]:
    """What of it does not hold; empty if all does. KeyError, TypeError, ValueError: the vector is malformed."""
    found: list[str] = []
    if "envelope" in vector:
        found += _request(vector)
    if "prk" in vector:
        found += _schedule(vector)
        found += _records(vector)
    if "received" in vector:
        found += _reply(vector, _raw(vector, "received"), vector["stream"], vector["expect"])
    elif "prk" in vector and all("event" in record for record in vector["records"]):
        events = b"".join(_raw(record, "event") for record in vector["records"])
        found += _reply(vector, events, vector["metadata"]["stream"], "ok")
    elif "envelope" not in vector:
        raise ValueError("there is neither an envelope nor a reply")
    return found


def _hex(vector: Vector, name: str) -> bytes:
    return bytes.fromhex(vector[name])


def _raw(vector: Vector, name: str) -> bytes:
    """Text: each character is one byte."""
    text: str = vector[name]
    return text.encode("latin-1")


def _secret(vector: Vector) -> bytes:
    return _hex(vector, "sk_r" if vector["suite"] == "X25519" else "seed")


# ---- requests ---------------------------------------------------------------------------------------------------


def _request(vector: Vector) -> Iterator[str]:
    """What a node says, with this key alone and at this time."""
    store = ac.MemoryReplayCache(fresh_key=True)
    with ac.SecretKey.from_bytes(_secret(vector), vector["suite"]) as key:
        node = ac.NodeSession(key, protocols=("v2",), replay_cache=store, clock=lambda: vector["now"])
        with node:
            said, request = _opened(node, _raw(vector, "envelope"))
    if said != vector["expect"]:
        yield f"the node says {said}, not {vector['expect']}"
    if len(store) != (said == "ok" or said.startswith("SEALED")):
        yield "the node remembers what it has not admitted, or not what it has"
    if request is not None and "body" in vector:
        if request.body != _raw(vector, "body"):
            yield "body"
        metadata = dict(vector["metadata"])
        if metadata != {
            "endpoint": request.endpoint,
            "model_name": request.model,
            "stack_small_id": request.stack_small_id,
            "num_compute_units": request.num_compute_units,
            "stream": request.stream,
            "sent_at": metadata["sent_at"],
        }:
            yield "metadata"


def _opened(node: ac.NodeSession, envelope: bytes) -> tuple[str, ac.Request | None]:
    try:
        return "ok", node.open_request(envelope)
    except ac.AtomaCryptoError as error:
        code = http_error(error)[1]
    try:
        node.abort(_CODE, "refused", _ABORT_STATUS)
    except ac.LocalProtocolError:
        return code, None  # it was not admitted: nothing can be sealed
    return f"SEALED {code}", None


def _schedule(vector: Vector) -> Iterator[str]:
    """Both ends of HPKE, and the keys of the response."""
    suite, secret, info, enc = vector["suite"], _secret(vector), _hex(vector, "info"), _hex(vector, "enc")
    public = ac.PublicKey.from_bytes(_hex(vector, "public_key"), suite)
    with ac.SecretKey.from_bytes(secret, suite) as key:
        if key.public_key != public:
            yield "public_key"
        recipient = hazmat.hpke_setup_recipient(enc, key, info, suite=suite)
    if public.key_id != _hex(vector, "key_id"):
        yield "key_id"
    if info != b"atoma/2 request\x00" + public.key_id:
        yield "info"
    ends = [recipient]
    sealed = base64.b64decode(json.loads(_raw(vector, "envelope"))["ciphertext"], validate=True)
    if vector["sk_e"] is not None:
        sent, sender = hazmat.hpke_setup_sender(bytes(public), info, _hex(vector, "sk_e"), suite=suite)
        ends.append(sender)
        if sent != enc:
            yield "enc"
        if sender.seal(_raw(vector, "body"), _hex(vector, "aad")) != sealed:
            yield "ciphertext of the request"
    try:
        if recipient.open(sealed, _hex(vector, "aad")) != _raw(vector, "body"):
            yield "body by HPKE"
    except ac.AuthenticationError:
        yield "aad, or ciphertext of the request"
    for end in ends:
        if end.export(b"atoma/2 response", 32) != _hex(vector, "exported"):
            yield "exported"
        end.close()


# ---- replies ----------------------------------------------------------------------------------------------------


def _records(vector: Vector) -> Iterator[str]:
    """Each record by itself."""
    exported, salt = _hex(vector, "exported"), _hex(vector, "enc") + _hex(vector, "salt")
    key = hazmat.hkdf_sha256(exported, salt=salt, info=b"key", length=32)
    base = hazmat.hkdf_sha256(exported, salt=salt, info=b"nonce", length=12)
    if hmac.digest(salt, exported, "sha256") != _hex(vector, "prk"):
        yield "prk"
    if key != _hex(vector, "key"):
        yield "key"
    if base != _hex(vector, "base"):
        yield "base"
    aes = hazmat.AES256GCM(key)
    opener = ac.Opener(exported, _hex(vector, "enc"), _hex(vector, "salt"))
    for number, record in enumerate(vector["records"]):
        index, usage = record["index"], record["usage"]
        nonce = (int.from_bytes(base, "big") ^ index).to_bytes(12, "big")
        numbers = () if usage is None else tuple(usage[name] for name in _USAGE)
        aad = bytes([record["flag"]]) + b"".join(number.to_bytes(8, "big") for number in numbers)
        plaintext, sealed = _raw(record, "plaintext"), _hex(record, "ciphertext")
        if nonce != _hex(record, "nonce") or aad != _hex(record, "aad"):
            yield f"nonce or aad of record {index}"
        if aes.seal(nonce, plaintext, aad) != sealed:
            yield f"ciphertext of record {index}"
        try:
            opened = [aes.open(nonce, sealed, aad)]
            if index == number:  # an Opener takes them in their order, none left out
                opened.append(opener.open(sealed, flag=record["flag"], usage=usage))
            if any(text != plaintext for text in opened):
                yield f"plaintext of record {index}"
        except (ac.AuthenticationError, ac.LocalProtocolError):
            yield f"record {index} does not open"
    opener.close()


def _reply(vector: Vector, received: bytes, stream: bool, expect: str) -> Iterator[str]:
    """The whole of it by a client: at once, and byte by byte."""
    expected = _expected(vector["records"], expect)
    is_object = received.lstrip(b" \t\r\n")[:1] == b"{"
    pieces = [[received]] if is_object or not stream else [[received], [bytes([byte]) for byte in received]]
    for split in pieces:
        read = _read(_client(_hex(vector, "exported"), _hex(vector, "enc"), stream), split, stream and not is_object)
        if read.chunks != expected.chunks:
            yield f"the client gives {len(read.chunks)} chunks, not these {len(expected.chunks)}"
        if read.end != expected.end:
            yield f"the client ends with {read.end}, not with {expected.end}"


def _expected(records: Sequence[Vector], expect: str) -> Reading:
    """An answer is one chunk, and says nothing of usage to its caller."""
    chunks = [
        (_raw(record, "plaintext"), None if record["flag"] == 3 else record["usage"])
        for record in records
        if record["flag"] in (0, 3) or (record["flag"] == 1 and record["plaintext"])
    ]
    if expect != "ok":
        return Reading(chunks, expect)
    last = records[-1]
    if last["flag"] == 2:
        error = json.loads(_raw(last, "plaintext"))["error"]
        return Reading(chunks, f"{error['code']} {error['status']}: {error['message']}")
    usages = [record["usage"] for record in records if record["usage"] is not None and last["flag"] == 1]
    return Reading(chunks, f"its end, usage {_shown(usages[-1] if usages else None)}")


def _shown(usage: Any) -> str:
    return "none" if usage is None else " ".join(str(usage[name]) for name in _USAGE)


def _client(exported: bytes, enc: bytes, stream: bool) -> ac.ClientSession:
    """A client as it stands when it has sealed the request whose secrets these are: no session takes them."""
    node_key = ac.PublicKey.from_bytes(hazmat.x25519_public_key(bytes(32)))
    client = ac.ClientSession(node_key, model="m", stack_small_id=None, protocol="v2")
    client.seal_request(b'{"stream":true}' if stream else b"{}", stream=stream)
    waiting = client._opener._native.key.waiting
    ffi.memmove(waiting.secret, exported, len(waiting.secret))
    ffi.memmove(waiting.enc, enc, min(len(enc), len(waiting.enc)))
    waiting.enc_len = len(enc)
    return client


def _read(client: ac.ClientSession, pieces: list[bytes], events: bool) -> Reading:
    chunks: list[tuple[bytes, dict[str, int] | None]] = []
    with client:
        try:
            if not events:
                chunks.append((client.open_response(b"".join(pieces)), None))
                return Reading(chunks, "its end, usage none")
            for piece in pieces:
                client.receive_data(piece)
                for event in client.events():
                    chunks += _chunks(event)  # one by one: those before an error count
            client.receive_eof()
            end = client.next_event()
        except ac.RemoteAbortError as abort:
            return Reading(chunks, f"{abort.code} {abort.status}: {abort.message}")
        except ac.TruncatedStreamError:
            return Reading(chunks, "REPLY_TRUNCATED")
        except ac.RemoteProtocolError:
            return Reading(chunks, "REPLY_REFUSED")
    if not isinstance(end, ac.EndOfStream):
        return Reading(chunks, f"{end}")
    return Reading(chunks, f"its end, usage {_shown(_plain(end.usage))}")


def _chunks(event: ac.Chunk | ac.EndOfStream) -> list[tuple[bytes, dict[str, int] | None]]:
    return [(event.plaintext, _plain(event.usage))] if isinstance(event, ac.Chunk) else []


def _plain(usage: Any) -> dict[str, int] | None:
    return None if usage is None else dict(usage)
