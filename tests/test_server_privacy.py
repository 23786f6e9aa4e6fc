"""What a node keeps to itself: sessions are wiped, and nothing of them is logged."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.server.model import Answer, InferenceError
from serving import (
    CANARY,
    CHAT,
    LOCK,
    ScriptedModel,
    chunk,
    node,
    recorded_sessions,
    request_body,
    wiped,
)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[ac.NodeSession]:
    return recorded_sessions(monkeypatch)


def test_the_session_of_every_request_is_wiped(sessions: list[ac.NodeSession]) -> None:
    with node(ScriptedModel([[Answer(b"{}")]])) as client:
        client.lock()
        assert client.http.post(CHAT, content=b"garbage").status_code == 400
        assert client.ask(request_body(stream=True))[1].status_code == 200
        assert client.ask(request_body(stream=True))[1].status_code == 425
        assert client.http.get(CHAT).status_code == 405
    assert [wiped(session) for session in sessions] == [True, True, True]


# What is logged


def test_neither_plaintext_nor_keys_are_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, seed = b"secret-canary-of-32-bytes-000001", b"seed-canary-of-32-bytes-00000001"
    question = request_body(stream=True, note=CANARY)
    answer = chunk(CANARY)
    scripts: list[list[Any]] = [
        [[Answer(answer)]],
        [[Answer(answer)], ValueError(CANARY)],
        [ValueError(CANARY)],
        [[Answer(answer, {"a": object(), "canary": CANARY})]],
    ]
    for steps in scripts:
        key = ac.SecretKey.from_bytes(secret)
        with node(ScriptedModel(steps), key=key, signing_key=seed) as client:
            for model in ("scripted", CANARY):
                client.lock()
                client.model = model
                with contextlib.suppress(httpx.RemoteProtocolError):
                    client.ask(json.dumps(json.loads(question) | {"model": model}).encode())
                client.model = "scripted"
            client.http.post(LOCK, json={"model": CANARY})
            client.http.post(LOCK, content=b'{"model":' + CANARY.encode())
            client.http.post(CHAT, content=CANARY.encode())
    printed = capfd.readouterr()
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + printed.out + printed.err
    assert "inference failed: ValueError" in logged
    assert "StreamAbortedError" in logged
    assert "canary" not in logged
    for raw in (secret, seed):
        for text in (raw.hex(), base64.b64encode(raw).decode()[:-4], str(list(raw))[1:-1]):
            assert text not in logged


def test_what_the_node_holds_shows_no_plaintext() -> None:
    assert CANARY not in repr(Answer(CANARY.encode()))
    assert str(InferenceError(429)) == "inference failed with status 429"
