"""What v2's sealers and openers share: how the core takes a request's metadata and a record's usage."""

from typing import Final

from . import _core
from ._core import CData, ffi, lib
from ._envelope_v2 import Metadata, UsageNumbers
from ._errors import RemoteProtocolError

_FORMAT: Final = lib.AC_ERR_FORMAT
_BYTES: Final = ffi.typeof("uint8_t[]")
_METADATA: Final = ffi.typeof("ac_v2_metadata *")


def lend_metadata(metadata: Metadata) -> tuple[CData, object]:
    """The core's struct, and what it points into: to be held as long as it is used."""
    endpoint, model, stack_small_id, units, stream, sent_at = metadata
    lent = ffi.from_buffer(_BYTES, endpoint.encode("ascii")), ffi.from_buffer(_BYTES, model.encode())
    native = ffi.new(
        _METADATA,  # its members in their order: by name would cost twice as much
        (
            *(lent[0], len(lent[0]), lent[1], len(lent[1])),
            *(stack_small_id or 0, units or 0, sent_at),
            *(stack_small_id is not None, units is not None, stream),
        ),
    )
    return native, lent


def lend_usage(numbers: UsageNumbers | None) -> CData:
    """Three numbers, or NULL."""
    return ffi.NULL if numbers is None else ffi.new("uint64_t[3]", numbers)


def error(status: int, malformed: type[RemoteProtocolError]) -> Exception:
    """As `_core.error`, in the words of v2's records."""
    if status == _FORMAT:
        return malformed("malformed, or a record that cannot stand here")
    return _core.error(status)
