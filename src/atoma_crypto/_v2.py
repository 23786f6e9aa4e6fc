"""What v2's sealers and openers share: how the core takes a request's metadata and a record's usage."""

from typing import Final

from . import _core
from ._core import CData, ffi, lib
from ._envelope_v2 import Metadata, UsageNumbers
from ._errors import RemoteProtocolError

_FORMAT: Final = lib.AC_ERR_FORMAT


def lend_metadata(metadata: Metadata) -> tuple[CData, object]:
    """The core's struct, and what it points into: to be held as long as it is used."""
    endpoint, model = ffi.from_buffer(metadata.endpoint.encode("ascii")), ffi.from_buffer(metadata.model.encode())
    stack_small_id, units = metadata.stack_small_id, metadata.num_compute_units
    native = ffi.new(
        "ac_v2_metadata *",
        {
            "endpoint": ffi.cast("uint8_t *", endpoint),
            "endpoint_len": len(endpoint),
            "model": ffi.cast("uint8_t *", model),
            "model_len": len(model),
            "stack_small_id": stack_small_id or 0,
            "num_compute_units": units or 0,
            "sent_at": metadata.sent_at,
            "has_stack_small_id": stack_small_id is not None,
            "has_num_compute_units": units is not None,
            "stream": metadata.stream,
        },
    )
    return native, (endpoint, model)


def lend_usage(numbers: UsageNumbers | None) -> CData:
    """Three numbers, or NULL."""
    return ffi.NULL if numbers is None else ffi.new("uint64_t[3]", numbers)


def error(status: int, malformed: type[RemoteProtocolError]) -> Exception:
    """As `_core.error`, in the words of v2's records."""
    if status == _FORMAT:
        return malformed("malformed, or a record that cannot stand here")
    return _core.error(status)
