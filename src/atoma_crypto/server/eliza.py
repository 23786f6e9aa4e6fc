"""The built-in model: a page of rules that chats, without weights and without a network.

It listens the way the first chat program did: the clause that holds the weightiest keyword is taken apart,
its pronouns are turned round, and a phrase is built on what is left. Everything it remembers stands in the
`messages` of the request, so it keeps no state and no word of anybody's. The rules are in `eliza_script.py`,
what it knows of this library in `eliza_topics.py`, and what it says otherwise in `eliza_phrases.py`.
"""

import asyncio
import hashlib
import json
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from atoma_crypto.adapters._routes import BY_PLAINTEXT, Endpoint
from atoma_crypto.server import eliza_phrases as phrases
from atoma_crypto.server import eliza_script as script
from atoma_crypto.server._json import read_object
from atoma_crypto.server._work import run_work
from atoma_crypto.server.eliza_topics import TOPICS
from atoma_crypto.server.model import Answer, InferenceError

_CHAT = BY_PLAINTEXT["/v1/chat/completions"]
_HEARD_CHARS = 2000  # of one message: what is behind them changes no answer
_HEARD_MESSAGES = 64  # of the conversation, counted from its end

_CLAUSE_END = re.compile(r"[.!?;:]+(?=\s|$)|,\s|\n+")
_WORD = re.compile(r"\s*\S+")
_TOKEN = re.compile(r"\S+")  # for texts of any length: _WORD would take the square of their white space
_REFLECTED = re.compile(
    r"\b(?:" + "|".join(re.escape(words) for words in (*phrases.REFLECTIONS, "you")) + r")\b", re.IGNORECASE
)


class ElizaModel:
    """Answers OpenAI chat completion requests from rules; the model is called `eliza`.

    With a `seed` the same conversation gets the same answer. `delay` is the pause after each streamed chunk,
    in seconds. A word counts as a token. `tool_choice` set to "required" or to a function is obeyed with a
    call of that function without arguments; other tools, and all options but `max_tokens`, are read over.
    A body that is not a JSON object with a list of messages raises InferenceError with status 400, and any endpoint but
    chat one with 404.
    """

    def __init__(self, seed: int | None = None, delay: float = 0.0) -> None:
        self._seed = seed
        self._delay = delay

    def serves(self, model: str) -> bool:
        """Tell whether `model` is this one."""
        return model == "eliza"

    async def complete(self, endpoint: Endpoint, body: bytes) -> Answer:
        """Answer with one chat.completion object."""
        return (await self._reply(endpoint, body)).completion()

    async def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        """Answer with chat.completion.chunk objects: the role, a chunk for each word, the end, the usage."""
        reply = await self._reply(endpoint, body)
        for chunk in reply.chunks():
            yield [chunk]
            await asyncio.sleep(self._delay)

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def _reply(self, endpoint: Endpoint, body: bytes) -> "_Reply":
        if endpoint is not _CHAT:
            raise InferenceError(404, passes=True)
        return await run_work(_Reply.to, body, self._seed)


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What will be said, before it is a completion or chunks."""

    model: str
    words: tuple[str, ...] = field(repr=False)  # each with the space before it
    finish_reason: str
    tool: str | None
    prompt_tokens: int
    # 128 random bits in every plaintext: v1 shows its unkeyed hash, which could be looked up without them.
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @staticmethod
    def to(body: bytes, seed: int | None) -> "_Reply":
        try:
            request = read_object(body)
        except ValueError:
            raise InferenceError(400) from None
        messages = request.get("messages", [])
        if not isinstance(messages, list):
            raise InferenceError(400)
        turns = [_turn(message) for message in messages if isinstance(message, dict)]
        tool = _called_tool(request)
        words = tuple(_WORD.findall(converse(turns, seed))) if tool is None else ()
        limit = request.get("max_completion_tokens")
        if limit is None:  # absent and null are the same
            limit = request.get("max_tokens")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            limit = len(words)
        cut = limit < len(words)
        return _Reply(
            model=str(request.get("model", "eliza")),
            words=words[:limit],
            finish_reason="length" if cut else "stop" if tool is None else "tool_calls",
            tool=tool,
            prompt_tokens=sum(1 for turn in turns for _ in _TOKEN.finditer(turn.text)),
        )

    def completion(self) -> Answer:
        message: dict[str, object] = {"role": "assistant", "content": "".join(self.words)}
        if self.tool is not None:
            message["tool_calls"] = [self._tool_call(self.tool)]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return self._answer("chat.completion", [choice], self._usage())

    def chunks(self) -> Iterator[Answer]:
        yield self._chunk({"role": "assistant", "content": ""})
        if self.tool is not None:
            yield self._chunk({"tool_calls": [{"index": 0, **self._tool_call(self.tool)}]})
        for word in self.words:
            yield self._chunk({"content": word})
        yield self._chunk({}, self.finish_reason)
        yield self._answer("chat.completion.chunk", [], self._usage())

    def _chunk(self, delta: dict[str, object], finish_reason: str | None = None) -> Answer:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._answer("chat.completion.chunk", [choice])

    def _answer(self, kind: str, choices: Sequence[object], usage: dict[str, int] | None = None) -> Answer:
        content = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        } | ({} if usage is None else {"usage": usage})
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return Answer(text.encode("utf-8", "replace"), usage)  # JSON may hold half a surrogate pair, UTF-8 may not

    def _tool_call(self, name: str) -> dict[str, object]:
        # The id is told by the completion's own, so that both forms of one reply agree.
        return {
            "id": f"call_{self.id[-24:]}",
            "type": "function",
            "function": {"name": name, "arguments": "{}"},
        }

    def _usage(self) -> dict[str, int]:
        said = len(self.words) if self.tool is None else 1
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": said,
            "total_tokens": self.prompt_tokens + said,
        }


def _turn(message: dict[str, object]) -> _Turn:
    """Read a message whose content is text, a list of parts, or null."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return _Turn(str(message.get("role")), " ".join(text for text in texts if isinstance(text, str)))


def _called_tool(request: dict[str, object]) -> str | None:
    """Name the function that `tool_choice` asks for; None if it asks for none, or if there is none."""
    choice, tools = request.get("tool_choice"), request.get("tools")
    if choice == "required" and isinstance(tools, list):
        return next((name for tool in tools if (name := _function_name(tool)) is not None), None)
    return _function_name(choice)


def _function_name(tool: object) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def converse(turns: Sequence[_Turn], seed: int | None) -> str:
    """Say what comes next in a conversation; with a seed always the same."""
    turns = [_Turn(turn.role, _plain(turn.text)) for turn in turns[-_HEARD_MESSAGES:]]
    if turns and turns[-1].role == "tool":
        return phrases.TOOL_SAID.format(turns[-1].text)
    heard = [turn.text for turn in turns if turn.role == "user"]
    said = {turn.text for turn in turns if turn.role == "assistant"}
    return _choose(_tiers(heard), said, _dice(seed, turns))


def _plain(text: str) -> str:
    return text[:_HEARD_CHARS].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip()


def _dice(seed: int | None, turns: Sequence[_Turn]) -> random.Random:
    if seed is None:
        return random.Random()  # noqa: S311 (it picks phrases, not keys)
    told = json.dumps([seed, [(turn.role, turn.text) for turn in turns]]).encode()
    return random.Random(hashlib.sha256(told).digest())  # noqa: S311 (it picks phrases, not keys)


def _choose(tiers: Sequence[Sequence[str]], said: set[str], dice: random.Random) -> str:
    """Pick a phrase of the first tier that still has one unsaid."""
    fresh = ([phrase for phrase in tier if phrase not in said] for tier in tiers)
    return dice.choice(next(filter(None, fresh), tiers[-1]))


def _tiers(heard: Sequence[str]) -> list[Sequence[str]]:
    """List what may be said to the last of the user's messages, the most fitting phrases first."""
    if not heard or not heard[-1]:
        return [phrases.OPENING]
    *earlier, last = heard
    tiers: list[Sequence[str]] = []
    if phrases.NAME_ASKED.search(last) and (names := _found(phrases.NAMED, earlier)):
        tiers.append([phrase.format(names[-1]) for phrase in phrases.NAME_KNOWN])
    if last in earlier:
        tiers.append(phrases.AGAIN)
    if (spoken := _spoken(last)) is not None:
        rule, match = spoken
        caught = [reflect(group or "that") for group in match.groups()]
        tiers.append([_sentence(phrase.format(*caught)) for phrase in rule.answers])
    if things := _found(phrases.CAME_UP, earlier):
        tiers.append([phrase.format(reflect(things[-1])) for phrase in phrases.COME_BACK])
    return [*tiers, phrases.OTHERWISE]


def _spoken(text: str) -> tuple[script.Rule, re.Match[str]] | None:
    """Find the rule of the highest rank that any clause brings up, and what it caught there."""
    found = [
        (rule, match)
        for rule in (*TOPICS, *script.RULES)
        for clause in _clauses(text)
        if (match := rule.pattern.search(clause)) is not None
    ]
    return max(found, key=lambda pair: pair[0].rank, default=None)


def _found(pattern: re.Pattern[str], texts: Sequence[str]) -> list[str]:
    return [match[1] for text in texts for clause in _clauses(text) if (match := pattern.search(clause)) is not None]


def _clauses(text: str) -> list[str]:
    return [clause.strip() for clause in _CLAUSE_END.split(text) if clause.strip()]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def reflect(text: str) -> str:
    """Turn the pronouns round: what the user calls "my", the model calls "your"."""

    def turned(match: re.Match[str]) -> str:
        words = match[0].lower()
        if words != "you":
            return phrases.REFLECTIONS[words]
        last = not text[match.end() :].strip()
        return "me" if last or phrases.BEFORE_ME.search(text[: match.start()]) else "I"

    return _REFLECTED.sub(turned, text.strip().rstrip(".!?,;: "))
