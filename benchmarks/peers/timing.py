"""What both scripts of peers share. They run in environments of their own, without atoma-crypto."""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

# The text, the length of a round and how many there are: as in the benchmarks that these results stand beside.
TEXT = bytes(32 + i % 90 for i in range(300))
ROUND_NS = 4_000_000
ROUNDS = 21
MANY = 640


def measure(function: Callable[..., object], fresh: Callable[[int], Iterable[Any]] | None = None) -> float:
    """The median ns of a call. With `fresh`, each call takes the next of that many, which are made untimed."""
    one_round = repeated(function) if fresh is None else lambda: for_each(function, list(fresh(MANY)))
    one_round()
    return statistics.median(one_round() for _ in range(ROUNDS))


def repeated(function: Callable[..., object]) -> Callable[[], float]:
    function()
    begun = time.perf_counter_ns()
    function()
    calls = max(1, ROUND_NS // max(1, time.perf_counter_ns() - begun))

    def one_round() -> float:
        begun = time.perf_counter_ns()
        for _ in range(calls):
            function()
        return (time.perf_counter_ns() - begun) / calls

    return one_round


def for_each(function: Callable[..., object], arguments: list[Any]) -> float:
    begun = time.perf_counter_ns()
    for argument in arguments:
        function(argument)
    return (time.perf_counter_ns() - begun) / len(arguments)


def report(results: dict[str, dict[str, float]]) -> None:
    """Who: operation: ns."""
    print(json.dumps({who: {name: round(ns, 1) for name, ns in did.items()} for who, did in results.items()}))
