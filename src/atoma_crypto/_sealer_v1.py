"""A handle on the core's v1 sealer."""

from typing import Final

from . import _core, _envelope
from ._core import CData, Scratch, ffi, lib
from ._errors import LocalProtocolError
from ._keys import SigningKey
from ._sealer import Sealer, Shown
from ._typing import Buffer, Usage

_from_buffer: Final = ffi.from_buffer
_BYTES: Final = ffi.typeof("uint8_t[]")


class V1Sealer(Sealer):
    """A sealer of v1's replies and events."""

    __slots__ = ()

    _type = "ac_v1_sealer *"
    _wipe = lib.ac_v1_sealer_wipe
    _event_seal = lib.ac_v1_event_seal
    _events_seal = lib.ac_v1_events_seal
    _close = lib.ac_v1_sealer_close
    _nothing_shown = b"", 0
    _takes_empty = True

    def open_request(self, envelope: _envelope.RequestEnvelope, key: CData, signing: SigningKey | None) -> bytes:
        """The body of the request; `key` is a secret key's `native`. EnvelopeError, AuthenticationError."""
        _core.require_new(self._native)
        texts = envelope.ciphertext, envelope.nonce, envelope.salt, envelope.client_public, envelope.node_public
        lent = [_from_buffer(_BYTES, text) for text in (*texts, envelope.body_hash)]  # which the struct does not keep
        members = ffi.new("ac_v1_envelope *", [value for text in lent for value in (text, len(text))])
        body = Scratch(lib.ac_base64_decoded_max(len(envelope.ciphertext)))
        status = lib.ac_v1_request_open(
            self._native,
            body.ptr,
            body.cap,
            body.len,
            key,
            signing.native if signing is not None else ffi.NULL,
            members,
        )
        _core.check(status)
        return bytes(body.view[: body.len[0]])

    def shown(self, usage: Usage) -> Shown:
        """As every sealer's: any JSON mapping."""
        usage_json = _envelope.write_usage(usage)
        return usage_json, len(usage_json)

    def _size(self, length: int, lens: CData, count: int, shown: Shown) -> int:
        return lib.ac_v1_events_bytes(self._native, length, lens, count, shown[1])

    def reply(self, plaintext: Buffer, shown: Shown | None) -> bytes:
        """As every sealer's."""
        text, length = _core.lend(plaintext, "body")
        shown = shown or self._nothing_shown
        place = self._place(lib.ac_v1_reply_bytes(self._native, length, shown[1]))
        native, ptr, _, _, scratch, _ = place
        _core.check(lib.ac_v1_reply_seal(native, ptr, scratch.cap, scratch.len, text, length, *shown))
        return self._taken(place)

    def finish(self, shown: Shown | None) -> bytes:
        """v1's wire has no end: nothing is written. LocalProtocolError: `usage` must have gone with a chunk."""
        if shown is not None:
            raise LocalProtocolError("protocol v1 has no final event: give usage to the last seal_chunk")
        self.close()
        return b""
