"""A node that shares a key and a Redis with others, as a process: opens the envelopes of a file, and says which."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import atoma_crypto as ac
from atoma_crypto.adapters.redis import RedisReplayCache


def main(url: str, key_file: str, envelopes: str, rounds: str, first: str) -> None:
    """Go through the file some times, from request `first` on; print which were opened, and how often not."""
    key = ac.SecretKey.from_bytes(Path(key_file).read_bytes())
    cache = RedisReplayCache(url, timeout=0.5)
    opened: list[int] = []
    refused: Counter[str] = Counter()
    lines = Path(envelopes).read_bytes().splitlines()
    print("ready", flush=True)  # noqa: T201 - how it tells
    sys.stdin.readline()
    for _ in range(int(rounds)):
        for number in [*range(int(first), len(lines)), *range(int(first))]:
            node = ac.NodeSession(key, protocols=("v2",), replay_cache=cache)
            try:
                node.open_request(lines[number])
            except (ac.ReplayedError, ac.ReplayStoreError) as error:
                refused[type(error).__name__] += 1
            else:
                opened.append(number)
    print(json.dumps({"opened": opened, "refused": refused}), flush=True)  # noqa: T201 - the same


main(*sys.argv[1:])
