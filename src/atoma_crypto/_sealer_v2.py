"""A handle on the core's v2 sealer."""

from typing import Final

from . import _core, _v2, _xwing
from ._core import CData, Scratch, ffi, lib
from ._envelope_v2 import RequestEnvelope, usage_numbers
from ._errors import ConcurrentUseError, EnvelopeError
from ._keys import SecretKey, suite_sizes
from ._sealer import Sealer, Shown
from ._typing import Buffer, Usage

_MORE: Final = lib.AC_FLAG_MORE
_END: Final = lib.AC_FLAG_END
_ABORT: Final = lib.AC_FLAG_ABORT
_WHOLE: Final = lib.AC_FLAG_WHOLE


class V2Sealer(Sealer):
    """A sealer of v2's records, in events or as one object."""

    __slots__ = ()

    _type = "ac_v2_sealer *"
    _wipe = lib.ac_v2_sealer_wipe
    _event_seal = lib.ac_v2_event_seal
    _events_seal = lib.ac_v2_events_seal
    _close = lib.ac_v2_sealer_close
    _nothing_shown = _MORE, ffi.NULL
    _takes_empty = False

    def open_request(self, envelope: RequestEnvelope, key: SecretKey) -> Scratch:
        """The body of the request, not let out yet. EnvelopeError, AuthenticationError."""
        _core.require_new(self._native)
        metadata, held = _v2.lend_metadata(envelope.metadata)
        body = Scratch(lib.ac_base64_decoded_max(len(envelope.ciphertext)))
        shared = Scratch(_xwing.SHARED_BYTES) if key.suite == "X-Wing" else None
        try:
            if shared:
                key.decapsulate(envelope.enc, shared)
            status = lib.ac_v2_request_open(
                self._native,
                body.ptr,
                body.cap,
                body.len,
                suite_sizes(key.suite).id,
                envelope.key_id,
                ffi.NULL if shared else key.native,
                shared.ptr if shared else ffi.NULL,
                envelope.enc,
                len(envelope.enc),
                envelope.ciphertext,
                len(envelope.ciphertext),
                metadata,
            )
        finally:
            if shared:
                shared.wipe()
        del held
        if status:
            raise _v2.error(status, EnvelopeError)
        return body

    def shown(self, usage: Usage) -> Shown:
        """As every sealer's: the three integers, and nothing else."""
        return _MORE, _v2.lend_usage(usage_numbers(usage))

    def _size(self, length: int, lens: CData, count: int, shown: Shown) -> int:
        return lib.ac_v2_events_bytes(self._native, length, lens, count, *shown)

    def reply(self, plaintext: Buffer, shown: Shown | None) -> bytes:
        """As every sealer's."""
        text, length = _core.lend(plaintext, "body")
        return self._object(_WHOLE, text, length, (shown or self._nothing_shown)[1])

    def finish(self, shown: Shown | None) -> bytes:
        """The final event."""
        return self._last(self._one(b"", 0, (_END, (shown or self._nothing_shown)[1])))

    def abort(self, plaintext: bytes) -> bytes:
        """The sealed error: an event, or the one object if nothing was sealed before."""
        if not self._native.begun:
            try:
                return self._last(self._object(_ABORT, plaintext, len(plaintext), ffi.NULL))
            except ValueError:
                if not self._native.begun:
                    raise
            # a thread that needs no lock has sealed the first event meanwhile, and the core has refused an object
        return self._last(self._one(plaintext, len(plaintext), (_ABORT, ffi.NULL)))

    def _object(self, flag: int, text: CData, length: int, usage: CData) -> bytes:
        place = self._place(lib.ac_v2_object_bytes(length, flag, usage))
        native, ptr, _, _, scratch, _ = place
        _core.check(lib.ac_v2_object_seal(native, ptr, scratch.cap, scratch.len, flag, text, length, usage))
        return self._taken(place)

    def _last(self, raw: bytes) -> bytes:
        try:  # noqa: SIM105 - contextlib is not worth its import here
            self.close()
        except ConcurrentUseError:
            pass  # a thread that is about to be told that nothing more can be sealed: wiped with the session
        return raw
