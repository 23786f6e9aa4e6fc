"""The client's side: seal one request, open its answer."""

import math
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Final

from . import _core, _envelope, _envelope_v2
from ._attested import AttestedKey
from ._errors import ConcurrentUseError, InvalidKeyError, LocalProtocolError, NonceReuseWarning
from ._events import NEED_DATA, Chunk, EndOfStream, Limits, NeedData
from ._keys import PublicKey
from ._opener_v1 import V1Opener
from ._opener_v2 import V2Opener
from ._padding import PadTo, check_pad_to, pad_request
from ._state import CLIENT, FAILED, Action, Clock, Session, State, require_protocol
from ._typing import Buffer, NonceReuse, Protocol

_BITS: Final = {"v1": 64, "v2": 53}  # of the integers that a protocol can carry; v2's are JavaScript's


class ClientSession(Session):
    """One request and its answer: bytes in, bytes out. It has no socket; for each call make a new one.

    `node_public_key` comes from the lock reply, as does `stack_small_id` (0 to 2^64-1; in v2 to 2^53-1, or None). As an
    AttestedKey it is one that a policy has accepted; nothing is sealed to it once that verdict has ended.
    `model` is shown in clear to routers; in v2 it is 1 to 256 bytes of UTF-8. `pad_to` hides the length of the request:
    None, "auto" (16 steps per power of two, from 1 KiB), or a number of bytes that it is made a multiple of.

    `nonce_reuse` is v1's: what to do with a stream that repeats a nonce, as deployed nodes do: "warn" (once,
    NonceReuseWarning) or "error" (NonceReuseError). `endpoint` and `clock` are v2's: what the request is for (1 to 128
    of A-Z a-z 0-9 / _ . -, a slash first), and when it is sent, in seconds since 1970. v2 takes keys of any suite, v1
    of X25519 alone: InvalidKeyError.
    """

    __slots__ = (
        "_clock",
        "_end_of_stream",
        "_endpoint",
        "_expires_at",
        "_model",
        "_node",
        "_opener",
        "_pad_to",
        "_protocol",
        "_refuse_nonce_reuse",
        "_stack_small_id",
        "_warned",
    )

    def __init__(
        self,
        node_public_key: PublicKey | AttestedKey,
        *,
        model: str,
        stack_small_id: int | None,
        protocol: Protocol,
        endpoint: str = "/v1/chat/completions",
        nonce_reuse: NonceReuse = "warn",
        pad_to: PadTo = None,
        clock: Clock = time.time,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        expires_at: float | None = None
        if isinstance(node_public_key, AttestedKey):
            expires_at = node_public_key.expires_at
            node_public_key = node_public_key.public_key
        if not isinstance(node_public_key, PublicKey):
            raise TypeError(f"node_public_key must be PublicKey, not {type(node_public_key).__name__}")
        if nonce_reuse not in ("warn", "error"):
            raise ValueError(f"nonce_reuse must be 'warn' or 'error', not {nonce_reuse!r}")
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
        if not isinstance(endpoint, str) or not callable(clock):
            raise TypeError("endpoint must be str, and clock a function")
        check_pad_to(pad_to)
        super().__init__(require_protocol(protocol, CLIENT))
        self._protocol = protocol
        if protocol == "v1" and node_public_key.suite != "X25519":
            raise InvalidKeyError(f"protocol v1 knows no keys of suite {node_public_key.suite}")
        _envelope.write_model(model)  # is it a str, and UTF-8?
        if protocol == "v2" and not _envelope_v2.is_model(model):
            raise ValueError("model must be 1 to 256 bytes of UTF-8")
        if protocol == "v2" and not _envelope_v2.is_endpoint(endpoint):
            raise ValueError("endpoint must be 1 to 128 of A-Z a-z 0-9 / _ . -, a slash first")
        if protocol == "v1" or stack_small_id is not None:
            self._check_integer(stack_small_id, "stack_small_id")
        self._model = model
        self._endpoint = endpoint
        self._stack_small_id = stack_small_id
        self._node = node_public_key
        self._expires_at = expires_at
        self._pad_to: PadTo = pad_to
        self._clock = clock
        self._refuse_nonce_reuse = nonce_reuse == "error"
        self._opener: V1Opener | V2Opener = V1Opener(limits) if protocol == "v1" else V2Opener(limits)
        self._warned = False
        self._end_of_stream: EndOfStream | None = None

    def _check_integer(self, value: object, name: str) -> None:
        if type(value) is not int:
            raise TypeError(f"{name} must be int, not {type(value).__name__}")
        bits = _BITS[self._protocol]
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be 0 to 2^{bits}-1")

    def seal_request(self, body: Buffer, *, stream: bool, num_compute_units: int | None = None) -> bytes:
        """The envelope to send: compact JSON.

        `body` is the plaintext request, a JSON object whose `stream` (absent means false) equals `stream`:
        LocalProtocolError otherwise. In v2 it has no name twice, and its `model`, if it has one, is the session's.
        Draws a fresh key, and in v1 a 16-byte salt and a 12-byte nonce. `num_compute_units` is 0 to 2^64-1, in v2 to
        2^53-1; v1 leaves it out if None. InvalidKeyError: the node's key gives an all-zero shared secret.
        LocalProtocolError, too: what was attested of the key has ended, and the caller has kept it for too long. After
        an error the session is as it was.
        """
        if not isinstance(stream, bool):
            raise TypeError(f"stream must be bool, not {type(stream).__name__}")
        if num_compute_units is not None:
            self._check_integer(num_compute_units, "num_compute_units")
        _core.lend(body, "body")  # TypeError, ValueError
        self._begin("seal_request, stream" if stream else "seal_request")
        try:
            raw = self._seal(body, stream, num_compute_units)
            self._step("seal_request, stream" if stream else "seal_request")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return raw

    def _seal(self, body: Buffer, stream: bool, num_compute_units: int | None) -> bytes:
        if self._expires_at is not None and not self._clock() < self._expires_at:  # of a NaN it is not, either
            raise LocalProtocolError("what was attested of the node's key has ended: verify it anew")
        opener, text = self._opener, bytes(body)  # a copy: what is checked is what is sealed
        padded = pad_request(text, self._pad_to)
        if isinstance(opener, V2Opener):
            _envelope_v2.check_body(text, self._model, stream, LocalProtocolError)
            sent_at = math.floor(self._clock())
            self._check_integer(sent_at, "the clock's time")
            metadata = _envelope_v2.Metadata(
                self._endpoint, self._model, self._stack_small_id, num_compute_units, stream, sent_at
            )
            return opener.seal_request(padded, self._node, metadata)
        if _envelope.body_stream(text, LocalProtocolError) is not stream:
            raise LocalProtocolError(f"stream is {stream}, but the body says otherwise")
        return opener.seal_request(
            padded,
            self._node,
            model_json=_envelope.write_model(self._model),
            stack_small_id=self._stack_small_id or 0,
            num_compute_units=num_compute_units,
            stream=stream,
            refuse_nonce_reuse=self._refuse_nonce_reuse,
        )

    def open_response(self, raw: Buffer) -> bytes:
        """The plaintext of an answer that is not streamed, verified.

        EnvelopeError: not the JSON of a reply. AuthenticationError: tag or hash do not hold. NonceReuseError: in v1 the
        request itself came back. RemoteAbortError: the node has sealed an error, in v2; to learn of it this may be
        called where a stream was asked for, too, if one object came. MessageTooLargeError. After any of these the
        session has failed.
        """
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise TypeError(f"raw must be bytes, bytearray or memoryview, not {type(raw).__name__}")
        self._begin("open_response")
        try:
            plaintext = self._opener.answer(bytes(raw))
            self._step("open_response")
            self._opener.close()
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return plaintext

    def receive_data(self, data: Buffer) -> None:
        """Take bytes of the event stream, split anywhere. They are looked at by next_event().

        Behind the EndOfStream, in v2, they are looked at here: FramingError if they complete an event.
        """
        late = False
        if self._inside or "receive_data" not in self._allowed:
            late = "receive_data, late" in self._allowed
            self._require("receive_data, late" if late else "receive_data")
        if type(data) is not bytes:
            _core.lend(data, "received")
            data = bytes(data)
        self._opener.received.append(data)
        if late:
            self._look_behind("receive_data, late")

    def receive_eof(self) -> None:
        """The bytes have ended. What that means, next_event() says once it has given all chunks."""
        if self._end_of_stream is not None:
            self._look_behind("receive_eof")
        self._begin("receive_eof")
        try:
            self._step("receive_eof")
        finally:
            self._end()

    def _look_behind(self, action: Action) -> None:
        """What was received behind the end of a stream must be no event."""
        self._begin(action)
        try:
            self._opener.late()
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()

    def next_event(self) -> Chunk | EndOfStream | NeedData:
        """The next chunk, verified; NEED_DATA if it is not complete; EndOfStream, then for ever.

        In v1 the stream ends with its bytes, after receive_eof(); in v2 with its last record, which says so.
        FramingError, AuthenticationError, NonceReuseError, MessageTooLargeError, TruncatedStreamError if the bytes
        ended inside an event or, in v2, before the last record, RemoteAbortError if that one is an error: the session
        has failed. Chunks that came before the fault are given first.
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
            if opener.received:
                self._look_behind("next_event")
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
        eof = self._state is State.EVENTS_ENDED  # asked first: nothing is received after that
        chunk = opener.next_chunk()
        if chunk is None:
            return self._without_chunk(eof)
        if opener.nonce_reused and not self._warned:
            self._warn(chunk)
        return chunk

    def _without_chunk(self, eof: bool) -> EndOfStream | NeedData | None:
        """What there is where no complete event is left."""
        if self._end_of_stream is not None:
            return self._end_of_stream
        if "next_event" not in self._allowed:
            return None
        opener = self._opener
        if not eof and not opener.ended:
            return NEED_DATA
        opener.end()
        end = EndOfStream(opener.chunk_count, opener.usage)
        try:
            self._begin("next_event, end")
        except ConcurrentUseError:
            return None
        try:
            self._end_of_stream = end
            self._step("next_event, end")
            opener.conclude()
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
        self._opener.close(reading=self._state is FAILED)

    def __enter__(self) -> "ClientSession":
        return self
