"""What the tests of the SDK talk to: the oracle's node with locks that count and faults on order, and an SDK for it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.sdk import AtomaSDK
from oracle import LOCK_PATH, Behaviour, OracleNode, compact
from serving import NO_CAS

DEFAULT_UNITS: Final = {
    "/v1/confidential/chat/completions": 8192,
    "/v1/confidential/completions": 8192,
    "/v1/confidential/embeddings": 8192,
    "/v1/confidential/images/generations": 1024 * 1024,
}
MESSAGES: Final = [{"role": "user", "content": "Hello"}]
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
HEAD: Final = {"id": "chatcmpl-1", "created": 1700000000, "model": "m"}
REPLY: Final = {
    **HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße 🌍"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
CHUNKS: Final = [
    {**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {**HEAD, "choices": [{"index": 0, "delta": {"content": "Grüße"}}]},
    {**HEAD, "choices": [{"index": 0, "delta": {"content": " 🌍"}, "finish_reason": "stop"}]},
    {**HEAD, "choices": [], "usage": USAGE},
]
CANARY: Final = "xylophone-canary-7731"


def printed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class LockingNode(OracleNode):
    """The oracle's node as deployed proxies guard it: a lock large enough for each request, or 425.

    `faults` are the answers to the next sealed requests instead of the right ones, after their locks are used up.
    """

    def __init__(self, reply: object = REPLY, chunks: Sequence[object] = CHUNKS, **behaviour: Any) -> None:
        behaviour.setdefault("nonces", "fresh")
        super().__init__(printed(reply), [printed(chunk) for chunk in chunks], Behaviour(**behaviour))
        self._server.socket.listen(128)  # http.server's own queue of five is too short for many at once
        self.locks: list[int] = []
        self.asked_locks: list[dict[str, Any]] = []
        self.envelopes: list[dict[str, Any]] = []
        self.faults: list[tuple[int, bytes]] = []
        self._guard = threading.Lock()

    def answer(self, path: str, raw: bytes) -> tuple[int, str, bytes]:
        if path == LOCK_PATH:
            asked = json.loads(raw)
            with self._guard:
                self.asked_locks.append(asked)
                self.locks.append(asked.get("max_num_tokens") or 8192)
            return super().answer(path, raw)
        if path not in DEFAULT_UNITS:
            return 404, "application/json", compact({"error": {"code": "NOT_FOUND", "message": path}}).encode()
        envelope = json.loads(raw)
        units = envelope.get("num_compute_units")
        with self._guard:
            self.envelopes.append(envelope)
            fitting = [size for size in self.locks if size >= (DEFAULT_UNITS[path] if units is None else units)]
            if not fitting:
                return 425, "application/json", error("UNAVAILABLE_STACK")
            self.locks.remove(min(fitting))
            if self.faults:
                status, body = self.faults.pop(0)
                return status, "application/json", body
        return super().answer(path, raw)

    def __enter__(self) -> LockingNode:
        super().__enter__()
        return self

    def last_body(self) -> dict[str, Any]:
        body = json.loads(self.opened[-1].body)
        assert isinstance(body, dict)
        return body


def error(code: str) -> bytes:
    return compact({"error": {"code": code, "message": "no"}}).encode()


@contextlib.contextmanager
def sdk_for(url: str, **more: Any) -> Iterator[AtomaSDK]:
    with (
        httpx.Client(trust_env=False, verify=NO_CAS, timeout=30) as client,
        AtomaSDK("any", server_url=url, **({"client": client, "async_client": async_client()} | more)) as sdk,
    ):
        yield sdk


@contextlib.contextmanager
def asked(node: LockingNode, **more: Any) -> Iterator[AtomaSDK]:
    """Run the node, and an SDK for it."""
    with node, sdk_for(node.base_url, **more) as sdk:
        yield sdk


def async_client() -> httpx.AsyncClient:
    """For one event loop; a connection is not kept, so that nothing is left to close in it."""
    return httpx.AsyncClient(
        trust_env=False, verify=NO_CAS, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
    )


def recorded_sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.ClientSession]:
    """Every session of a client that is made from now on in this test."""
    made: list[ac.ClientSession] = []
    real = ac.ClientSession

    def recording(*args: Any, **more: Any) -> ac.ClientSession:
        made.append(real(*args, **more))
        return made[-1]

    monkeypatch.setattr(ac, "ClientSession", recording)
    return made


def is_closed(session: ac.ClientSession) -> bool:
    try:
        session.seal_request(b"{}", stream=False)
    except ac.SessionClosedError:
        return True
    except ac.LocalProtocolError:
        return False
    return False


def told(exception: BaseException | None) -> str:
    """All that an exception, its notes and those behind it say."""
    if exception is None:
        return ""
    notes = getattr(exception, "__notes__", ())
    said = f"{exception!r} {exception} {exception.args!r} {notes!r}\n"
    return said + told(exception.__cause__) + told(exception.__context__)
