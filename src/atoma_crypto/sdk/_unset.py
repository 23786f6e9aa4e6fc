"""The one value that means: this was not given."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias, TypeVar

_T = TypeVar("_T")


class _Unset(Enum):
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = _Unset.UNSET
"""An argument that was not given: its member is left out of the request, where None is sent as null."""
Unset: TypeAlias = Literal[_Unset.UNSET]
Nullable: TypeAlias = _T | Unset | None
"""What an optional argument takes: a value, None (sent as null) or UNSET (not sent)."""
