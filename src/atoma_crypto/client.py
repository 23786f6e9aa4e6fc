"""The client's side: seal one request, open its answer."""

import sys
import time
import warnings
from collections.abc import Iterator

from . import _core, _envelope
from ._errors import ConcurrentUseError, LocalProtocolError, NonceReuseWarning
from ._events import NEED_DATA, Chunk, EndOfStream, Limits, NeedData
from ._keys import PublicKey
from ._opener import V1Opener
from ._state import CLIENT, Clock, Session, State, require_protocol
from ._typing import Buffer, NonceReuse, Protocol

_U64_MAX = 2**64 - 1


def _check_u64(value: object, name: str) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not 0 <= value <= _U64_MAX:
        raise ValueError(f"{name} must be 0 to 2^64-1")


class ClientSession(Session):
    """One request and its answer: bytes in, bytes out. It has no socket; for each call make a new one.

    `node_public_key` comes from the lock reply, as does `stack_small_id` (0 to 2^64-1). `model` is shown in clear to
    routers. `nonce_reuse`: what to do with a stream that repeats a nonce, as deployed nodes do: "warn" (once,
    NonceReuseWarning) or "error" (NonceReuseError). `endpoint` and `clock` matter to protocol v2, which binds and
    checks them.
    """

    __slots__ = (
        "_end_of_stream",
        "_model_json",
        "_node",
        "_opener",
        "_refuse_nonce_reuse",
        "_stack_small_id",
        "_warned",
    )

    def __init__(
        self,
        node_public_key: PublicKey,
        *,
        model: str,
        stack_small_id: int,
        protocol: Protocol,
        endpoint: str = "/v1/chat/completions",
        nonce_reuse: NonceReuse = "warn",
        clock: Clock = time.time,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        if not isinstance(node_public_key, PublicKey):
            raise TypeError(f"node_public_key must be PublicKey, not {type(node_public_key).__name__}")
        if nonce_reuse not in ("warn", "error"):
            raise ValueError(f"nonce_reuse must be 'warn' or 'error', not {nonce_reuse!r}")
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
        if not isinstance(endpoint, str) or not callable(clock):
            raise TypeError("endpoint must be str, and clock a function")
        super().__init__(require_protocol(protocol, CLIENT))
        self._model_json = _envelope.write_model(model)
        _check_u64(stack_small_id, "stack_small_id")
        self._stack_small_id = stack_small_id
        self._node = node_public_key
        self._refuse_nonce_reuse = nonce_reuse == "error"
        self._opener = V1Opener(limits)
        self._warned = False
        self._end_of_stream: EndOfStream | None = None

    def seal_request(self, body: Buffer, *, stream: bool, num_compute_units: int | None = None) -> bytes:
        """The envelope to send: compact JSON, as the deployed SDKs write it.

        `body` is the plaintext request, a JSON object whose `stream` (absent means false) equals `stream`:
        LocalProtocolError otherwise. Draws a fresh X25519 key, a 16-byte salt and a 12-byte nonce. `num_compute_units`
        (0 to 2^64-1) is left out if None. InvalidKeyError: the node's key gives an all-zero shared secret. After an
        error the session is as it was.
        """
        if not isinstance(stream, bool):
            raise TypeError(f"stream must be bool, not {type(stream).__name__}")
        if num_compute_units is not None:
            _check_u64(num_compute_units, "num_compute_units")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError(f"body must be bytes, bytearray or memoryview, not {type(body).__name__}")
        self._begin("seal_request, stream" if stream else "seal_request")
        try:
            if _envelope.body_stream(bytes(body), LocalProtocolError) is not stream:
                raise LocalProtocolError(f"stream is {stream}, but the body says otherwise")
            raw = self._opener.seal_request(
                body,
                self._node,
                model_json=self._model_json,
                stack_small_id=self._stack_small_id,
                num_compute_units=num_compute_units,
                stream=stream,
                refuse_nonce_reuse=self._refuse_nonce_reuse,
            )
            self._step("seal_request, stream" if stream else "seal_request")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return raw

    def open_response(self, raw: Buffer) -> bytes:
        """The plaintext of an answer that is not streamed, verified.

        EnvelopeError: not the JSON of a v1 reply. AuthenticationError: tag or hash do not hold. NonceReuseError: the
        request itself came back. MessageTooLargeError. After any of these the session has failed.
        """
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise TypeError(f"raw must be bytes, bytearray or memoryview, not {type(raw).__name__}")
        self._begin("open_response")
        try:
            plaintext = self._opener.reply(bytes(raw))
            self._step("open_response")
            self._opener.close()
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return plaintext

    def receive_data(self, data: Buffer) -> None:
        """Take bytes of the event stream, split anywhere. They are looked at by next_event()."""
        if self._inside or "receive_data" not in self._allowed:
            self._require("receive_data")
        if type(data) is not bytes:
            _core.lend(data, "received")
            data = bytes(data)
        self._opener.received.append(data)

    def receive_eof(self) -> None:
        """The bytes have ended. What that means, next_event() says once it has given all chunks."""
        self._begin("receive_eof")
        try:
            self._step("receive_eof")
        finally:
            self._end()

    def next_event(self) -> Chunk | EndOfStream | NeedData:
        """The next chunk, verified; NEED_DATA if it is not complete; EndOfStream after receive_eof(), then for ever.

        FramingError, AuthenticationError, NonceReuseError, MessageTooLargeError, and TruncatedStreamError if the bytes
        ended inside an event: the session has failed. Chunks that came before the fault are given first.
        """
        try:
            chunk = self._opener.next_one()
        except BaseException:  # an interrupt: it raises nothing of its own
            self._fail()
            raise
        return self._next_event() if chunk is None else chunk

    def _next_event(self) -> Chunk | EndOfStream | NeedData:
        """As next_event(), whatever the case is."""
        opener = self._opener
        if self._inside or "next_event" not in self._allowed:
            self._require("next_event")
        if self._end_of_stream is not None:
            return self._end_of_stream
        if "receive_data" in self._allowed and opener.wants_data():
            return NEED_DATA
        try:
            if opener.take():
                event = self._read()
                opener.give()
                if event is not None:
                    return event
        except NonceReuseWarning:  # the caller made it an error: nothing is lost
            raise
        except BaseException as exc:
            failed = "next_event" not in self._allowed  # by another thread
            self._fail()
            if failed and isinstance(exc, Exception):
                self._require("next_event")
            raise
        self._require("next_event")
        raise ConcurrentUseError("another thread is inside this session, or was interrupted there")

    def _read(self) -> Chunk | EndOfStream | NeedData | None:
        """By whoever has taken the opener's place. None: another thread is about to end or close the session."""
        opener = self._opener
        ended = "next_event, end" in self._allowed  # asked first: nothing is received after that
        chunk = opener.next_chunk()
        if chunk is None:
            return self._without_chunk(ended)
        if opener.nonce_reused and not self._warned:
            self._warn(chunk)
        return chunk

    def _without_chunk(self, ended: bool) -> EndOfStream | NeedData | None:
        """What there is where no complete event is left."""
        if self._end_of_stream is not None:
            return self._end_of_stream
        if "next_event" not in self._allowed:
            return None
        if not ended:
            return NEED_DATA
        opener = self._opener
        opener.end()
        end = EndOfStream(opener.chunk_count, opener.usage)
        try:
            self._begin("next_event, end")
        except ConcurrentUseError:
            return None
        try:
            self._end_of_stream = end
            self._step("next_event, end")
            opener.close(reading=True)
        finally:
            self._end()
        return end

    def _warn(self, chunk: Chunk) -> None:
        self._warned = True
        # _read(), _next_event(), next_event() and perhaps events() stand between this and the caller
        level = 6 if sys._getframe(4).f_code is ClientSession.events.__code__ else 5
        try:
            warnings.warn(
                "the node sealed several events under one nonce: they are neither secret nor authentic "
                "to whoever saw them",
                NonceReuseWarning,
                stacklevel=level,
            )
        except NonceReuseWarning:
            self._opener.put_back(chunk)
            self._opener.give()
            raise

    def events(self) -> Iterator[Chunk | EndOfStream]:
        """What next_event() gives, until it says NEED_DATA, or up to and with the EndOfStream."""
        while True:
            event = self.next_event()
            if event is NEED_DATA:
                return
            yield event
            if type(event) is EndOfStream:
                return

    def _wipe(self) -> None:
        self._opener.close(reading=self._state is State.FAILED)

    def __enter__(self) -> "ClientSession":
        return self
