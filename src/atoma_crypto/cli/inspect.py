"""`atoma-crypto inspect`: what anybody can read from a sealed message, without keys."""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import atoma_crypto as ac
from atoma_crypto import _envelope, _envelope_v2, _sse
from atoma_crypto._core import HASH_BYTES, NONCE_BYTES, TAG_BYTES
from atoma_crypto._keys import SUITES

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_SALT_BYTES = 16
_MAX_BYTES = 256 << 20  # what is read at most: several times what a session takes
_PIECE_BYTES = 64 << 10
# A reply has none of these, and a request has them all; of v1 and of v2.
_OF_REQUESTS = frozenset(("client_dh_public_key", "node_dh_public_key", "plaintext_body_hash"))
_OF_V2_REQUESTS = frozenset(("enc", "endpoint", "key_id", "sent_at"))
_V2_SALT_BYTES = 32
_MORE, _END, _ABORT, _WHOLE = range(4)
# What a flag claims: only who can open the record knows whether it is true.
_FLAGS = {_MORE: "more follow", _END: "the end", _ABORT: "an error", _WHOLE: "the whole answer"}


def add_parser(subparsers: SubParsers) -> None:
    """Add `inspect` to the sub-commands."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what can be read from a sealed message without keys",
        description="Read a request envelope, a sealed reply or a stream of sealed events, of either protocol, as "
        "strictly as a session does. Show all that whoever stands between client and node can read of it.",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="the message; - or nothing reads standard input"
    )
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Show it. Returns 2 if it cannot be read, or is none."""
    try:
        lines = list(_shown(_read(arguments.file)))
    except (OSError, ValueError, ac.RemoteProtocolError) as error:
        sys.stderr.write(f"atoma-crypto inspect: {error}\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _read(name: str) -> bytes:
    if name == "-":
        raw = sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"the message is longer than {_MAX_BYTES} bytes")
    return raw


def _shown(raw: bytes) -> Iterator[str]:
    if not raw.strip():
        raise ValueError("the message is empty")
    if raw.lstrip()[:1] not in (b"{", b"["):
        return _stream(raw)
    members = _envelope.read_members(raw, "the message", ac.EnvelopeError)
    names = {name for name, _ in members}
    if "ciphertext" not in names:
        raise ac.EnvelopeError("the message is not a sealed one: it has no 'ciphertext'")
    if _envelope_v2.version_of(members) == 2:
        return _request_v2(raw, members) if names & (_OF_V2_REQUESTS | _OF_REQUESTS) else _reply_v2(raw)
    return _request(raw) if names & (_OF_REQUESTS | {"salt"}) else _reply(raw)


def _request(raw: bytes) -> Iterator[str]:
    envelope = _envelope.read_request(raw)
    node = ac.PublicKey.from_bytes(_exactly(envelope.node_public, 32, "node_dh_public_key"))
    yield _line("message", "request, protocol v1")
    yield _line("members", _members(raw, "the request"))
    yield _line("plaintext", f"{_plaintext_len(envelope.ciphertext)} bytes")
    yield _line("hash of plaintext", _hash(envelope.body_hash, "plaintext_body_hash"))
    yield _line("model", _quoted(envelope.model))
    yield _line("stack", envelope.stack_small_id)
    yield _line("compute units", "none named" if envelope.num_compute_units is None else envelope.num_compute_units)
    yield _line("stream", "yes" if envelope.stream else "no")
    yield _line("node's key", f"{node.to_base64()} (fingerprint {node.fingerprint()})")
    yield _line("client's key", _text(_exactly(envelope.client_public, 32, "client_dh_public_key")))
    yield _line("salt", _exactly(envelope.salt, _SALT_BYTES, "salt").hex())
    yield _line("nonce", _exactly(envelope.nonce, NONCE_BYTES, "nonce").hex())


def _reply(raw: bytes) -> Iterator[str]:
    sealed = _envelope.read_sealed(raw, "the reply", ac.EnvelopeError)
    yield _line("message", "reply that is not streamed, protocol v1")
    yield _line("members", _members(raw, "the reply"))
    yield _line("plaintext", f"{_plaintext_len(sealed.ciphertext)} bytes")
    yield _line("hash of plaintext", _hash(sealed.response_hash, "response_hash"))
    yield _line("usage", _usage(sealed))
    yield _line("nonce", _exactly(sealed.nonce, NONCE_BYTES, "nonce").hex())


def _stream(raw: bytes) -> Iterator[str]:
    decoder = _sse.Decoder(_MAX_BYTES)
    pieces = (raw[at : at + _PIECE_BYTES] for at in range(0, len(raw), _PIECE_BYTES))  # else all lines are held at once
    events = [data for piece in pieces for data in decoder.feed(piece) if data != b"[DONE]"]
    decoder.close()
    if not events:
        raise ac.FramingError("there is neither a JSON object nor an event in it")
    first = _envelope.read_members(_sse.text_of(events[0]), "event 0", ac.FramingError)
    return _stream_v2(events) if "v" in dict(first) else _stream_v1(events)


def _stream_v1(events: Sequence[bytes]) -> Iterator[str]:
    yield _line("message", "stream of events, protocol v1")
    sizes, nonces, usage = [], [], "none shown"
    for number, data in enumerate(events):
        sealed = _envelope.read_sealed(_sse.text_of(data), f"event {number}", ac.FramingError)
        sizes.append(_plaintext_len(sealed.ciphertext))
        nonces.append(_exactly(sealed.nonce, NONCE_BYTES, "nonce").hex())
        claimed = _hash(sealed.response_hash, "response_hash")
        shown = "" if sealed.usage is None else f", usage {_usage(sealed)}"
        usage = usage if sealed.usage is None else _usage(sealed)
        yield _line(f"event {number}", f"{sizes[-1]} bytes, nonce {nonces[-1]}, hash {claimed}{shown}")
    again = len(nonces) - len(set(nonces))
    yield _line("events", len(events))
    yield _line("plaintext", f"{sum(sizes)} bytes, {min(sizes)} to {max(sizes)} an event")
    yield _line("usage", usage)
    yield _line("nonces", f"{again} used again: not confidential" if again else "no two alike")


def _request_v2(raw: bytes, members: _envelope.Members) -> Iterator[str]:
    envelope = _envelope_v2.request_of(members)
    metadata = envelope.metadata
    suite = next(name for name, sizes in SUITES.items() if sizes.enc_bytes == len(envelope.enc))
    sent = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(metadata.sent_at)) if metadata.sent_at < 1 << 37 else "?"
    yield _line("message", "request, protocol v2")
    yield _line("members", _members(raw, "the request"))
    yield _line("plaintext", f"{_plaintext_len(envelope.ciphertext)} bytes")
    yield _line("endpoint", metadata.endpoint)
    yield _line("model", _quoted(metadata.model))
    yield _line("stack", "none named" if metadata.stack_small_id is None else metadata.stack_small_id)
    yield _line("compute units", "none named" if metadata.num_compute_units is None else metadata.num_compute_units)
    yield _line("stream", "yes" if metadata.stream else "no")
    yield _line("sent at", f"{metadata.sent_at} ({sent} UTC)")
    yield _line("node's key", f"the one with id {_text(envelope.key_id)}, suite {suite}")
    yield _line("request id", f"{hashlib.sha256(envelope.enc).hexdigest()}, by which it is known when it comes again")


def _reply_v2(raw: bytes) -> Iterator[str]:
    record = _envelope_v2.read_record(raw, "the reply", ac.EnvelopeError)
    if record.flag not in {_ABORT, _WHOLE}:
        raise ac.EnvelopeError("the flag of the reply is not that of a whole answer or of an error")
    yield _line("message", "reply that is not streamed, protocol v2")
    yield _line("members", _members(raw, "the reply"))
    yield _line("says that it is", _FLAGS[record.flag])
    yield _line("plaintext", f"{_plaintext_len(record.ciphertext)} bytes")
    yield _line("usage", _usage_v2(record) or "none shown")
    yield _line("salt", _exactly(record.salt, _V2_SALT_BYTES, "salt").hex())


def _stream_v2(events: Sequence[bytes]) -> Iterator[str]:
    yield _line("message", "stream of events, protocol v2")
    sizes, usage, flag = [], "none shown", _MORE
    for number, data in enumerate(events):
        if flag != _MORE:
            raise ac.FramingError("an event stands behind the last")
        record = _envelope_v2.read_record(_sse.text_of(data), f"event {number}", ac.FramingError)
        if bool(record.salt) is not (number == 0):
            raise ac.FramingError(f"event {number} has no salt, or one too many")
        sizes.append(_plaintext_len(record.ciphertext))
        flag = record.flag
        if flag == _WHOLE or (flag == _MORE and sizes[-1] == 0):
            raise ac.FramingError(f"event {number} is none that can stand in a stream")
        usage = _usage_v2(record) or usage
        shown = f", usage {usage}" if record.usage else ""
        if number == 0:
            yield _line("salt", _exactly(record.salt, _V2_SALT_BYTES, "salt").hex())
        yield _line(f"event {number}", f"{sizes[-1]} bytes, {_FLAGS[flag]}{shown}")
    yield _line("events", len(events))
    yield _line("plaintext", f"{sum(sizes)} bytes, {min(sizes)} to {max(sizes)} an event")
    yield _line("usage", usage)
    yield _line("ends with", "nothing: it was cut off" if flag == _MORE else _FLAGS[flag])


def _line(name: str, value: object) -> str:
    return f"{name:<18} {value}"


def _quoted(value: object) -> str:
    """As ASCII JSON: what a stranger wrote must not reach the terminal as it is."""
    return json.dumps(value)


def _members(raw: bytes, what: str) -> str:
    return ", ".join(
        name if name.isascii() and name.isidentifier() else _quoted(name)
        for name, _ in _envelope.load_members(raw, what, ac.EnvelopeError)
    )


def _usage(sealed: _envelope.SealedMessage) -> str:
    return "none shown" if sealed.usage is None else _quoted(sealed.usage)


def _usage_v2(record: _envelope_v2.Record) -> str:
    return "" if record.usage is None else _quoted(_envelope_v2.usage_mapping(record.usage))


def _hash(text: bytes, name: str) -> str:
    """Shown in hexadecimal: it lets anybody test a guess of the plaintext."""
    return _exactly(text, HASH_BYTES, name).hex() if text else "none"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: bytes, name: str) -> bytes:
    """Base64 as the core reads it: padded, no white space, spare bits zero."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if base64.b64encode(raw) != text:
        raise ac.EnvelopeError(f"{name!r} is not base64")
    return raw


def _exactly(text: bytes, size: int, name: str) -> bytes:
    raw = _decoded(text, name)
    if len(raw) != size:
        raise ac.EnvelopeError(f"{name!r} must hold {size} bytes, not {len(raw)}")
    return raw


def _plaintext_len(text: bytes) -> int:
    size = len(_decoded(text, "ciphertext")) - TAG_BYTES
    if size < 0:
        raise ac.EnvelopeError("'ciphertext' is shorter than a tag")
    return size
