"""What was measured: rounds of operations, and ratios between those who did the same in one round."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OURS = "atoma-crypto"


class Measured(NamedTuple):
    ns: float
    spread: float  # between the quartiles, as a part of the median; 0 where there is none
    size: int  # bytes, where throughput is what matters


@dataclass(slots=True)
class Round:
    """Operation: who: what was measured. And what the CPU's units could do, in GB/s."""

    measured: dict[str, dict[str, Measured]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    def add(self, operation: str, who: str, ns: float, spread: float, size: int) -> None:
        self.measured.setdefault(operation, {})[who] = Measured(ns, spread, size)


Figure = Callable[[Round], float]


def ns_of(operation: str, who: str) -> Figure:
    return lambda each: each.measured[operation][who].ns


def spread_of(operation: str, who: str) -> Figure:
    return lambda each: each.measured[operation][who].spread


def limit(name: str) -> Figure:
    return lambda each: each.limits[name]


def times(operation: str, against: str, who: str) -> Figure:
    """How many times as fast `who` is at the operation as `against` is."""
    return lambda each: each.measured[operation][against].ns / each.measured[operation][who].ns


def share(operation: str, who: str) -> Figure:
    """Of the limit of 256-bit registers."""

    def figure(each: Round) -> float:
        done = each.measured[operation][who]
        return done.size / done.ns / each.limits["limit256"]

    return figure


def least(figures: Iterable[Figure]) -> Figure:
    """The worst of several."""
    kept = list(figures)
    return lambda each: min(figure(each) for figure in kept)


@dataclass(frozen=True, slots=True)
class Results:
    """All rounds, and on what they ran."""

    machine: dict[str, Any]
    rounds: list[Round]

    def over(self, figure: Figure) -> tuple[float, float, float]:
        """Median, least and greatest of a figure over the rounds."""
        found = [figure(each) for each in self.rounds]
        return statistics.median(found), min(found), max(found)

    def operations(self) -> dict[str, list[str]]:
        """Who did what, in the order of the first round."""
        return {operation: list(who) for operation, who in self.rounds[0].measured.items()}

    def did(self, operation: str, who: str) -> bool:
        return all(who in each.measured.get(operation, {}) for each in self.rounds)

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "rounds": [{"limits": each.limits, "measured": each.measured} for each in self.rounds],
        }
