"""A node whose keys rotate: nobody is lost on the way, and what is over is wiped, asked or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto._typing import Protocol
from atoma_crypto.server import node as server
from atoma_crypto.server.model import Answer
from serving import Client, Clock, ScriptedModel, opened, request_body, serving

PROTOCOLS: tuple[Protocol, ...] = ("v1", "v2")
ANSWER = Answer(b'{"choices":[]}')


class AnswersAll(ScriptedModel):
    """As many answers as are asked for."""

    def __init__(self) -> None:
        super().__init__([ANSWER])


@contextmanager
def rotating(**more: Any) -> Iterator[tuple[ac.NodeKeyring, str, Clock]]:
    clock = Clock()
    with (
        ac.NodeKeyring(clock=clock, **more) as keys,
        serving(server.create_app(keys, AnswersAll())) as url,
    ):
        yield keys, url, clock


def test_a_lock_names_the_current_key_and_one_taken_before_still_holds() -> None:
    with rotating(rotate_after=60, grace=10) as (_, url, clock), Client(url) as client:
        client.lock()
        before = client.told["public_key"]
        clock.now += 60
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == ANSWER.plaintext
        client.lock()
        assert client.told["public_key"] != before
        session, response = client.ask(request_body())
        assert session.open_response(response.content) == ANSWER.plaintext


def test_a_key_whose_grace_is_over_is_refused_as_all_that_does_not_hold() -> None:
    with rotating(rotate_after=60, grace=10) as (keys, url, clock), Client(url) as client:
        client.lock()
        keys.rotate()
        clock.now += 10
        _, response = client.ask(request_body())
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "DECRYPTION_FAILED"


def test_an_idle_node_rotates_and_wipes_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ROTATION_SECONDS", 0.01)
    with rotating(rotate_after=60, grace=10) as (keys, _, clock):
        (first,) = keys._rings[0].held
        clock.now += 60
        until = time.monotonic() + 30
        while len(keys._rings[0].held) == 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert keys._rings[0].held[1].key is first.key
        clock.now += 10
        while len(keys._rings[0].held) == 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert first.key not in [one.key for one in keys._rings[0].held]
        with pytest.raises(ac.SessionClosedError):
            first.key.native  # noqa: B018 - asking is all


@pytest.mark.long
def test_none_of_a_thousand_is_lost_across_twenty_rotations() -> None:
    """From four threads, two of each protocol, with rotations at any point of a lock and of what is sealed for it."""
    requests = 1000
    lost: list[object] = []
    done = threading.Semaphore(0)

    def ask(url: str, count: int, protocol: Protocol) -> None:
        with Client(url, protocol=protocol) as client:
            for number in range(count):
                try:
                    client.lock()
                    session, response = client.ask(request_body())
                    if session.open_response(response.content) != ANSWER.plaintext:
                        lost.append(response)
                except Exception as error:  # noqa: BLE001 - whatever it is, one was lost
                    lost.append((number, error))
                done.release()

    with rotating(rotate_after=3600, grace=60) as (keys, url, _):
        names = {offer.public_key for offer in keys.offers()}
        threads = [threading.Thread(target=ask, args=(url, requests // 4, each)) for each in PROTOCOLS * 2]
        for thread in threads:
            thread.start()
        for each in PROTOCOLS * 10:
            for _ in range(requests // 21):
                assert done.acquire(timeout=60)
            names.add(keys.rotate(each))
        for thread in threads:
            thread.join()
    assert lost == []
    assert len(names) == 22


def test_a_stream_that_began_before_a_rotation_ends_after_it() -> None:
    go_on = threading.Event()
    model = ScriptedModel([[Answer(b"1")], go_on, [Answer(b"2")]])
    with ac.NodeKeyring(grace=0) as keys, serving(server.create_app(keys, model)) as url, Client(url) as client:
        client.lock()
        with client.asking(request_body(stream=True)) as (session, response):
            parts = response.iter_bytes()
            received = next(parts)
            keys.rotate()  # without any grace: the session has its own key
            go_on.set()
            received += b"".join(parts)
            assert [chunk.plaintext for chunk in opened(session, received)] == [b"1", b"2"]
