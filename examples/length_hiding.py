"""What an observer learns from the lengths and moments of one streamed answer, padded and joined or not.

It starts a node in this process for each way, asks it the same question over loopback (protocol v2), and looks at
nothing but what crosses the wire. Run it: `python examples/length_hiding.py`.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import uvicorn

import atoma_crypto as ac
from atoma_crypto.server.coalesce import Coalesce
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.listener import listen
from atoma_crypto.server.node import create_app

WORD_SECONDS = 0.03  # what the model takes for a word
QUESTION = {"model": "eliza", "messages": [{"role": "user", "content": "What does the router see?"}], "stream": True}
WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "pad_to=256": {"pad_to": 256},
    "coalesce": {"coalesce": Coalesce(seconds=0.25, characters=256)},
    "both": {"pad_to": 256, "coalesce": Coalesce(seconds=0.25, characters=256)},
}


class Seen(NamedTuple):
    """What an observer has of one answer: the length of each event, and when it came."""

    lengths: list[int]
    seconds: list[float]

    @property
    def bits(self) -> float:
        """What the lengths say at most: their entropy, times how many there are."""
        counts, total = Counter(self.lengths), len(self.lengths)
        return abs(sum(count * math.log2(total / count) for count in counts.values()))


@contextlib.contextmanager
def serving(key: ac.SecretKey, **way: Any) -> Iterator[str]:
    """A node on a free port of loopback."""
    app = create_app(key, ElizaModel(seed=8, delay=WORD_SECONDS), **way)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def observe(**way: Any) -> Seen:
    """Ask once. The client reads the answer; we keep what anybody on the way could have noted."""
    with (
        ac.SecretKey.generate() as key,
        serving(key, **way) as url,
        httpx.Client(base_url=url, headers={"Authorization": "Bearer any"}, trust_env=False) as http,
    ):
        stack = http.post("/v1/nodes/lock", json={"model": "eliza"}).json()["stack_small_id"]
        client = ac.ClientSession(key.public_key, model="eliza", stack_small_id=stack, protocol="v2")
        sealed = client.seal_request(json.dumps(QUESTION).encode(), stream=True)
        lengths, seconds, unfinished = [], [], b""
        start = time.perf_counter()
        with client, http.stream("POST", "/v1/confidential/chat/completions", content=sealed) as response:
            for part in response.iter_raw():
                *events, unfinished = (unfinished + part).split(b"\n\n")
                lengths += [len(event) for event in events]
                seconds += [time.perf_counter() - start] * len(events)
                client.receive_data(part)
                list(client.events())
            client.receive_eof()
    return Seen(lengths, seconds)


def main() -> None:
    """Print the table."""
    print("| | events | different lengths | bits in the lengths | bytes | last event after |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, way in WAYS.items():
        seen = observe(**way)
        print(
            f"| {name} | {len(seen.lengths)} | {len(set(seen.lengths))} | {seen.bits:.0f} | {sum(seen.lengths):,} "
            f"| {seen.seconds[-1]:.2f} s |"
        )


if __name__ == "__main__":
    main()
