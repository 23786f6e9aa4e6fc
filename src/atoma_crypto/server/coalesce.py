"""Joins the text of a stream, so that what is sealed is fewer and longer pieces, which tell less of each token."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from anyio import CancelScope, Event, current_time, move_on_after
from anyio.abc import TaskGroup

from atoma_crypto.server._work import close_stream
from atoma_crypto.server.model import Answer

_MAX_CHARACTERS: Final = 65536
# What may stand beside the text of a chunk that is joined with others: all of it is known to say the same each time.
_CHUNK: Final = frozenset(("id", "object", "created", "model", "system_fingerprint", "service_tier"))
_CHOICE: Final = frozenset(("index",))
_DELTA: Final = frozenset(("role",))


@dataclass(frozen=True, slots=True)
class Coalesce:
    """How text is joined: for `seconds` from the first of it on, and at most so many `characters`.

    ValueError: seconds that are not above 0 and up to 60, or characters that are not 2 to 65,536.
    """

    seconds: float = 0.25
    characters: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, int | float) or isinstance(self.seconds, bool) or not 0 < self.seconds <= 60:
            raise ValueError("seconds must be a number above 0, and at most 60")
        if type(self.characters) is not int or not 2 <= self.characters <= _MAX_CHARACTERS:
            raise ValueError(f"characters must be an integer from 2 to {_MAX_CHARACTERS}")


@dataclass(slots=True)
class _Text:
    """A chunk that says nothing but text: its JSON with the texts taken out, and the texts, one for each choice."""

    frame: dict[str, object] = field(repr=False)
    texts: list[str] = field(repr=False)


class Joiner:
    """Joins the chunks that are added in turn. What it gives is their text, whole and in order; it knows no time."""

    def __init__(self, characters: int, max_bytes: int) -> None:
        """Join `characters` at most, of chunks that have `max_bytes` together: JSON does not grow by being joined."""
        self._characters = characters
        self._max_bytes = max_bytes
        self._held: list[Answer] = []
        self._texts: list[_Text] = []
        self._length = 0
        self._bytes = 0

    @property
    def holding(self) -> int:
        """How many chunks are held."""
        return len(self._held)

    def add(self, answer: Answer) -> list[Answer]:
        """Take one chunk; give what is to be sent by now."""
        text = _text_of(answer)
        if text is None:
            return [*self.flush(), answer]
        length, size = sum(map(len, text.texts)), len(answer.plaintext)
        ready: list[Answer] = []
        if self._held and (
            self._texts[0].frame != text.frame
            or self._length + length > self._characters
            or self._bytes + size > self._max_bytes
        ):
            ready = self.flush()
        self._held.append(answer)
        self._texts.append(text)
        self._length += length
        self._bytes += size
        if self._length >= self._characters:
            ready += self.flush()
        return ready

    def flush(self) -> list[Answer]:
        """Give what is held, as one chunk; nothing if nothing is."""
        held, texts = self._held, self._texts
        self._held, self._texts, self._length, self._bytes = [], [], 0, 0
        if len(held) < 2:
            return held
        frame = texts[0].frame
        joined = map("".join, zip(*(text.texts for text in texts), strict=True))
        for choice, whole in zip(_choices(frame), joined, strict=True):
            place, name = _place(choice)
            place[name] = whole
        return [Answer(json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode())]


def _text_of(answer: Answer) -> _Text | None:
    """The chunk taken apart, if it says nothing but text and so may be joined with another."""
    try:
        chunk = _STRICT.decode(answer.plaintext.decode())
        if answer.usage is not None or not isinstance(chunk, dict) or not _is_plain(chunk, _CHUNK, "choices"):
            return None
        texts = [_taken(choice) for choice in _choices(chunk)]
    except (ValueError, RecursionError):  # what cannot be joined is passed on as it is
        return None
    return _Text(chunk, texts) if texts else None


def _choices(chunk: dict[str, object]) -> list[dict[str, object]]:
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("choices")
    return choices


def _place(choice: dict[str, object]) -> tuple[dict[str, object], str]:
    """Where the text of a choice stands: of chat completions, or of completions."""
    delta = choice.get("delta")
    return (delta, "content") if isinstance(delta, dict) else (choice, "text")


def _taken(choice: dict[str, object]) -> str:
    """Take the text out of a choice. ValueError: there is more in it than text, or none."""
    place, name = _place(choice)
    plain = _is_plain(choice, _CHOICE, name if place is choice else "delta")
    if not plain or not (place is choice or _is_plain(place, _DELTA, name)):
        raise ValueError("more than text")
    text = place.get(name)
    if not isinstance(text, str):
        raise ValueError(name)
    text.encode()  # UnicodeEncodeError: half of a surrogate pair, which what follows could make a whole one
    place[name] = ""
    return text


def _is_plain(found: dict[str, object], names: frozenset[str], inner: str) -> bool:
    """Whether these members are texts, integers or null, and all others but `inner` are empty.

    Anything else could be a piece of something, and would be lost where two chunks that have it alike become one.
    """
    return all(
        name == inner
        or (value is None or type(value) in (str, int) if name in names else value is None or value in ("", [], {}))
        for name, value in found.items()
    )


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member stands twice")
    return found


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique)


class Coalesced:
    """A model's stream with its text joined: an async iterator of batches that has an `aclose()`.

    The stream is read by a task of `group`, one batch ahead: to give up a wait for its next would end it. What is held
    is sent when its time is over, when something comes that cannot be joined with it, and at the end.
    """

    def __init__(
        self, stream: AsyncIterator[list[Answer]], coalesce: Coalesce, max_event_bytes: int, group: TaskGroup
    ) -> None:
        self._stream = stream
        self._seconds = coalesce.seconds
        self._joiner = Joiner(coalesce.characters, max_event_bytes // 2)  # base64 makes 4 bytes of 3
        self._deadline = math.inf
        self._batch: list[Answer] = []
        self._failure: Exception | None = None
        self._ended = False
        self._news, self._room, self._over = Event(), Event(), Event()
        self._reading = CancelScope()
        group.start_soon(self._read)

    def __aiter__(self) -> Coalesced:
        return self

    async def __anext__(self) -> list[Answer]:
        """What is to be sent next, as soon as it is. Raises what the stream has raised, once all before it is given."""
        ready: list[Answer] = []
        while not ready:
            if not self._batch and not self._ended:
                self._news = Event()
                with move_on_after(self._deadline - current_time()):
                    await self._news.wait()
            if current_time() >= self._deadline:
                ready = self._joiner.flush()
                self._deadline = math.inf
            elif self._batch:
                ready = self._take()
            elif self._ended:
                ready = self._joiner.flush()
                if not ready:
                    raise self._failure or StopAsyncIteration
        return ready

    async def aclose(self) -> None:
        """Read no more; return once the stream is closed."""
        self._reading.cancel()
        await self._over.wait()

    def _take(self) -> list[Answer]:
        batch, self._batch = self._batch, []
        self._room.set()
        ready: list[Answer] = []
        for answer in batch:
            before = self._joiner.holding
            ready += self._joiner.add(answer)
            if self._joiner.holding == 0:
                self._deadline = math.inf
            elif self._joiner.holding <= before or before == 0:  # these are other ones
                self._deadline = current_time() + self._seconds
        return ready

    async def _read(self) -> None:
        try:
            with self._reading:
                async for batch in self._stream:
                    self._batch = list(batch)
                    self._news.set()
                    while self._batch:
                        self._room = Event()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001 - it is raised where the stream is iterated
            self._failure = error
        finally:
            await close_stream(self._stream)
            self._ended = True
            self._news.set()
            self._over.set()
