"""One confidential request over HTTP, without the HTTP: what to send, and what an answer is in clear."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import atoma_crypto as ac
from atoma_crypto._envelope import load_members, load_object, write_model
from atoma_crypto._state import CLIENT, require_protocol
from atoma_crypto._typing import Buffer, NonceReuse, Protocol
from atoma_crypto.adapters._routes import BY_PLAINTEXT, DEFAULT_TOKENS, Endpoint, compute_units

MAX_LOCK_BYTES: Final = 64 << 10
"""What a lock reply may have at most."""
DONE: Final = b"data: [DONE]\n\n"
_U64_MAX: Final = 2**64 - 1
_HEADER_VALUE: Final = re.compile(r"[!-~]{1,256}")
_MAX_CHOICES: Final = 4096
_LOCK_GONE: Final = frozenset((423, 425))


def is_refusal(status: int) -> bool:
    """Whether an answer with this status, to a lock or to a sealed request, is an error to be handed on as it is.

    False: 200, whose body is to be read. EnvelopeError: any other, as a redirect, which is never followed.
    """
    if status >= 400:
        return True
    if status != 200:
        raise ac.EnvelopeError(f"the answer's status is {status}, which no node sends")
    return False


def is_lock_gone(status: int) -> bool:
    """Whether a refusal says that the lock was used up, or its stack busy: a new lock, key and salt may do."""
    return status in _LOCK_GONE


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock reply says. In protocol v1 nothing proves whose key it is."""

    public_key: ac.PublicKey
    stack_small_id: int
    node_small_id: int | None
    stack_entry_digest: str | None

    @classmethod
    def read(cls, raw: bytes) -> Lock:
        """Read a lock reply strictly; unknown members are ignored. MessageTooLargeError, EnvelopeError."""
        if len(raw) > MAX_LOCK_BYTES:
            raise ac.MessageTooLargeError(f"the lock reply is longer than {MAX_LOCK_BYTES} bytes")
        members = load_members(raw, "the lock reply", ac.EnvelopeError)
        found = dict(members)
        if len(found) != len(members):
            raise ac.EnvelopeError("a member of the lock reply stands twice")
        node, digest = found.get("node_small_id"), found.get("stack_entry_digest")
        if digest is not None and not (isinstance(digest, str) and _HEADER_VALUE.fullmatch(digest)):
            raise ac.EnvelopeError("'stack_entry_digest' of the lock reply is no digest")  # it goes into a header
        return cls(
            public_key=_public_key(found.get("public_key")),
            stack_small_id=_small_id(found.get("stack_small_id"), "stack_small_id"),
            node_small_id=None if node is None else _small_id(node, "node_small_id"),
            stack_entry_digest=digest,
        )


def _public_key(text: object) -> ac.PublicKey:
    if isinstance(text, str):
        with suppress(ac.InvalidKeyError):
            return ac.PublicKey.from_base64(text)
    raise ac.EnvelopeError("'public_key' of the lock reply is missing or not a key")


def _small_id(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= _U64_MAX:
        raise ac.EnvelopeError(f"{name!r} of the lock reply is missing or not an integer of 64 bits")
    return value


class Exchange:
    """One request for one of OpenAI's endpoints, and its answer.

    In order: post `lock_body()` to the lock's path; `take_lock()` of the reply; post `seal()` with `headers` to the
    endpoint's confidential path; then `open()` of the whole answer, or for a stream `receive()` of each piece and
    `end()`. Where the node says that the lock is gone, begin again with a new lock: key, salt and nonce are then new.

    `body` is the plaintext JSON object, at most `limits.max_request_bytes`; its `model` is a string, its `stream` a
    boolean, null or absent. LocalProtocolError if not, before anything is sealed.
    """

    __slots__ = (
        *("_choices", "_fault", "_limits", "_model_json", "_nonce_reuse", "_progress", "_protocol", "_session"),
        *("body", "endpoint", "lock", "model", "num_compute_units", "stream"),
    )

    def __init__(
        self,
        endpoint: Endpoint | str,
        body: bytes,
        *,
        protocol: Protocol = "v1",
        limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
        nonce_reuse: NonceReuse = "warn",
    ) -> None:
        require_protocol(protocol, CLIENT)
        self.endpoint: Final = endpoint if isinstance(endpoint, Endpoint) else BY_PLAINTEXT[endpoint]
        if len(body) > limits.max_request_bytes:
            raise ac.LocalProtocolError(f"the body is longer than {limits.max_request_bytes} bytes")
        asked = _read_body(body)
        self.model: Final = _model(asked)
        self.stream: Final = _stream(self.endpoint, asked)
        self.num_compute_units: Final = compute_units(self.endpoint, asked)
        if (self.num_compute_units or 0) > _U64_MAX:
            raise ac.LocalProtocolError("the body asks for more pixels than can be counted")
        self.lock: Lock | None = None
        self._model_json = _model_json(self.model)
        self.body = body
        self._protocol: Protocol = protocol
        self._limits = limits
        self._nonce_reuse: NonceReuse = nonce_reuse
        self._session: ac.ClientSession | None = None
        self._choices = _choices(asked)
        self._progress = _Progress(self._choices)
        self._fault: Exception | None = None

    def lock_body(self) -> bytes:
        """The JSON that asks for a lock; it names a size where the size of one that names none is too small."""
        units = self.num_compute_units or 0
        size = b',"max_num_tokens":%d' % units if units > DEFAULT_TOKENS else b""
        return b'{"model":' + self._model_json + size + b"}"

    def take_lock(self, raw: bytes) -> None:
        """Read the lock reply. EnvelopeError, MessageTooLargeError."""
        self.lock = lock = Lock.read(raw)
        self.close()
        self._session = ac.ClientSession(
            lock.public_key,
            model=self.model,
            stack_small_id=lock.stack_small_id,
            protocol=self._protocol,
            endpoint=self.endpoint.plaintext,
            nonce_reuse=self._nonce_reuse,
            limits=self._limits,
        )
        self._progress, self._fault = _Progress(self._choices), None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the sealed request beside what every request has: routers need it on a stack just bought."""
        if self.lock is None:
            raise ac.LocalProtocolError("no lock was taken yet")
        headers = {"X-Stack-Small-Id": str(self.lock.stack_small_id)}
        if self.lock.stack_entry_digest is not None:
            headers["X-Tx-Digest"] = self.lock.stack_entry_digest
        return headers

    def seal(self) -> bytes:
        """The sealed request. AuthenticationError: the key of the lock reply gives an all-zero shared secret."""
        session = self._open_session()
        with suppress(ac.InvalidKeyError):
            return session.seal_request(self.body, stream=self.stream, num_compute_units=self.num_compute_units)
        self.close()
        raise ac.AuthenticationError

    def open(self, raw: Buffer) -> bytes:
        """The plaintext of a whole answer, verified; the exchange is over. Errors of `ClientSession.open_response`."""
        try:
            return self._open_session().open_response(raw)
        finally:
            self.close()

    def receive(self, data: Buffer) -> bytes:
        """The events of a stream that `data` completes, in clear: `data: {...}` and a blank line each, perhaps none.

        Errors of `ClientSession.next_event`; FramingError: an event that is no JSON object. What came before the
        fault is given first: the next call raises it then. After an error the exchange is closed.
        """
        if self._fault is None:
            self._open_session().receive_data(data)
        return self._events()

    def end(self) -> bytes:
        """The stream's bytes have ended: `data: [DONE]` if the answer is whole, and the exchange is over.

        TruncatedStreamError: it is not. Protocol v1 has no end of its own, so that is judged by the answer: each of
        its choices must have had a `finish_reason`, and there must be one, or `usage`.
        """
        if self._fault is None:
            self._open_session().receive_eof()
        rest = self._events()  # nothing: receive() has given all that was complete
        self.close()
        if not self._progress.complete:
            raise ac.TruncatedStreamError("the stream ended before the answer did")
        return rest + DONE

    def _events(self) -> bytes:
        fault, self._fault = self._fault, None
        if fault is not None:
            self.close()
            raise fault
        out: list[bytes] = []
        try:
            for event in self._open_session().events():
                if isinstance(event, ac.Chunk):
                    self._progress.see(event.plaintext)
                    out.append(_sse(event.plaintext))
        except Exception as exc:
            if not out:
                self.close()
                raise
            self._fault = exc
        return b"".join(out)

    @property
    def faulty(self) -> bool:
        """Whether `receive` will raise: what came before the fault was given."""
        return self._fault is not None

    def close(self) -> None:
        """Wipe the session's secrets. Harmless when done twice."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(ac.ConcurrentUseError):  # whoever is inside closes it
                session.close()

    def _open_session(self) -> ac.ClientSession:
        if self._session is None:
            raise ac.LocalProtocolError("no lock was taken, or the exchange is over")
        return self._session

    def __repr__(self) -> str:
        return f"<Exchange {self.endpoint.plaintext}>"


class _Progress:
    """How far an answer has come, told by its choices: protocol v1 itself does not say where it ends."""

    __slots__ = ("_choices", "_finished", "_seen")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def see(self, plaintext: bytes) -> None:
        """Look at one event. FramingError: no JSON object."""
        event = load_object(plaintext, "an event's plaintext", ac.FramingError)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                number = choice.get("index", 0)
                if type(number) is not int:
                    raise ac.FramingError("a choice has no number")
                self._seen.add(number)
                if len(self._seen) > max(_MAX_CHOICES, self._choices):
                    raise ac.FramingError("the answer has more choices than can be")
                if isinstance(reason := choice.get("finish_reason"), str) and reason:
                    self._finished.add(number)
                elif _says_something(choice):  # it goes on
                    self._finished.discard(number)

    @property
    def complete(self) -> bool:
        return self._seen == self._finished and len(self._seen) >= self._choices


def _says_something(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("text")) or (isinstance(delta, dict) and any(delta.values()))


def _choices(asked: Mapping[str, object]) -> int:
    """How many choices the answer has: `n` for each prompt."""
    prompts, n = asked.get("prompt"), asked.get("n")
    each = len(prompts) if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int) else 1
    return each * (n if type(n) is int and n > 0 else 1)


def _sse(plaintext: bytes) -> bytes:
    if b"\n" in plaintext or b"\r" in plaintext:  # between two tokens: in a JSON string they are escaped
        plaintext = b"\ndata: ".join(plaintext.splitlines())
    return b"data: " + plaintext + b"\n\n"


def _read_body(body: bytes) -> Mapping[str, object]:
    members = load_members(body, "the body", ac.LocalProtocolError)
    asked = dict(members)
    if len(asked) != len(members):  # of two readers one could take the first and the other the last
        raise ac.LocalProtocolError("a member of the body stands twice")
    return asked


def _model(asked: Mapping[str, object]) -> str:
    model = asked.get("model")
    if not isinstance(model, str):
        raise ac.LocalProtocolError("'model' of the body is missing or not a string")
    return model


def _model_json(model: str) -> bytes:
    with suppress(ValueError):
        return write_model(model)
    raise ac.LocalProtocolError("'model' of the body holds half of a surrogate pair")


def _stream(endpoint: Endpoint, asked: Mapping[str, object]) -> bool:
    stream = asked.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise ac.LocalProtocolError("'stream' of the body is not a boolean")
    if stream and not endpoint.streams:
        raise ac.LocalProtocolError(f"{endpoint.plaintext} does not stream")
    return bool(stream)
