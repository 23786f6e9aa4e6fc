"""How every benchmark here is run: its name is an operation, and who does it; one call may do it `per` times."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import atoma_crypto as ac

Run = Callable[..., None]
ROUND_NS = 4_000_000
ROUNDS = 21


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who does the same thing runs one after the other: a machine that slows down does so for all of them."""

    def same(item: pytest.Function) -> tuple[str, bool, str]:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        return str(values.get("size", values.get("name", ""))), "open" in item.name, item.path.name

    items.sort(key=same)  # type: ignore[arg-type] # all of them are functions


@pytest.fixture
def run(benchmark: BenchmarkFixture) -> Run:
    """run(operation, who, function, per=1, fresh=None): with `fresh`, each call is given a new one, made untimed."""

    def once(
        operation: str, who: str, function: Callable[..., object], *, per: int = 1, fresh: Any = None, size: int = 0
    ) -> None:
        benchmark.group = operation
        benchmark.extra_info.update(operation=operation, who=who, per=per, bytes=size)
        if fresh is not None:
            benchmark.pedantic(function, setup=lambda: ((fresh(),), {}), rounds=ROUNDS, warmup_rounds=2)
            return
        function()
        begun = time.perf_counter_ns()
        function()
        iterations = max(1, ROUND_NS // max(1, time.perf_counter_ns() - begun))
        benchmark.pedantic(function, iterations=iterations, rounds=ROUNDS, warmup_rounds=1)

    return once


@pytest.fixture
def pair() -> Iterator[tuple[ac.ClientSession, ac.NodeSession]]:
    """Both ends of one streamed exchange."""
    key = ac.SecretKey.generate()
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol="v1")
    node = ac.NodeSession(key)
    node.open_request(client.seal_request(b'{"stream":true}', stream=True))
    with client, node:
        yield client, node
