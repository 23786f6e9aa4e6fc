"""Both ends of protocol v1, out of `cryptography` and the standard library: what the library is held to.

Nothing here imports `atoma_crypto`. `tests/test_v1_vectors.py` holds this file against the vectors, and
`tests/test_interop_sdk.py` holds it against the real SDK, so that it may judge.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LOCK_PATH: Final = "/v1/nodes/lock"
CHAT_PATH: Final = "/v1/confidential/chat/completions"
KEEP_ALIVE: Final = b": keep-alive\n\n"


class _Absent:
    """The one value that means: leave this member out."""


ABSENT: Final = _Absent()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def unb64(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("base64 members are strings")
    raw = base64.b64decode(text, validate=True)
    if b64(raw) != text:
        raise ValueError("not canonical base64")
    return raw


def body_hash(plaintext: bytes) -> bytes:
    return hashlib.blake2b(plaintext, digest_size=32).digest()


def compact(members: Mapping[str, object]) -> str:
    """JSON as both SDKs and the node print it; the order of the members is the caller's."""
    present = {name: value for name, value in members.items() if value is not ABSENT}
    return json.dumps(present, separators=(",", ":"), ensure_ascii=False)


def derive_key(shared_secret: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"").derive(shared_secret)


def sui_signature(seed: bytes, digest: bytes) -> str:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return b64(b"\x00" + key.sign(digest) + key.public_key().public_bytes_raw())


def verify_sui_signature(text: str, digest: bytes) -> bytes:
    """Raise InvalidSignature, or return the public key that the signature names."""
    raw = unb64(text)
    if len(raw) != 97 or raw[0] != 0:
        raise ValueError("not an Ed25519 Sui signature")
    Ed25519PublicKey.from_public_bytes(raw[65:]).verify(raw[1:65], digest)
    return raw[65:]


@dataclass(frozen=True, slots=True)
class Opened:
    """One reply or event, opened."""

    plaintext: bytes
    members: dict[str, object]

    @property
    def nonce(self) -> bytes:
        return unb64(self.members["nonce"])


class OracleClient:
    """A client of v1: `envelope` makes the members of a request, to be spoiled as a test likes."""

    def __init__(
        self,
        node_public: bytes,
        *,
        model: str = "m",
        stack_small_id: int = 42,
        private: bytes | None = None,
        salt: bytes | None = None,
        nonce: bytes | None = None,
    ) -> None:
        key = X25519PrivateKey.from_private_bytes(private) if private else X25519PrivateKey.generate()
        self.model = model
        self.stack_small_id = stack_small_id
        self.node_public = node_public
        self.public = key.public_key().public_bytes_raw()
        self.salt = os.urandom(16) if salt is None else salt
        self.nonce = os.urandom(12) if nonce is None else nonce
        self.shared_secret = key.exchange(X25519PublicKey.from_public_bytes(node_public))
        self.key = derive_key(self.shared_secret, self.salt)

    @classmethod
    def lock(cls, base_url: str, *, model: str = "m") -> OracleClient:
        """Ask a node for its key over HTTP, as both SDKs do."""
        status, raw = post(base_url, LOCK_PATH, compact({"model": model}).encode())
        if status != 200:
            raise ConnectionError(f"lock refused with status {status}")
        answer = json.loads(raw)
        return cls(unb64(answer["public_key"]), model=model, stack_small_id=answer["stack_small_id"])

    def envelope(
        self,
        body: bytes,
        *,
        stream: object = False,
        num_compute_units: object = ABSENT,
        key: bytes | None = None,
    ) -> dict[str, object]:
        """The members in the SDKs' order. `key` seals under another key than the right one."""
        return {
            "ciphertext": b64(AESGCM(key or self.key).encrypt(self.nonce, body, None)),
            "client_dh_public_key": b64(self.public),
            "model_name": self.model,
            "node_dh_public_key": b64(self.node_public),
            "nonce": b64(self.nonce),
            "num_compute_units": num_compute_units,
            "plaintext_body_hash": b64(body_hash(body)),
            "salt": b64(self.salt),
            "stack_small_id": self.stack_small_id,
            "stream": stream,
        }

    def seal_request(self, body: bytes, *, stream: object = False, num_compute_units: object = ABSENT) -> bytes:
        return compact(self.envelope(body, stream=stream, num_compute_units=num_compute_units)).encode()

    def open_sealed(self, members: Mapping[str, object]) -> Opened:
        """Raise InvalidTag or ValueError, or open. A hash that was sent must be right."""
        plaintext = AESGCM(self.key).decrypt(unb64(members["nonce"]), unb64(members["ciphertext"]), None)
        if members.get("response_hash") and unb64(members["response_hash"]) != body_hash(plaintext):
            raise ValueError("response_hash does not match")
        return Opened(plaintext, dict(members))

    def open_reply(self, raw: bytes) -> Opened:
        return self.open_sealed(json.loads(raw))

    def open_events(self, raw: bytes) -> list[Opened]:
        """Open a whole stream, framed as nodes do: comments, or `data: ` and one line of JSON."""
        blocks = raw.decode().split("\n\n")
        if blocks.pop():
            raise ValueError("the stream ends inside an event")
        events = [block for block in blocks if not block.startswith(":")]
        if not all(event.startswith("data: {") and "\n" not in event for event in events):
            raise ValueError("not the framing of a node")
        return [self.open_sealed(json.loads(event.removeprefix("data: "))) for event in events]

    def chat(self, base_url: str, body: bytes, *, stream: bool = False) -> tuple[int, bytes]:
        """Send one request over HTTP; status and body of the answer."""
        return post(base_url, CHAT_PATH, self.seal_request(body, stream=stream))


def post(base_url: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a node answers; as deployed nodes do, unless told.

    nonces: `repeat` has one for a whole stream, `fresh` one an event, `request` takes the request's own, and
    `reflect` sends the request's ciphertext, nonce and hash back as the answer. `cut` ends the body after so
    many bytes, `flip` changes one bit of it (by number, from the end if negative).
    """

    nonces: Literal["repeat", "fresh", "request", "reflect"] = "repeat"
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    hashes: Literal["sent", "absent", "null"] = "sent"
    cut: int | None = None
    flip: int | None = None


@dataclass
class NodeSide:
    """A node's half of one exchange, made by opening a request."""

    body: bytes
    key: bytes
    members: dict[str, object]
    seed: bytes
    behaviour: Behaviour
    nonce: bytes = field(default_factory=lambda: os.urandom(12))
    usage: object = ABSENT

    @classmethod
    def open_request(
        cls, private: bytes, raw: bytes, *, seed: bytes = bytes(32), behaviour: Behaviour | None = None
    ) -> NodeSide:
        """Raise InvalidTag, TypeError, KeyError or ValueError, or open."""
        members = cast("dict[str, object]", json.loads(raw))
        key = X25519PrivateKey.from_private_bytes(private)
        if unb64(members["node_dh_public_key"]) != key.public_key().public_bytes_raw():
            raise ValueError("another node's key")
        shared = key.exchange(X25519PublicKey.from_public_bytes(unb64(members["client_dh_public_key"])))
        aes_key = derive_key(shared, unb64(members["salt"]))
        body = AESGCM(aes_key).decrypt(unb64(members["nonce"]), unb64(members["ciphertext"]), None)
        if body_hash(body) != unb64(members["plaintext_body_hash"]):
            raise ValueError("plaintext_body_hash does not match")
        return cls(body, aes_key, members, seed, behaviour or Behaviour())

    def seal(self, plaintext: bytes, nonce: bytes | None = None) -> dict[str, object]:
        """The members of one answer, in no order that matters; `reply` and `event` put them in the node's."""
        if self.behaviour.nonces == "fresh":
            self.nonce = os.urandom(12)
        elif self.behaviour.nonces in {"request", "reflect"}:
            self.nonce = unb64(self.members["nonce"])
        nonce = self.nonce if nonce is None else nonce
        sealed = AESGCM(self.key).encrypt(nonce, plaintext, None)
        digest = body_hash(plaintext)
        if self.behaviour.nonces == "reflect":
            sealed, digest = unb64(self.members["ciphertext"]), body_hash(self.body)
        shown = json.loads(plaintext).get("usage")
        if shown is not None:
            self.usage = shown  # sticky: later events repeat it
        if self.behaviour.hashes == "sent":
            vouchers: tuple[object, object] = (b64(digest), sui_signature(self.seed, digest))
        else:
            vouchers = (ABSENT, ABSENT) if self.behaviour.hashes == "absent" else (None, None)
        members = {"ciphertext": b64(sealed), "nonce": b64(nonce), "usage": self.usage}
        return members | dict(zip(("response_hash", "signature"), vouchers, strict=True))

    def reply(self, plaintext: bytes) -> bytes:
        members = self.seal(plaintext)
        order = ("nonce", "ciphertext", "response_hash", "signature", "usage")
        return compact({name: members[name] for name in order}).encode()

    def event(self, plaintext: bytes, nonce: bytes | None = None) -> bytes:
        members = self.seal(plaintext, nonce)
        order = ("ciphertext", "nonce", "usage", "signature", "response_hash")
        text = "data: " + compact({name: members[name] for name in order}) + "\n\n"
        return text.replace("\n", self.behaviour.newline).encode()

    def stream(self, plaintexts: Sequence[bytes]) -> bytes:
        """A whole body, with a comment before the first event and behind every third."""
        keep_alive = KEEP_ALIVE.replace(b"\n", self.behaviour.newline.encode())
        events = [self.event(p) + (keep_alive if i % 3 == 2 else b"") for i, p in enumerate(plaintexts)]
        return keep_alive + b"".join(events)

    def spoil(self, body: bytes) -> bytes:
        """Cut and flip, as the behaviour says."""
        out = bytearray(body)
        if self.behaviour.flip is not None:
            bit = self.behaviour.flip % (8 * len(out))
            out[bit // 8] ^= 1 << bit % 8
        return bytes(out[: self.behaviour.cut])


class OracleNode:
    """A node on loopback, for a `with` block; it answers with the plaintexts `reply` or `chunks`."""

    def __init__(self, reply: bytes, chunks: Sequence[bytes], behaviour: Behaviour | None = None) -> None:
        self.private = X25519PrivateKey.generate().private_bytes_raw()
        self.seed = os.urandom(32)
        self.reply = reply
        self.chunks = chunks
        self.behaviour = behaviour or Behaviour()
        self.opened: list[NodeSide] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def public(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    def __enter__(self) -> OracleNode:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, raw: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path == LOCK_PATH:
            lock = {"public_key": b64(self.public), "node_small_id": 7, "stack_entry_digest": None}
            return 200, "application/json", compact(lock | {"stack_small_id": 42}).encode()
        try:
            side = NodeSide.open_request(self.private, raw, seed=self.seed, behaviour=self.behaviour)
        except (InvalidTag, KeyError, TypeError, ValueError):
            error = {"code": "INTERNAL_ERROR", "message": "Internal server error occurred"}
            return 500, "application/json", compact({"error": error}).encode()
        self.opened.append(side)
        if json.loads(side.body).get("stream"):
            return 200, "text/event-stream", side.spoil(side.stream(self.chunks))
        return 200, "application/json", side.spoil(side.reply(self.reply))


def _handler(node: OracleNode) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            status, content_type, body = node.answer(self.path.partition("#")[0], raw)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for start in range(0, len(body), 997):  # no event begins where a piece does
                piece = body[start : start + 997]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
            """Say nothing."""

    return Handler
