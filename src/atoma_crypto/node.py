"""The node's side: open one request, seal its answer."""

import time
from collections.abc import Sequence

from . import _envelope
from ._errors import EnvelopeError, LocalProtocolError, MessageTooLargeError
from ._events import Limits, Request
from ._keys import SecretKey, SigningKey
from ._sealer import V1Sealer
from ._state import NODE, Clock, Session, require_protocol
from ._typing import Buffer, Protocol, Usage
from .keyring import NodeKeyring


class NodeSession(Session):
    """One request and its answer, on the node: bytes in, bytes out. It has no socket; make one for each request.

    `keys` is the node's SecretKey, or a NodeKeyring, whose keys rotate. With `signing_key`, a SigningKey or its 32-byte
    seed, every reply and event carries a Sui signature (Ed25519) of its hash; without, `signature` is the empty string.
    `replay_cache` and `clock` matter to protocol v2; v1 has no protection against replay.
    """

    __slots__ = ("_keys", "_limits", "_sealer", "_signing")

    def __init__(
        self,
        keys: SecretKey | NodeKeyring,
        *,
        signing_key: SigningKey | Buffer | None = None,
        protocols: Sequence[Protocol] = ("v1",),
        replay_cache: None = None,
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
        if replay_cache is not None:
            raise LocalProtocolError("replay_cache belongs to protocol v2, which is not implemented in this version")
        tables = [require_protocol(protocol, NODE) for protocol in protocols]
        super().__init__(tables[0])
        if signing_key is not None and not isinstance(signing_key, SigningKey):
            signing_key = SigningKey.from_bytes(signing_key)
        self._keys: SecretKey | NodeKeyring | None = keys
        self._signing: SigningKey | None = signing_key
        self._limits = limits
        self._sealer = V1Sealer(limits)

    def open_request(self, raw: Buffer) -> Request:
        """Open and verify a request envelope, UTF-8 JSON.

        MessageTooLargeError; EnvelopeError: malformed, or `stream` of the body is not a boolean or not the envelope's;
        AuthenticationError: a key that is not the node's, or no longer; an all-zero shared secret, tag or hash. After
        any of these the session has failed.
        """
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise TypeError(f"raw must be bytes, bytearray or memoryview, not {type(raw).__name__}")
        self._begin("open_request")
        try:
            limit = self._limits.max_request_bytes
            if memoryview(raw).nbytes > limit:
                raise MessageTooLargeError(f"the request is longer than {limit} bytes")
            assert self._keys is not None  # noqa: S101 - only close() and failure drop it, and both end the session
            envelope = _envelope.read_request(bytes(raw))
            body = self._sealer.open_request(envelope, self._keys.native_for(envelope.node_public), self._signing)
            if _envelope.body_stream(body, EnvelopeError) is not envelope.stream:
                raise EnvelopeError("'stream' of the body is not that of the envelope")
            self._step("open_request, stream" if envelope.stream else "open_request")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return Request(
            body=body,
            model=envelope.model,
            stack_small_id=envelope.stack_small_id,
            num_compute_units=envelope.num_compute_units,
            stream=envelope.stream,
            endpoint=None,
            protocol="v1",
        )

    def seal_response(self, body: Buffer, usage: Usage | None = None) -> bytes:
        """The JSON object that answers a request which is not a stream. `usage` is shown in clear, for billing."""
        usage_json = _envelope.write_usage(usage)
        self._begin("seal_response")
        try:
            raw = self._sealer.reply(body, usage_json)
            self._step("seal_response")
            self._sealer.close()
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return raw

    def seal_chunk(self, plaintext: Buffer, usage: Usage | None = None) -> bytes:
        """One finished SSE event. `usage` is shown in clear, for billing. Each event has a nonce of its own.

        ValueError: the event would be longer than `limits.max_event_bytes`. LimitExceededError: 2^32 chunks or 2^36
        bytes were sealed.
        """
        usage_json = b"" if usage is None else _envelope.write_usage(usage)
        if self._inside or "seal_chunk" not in self._allowed:
            self._require("seal_chunk")
        try:
            return self._sealer.event(plaintext, usage_json)
        except BaseException as exc:
            self._judge(exc)
            if type(exc) is LocalProtocolError:  # the core had been closed: by another thread, which is to be named
                self._require("seal_chunk")
            raise

    def seal_chunks(self, plaintexts: Sequence[Buffer], usage: Usage | None = None) -> bytes:
        """Events for all of them, or for none, joined, in one native call; each shows `usage`. Errors as for one."""
        if type(plaintexts) is not list and (
            isinstance(plaintexts, bytes | bytearray | memoryview | str) or not isinstance(plaintexts, Sequence)
        ):
            raise TypeError("plaintexts must be a sequence of buffers")
        usage_json = b"" if usage is None else _envelope.write_usage(usage)
        self._begin("seal_chunk")
        try:
            return self._sealer.events(plaintexts, usage_json)
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()

    def finish(self, usage: Usage | None = None) -> bytes:
        """End the stream. v1's wire has no end: b"", and `usage` must have gone with a chunk (LocalProtocolError)."""
        self._begin("finish")
        try:
            if usage is not None:
                raise LocalProtocolError("protocol v1 has no final event: give usage to the last seal_chunk")
            self._sealer.close()  # which a seal_chunk in another thread refuses
            self._step("finish")
        except BaseException as exc:
            self._judge(exc)
            raise
        finally:
            self._end()
        return b""

    def abort(self, code: str, message: str, status: int) -> bytes:  # noqa: ARG002 - v2 seals them
        """Protocol v1 cannot say that an answer failed: always LocalProtocolError. Cut the connection instead."""
        self._begin("abort")
        self._end()  # pragma: no cover - no v1 state allows it
        raise AssertionError  # pragma: no cover - the same

    def _wipe(self) -> None:
        self._keys = self._signing = None
        self._sealer.close()

    def __enter__(self) -> "NodeSession":
        return self
