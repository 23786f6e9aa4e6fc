"""Nodes that share a key and a real Redis: no request is admitted twice, and none while Redis is not to be had."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.server.keyfile import write_secret_key
from atoma_crypto.server.model import Answer
from redis_server import RedisServer, needs_redis
from serving import CHAT, Client, ScriptedModel, error_of, node, request_body

pytestmark = needs_redis
PROGRAM = [sys.executable, "-m", "atoma_crypto", "node", "--port", "0", "--static", "--seed", "7"]


@contextlib.contextmanager
def node_process(key_file: Path, redis: RedisServer) -> Iterator[Client]:
    """A node as people run it, in a process of its own, and a client of it."""
    environment = os.environ | {"ATOMA_CRYPTO_REPLAY": redis.url, "ATOMA_CRYPTO_KEY_FILE": str(key_file)}
    with subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2]
            with Client(url, model="eliza", protocol="v2") as client:
                yield client
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[RedisServer, list[Client]]]:
    """Two node processes with one key and one Redis, which is old enough to know all that was admitted."""
    path = tmp_path / "node.key"
    with ac.SecretKey.generate() as key:
        write_secret_key(path, key)
    with (
        RedisServer("--maxmemory-policy", "noeviction") as redis,
        node_process(path, redis) as first,
        node_process(path, redis) as second,
    ):
        redis.age()
        yield redis, [first, second]


def sealed_for(client: Client) -> bytes:
    client.lock(timeout=60)
    return client.session(stack_small_id=None).seal_request(request_body(model="eliza"), stream=False)


def ask(client: Client, sealed: bytes) -> tuple[int, str]:
    response = client.http.post(CHAT, content=sealed)
    if response.status_code == 200:
        return 200, ""
    return error_of(response)[:2]


REPLAYED, UNAVAILABLE = (409, "REPLAYED"), (503, "REPLAY_STORE_UNAVAILABLE")


def test_two_processes_admit_each_request_once(shared: tuple[RedisServer, list[Client]]) -> None:
    _, clients = shared
    for first, second in (clients, clients[::-1]):
        sealed = sealed_for(first)
        assert ask(first, sealed) == (200, "")
        assert [ask(client, sealed) for client in (second, first)] == [REPLAYED] * 2
    # and at the same moment, from many sides
    for client in clients:
        client.lock(timeout=60)
    sealed = sealed_for(clients[0])
    with ThreadPoolExecutor(8) as threads:
        answers = Counter(threads.map(lambda number: ask(clients[number % 2], sealed), range(16)))
    assert answers == {(200, ""): 1, REPLAYED: 15}


def test_redis_killed_flushed_and_started_anew_lets_nothing_in_twice(shared: tuple[RedisServer, list[Client]]) -> None:
    redis, (first, second) = shared
    admitted, waiting = sealed_for(first), sealed_for(first)
    assert ask(first, admitted) == (200, "")
    redis.kill()
    for client in (first, second):
        refused = client.http.post(CHAT, content=waiting)
        assert error_of(refused)[:2] == UNAVAILABLE
        assert refused.headers["retry-after"] == "60"
        assert client.http.get("/health").status_code == 200
    with Client(first.url, model="eliza") as old:  # v1 has no such protection, and goes on
        old.lock()
        assert old.ask(request_body(model="eliza"))[1].status_code == 200
    redis.start()  # empty
    for sealed in (admitted, waiting, sealed_for(second)):  # it cannot know which of them it had
        assert [ask(client, sealed) for client in (first, second)] == [UNAVAILABLE] * 2
    redis.age(600)  # ten minutes later
    sealed = sealed_for(second)
    assert [ask(client, sealed) for client in (second, first)] == [(200, ""), REPLAYED]
    with redis.client() as client:
        client.flushall()
    assert [ask(client, sealed) for client in (first, second)] == [UNAVAILABLE] * 2


@pytest.mark.parametrize("size", [100, 100_000], ids=["small", "large"])
def test_a_redis_that_hangs_holds_up_nobody_else(size: int) -> None:
    with RedisServer("--maxmemory-policy", "noeviction") as redis:
        redis.age()
        from atoma_crypto.adapters.redis import RedisReplayCache

        cache = RedisReplayCache(redis.url, timeout=1.0)
        with (
            contextlib.closing(cache),
            node(ScriptedModel([Answer(b"{}")]), protocol="v2", replay_cache=cache) as client,
        ):
            client.lock(timeout=60)
            sealed = client.session().seal_request(request_body(padding="x" * size), stream=False)
            redis.signal(signal.SIGSTOP)
            answers: list[httpx.Response] = []
            asking = threading.Thread(target=lambda: answers.append(client.http.post(CHAT, content=sealed)))
            begun = time.monotonic()
            asking.start()
            times = []
            while asking.is_alive():
                start = time.monotonic()
                assert client.http.get("/health").status_code == 200
                times.append(time.monotonic() - start)
            assert time.monotonic() - begun > 0.9
            assert len(times) > 10  # the loop went on meanwhile
            assert error_of(answers[0])[:2] == UNAVAILABLE
            redis.signal(signal.SIGCONT)
            sealed = client.session().seal_request(request_body(), stream=False)
            assert ask(client, sealed) == (200, "")
