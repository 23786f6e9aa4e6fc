"""The few types that signatures share."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
Usage: TypeAlias = Mapping[str, object]
Protocol: TypeAlias = Literal["v1", "v2"]
Suite: TypeAlias = Literal["X25519", "X-Wing"]
NonceReuse: TypeAlias = Literal["warn", "error"]
