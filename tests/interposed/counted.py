"""Run with interposed.c preloaded: what each thing allocates natively, and who does it. Prints JSON.

counted.py CONTROL WAY...     the library built of control.c, and its ways to allocate
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from atoma_crypto._typing import Protocol
from helpers import SessionPair

ROUNDS: Final = 200
CHUNK: Final = b'{"choices":[{"delta":{"content":" and"}}]}' * 3
here: Final = ctypes.CDLL(None)
here.interposed_library.restype = ctypes.c_char_p
here.interposed_calls.restype = ctypes.c_size_t


def counted(call: Callable[[], object]) -> dict[str, int]:
    """Calls by library, of 200 rounds once all is warm."""
    for _ in range(50):
        call()
    gc.collect()
    gc.disable()
    here.interposed_begin()
    for _ in range(ROUNDS):
        call()
    here.interposed_end()
    gc.enable()
    found = {}
    number = 0
    while (library := here.interposed_library(number)) is not None:
        found[Path(library.decode()).name] = here.interposed_calls(number)
        number += 1
    return found


def calls_of(protocol: Protocol) -> dict[str, Callable[[], object]]:
    sealing, both = SessionPair(protocol=protocol), SessionPair(protocol=protocol)

    def next_event() -> None:
        both.client.receive_data(both.node.seal_chunk(CHUNK))
        both.client.next_event()

    return {
        "seal_chunk": lambda: sealing.node.seal_chunk(CHUNK),
        "next_event": next_event,
        "request": lambda: SessionPair(protocol=protocol),
    }


def main(control_path: str, *ways: str) -> None:
    control = ctypes.CDLL(control_path)
    told = {}
    for way in ways:
        allocate = control[f"control_{way}"]
        allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
        told[f"control {way}"] = counted(partial(allocate, 64))
    protocols: tuple[Protocol, ...] = ("v1", "v2")
    for protocol in protocols:
        told |= {f"{protocol} {name}": counted(call) for name, call in calls_of(protocol).items()}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
