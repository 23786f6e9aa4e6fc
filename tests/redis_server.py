"""A real Redis server for tests: on a socket in a directory of its own, stopped, killed and started as one likes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any, Final

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PROGRAM: Final = shutil.which("redis-server")
needs_redis: Final = pytest.mark.skipif(PROGRAM is None, reason="there is no redis-server here")


class RedisServer:
    """Started by `with`; its directory, and all that it has saved there, goes at the end."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._home = tempfile.mkdtemp(prefix="r")  # short: a socket's path has 100 characters at most
        self.path = os.path.join(self._home, "s")
        self.url = f"unix://{self.path}"
        self._process: subprocess.Popen[bytes] | None = None

    def client(self, *, timeout: float = 2.0) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.path, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))

    def start(self, *, fresh: bool = True) -> None:
        """`fresh`: without what was saved before."""
        if fresh and os.path.exists(os.path.join(self._home, "dump.rdb")):
            os.unlink(os.path.join(self._home, "dump.rdb"))
        assert PROGRAM is not None
        command = [PROGRAM, "--port", "0", "--unixsocket", self.path, "--dir", self._home, "--save", "", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while not self._is_up():
            assert time.monotonic() < until, "redis-server has not come up"
            time.sleep(0.02)

    def _is_up(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def age(self, seconds: float = 1000.0, *, prefix: str = "atoma2:replay:") -> int:
        """As if its store had been born that long ago, which is when it was; nothing young is in the way then."""
        birth = int(time.time() - seconds)
        with self.client() as client:
            info: Any = client.info("server")
            client.set(f"{prefix}birth", f"{birth} {info['run_id']}")
        return birth

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
