"""Many sessions open at once, and the memory of each: python benchmarks/memory.py [--sessions N] [--rounds N]

Client and node of v1 and of v2, each in the middle of a stream, each kind in a process of its own. It opens all, uses
each once more, closes all, and that `rounds` times over. A figure is what the process has grown by since before the
first round (its resident set) divided by the sessions; `left` is what it keeps of that when all are closed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto._typing import Protocol

BODY: Final = b'{"model":"m","messages":[],"stream":true}'
FIRST: Final = b"0" * 300


class Open(NamedTuple):
    """A session, or two, in the middle of a stream: the next step, true if it gave what it should, and the end."""

    step: Callable[[], bool]
    close: Callable[[], object]


def _exchange(protocol: Protocol, key: ac.SecretKey) -> tuple[ac.ClientSession, ac.NodeSession]:
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol=protocol)
    node = ac.NodeSession(key, replay_cache=ac.MemoryReplayCache(fresh_key=True))
    node.open_request(client.seal_request(BODY, stream=True))
    client.receive_data(node.seal_chunk(FIRST))
    assert client.next_event() == (FIRST, 0, None)
    return client, node


def client(protocol: Protocol, key: ac.SecretKey) -> Open:
    """One chunk was read; the next one is ready to be received."""
    session, other = _exchange(protocol, key)
    second = other.seal_chunk(b"1")
    other.close()

    def step() -> bool:
        session.receive_data(second)
        return session.next_event() == (b"1", 1, None)

    return Open(step, session.close)


def node(protocol: Protocol, key: ac.SecretKey) -> Open:
    """One chunk was sealed."""
    other, session = _exchange(protocol, key)
    other.close()
    return Open(lambda: session.seal_chunk(b"1").startswith(b"data: "), session.close)


def both(protocol: Protocol, key: ac.SecretKey) -> Open:
    """Both ends, one chunk was sent."""
    receiver, sender = _exchange(protocol, key)

    def step() -> bool:
        receiver.receive_data(sender.seal_chunk(b"1"))
        return receiver.next_event() == (b"1", 1, None)

    def close() -> None:
        receiver.close()
        sender.close()

    return Open(step, close)


KINDS: Final = {make.__name__: make for make in (client, node, both)}


def resident() -> int:
    """Bytes of this process that are in memory, once what is free was given back."""
    gc.collect()
    if hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Round(NamedTuple):
    """Bytes in use when all are open, when each was used again, and when all are closed."""

    opened: int
    used: int
    left: int


def one_round(make: Callable[[Protocol, ac.SecretKey], Open], protocols: list[Protocol], count: int) -> Round:
    """`count` at once. AssertionError: one did not do what it should."""
    with ac.SecretKey.generate() as key:
        made = [make(protocols[number % len(protocols)], key) for number in range(count)]
        opened = resident()
        assert all(one.step() for one in made)
        used = resident()
        for one in made:
            one.close()
        del made, one
        return Round(opened, used, resident())


def main(arguments: list[str]) -> None:
    """Print the table, or, told of a kind and a protocol, the rows of that."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only is None:
        print(f"{options.sessions} sessions open at once; bytes per session")
        print(
            "| session | protocol | round | open | used | left |\n| --- | --- | ---: | ---: | ---: | ---: |", flush=True
        )
        for kind in ("client", "node"):
            for protocol in ("v1", "v2"):
                subprocess.run([sys.executable, __file__, *arguments, "--only", kind, protocol], check=True)
        return
    kind, protocol = options.only
    one_round(KINDS[kind], [protocol], 10)
    before = resident()
    for number in range(options.rounds):
        figures = one_round(KINDS[kind], [protocol], options.sessions)
        shown = [str(round((figure - before) / options.sessions)) for figure in figures]
        print(f"| {kind} | {protocol} | {number + 1} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
