"""`atoma-crypto inspect`: what anybody can read from a sealed message, without keys."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import atoma_crypto as ac
from atoma_crypto import _envelope, _sse
from atoma_crypto._core import HASH_BYTES, NONCE_BYTES, TAG_BYTES

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_SALT_BYTES = 16
_MAX_BYTES = 256 << 20  # what is read at most: several times what a session takes
_PIECE_BYTES = 64 << 10
# A reply has none of these, and a request has them all.
_OF_REQUESTS = frozenset(("client_dh_public_key", "node_dh_public_key", "plaintext_body_hash", "salt"))


def add_parser(subparsers: SubParsers) -> None:
    """Add `inspect` to the sub-commands."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what can be read from a sealed message without keys",
        description="Read a request envelope, a sealed reply or a stream of sealed events (protocol v1), as strictly "
        "as a session does. Show all that whoever stands between client and node can read of it.",
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
    _envelope._bound(raw, "the message", ac.EnvelopeError)
    names = {name for name, _ in _envelope.load_members(raw, "the message", ac.EnvelopeError)}
    if "ciphertext" not in names:
        raise ac.EnvelopeError("the message is not a sealed one: it has no 'ciphertext'")
    return _request(raw) if names & _OF_REQUESTS or "v" in names else _reply(raw)


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
