"""The replay store in a real Redis: one admission whoever asks, and none when Redis is gone, lost, full or wrong."""

from __future__ import annotations

import copy
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis

import atoma_crypto as ac
from atoma_crypto.adapters.redis import RedisReplayCache
from redis_server import RedisServer, needs_redis
from threads import run

pytestmark = needs_redis

PREFIX: Final = "atoma2:replay:"
YOUNG: Final = "a store before this one may have admitted the request"
BROKEN: Final = "the replay store does not answer as it should"
ID: Final = [bytes([number]) * 32 for number in range(1, 9)]


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """An empty one, born long ago."""
    with shared.client() as client:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        client.replicaof("NO", "ONE")
        client.flushall()
    shared.age()
    return shared


@pytest.fixture
def cache(server: RedisServer) -> Iterator[RedisReplayCache]:
    with RedisReplayCache(server.url) as cache:
        yield cache


def soon() -> int:
    """When a request expires that is sent now."""
    return int(time.time()) + 360


def refused(cache: RedisReplayCache, request_id: bytes, match: str = BROKEN, expires_at: float | None = None) -> bool:
    with pytest.raises(ac.ReplayStoreError, match=match) as caught:
        cache.admit(request_id, soon() if expires_at is None else expires_at)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return True


def test_an_id_is_admitted_once_and_stays_for_long_enough(server: RedisServer, cache: RedisReplayCache) -> None:
    with RedisReplayCache(server.client()) as other:
        for number, request_id in enumerate(ID):
            first, second = (cache, other) if number % 2 else (other, cache)
            assert first.admit(request_id, soon()) is True
            assert second.admit(request_id, soon()) is False
            assert first.admit(request_id, soon() + 99) is False
    with server.client() as client:
        names = {name.decode() for name in client.scan_iter()}
        assert names == {f"{PREFIX}birth", *(PREFIX + one.hex() for one in ID)}
        # 300 seconds, 60 that it may be ahead, 60 that entries live longer, and 30 that each of two nodes is off
        assert all(client.ttl(PREFIX + one.hex()) >= 480 for one in ID)
        assert client.ttl(f"{PREFIX}birth") == -1
        assert cache.admit(bytes(32), time.time() + 5000)
        assert client.ttl(PREFIX + "00" * 32) > 4990


def test_the_store_is_young_for_ninety_seconds(server: RedisServer, cache: RedisReplayCache) -> None:
    birth = server.age(50)
    for sent_at in (0, birth - 1, birth, birth + 60):
        assert refused(cache, ID[0], YOUNG, sent_at + 360)
        assert refused(cache, ID[0], YOUNG, sent_at + 360.9)
    assert cache.admit(ID[0], birth + 61 + 360)
    assert not cache.admit(ID[0], birth + 60 + 360)
    with server.client() as client:
        client.flushall()
        before = time.time()
        assert refused(cache, ID[0], YOUNG)
        assert refused(cache, ID[0], YOUNG, soon() + 88)
        assert before + 28 <= int(client.get(f"{PREFIX}birth").split()[0]) <= time.time() + 31
    assert cache.admit(ID[0], soon() + 93)


def test_prefixes_are_stores_of_their_own(server: RedisServer, cache: RedisReplayCache) -> None:
    assert cache.admit(ID[0], soon())
    with RedisReplayCache(server.url, prefix="{other}:") as other:
        assert refused(other, ID[0], YOUNG)
        server.age(prefix="{other}:")
        assert other.admit(ID[0], soon())


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
def test_clients_of_any_make(server: RedisServer, options: dict[str, Any]) -> None:
    with redis.Redis(unix_socket_path=server.path, socket_timeout=2, **options) as client:
        cache = RedisReplayCache(client)
        assert [cache.admit(ID[0], soon()) for _ in range(3)] == [True, False, False]
        cache.check()
        cache.close()
        assert client.ping()  # it is the caller's


def test_threads_share_a_store(cache: RedisReplayCache) -> None:
    answers: list[tuple[int, bool]] = []

    def work(_: int) -> None:
        answers.extend((number, cache.admit(number.to_bytes(32, "big"), soon())) for number in range(60))

    run(work)
    for number in range(60):
        assert sorted(answer for each, answer in answers if each == number) == [False] * 7 + [True]


# ---- it fails closed ------------------------------------------------------------------------------------------------


def set_up(name: str, value: str) -> Callable[[redis.Redis], object]:
    return lambda client: client.config_set(name, value)


WRONG: Final[dict[str, tuple[Callable[[redis.Redis], object], str]]] = {
    "evicts": (set_up("maxmemory-policy", "allkeys-lru"), "must be noeviction"),
    "evicts what ends": (set_up("maxmemory-policy", "volatile-ttl"), "must be noeviction"),
    "is full": (set_up("maxmemory", "1"), ""),
    "is read-only": (lambda client: client.replicaof("127.0.0.1", "1"), ""),
    "has a list for its birth": (
        lambda client: (client.delete(f"{PREFIX}birth"), client.lpush(f"{PREFIX}birth", "1")),
        ":",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_redis_that_is_wrong(server: RedisServer, cache: RedisReplayCache, name: str) -> None:
    assert cache.admit(ID[0], soon())
    spoil, told = WRONG[name]
    with server.client() as client:
        client.lpush("list", "1")
        spoil(client)
        assert refused(cache, ID[1])
        if told:
            with pytest.raises(ac.ReplayStoreError, match=told):
                cache.check()
        client.config_set("maxmemory", "0")
        assert not client.exists(PREFIX + ID[1].hex())


@pytest.mark.parametrize("birth", ["", "1", "soon x", "-5 {}", "1e300 {}", "5", "0x10 {}", "99 {} {}", "{} 5"])
def test_a_birth_that_nobody_wrote_is_none(server: RedisServer, cache: RedisReplayCache, birth: str) -> None:
    with server.client() as client:
        run_id = client.info("server")["run_id"]
        client.set(f"{PREFIX}birth", birth.replace("{}", run_id))
    assert refused(cache, ID[0], YOUNG)


@pytest.mark.parametrize("off", [-1e9, -35, 35, 1e9, math.nan, math.inf])
def test_a_node_whose_clock_is_not_rediss(server: RedisServer, cache: RedisReplayCache, off: float) -> None:
    with RedisReplayCache(server.url, clock=lambda: time.time() + off) as wrong:
        assert refused(wrong, ID[0])
        with pytest.raises(ac.ReplayStoreError, match="clocks" if math.isfinite(off) else BROKEN):
            wrong.check()
    with RedisReplayCache(server.url, clock=lambda: time.time() + off / abs(off) * 25) as near:
        assert near.admit(ID[0], soon()) if math.isfinite(off) else refused(near, ID[0])
    assert cache.admit(ID[1], soon())


def test_a_script_that_redis_has_forgotten_is_sent_again(server: RedisServer, cache: RedisReplayCache) -> None:
    assert cache.admit(ID[0], soon())
    with server.client() as client:
        client.script_flush()
    assert cache.admit(ID[1], soon())
    assert not cache.admit(ID[0], soon())


def test_answers_that_no_redis_gives(cache: RedisReplayCache) -> None:
    for answer in (True, False, None, 2, -4, -2, b"1", "1", [1], 1.0):
        cache._script = lambda answer=answer, **_: answer  # type: ignore[assignment] # it is not one
        assert refused(cache, ID[0])
        if answer != -2:
            with pytest.raises(ac.ReplayStoreError, match=f"{BROKEN}: {type(answer).__name__}"):
                cache.check()


def test_nobody_listens() -> None:
    with RedisReplayCache("unix:///nonexistent/s") as cache:
        assert refused(cache, ID[0])
        with pytest.raises(ac.ReplayStoreError, match=f"{BROKEN}: ConnectionError"):
            cache.check()


def test_somebody_listens_who_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://user:hidden@127.0.0.1:{deaf.getsockname()[1]}"
        with RedisReplayCache(url, timeout=0.2) as cache:
            before = time.monotonic()
            assert refused(cache, ID[0])
            assert time.monotonic() - before < 5
            with pytest.raises(ac.ReplayStoreError, match="TimeoutError") as caught:
                cache.check()
            assert "hidden" not in str(caught.value) + repr(cache)


def test_a_redis_that_hangs_and_the_request_that_was_in_flight(server: RedisServer) -> None:
    """What was refused for want of an answer may be spent, and is never admitted by trying again."""
    with RedisReplayCache(server.url, timeout=0.2) as cache:
        assert cache.admit(ID[0], soon())
        server.signal(signal.SIGSTOP)
        try:
            before = time.monotonic()
            assert refused(cache, ID[1])
            assert refused(cache, ID[2])  # a new connection
            assert time.monotonic() - before < 5
        finally:
            server.signal(signal.SIGCONT)
        with server.client() as client:
            until = time.monotonic() + 10
            while not client.exists(PREFIX + ID[1].hex()) and time.monotonic() < until:
                time.sleep(0.01)
        assert cache.admit(ID[1], soon()) is False  # it ran when Redis went on
        assert [cache.admit(ID[3], soon()) for _ in range(2)] == [True, False]


# ---- arguments and ends ---------------------------------------------------------------------------------------------


def test_arguments(server: RedisServer, cache: RedisReplayCache) -> None:
    make: Any = RedisReplayCache
    wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: make(5), TypeError, "client must be a URL or a redis.Redis, not int"),
        (lambda: make(server.url, prefix=b"x"), TypeError, "prefix must be str"),
        (lambda: make(server.url, clock=5), TypeError, "clock must be a function"),
        (lambda: make("redis://:a/b@h"), ValueError, "the URL of the replay store cannot be read"),
        (lambda: make(server.url, timeout=0), ValueError, "timeout must be more than 0"),
        (lambda: make(server.url, timeout=math.inf), ValueError, "timeout must be more than 0"),
        (lambda: make(redis.Redis(socket_timeout=None)), ValueError, "the client has no socket_timeout"),
        (lambda: cache.admit(bytes(31), soon()), ValueError, "request_id must be 32 bytes"),
        (lambda: cache.admit(bytes(32), math.nan), ValueError, "expires_at must be seconds"),
    ]
    for call, error, text in wrong:
        with pytest.raises(error, match=text):
            call()


def test_a_closed_store(server: RedisServer) -> None:
    cache = RedisReplayCache(server.url)
    assert cache.admit(ID[0], soon())
    assert repr(cache) == "<RedisReplayCache>"
    with pytest.raises(TypeError, match="not to be pickled or copied"):
        copy.copy(cache)
    cache.close()
    cache.close()
    assert repr(cache) == "<RedisReplayCache closed>"
    assert refused(cache, ID[1], "this replay store is closed")
    with pytest.raises(ac.ReplayStoreError, match="closed"):
        cache.check()
    with RedisReplayCache(server.url) as other:
        assert not other.admit(ID[0], soon())  # what Redis remembers stays


def test_a_store_that_is_closed_while_threads_are_inside(server: RedisServer) -> None:
    cache = RedisReplayCache(server.url)
    admitted: list[bytes] = []
    begun = threading.Event()

    def work(number: int) -> None:
        for i in range(10_000):
            request_id = (number * 100_000 + i).to_bytes(32, "big")
            try:
                if cache.admit(request_id, soon()):
                    admitted.append(request_id)
                    begun.set()
            except ac.ReplayStoreError:
                return

    def close() -> None:
        begun.wait()
        cache.close()

    closing = threading.Thread(target=close)
    closing.start()
    run(work)
    closing.join()
    with server.client() as client:
        assert all(client.exists(PREFIX + one.hex()) for one in admitted)
