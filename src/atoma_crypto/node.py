"""The node's side: open one request, seal its answer."""

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Final

from . import _envelope, _envelope_v2
from ._errors import (
    ClockSkewError,
    EnvelopeError,
    LocalProtocolError,
    MessageTooLargeError,
    ReplayedError,
    UnknownKeyError,
)
from ._events import Limits, Request
from ._keys import SecretKey, SigningKey, suite_sizes
from ._padding import PadTo, check_pad_to, pad_record
from ._sealer import Shown
from ._sealer_v1 import V1Sealer
from ._sealer_v2 import V2Sealer
from ._state import NODE, Clock, Session, State, require_protocol
from ._typing import Buffer, Protocol, Usage
from .keyring import NodeKeyring
from .replay import AHEAD, LIFETIME, ReplayCache

_TIMELY: Final = 300  # seconds after it was sent that a request is opened


class NodeSession(Session):
    """One request and its answer, on the node: bytes in, bytes out. It has no socket; make one for each request.

    `keys` is the node's SecretKey, or a NodeKeyring, whose keys rotate. `protocols` are those that are opened: the
    request says which it is of. `pad_to` hides the length of answers and events, JSON all of them: None, "auto" (a
    multiple of 256), or a number of bytes that each is made a multiple of.

    v1: with `signing_key`, a SigningKey or its 32-byte seed, every reply and event carries a Sui signature (Ed25519) of
    its hash; without, `signature` is the empty string. Nothing protects from replay.

    v2: `replay_cache` remembers the requests that were admitted; None: the store of the key that the request names.
    `clock`, in seconds since 1970, says whether a request is timely.
    """

    __slots__ = ("_clock", "_keys", "_limits", "_pad_to", "_protocols", "_replay_cache", "_sealer", "_signing")

    def __init__(
        self,
        keys: SecretKey | NodeKeyring,
        *,
        signing_key: SigningKey | Buffer | None = None,
        protocols: Sequence[Protocol] = ("v1", "v2"),
        replay_cache: ReplayCache | None = None,
        pad_to: PadTo = None,
        clock: Clock = time.time,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        if not isinstance(keys, SecretKey | NodeKeyring):
            raise TypeError(f"keys must be SecretKey or NodeKeyring, not {type(keys).__name__}")
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
        if isinstance(protocols, str) or not protocols:
            raise ValueError("protocols must name at least one protocol, in a tuple")
        if not callable(clock):
            raise TypeError("clock must be a function")
        if replay_cache is not None and not callable(getattr(replay_cache, "admit", None)):
            raise TypeError("replay_cache must have the methods of ReplayCache")
        check_pad_to(pad_to)
        tables = [require_protocol(protocol, NODE) for protocol in protocols]
        super().__init__(tables[0])
        if signing_key is not None and not isinstance(signing_key, SigningKey):
            signing_key = SigningKey.from_bytes(signing_key)
        self._keys: SecretKey | NodeKeyring | None = keys
        self._signing: SigningKey | None = signing_key
        self._limits = limits
        self._protocols = tuple(protocols)
        self._replay_cache: ReplayCache | None = replay_cache
        self._pad_to: PadTo = pad_to
        self._clock = clock
        self._sealer: V1Sealer | V2Sealer = V1Sealer(limits) if protocols[0] == "v1" else V2Sealer(limits)

    def open_request(self, raw: Buffer) -> Request:
        """Open and verify a request envelope, UTF-8 JSON.

        MessageTooLargeError; EnvelopeError: malformed, of a protocol that is not one of `protocols`, or the body is not
        what the envelope says of it; AuthenticationError: a key that is not the node's, or no longer; an all-zero
        shared secret, tag or hash. v2 has, in the order of its checks, UnknownKeyError, ClockSkewError, ReplayedError
        and ReplayStoreError. After any of these the session has failed, with one exception: where a v2 request was
        admitted before its body was refused (EnvelopeError), abort() can still seal that.
        """
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise TypeError(f"raw must be bytes, bytearray or memoryview, not {type(raw).__name__}")
        self._begin("open_request")
        try:
            limit = self._limits.max_request_bytes
            if memoryview(raw).nbytes > limit:
                raise MessageTooLargeError(f"the request is longer than {limit} bytes")
            members = _envelope.read_members(bytes(raw), "the request", EnvelopeError)
            protocol: Protocol = "v1" if _envelope_v2.version_of(members) == 1 else "v2"
            if protocol not in self._protocols:
                raise EnvelopeError(f"the request is of protocol {protocol}, which is not served here")
            request = self._open_v1(members) if protocol == "v1" else self._open_v2(members)
            self._step("open_request, stream" if request.stream else "open_request")
        except BaseException as exc:
            if not (self._state is State.REFUSED and isinstance(exc, EnvelopeError)):
                self._judge(exc)
            raise
        finally:
            self._end()
        return request

    def _open_v1(self, members: _envelope.Members) -> Request:
        envelope = _envelope.request_of(members)
        keys, sealer = self._keys, self._sealer
        assert keys is not None  # noqa: S101 - only close() and failure drop it, and both end the session
        if not isinstance(sealer, V1Sealer):
            sealer = self._sealer = V1Sealer(self._limits)
        self._follow(NODE["v1"])
        body = sealer.open_request(envelope, keys.native_for(envelope.node_public), self._signing)
        if _envelope.body_stream(body, EnvelopeError) is not envelope.stream:
            raise EnvelopeError("'stream' of the body is not that of the envelope")
        return Request(
            body=body,
            model=envelope.model,
            stack_small_id=envelope.stack_small_id,
            num_compute_units=envelope.num_compute_units,
            stream=envelope.stream,
            endpoint=None,
            protocol="v1",
        )

    def _open_v2(self, members: _envelope.Members) -> Request:
        """In the order of docs/protocol-v2.md, section 3. Nothing is remembered of a request that is not admitted."""
        envelope = _envelope_v2.request_of(members)
        metadata, keys, sealer = envelope.metadata, self._keys, self._sealer
        assert keys is not None  # noqa: S101 - as above
        selected = keys.select(envelope.key_id)
        if selected is None:
            raise UnknownKeyError("the request names a key that is not, or no longer, held here")
        if len(envelope.enc) != suite_sizes(selected.key.suite).enc_bytes:
            raise EnvelopeError("'enc' is not of the suite of the key")
        now = math.floor(self._clock())
        if not metadata.sent_at - AHEAD <= now < metadata.sent_at + _TIMELY:
            raise ClockSkewError("the request was sent too long ago, or is not to be sent yet, by this node's clock")
        if not isinstance(sealer, V2Sealer):
            sealer = self._sealer = V2Sealer(self._limits)
        self._follow(NODE["v2"])
        opened = sealer.open_request(envelope, selected.key)
        try:
            self._admit(selected.replay_cache if self._replay_cache is None else self._replay_cache, envelope)
        except BaseException:
            opened.wipe()
            self._fail()
            raise
        body = bytes(opened.view[: opened.len[0]])
        try:
            _envelope_v2.check_body(body, metadata.model, metadata.stream, EnvelopeError)
        except EnvelopeError:
            self._step("open_request, refused")
            raise
        return Request(
            body=body,
            model=metadata.model,
            stack_small_id=metadata.stack_small_id,
            num_compute_units=metadata.num_compute_units,
            stream=metadata.stream,
            endpoint=metadata.endpoint,
            protocol="v2",
        )

    @staticmethod
    def _admit(replay_cache: ReplayCache, envelope: _envelope_v2.RequestEnvelope) -> None:
        """Once, by `enc` as it was received. ReplayedError; ReplayStoreError, or what else the store raises."""
        admitted = replay_cache.admit(hashlib.sha256(envelope.enc).digest(), envelope.metadata.sent_at + LIFETIME)
        if admitted is not True:  # nor where a store forgets to say so
            raise ReplayedError("the request was admitted before")

    def seal_response(self, body: Buffer, usage: Usage | None = None) -> bytes:
        """The JSON object that answers a request which is not a stream. `usage` is shown in clear, for billing."""
        sealer = self._sealer
        shown = None if usage is None else sealer.shown(usage)
        self._begin("seal_response")
        try:
            self._require_same(sealer, shown)
            raw = self._sealer.reply(pad_record(body, self._pad_to), shown)
            self._step("seal_response")
            self._sealer.close()
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return raw

    def _require_same(self, sealer: V1Sealer | V2Sealer, shown: Shown | None) -> None:
        """The usage was written before anything was begun, for a protocol that may have been another's."""
        if shown is not None and sealer is not self._sealer:
            raise LocalProtocolError("the request was opened only meanwhile: its protocol was not known yet")

    def seal_chunk(self, plaintext: Buffer, usage: Usage | None = None) -> bytes:
        """One finished SSE event. `usage` is shown in clear, for billing. Each event has a nonce of its own.

        `usage` is any JSON mapping in v1, in v2 exactly the integers prompt_tokens, completion_tokens, total_tokens.
        ValueError: the event would be longer than `limits.max_event_bytes`, or in v2 the plaintext is empty.
        LimitExceededError: 2^32 chunks or 2^36 bytes were sealed.
        """
        sealer = self._sealer  # once: one that open_request replaces meanwhile refuses
        shown = None if usage is None else sealer.shown(usage)
        if self._inside or "seal_chunk" not in self._allowed:
            self._require("seal_chunk")
        try:
            if self._pad_to is not None:
                plaintext = pad_record(plaintext, self._pad_to)
            return sealer.event(plaintext, shown)
        except BaseException as exc:
            self._judge(exc)
            if type(exc) is LocalProtocolError:  # the core had been closed: by another thread, which is to be named
                self._require("seal_chunk")
            raise

    def seal_chunks(self, plaintexts: Sequence[Buffer], usage: Usage | None = None) -> bytes:
        """Events for all of them, or for none, joined, in one native call; each shows `usage`. Errors as for one."""
        if type(plaintexts) is not list:
            plaintexts = self._listed(plaintexts)
        sealer = self._sealer  # as above
        shown = None if usage is None else sealer.shown(usage)
        if self._inside or "seal_chunk" not in self._allowed:
            self._require("seal_chunk")
        try:
            if self._pad_to is not None:
                plaintexts = [pad_record(plaintext, self._pad_to) for plaintext in plaintexts]
            return sealer.events(plaintexts, shown)
        except BaseException as exc:
            self._judge(exc)
            if type(exc) is LocalProtocolError:  # as above
                self._require("seal_chunk")
            raise

    def _listed(self, plaintexts: Sequence[Buffer]) -> list[Buffer]:
        """As a list: to make it runs the caller's code."""
        if isinstance(plaintexts, bytes | bytearray | memoryview | str) or not isinstance(plaintexts, Sequence):
            raise TypeError("plaintexts must be a sequence of buffers")
        self._begin("seal_chunk")
        try:
            return list(plaintexts)
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()

    def finish(self, usage: Usage | None = None) -> bytes:
        """End the stream: in v2 its last event, without which the client takes it for cut off.

        v1's wire has no end: b"", and `usage` must have gone with a chunk (LocalProtocolError).
        """
        sealer = self._sealer
        shown = None if usage is None else sealer.shown(usage)
        self._begin("finish")
        try:
            self._require_same(sealer, shown)
            event = self._sealer.finish(shown)  # which a seal_chunk in another thread refuses
            self._step("finish")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return event

    def abort(self, code: str, message: str, status: int) -> bytes:
        """Seal that the answer has failed, in v2: the one object, or an SSE event if something was sealed before.

        `code` is 1 to 64 of A-Z, 0-9 and _; `message` up to 1024 characters for the client's user; `status` is the HTTP
        status that it stands for, 400 to 599. v1 cannot say it: LocalProtocolError; cut the connection instead.
        """
        self._begin("abort")
        try:
            told = _envelope_v2.write_abort(code, message, status)
            sealer = self._sealer
            assert isinstance(sealer, V2Sealer)  # noqa: S101 - no state of v1 allows it
            raw = sealer.abort(bytes(pad_record(told, self._pad_to)))
            self._step("abort")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return raw

    def _wipe(self) -> None:
        self._keys = self._signing = None
        self._sealer.close()

    def __enter__(self) -> "NodeSession":
        return self
