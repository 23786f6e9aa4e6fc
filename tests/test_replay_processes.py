"""Two processes share a key and a Redis: no request is opened twice, whatever becomes of Redis meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto.adapters.redis import RedisReplayCache
from helpers import REPLY_BODY
from redis_server import RedisServer, needs_redis

pytestmark = needs_redis

COUNT: Final = 500
WORKER: Final = Path(__file__).with_name("replay_worker.py")
ID: Final = [bytes([number]) * 32 for number in range(1, 9)]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        server.age()
        yield server


def soon() -> int:
    return int(time.time()) + 360


class Nodes:
    """Two of them, ready to open the same requests."""

    def __init__(self, server: RedisServer, home: Path, *, rounds: int) -> None:
        (home / "key").write_bytes(os.urandom(32))
        key = ac.SecretKey.from_bytes((home / "key").read_bytes())
        clients = [ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v2") for _ in range(COUNT)]
        (home / "all").write_bytes(b"\n".join(one.seal_request(REPLY_BODY, stream=False) for one in clients))
        command = [sys.executable, "-W", "error", str(WORKER), server.url, str(home / "key"), str(home / "all")]
        self._processes = [
            subprocess.Popen([*command, str(rounds), first], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for first in ("0", str(COUNT // 2))
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def go(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def ended(self) -> tuple[Counter[int], Counter[str]]:
        """How often each request was opened, and what was said of the others."""
        opened: Counter[int] = Counter()
        refused: Counter[str] = Counter()
        for process in self._processes:
            told: dict[str, Any] = json.loads(process.communicate(timeout=60)[0])
            assert process.returncode == 0
            opened.update(told["opened"])
            refused.update(told["refused"])
        return opened, refused


def test_two_nodes_open_each_request_once(server: RedisServer, tmp_path: Path) -> None:
    nodes = Nodes(server, tmp_path, rounds=1)
    nodes.go()
    opened, refused = nodes.ended()
    assert opened == Counter(range(COUNT))
    assert refused == {"ReplayedError": COUNT}


@pytest.mark.parametrize("accident", ["killed", "emptied", pytest.param("restarted", marks=pytest.mark.long)])
def test_redis_is_lost_while_nodes_work(server: RedisServer, tmp_path: Path, accident: str) -> None:
    nodes = Nodes(server, tmp_path, rounds=2)
    nodes.go()
    with server.client() as client:
        until = time.monotonic() + 30
        while client.dbsize() < COUNT // 4 and time.monotonic() < until:
            time.sleep(0.001)
        if accident == "emptied":
            client.flushall()
        else:
            server.kill()
    if accident == "restarted":
        server.start()
    opened, refused = nodes.ended()
    assert set(opened.values()) == {1}
    assert refused["ReplayStoreError"] > 0
    assert sum(opened.values()) + sum(refused.values()) == 4 * COUNT


@pytest.mark.parametrize("saved", [False, True], ids=["empty", "from a snapshot"])
def test_a_redis_that_was_started_anew_is_a_new_store(server: RedisServer, *, saved: bool) -> None:
    """A snapshot is the worse case: the old birth is in it, and what was admitted after it is not."""
    with RedisReplayCache(server.url) as cache:
        assert cache.admit(ID[0], soon())
        with server.client() as client:
            client.save()
        assert cache.admit(ID[1], soon())
        server.kill()
        server.start(fresh=not saved)
        with server.client() as client:
            assert client.dbsize() == (2 if saved else 0)
        if saved:
            assert cache.admit(ID[0], soon()) is False  # it is remembered
        for request_id in ID[1:3]:
            with pytest.raises(ac.ReplayStoreError, match="a store before this one"):
                cache.admit(request_id, soon() + 60)


def test_a_replica_that_takes_over_is_a_new_store(server: RedisServer) -> None:
    with RedisServer("--port", "0") as replica, RedisReplayCache(replica.url) as there:
        with server.client() as client, replica.client() as copy:
            for name in client.scan_iter():  # as if replicated, but for what was on its way
                copy.set(name, client.get(name) or b"")
        with pytest.raises(ac.ReplayStoreError, match="a store before this one"):
            there.admit(ID[0], soon())
