"""Whether a stream of protocol v1 was whole: the protocol itself does not say where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import atoma_crypto as ac

_MAX_CHOICES: Final = 4096


class Progress:
    """How far an answer has come, told by its choices, of which there must be so many."""

    __slots__ = ("_choices", "_finished", "_seen")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def see(self, event: Mapping[str, object]) -> None:
        """Look at one event. FramingError: a choice without a number, or far too many."""
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                number = choice.get("index", 0)
                if type(number) is not int:
                    raise ac.FramingError("a choice has no number")
                self._seen.add(number)
                if len(self._seen) > max(_MAX_CHOICES, self._choices):
                    raise ac.FramingError("the answer has more choices than can be")
                if isinstance(reason := choice.get("finish_reason"), str) and reason:
                    self._finished.add(number)
                elif _says_something(choice):  # it goes on
                    self._finished.discard(number)

    @property
    def complete(self) -> bool:
        """Whether each choice that was asked for has come, and had its `finish_reason`."""
        return self._seen == self._finished and len(self._seen) >= self._choices


def _says_something(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    return bool(choice.get("text")) or (isinstance(delta, dict) and any(delta.values()))


def count_choices(asked: Mapping[str, object]) -> int:
    """How many choices the answer to this body has: `n` for each prompt."""
    prompts, n = asked.get("prompt"), asked.get("n")
    each = len(prompts) if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int) else 1
    return each * (n if type(n) is int and n > 0 else 1)
