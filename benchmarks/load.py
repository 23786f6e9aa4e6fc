"""What the middleware costs under load: one FastAPI application under uvicorn with and without it, in pairs.

`python benchmarks/load.py` prints events a second of both, and their ratio (target: at least 0.75), for 100 streams
at once of 200 events each. The servers and the clients are processes of their own. The clock runs from the first
request to the last byte of the last stream; a client takes its locks and seals its requests before that, and opens
what it has received afterwards, so that the server is what is measured. Every event must be there, in its place.

`--soak` streams 10,000 times and compares the server's memory with that after 1,000. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

import atoma_crypto as ac
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from atoma_crypto.server.listener import listen

PLAIN: Final = "/v1/chat/completions"
SEALED: Final = "/v1/confidential/chat/completions"
LOCK: Final = "/v1/nodes/lock"
WORDS: Final = "and a word or two of what a model might have said "  # with its frame some 300 bytes


def event(number: int) -> bytes:
    choice = {"index": 0, "delta": {"content": f"{number} {WORDS * 2}"}, "finish_reason": None}
    head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps(head | {"choices": [choice]}, separators=(",", ":")).encode()


# ---- the server's process ---------------------------------------------------------------------------------------


def serve(*, sealed: bool) -> None:
    app = FastAPI()

    @app.post(PLAIN)
    async def chat(request: Request) -> StreamingResponse:
        count = (await request.json())["max_tokens"]

        async def body() -> AsyncIterator[bytes]:
            for number in range(count):
                yield b"data: " + event(number) + b"\n\n"
                await asyncio.sleep(0)  # a model's next word is somebody else's turn first
            yield b"data: [DONE]\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    if sealed:
        app.add_middleware(ConfidentialMiddleware)
    listener = listen("127.0.0.1", 0)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False)).run(sockets=[listener])


# ---- the clients' process ---------------------------------------------------------------------------------------


async def post(port: int, path: str, body: bytes) -> bytes:
    """The body of the answer, its chunks of HTTP joined. A connection for each request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    head = f"POST {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer any\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    raw = await reader.read(-1)
    writer.close()
    status, _, answer = raw.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 200 "), raw[:200]
    return answer


def dechunked(raw: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(raw[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def read_plain(raw: bytes) -> list[bytes]:
    *found, done, rest = dechunked(raw).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [one.removeprefix(b"data: ") for one in found]


def read_sealed(session: ac.ClientSession, raw: bytes) -> list[bytes]:
    with session:
        session.receive_data(dechunked(raw))
        session.receive_eof()
        return [found.plaintext for found in session.events() if isinstance(found, ac.Chunk)]


async def locked(port: int, body: bytes) -> tuple[ac.ClientSession, bytes]:
    """A session with a lock of its own, and its sealed request."""
    told = json.loads(await post(port, LOCK, b'{"model":"m","timeout":60}'))
    key = ac.PublicKey.from_base64(told["public_key"])
    session = ac.ClientSession(key, model="m", stack_small_id=told["stack_small_id"], protocol="v1")
    return session, session.seal_request(body, stream=True)


async def streams(port: int, pid: int, count: int, events: int, *, sealed: bool) -> tuple[float, float]:
    """Seconds, and the server's CPU seconds, for so many streams at once; each is read to its end and checked."""
    body = json.dumps({"model": "m", "messages": [], "stream": True, "max_tokens": events}).encode()
    requests: list[tuple[ac.ClientSession | None, bytes]] = [(None, body)] * count
    if sealed:
        requests = [await locked(port, body) for _ in range(count)]
    path = SEALED if sealed else PLAIN
    spent = cpu_seconds(pid)
    start = time.perf_counter()
    answers = await asyncio.gather(*(post(port, path, request) for _, request in requests))
    seconds, spent = time.perf_counter() - start, cpu_seconds(pid) - spent
    expected = [event(number) for number in range(events)]
    for (session, _), raw in zip(requests, answers, strict=True):
        assert (read_plain(raw) if session is None else read_sealed(session, raw)) == expected
    return seconds, spent


# ---- what ties them together ------------------------------------------------------------------------------------


@contextmanager
def server(kind: str) -> Iterator[tuple[int, int]]:
    """Its port and process id."""
    command = [sys.executable, __file__, "--serve", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


def load(server: tuple[int, int], kind: str, count: int, events: int) -> tuple[float, float]:
    command = [sys.executable, __file__, "--load", kind, *map(str, (*server, count, events))]
    seconds, spent = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return float(seconds), float(spent)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def pairs(count: int, events: int, rounds: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"plain": [], "sealed": []}
    spent: dict[str, list[float]] = {"plain": [], "sealed": []}
    with server("plain") as plain, server("sealed") as sealed:
        servers = {"plain": plain, "sealed": sealed}
        for kind, each in servers.items():
            load(each, kind, min(count, 10), events)  # what is only paid once
        for _ in range(rounds):
            for kind, each in servers.items():
                seconds, cpu = load(each, kind, count, events)
                rates[kind].append(count * events / seconds)
                spent[kind].append(cpu / (count * events))
    ratios = [sealed / plain for plain, sealed in zip(rates["plain"], rates["sealed"], strict=True)]
    return {
        **{f"{kind}_events_per_second": statistics.median(found) for kind, found in rates.items()},
        **{f"{kind}_server_us_per_event": 1e6 * statistics.median(found) for kind, found in spent.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def soak(count: int, events: int, total: int) -> dict[str, Any]:
    """Memory of a server with the middleware after a tenth of `total` streams, and after all of them."""
    with server("sealed") as (port, pid):
        found: list[int] = []
        for until in (total // 10, total):
            done = 0 if not found else total // 10
            while done < until:
                now = min(count, until - done)
                load((port, pid), "sealed", now, events)
                done += now
            found.append(resident_kib(pid))
    return {"resident_kib": found, "growth": found[1] / found[0] - 1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100, help="at once (%(default)s)")
    parser.add_argument("--events", type=int, default=200, help="in each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs (%(default)s)")
    parser.add_argument("--soak", nargs="?", type=int, const=10_000, help="stream so many times (%(const)s) instead")
    parser.add_argument("--serve", choices=["plain", "sealed"], help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(sealed=asked.serve == "sealed")
    elif asked.load:
        kind, *numbers = asked.load
        port, pid, count, events = map(int, numbers)
        print(*asyncio.run(streams(port, pid, count, events, sealed=kind == "sealed")))
    elif asked.soak:
        found = soak(asked.streams, asked.events, asked.soak)
        print("memory: {} KiB, then {} KiB: {:+.1%}".format(*found["resident_kib"], found["growth"]))
        return int(found["growth"] > 0.05)
    else:
        found = pairs(asked.streams, asked.events, asked.rounds)
        print("| | events a second | server's CPU time for each |")
        print("| --- | --- | --- |")
        for kind in ("plain", "sealed"):
            rate, spent = found[f"{kind}_events_per_second"], found[f"{kind}_server_us_per_event"]
            print(f"| {kind} | {rate:,.0f} | {spent:.0f} µs |")
        print(f"\nratio: {found['ratio']:.2f} of {', '.join(f'{ratio:.2f}' for ratio in found['ratios'])}")
        return int(found["ratio"] < 0.75)
    return 0


if __name__ == "__main__":
    sys.exit(main())
