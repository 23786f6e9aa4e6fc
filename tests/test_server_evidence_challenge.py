"""Evidence that answers a challenge: at the lock and at the keys' own path, how much of it, and what is malformed."""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest

from atoma_crypto.adapters._routes import KEYS_PATH
from atoma_crypto.server import _evidence
from atoma_crypto.server._http import RefusalError
from atoma_crypto.server._limited import Gate
from evidence_nodes import SECRET, Echo, Times, attested, check, new_challenge, offers_of, published, until
from serving import Client, error_of
from test_server_endpoints import value

GOOD: Final = urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")


def test_a_challenge_is_answered_and_no_other() -> None:
    provider = Echo()
    with attested(provider) as (client, keys):
        plain = offers_of(client.lock().json())
        for _ in range(2):
            challenge, spelled = new_challenge()
            locked = offers_of(client.lock(challenge=spelled).json())
            check(locked, challenge)
            alone = published(client, spelled)
            check(offers_of(alone.json()), challenge)
            assert alone.headers["cache-control"] == "no-store"
            assert alone.json()["keys"] == client.told["keys"]
            # the keys are the same as for everybody, and their evidence is nobody else's
            assert [offer._replace(evidence=None) for offer in locked] == [o._replace(evidence=None) for o in plain]
        assert offers_of(client.lock().json()) == plain
        assert [offer.public_key for offer in plain] == [offer.public_key for offer in keys.offers()]
    assert len(provider.bindings) == 2 + 2 * 3
    assert len(set(provider.bindings)) == 2 + 2 * 2  # each lock's v2 has the same challenge as the keys' own path
    assert all(len(binding) == 64 for binding in provider.bindings)


def test_no_provider_sees_a_challenge_but_in_the_hash() -> None:
    provider = Echo()
    with attested(provider) as (client, _):
        challenge, spelled = new_challenge()
        client.lock(challenge=spelled)
        published(client, spelled)
    for binding in provider.bindings:
        assert challenge not in binding
        assert challenge[:8] not in binding


MALFORMED: Final = {
    "empty": "",
    "short": GOOD[:-1],
    "long": GOOD + "A",
    "31 bytes": urlsafe_b64encode(bytes(31)).decode().rstrip("="),
    "33 bytes": urlsafe_b64encode(bytes(33)).decode(),
    "padded": GOOD + "=",
    "spare bits": GOOD[:-1] + "9",
    "the other alphabet": "+/" + GOOD[2:],
    "a space": GOOD[:-1] + " ",
    "a line": GOOD + "\n",
    "not ascii": GOOD[:-1] + "é",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_challenges(text: str) -> None:
    provider = Echo()
    with attested(provider) as (client, _):
        assert client.lock(challenge=GOOD).status_code == 200
        made = len(provider.bindings)
        assert error_of(client.lock(challenge=text))[:2] == (400, "INVALID_BODY")
        response = client.http.get(KEYS_PATH, params={"challenge": text})
        assert error_of(response)[:2] == (400, "INVALID_CHALLENGE")
    assert len(provider.bindings) == made


@pytest.mark.parametrize("query", ["challenge", "x=1", f"{GOOD}", f"Challenge={GOOD}", f"challenge={GOOD}&", "&", "%"])
def test_other_queries_are_refused_with_evidence_and_without(query: str) -> None:
    with attested(Echo()) as (client, _), attested(None) as (plain, _):
        for asked in (query, f"challenge={GOOD}&{query}", f"{query}&challenge={GOOD}", f"challenge={GOOD};{query}"):
            for one in (client, plain):
                assert error_of(one.http.get(f"{KEYS_PATH}?{asked}"))[:2] == (400, "INVALID_CHALLENGE"), asked
        assert client.http.get(f"{KEYS_PATH}?challenge={GOOD}&challenge={GOOD}").status_code == 400
        assert client.http.get(f"{KEYS_PATH}?challenge=%41{GOOD[1:]}").status_code == 400
        assert client.http.get(f"{KEYS_PATH}?").status_code == 200


@pytest.mark.parametrize("challenge", [1, True, [], {}, [GOOD], 1.5])
def test_a_challenge_of_another_type_is_a_malformed_lock(challenge: Any) -> None:
    with attested(Echo()) as (client, _):
        assert error_of(client.lock(challenge=challenge))[:2] == (400, "INVALID_BODY")
        assert client.lock(challenge=None).status_code == 200
        twice = '{"model":"scripted"' + f',"challenge":"{GOOD}"' * 2 + "}"
        assert error_of(client.http.post("/v1/nodes/lock", content=twice))[:2] == (400, "INVALID_BODY")


# How much


def test_limits_strangers_and_not_those_with_a_token() -> None:
    """8 at a time and 2 a second. Whoever has no token cannot use up the locks' share; without a challenge none is."""
    provider = Echo()
    with attested(provider, metrics=True) as (client, _):
        client.lock()
        answers = [published(client, GOOD) for _ in range(30)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 8 <= len(answers) - len(refused) < 20
        assert [error_of(one)[:2] for one in refused] == [(429, "TOO_MANY_REQUESTS")] * len(refused)
        assert {one.headers["retry-after"] for one in refused} == {"1"}
        made = len(provider.bindings)
        assert all(published(client).status_code == 200 for _ in range(30))
        assert all(client.lock().status_code == 200 for _ in range(30))
        assert len(provider.bindings) == made
        check(offers_of(client.lock(challenge=GOOD).json()), bytes(range(32)))
        text = client.http.get("/metrics").text
        assert value(text, 'atoma_crypto_evidence_total{outcome="refused"}') == len(refused)
        assert value(text, 'atoma_crypto_evidence_total{outcome="made"}') == 2 + len(answers) - len(refused) + 2
        assert value(text, 'atoma_crypto_evidence_total{outcome="failed"}') == 0


def test_the_locks_of_those_with_a_token_have_limits_too() -> None:
    with attested(Echo()) as (client, _):
        answers = [client.lock(challenge=GOOD) for _ in range(80)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert len(answers) - len(refused) >= 32
        check(offers_of(published(client, GOOD).json()), bytes(range(32)))  # strangers have their own
        del client.http.headers["Authorization"]
        assert error_of(client.lock(challenge=GOOD))[0] == 401  # and is not counted


def test_who_waits_at_once_has_limits_and_a_hanging_provider_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_evidence, "_SECONDS", 1.0)
    provider = Echo()
    with attested(provider, metrics=True) as (client, _):
        client.lock()
        made = len(provider.bindings)
        provider.hangs = hanging = threading.Event()

        def ask(_: int) -> httpx.Response:
            return published(client, GOOD)

        with ThreadPoolExecutor(12) as pool:
            answers = [answer for _ in range(2) for answer in pool.map(ask, range(12))]
        assert len(provider.bindings) - made == 2  # two of strangers' threads hang, and no more
        told = [error_of(answer)[:2] for answer in answers]
        assert set(told) == {(503, "EVIDENCE_UNAVAILABLE"), (429, "TOO_MANY_REQUESTS")}
        # nothing of that holds up the rest
        provider.hangs = None
        check(offers_of(client.lock(challenge=GOOD).json()), bytes(range(32)))
        assert published(client).status_code == 200
        assert value(client.http.get("/metrics").text, 'atoma_crypto_evidence_total{outcome="late"}') >= 2  # type: ignore[operator] # it is there
        hanging.set()
        until(lambda: published(client, GOOD).status_code == 200)


def test_a_provider_that_fails_a_challenge_fails_no_more_than_that(caplog: pytest.LogCaptureFixture) -> None:
    provider, times = Echo(), Times()
    with attested(provider, times=times) as (client, _):
        client.lock()
        provider.error = RuntimeError(SECRET)
        for answer in (client.lock(challenge=GOOD), published(client, GOOD)):
            assert error_of(answer)[:2] == (503, "EVIDENCE_UNAVAILABLE")
        check(offers_of(client.lock().json()))
        provider.error = None
        check(offers_of(client.lock(challenge=GOOD).json()), bytes(range(32)))
    assert SECRET not in caplog.text


def test_a_lock_whose_evidence_was_refused_is_not_held() -> None:
    """Or those who ask too often would use up all 4096."""
    provider = Echo()
    with attested(provider) as (client, _):
        client.lock()
        provider.error = OSError(5, "x")
        assert client.lock(challenge=GOOD).status_code == 503
        with Client(client.url) as other:
            other.told = client.told
            assert other.ask(b'{"model":"scripted"}')[1].status_code == 500  # the one lock that there is: no answer
            assert other.ask(b'{"model":"scripted"}')[1].status_code == 425


def test_a_gate_gives_back_what_time_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = Gate(per_second=0.5, burst=2, inside=9, at_once=1)

    def entered() -> int:
        try:
            with gate.entered():
                return 0
        except RefusalError as refusal:
            return int((refusal.headers or {})["Retry-After"])

    assert [entered() for _ in range(4)] == [0, 0, 2, 2]
    now += 1.5
    assert entered() == 1
    now += 0.5
    assert [entered(), entered()] == [0, 2]
    now += 1e6
    assert [entered() for _ in range(3)] == [0, 0, 2]


def test_a_gate_is_left_when_what_was_inside_fails() -> None:
    gate = Gate(per_second=1, burst=99, inside=1, at_once=1)
    for _ in range(3):
        with pytest.raises(KeyError), gate.entered():
            raise KeyError
    with gate.entered(), pytest.raises(RefusalError), gate.entered():
        pass
