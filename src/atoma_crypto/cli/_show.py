"""The demo itself: a node, a recording router, a client, and a conversation between them.

Three turns of protocol v2, then one of v1.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import httpx
import uvicorn
from rich.console import Console
from rich.live import Live

import atoma_crypto as ac
from atoma_crypto._offers import read_offers
from atoma_crypto._typing import Protocol
from atoma_crypto.cli import _view
from atoma_crypto.cli._leak import search
from atoma_crypto.cli._proxy import RecordingProxy
from atoma_crypto.cli._wire import look, parsed
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.listener import listen
from atoma_crypto.server.node import create_app

PROMPTS = (
    "Hello! My doctor says that I need a second opinion about my heart.",
    "I am afraid that someone between us reads this.",
    "So what does the router see?",
)
OLD_PROMPT = "And the hash that an old client sends?"
_WORD_SECONDS = 0.07  # the pace of a reader, for a terminal; a log does not wait
_START_SECONDS = 10.0
_REPLAYS = 5  # so that the median tells of warm code
_MODEL = "eliza"


@dataclass(slots=True)
class Turn:
    """One question and its answer, as the client has them."""

    protocol: Protocol
    messages: list[dict[str, str]] = field(repr=False)
    answer: str = field(default="", repr=False)
    plaintexts: list[bytes] = field(default_factory=list, repr=False)
    events: int = 0  # v2's end, which has no text, is one too

    @property
    def prompt(self) -> str:
        """What the user said."""
        return self.messages[-1]["content"]


def show(*, chat: bool) -> int:
    """Hold the conversation and draw it; 1 if any of its words was found on the wire."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_view.LEGIBLE)  # a terminal without these characters is no reason to stop
    console = _view.console()
    model = ElizaModel(seed=8, delay=_WORD_SECONDS if console.is_terminal else 0)
    with (
        closing(ac.NodeKeyring()) as keys,
        _running_node(keys, model) as address,
        RecordingProxy(address) as proxy,
        _http(proxy) as http,
    ):
        demo = _Demo(console, http, proxy, keys)
        console.print(_view.opening())
        demo.converse("v2", PROMPTS)
        if chat:
            demo.converse("v2", _typed(console))
        demo.explain()
        console.print(_view.older())
        demo.converse("v1", [OLD_PROMPT])
        demo.explain()
        return demo.conclude()


class _Demo:
    def __init__(self, console: Console, http: httpx.Client, proxy: RecordingProxy, keys: ac.NodeKeyring) -> None:
        self._console = console
        self._http = http
        self._proxy = proxy
        self._keys = keys  # the node's, in the same process
        self._expected = {offer.protocol: offer.public_key for offer in keys.offers()}
        self._turns: list[Turn] = []

    def converse(self, protocol: Protocol, prompts: Iterable[str]) -> None:
        """Hold one conversation, drawing each turn as it comes."""
        messages: list[dict[str, str]] = []
        for prompt in prompts:
            messages.append({"role": "user", "content": prompt})
            turn = Turn(protocol, list(messages))
            stack_small_id = self._lock(protocol)
            self._hold(turn, stack_small_id)
            messages.append({"role": "assistant", "content": turn.answer})
            self._turns.append(turn)

    def _lock(self, protocol: Protocol) -> int:
        reply = self._http.post("/v1/nodes/lock", json={"model": _MODEL}).raise_for_status().json()
        offered = ac.PublicKey.from_base64(reply["public_key"])
        if protocol == "v2":
            offered = read_offers(reply["keys"])[0].public_key
        # Nothing of it proves whose key it is. Whoever knows it from elsewhere compares, as here.
        if offered.fingerprint() != self._expected[protocol].fingerprint():
            raise SystemExit("the lock names a key that is not the node's")
        if not self._turns:
            self._console.print(_view.locked(reply["keys"][0], reply["stack_small_id"], offered.fingerprint()))
        return int(reply["stack_small_id"])

    def _hold(self, turn: Turn, stack_small_id: int) -> None:
        number = len(self._turns) + 1
        title = f"turn {number} of {len(PROMPTS)}" if number <= len(PROMPTS) else f"turn {number}"
        if turn.protocol == "v1":
            title = "a turn of protocol v1"
        body = json.dumps({"model": _MODEL, "messages": turn.messages, "stream": True}, ensure_ascii=False)
        session = self._session(turn.protocol, stack_small_id)
        with session, Live(console=self._console, auto_refresh=False, transient=True) as live:
            sealed = session.seal_request(body.encode(), stream=True)
            headers = {"content-type": "application/json", "accept": "text/event-stream"}
            with self._http.stream(
                "POST", "/v1/confidential/chat/completions", content=sealed, headers=headers
            ) as response:
                response.raise_for_status()
                passed = self._proxy.connections[-1]
                for data in response.iter_raw():
                    session.receive_data(data)
                    for event in session.events():
                        if not isinstance(event, ac.Chunk):
                            continue
                        turn.plaintexts.append(event.plaintext)
                        turn.answer += _words(event.plaintext)
                        live.update(_view.turn(title, turn.prompt, turn.answer, look(passed)), refresh=True)
            session.receive_eof()
            for _ in session.events():  # raises if the stream broke off
                pass
        turn.events = len(look(passed).events)
        self._console.print(_view.turn(title, turn.prompt, turn.answer, look(passed)))

    def _session(self, protocol: Protocol, stack_small_id: int) -> ac.ClientSession:
        key = self._expected[protocol]
        return ac.ClientSession(key, model=_MODEL, stack_small_id=stack_small_id, protocol=protocol)

    def explain(self) -> None:
        """Show one event of the last turn in full, and what its protocol leaves in clear."""
        turn, passed = self._turns[-1], self._proxy.connections[-1]
        first_word = 1  # the event before it only names the role
        self._console.print(_view.event(look(passed).events[first_word], turn.plaintexts[first_word]))
        self._console.print(_view.in_clear(turn.protocol))

    def conclude(self) -> int:
        """Say whether a word came through, and the figures."""
        recorded = self._proxy.recorded()
        result = search(recorded, [text for turn in self._turns for text in (turn.prompt, turn.answer)])
        self._console.print()
        self._console.print(_view.verdict(result, len(recorded)))
        self._console.print(self._figures(len(recorded)))
        return 1 if result.found else 0

    def _figures(self, recorded_len: int) -> str:
        count = sum(turn.events for turn in self._turns)
        (sealing, opening), (old_sealing, old_opening) = self._micros("v2"), self._micros("v1")
        return (
            f"{count} events, {recorded_len:,} bytes; µs per event: {sealing:.1f} to seal, {opening:.1f} to open "
            f"(v1: {old_sealing:.1f}, {old_opening:.1f})"
        )

    def _micros(self, protocol: Protocol) -> tuple[float, float]:
        """Medians of what it takes to seal and to open an event."""
        spent = [each for _ in range(_REPLAYS) for turn in self._turns for each in self._replay(turn, protocol)]
        sealing, opening = (statistics.median(ns) / 1000 for ns in zip(*spent, strict=True))
        return sealing, opening

    def _replay(self, turn: Turn, protocol: Protocol) -> Iterator[tuple[int, int]]:
        """Seal and open a turn's events again; gives the nanoseconds that each took.

        While they were on their way, the two ends, the proxy and the picture took turns at one interpreter,
        and a clock would have shown that instead.
        """
        with self._session(protocol, 1) as client, ac.NodeSession(self._keys) as node:
            node.open_request(client.seal_request(b'{"stream":true}', stream=True))
            for plaintext in turn.plaintexts:
                begun = time.perf_counter_ns()
                event = node.seal_chunk(plaintext)
                sealed = time.perf_counter_ns()
                client.receive_data(event)
                client.next_event()
                yield sealed - begun, time.perf_counter_ns() - sealed


def _words(plaintext: bytes) -> str:
    """Read the words that a chunk adds to the answer."""
    choices = parsed(plaintext).get("choices")
    delta = choices[0].get("delta") if isinstance(choices, list) and choices else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""


def _typed(console: Console) -> Iterator[str]:
    """Read what the user types, until the end of the input, an empty line or /quit."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is not of its encoding is no reason to stop either
    console.print("Your turn: ask about keys, privacy or the router, or talk of yourself. An empty line ends it.")
    while True:
        try:
            line = _clean(input("you> " if sys.stdin.isatty() else "")).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line in {"", "/quit"}:
            return
        yield line


def _clean(line: str) -> str:
    """Put a question mark where a byte was of no character: half a surrogate pair stands for it."""
    return line.encode("utf-8", "replace").decode("utf-8")


def _http(proxy: RecordingProxy) -> httpx.Client:
    return httpx.Client(
        base_url=f"http://127.0.0.1:{proxy.port}",
        headers={"authorization": "Bearer demo"},
        limits=httpx.Limits(max_keepalive_connections=0),  # an exchange to a connection: easy to tell apart
        timeout=_START_SECONDS,
        trust_env=False,  # no other proxy may stand in between
    )


@contextmanager
def _running_node(keys: ac.NodeKeyring, model: ElizaModel) -> Iterator[tuple[str, int]]:
    """Serve a node on a free loopback port; gives its address."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            create_app(keys, model),
            log_config=None,
            access_log=False,
            ws="none",
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="node")
        thread.start()
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise SystemExit("the node did not start")
                time.sleep(0.01)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()
