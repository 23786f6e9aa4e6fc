"""What is counted of one endpoint's requests, and of evidence."""

from __future__ import annotations


class Counts:
    """Counts nothing; `_metrics` has one that does."""

    def opened(self, protocol: str) -> None:
        """Count a request that was opened and admitted."""

    def refused(self, code: str) -> None:
        """Count a request that the node itself has refused. `code` is one of its own few."""

    def sealed(self, events: int) -> None:
        """Count so many events."""


def counted_nowhere(outcome: str) -> None:
    """Count nothing: for who has no metrics."""
