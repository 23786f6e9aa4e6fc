"""A node that offers no key without evidence: at start, from key to key, and while its provider fails or hangs."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import (
    Evidence,
    StaticEvidence,
    TdxMeasurement,
    TdxPolicy,
    TdxVerifier,
    Together,
    TsmProvider,
    evidence_from_json,
    report_data,
)
from atoma_crypto.server import _evidence
from atoma_crypto.server import node as server
from evidence_nodes import KIND, SECRET, Echo, Times, attested, check, new_challenge, offers_of, published, until
from serving import Client, ScriptedModel, error_of, node, request_body
from test_server_endpoints import value
from tsm_tree import tsm_tree

SUITES = pytest.mark.parametrize("suites", [("X25519",), ("X25519", "X-Wing")], ids=["one suite", "two"])


@SUITES
def test_every_key_is_offered_with_its_evidence_which_is_made_once(suites: Any) -> None:
    if "X-Wing" in suites:
        pytest.importorskip("cryptography", reason="the extra pq is not there")
    provider, times = Echo(), Times()
    with attested(provider, key=times.keys(suites=suites), times=times) as (client, _):
        replies = [client.lock().json() for _ in range(3)]
        assert [reply.pop("stack_small_id") for reply in replies]
        assert replies[0] == replies[1] == replies[2]
        assert published(client).json() == {"keys": replies[0]["keys"]}
        check(offers_of(replies[0]))
        assert len(offers_of(replies[0])) == 1 + len(suites)
        assert list(replies[0])[:2] == ["public_key", "evidence"]
    assert len(provider.bindings) == 1 + len(suites)


def test_without_a_provider_nothing_has_changed() -> None:
    with node(ScriptedModel()) as client:
        plain = client.lock().json()
        asked = client.lock(challenge=new_challenge()[1]).json()
        assert "evidence" not in plain
        assert "evidence" not in asked
        assert plain["keys"][0]["evidence"] is None
        assert asked["keys"][0]["evidence"] is None
        assert published(client, new_challenge()[1]).json()["keys"][0]["evidence"] is None


@pytest.mark.parametrize("protocols", [("v1",), ("v2",)])
def test_a_node_of_one_protocol_makes_evidence_for_that_alone(protocols: Any) -> None:
    provider = Echo()
    with attested(provider, protocols=protocols) as (client, _):
        told = client.lock().json()
        check(offers_of({"keys": []} | told))
        assert ("public_key" in told, "keys" in told) == ("v1" in protocols, "v2" in protocols)
        assert published(client).status_code == (200 if "v2" in protocols else 404)
    assert len(provider.bindings) == 1


def test_evidence_of_a_tdx_machine_convinces_a_verifier() -> None:
    pytest.importorskip("dcap_qvl", reason="the extra tdx is not there")
    from attestation_pki import MR_TD, RT_MR, maker
    from certificates import NOW

    provider, times = Echo(), Times(NOW)
    provider.makes = lambda binding: Evidence("tdx", maker().quote(binding), maker().collateral())
    verifier = TdxVerifier(TdxPolicy([TdxMeasurement(mr_td=MR_TD, rt_mr1=RT_MR[1])]), root=maker().root.der)
    with attested(provider, key=times.keys(), times=times) as (client, _):
        challenge, spelled = new_challenge()
        for asked, told in (
            (b"", client.lock().json()),
            (challenge, client.lock(challenge=spelled).json()),
            (challenge, published(client, spelled).json()),
        ):
            for offer in offers_of(told):
                found = verifier.verify(evidence_from_json(offer.evidence), offer, challenge=asked, now=NOW)
                assert found.public_key == offer.public_key
        (offer,) = offers_of(published(client).json())
        with pytest.raises(ac.AttestationError, match="does not answer the challenge"):
            verifier.verify(evidence_from_json(offer.evidence), offer, challenge=challenge, now=NOW)


def test_linux_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collateral = tmp_path / "collateral"
    collateral.write_bytes(b"{}")
    with tsm_tree(tmp_path, monkeypatch) as tree:
        provider = Together(TsmProvider(tree.root, collateral=collateral), StaticEvidence(b"gpus", kind="nvidia"))
        with attested(provider) as (client, _):
            challenge, spelled = new_challenge()
            for asked, told in ((b"", client.lock().json()), (challenge, client.lock(challenge=spelled).json())):
                for offer in offers_of(told):
                    found = evidence_from_json(offer.evidence)
                    assert found is not None
                    report = b"a report of " + report_data(offer, asked)
                    assert found.parts == (Evidence("tdx", report, b"{}"), Evidence("nvidia", b"gpus"))


# From one key to the next


def test_the_next_key_is_offered_once_it_has_evidence_and_before_the_last_one_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_ROTATION_SECONDS", 0.01)
    provider, times = Echo(), Times()
    with attested(provider, key=times.keys(), times=times) as (client, keys):
        (first,) = offers_of(published(client).json())
        times.go(3600 - _evidence._AHEAD_SECONDS - 1)
        assert offers_of(published(client).json()) == [first]
        provider.hangs = threading.Event()
        times.go(1)
        until(lambda: len(provider.bindings) == 3)  # nobody has asked for anything
        for _ in range(5):
            assert offers_of(published(client).json()) == [first]
        provider.hangs.set()
        until(lambda: offers_of(published(client).json()) != [first])
        (second,) = offers_of(published(client).json())
        check([second])
        assert keys.offers()[1].public_key == second.public_key
        assert second.not_after is not None
        assert second.not_after == int(times.wall.now + 3600)
        assert keys.select(first.key_id) is not None
        times.go(300)
        until(lambda: len(keys._rings[0].held) > 1)
    assert len(set(provider.bindings)) == len(provider.bindings)


def test_rotations_under_load_never_offer_a_key_without_its_evidence() -> None:
    provider, times = Echo(), Times()
    make = provider.makes

    def slowly(binding: bytes) -> Any:
        time.sleep(0.002)
        return make(binding)

    provider.makes = slowly
    over = threading.Event()
    wrong: list[object] = []
    seen: set[ac.PublicKey] = set()

    def ask(url: str, *, locks: bool) -> None:
        with Client(url) as client:
            while not over.is_set():
                try:
                    told = (client.lock() if locks else published(client)).json()
                    check(offers_of(told))
                    seen.update(offer.public_key for offer in offers_of(told))
                except Exception as error:  # noqa: BLE001, PERF203 - whatever it is, it is wrong
                    wrong.append(error)

    with attested(provider, key=times.keys(grace=3600.0), times=times) as (client, keys):
        threads = [threading.Thread(target=ask, args=(client.url,), kwargs={"locks": n % 2}) for n in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(seen) == 2)
        for _ in range(8):
            for protocol in ("v1", "v2"):
                key = keys.rotate(protocol)
                until(lambda key=key: key in seen)  # type: ignore[misc] # it infers no type for a default
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(seen) == 18


def test_a_key_that_is_replaced_while_evidence_for_another_is_made_is_waited_for() -> None:
    provider, times = Echo(), Times()
    with attested(provider, key=times.keys(grace=0.0), times=times) as (client, keys):
        client.lock()
        provider.hangs = threading.Event()
        keys.rotate("v2")
        client.lock()
        until(lambda: len(provider.bindings) == 3)
        threading.Timer(0.1, provider.hangs.set).start()
        new = keys.rotate()  # and v1's last one is over at once
        offers = offers_of(client.lock().json())
        check(offers)
        assert offers[0].public_key == new


def test_while_it_fails_the_key_before_is_offered_to_its_end_and_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_evidence, "_RETRY_SECONDS", 0.0)
    provider, times = Echo(), Times()
    with attested(provider, key=times.keys(), times=times) as (client, keys):
        v1, v2 = offers_of(client.lock().json())
        provider.error = OSError(5, SECRET)
        times.go(3600 - _evidence._AHEAD_SECONDS)
        assert offers_of(client.lock().json()) == [v1, v2]
        times.go(_evidence._AHEAD_SECONDS - 1)
        assert offers_of(client.lock().json()) == [v1, v2]
        times.go(1)  # v2's is over, and v1's was replaced: it is offered for half of its grace
        assert error_of(published(client))[:2] == (503, "EVIDENCE_UNAVAILABLE")
        assert published(client).headers["retry-after"] == "0"
        assert offers_of(client.lock().json()) == [v1]
        times.go(149)
        assert offers_of(client.lock().json()) == [v1]
        times.go(1)
        assert error_of(client.lock())[:2] == (503, "EVIDENCE_UNAVAILABLE")
        assert client.http.get("/health").status_code == 200
        client.told = {"public_key": v1.public_key.to_base64(), "stack_small_id": 1}
        assert client.ask(request_body())[1].status_code == 425  # it is opened, and no lock was given meanwhile
        provider.error = None
        check(offers_of(client.lock().json()))
        assert [offer.public_key for offer in offers_of(client.lock().json())] == [o.public_key for o in keys.offers()]


@pytest.mark.parametrize("error", [OSError(16, SECRET), OSError(SECRET), ValueError(SECRET), KeyError(SECRET)])
def test_failures_are_logged_without_their_words_and_not_tried_again_at_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Echo()
    provider.error = error
    with caplog.at_level(logging.DEBUG), attested(provider, metrics=True) as (client, _):
        for _ in range(5):
            assert error_of(client.lock())[:2] == (503, "EVIDENCE_UNAVAILABLE")
            assert error_of(published(client))[:2] == (503, "EVIDENCE_UNAVAILABLE")
        response = published(client, new_challenge()[1])
        assert error_of(response)[:2] == (503, "EVIDENCE_UNAVAILABLE")
        assert response.headers["retry-after"] == "5"
        assert value(client.http.get("/metrics").text, 'atoma_crypto_evidence_total{outcome="failed"}') == 2
    assert len(provider.bindings) == 2
    assert "no evidence for the key of v2" in caplog.text
    assert SECRET not in caplog.text


BROKEN = {
    "nothing": None,
    "another thing": b"quote",
    "no kind": Evidence("", b"x"),
    "a long kind": Evidence("k" * 33, b"x"),
    "too many parts": Evidence.together(*[Evidence("k", b"x")] * 9),
    "too long": Evidence("tdx", bytes(1 << 20)),
    "not bytes": Evidence("tdx", "text"),  # type: ignore[arg-type] # that is what is tested
}


@pytest.mark.parametrize("made", BROKEN.values(), ids=BROKEN)
def test_what_no_client_could_read_is_no_evidence(made: Any) -> None:
    provider = Echo()
    provider.makes = lambda _: made
    with attested(provider) as (client, _):
        assert error_of(client.lock())[:2] == (503, "EVIDENCE_UNAVAILABLE")


def test_a_provider_that_hangs_holds_up_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that have a key to offer do not wait at all; and the end of the node waits for no thread."""
    monkeypatch.setattr(_evidence, "_SECONDS", 0.3)
    monkeypatch.setattr(_evidence, "_RETRY_SECONDS", 0.05)
    provider, times = Echo(), Times()
    provider.hangs = over = threading.Event()
    with attested(provider, key=times.keys(), times=times, metrics=True) as (client, keys):
        assert error_of(client.lock())[:2] == (503, "EVIDENCE_UNAVAILABLE")
        for _ in range(8):  # however often it is tried, no more than two threads hang
            published(client)
            time.sleep(0.05)
        assert len(provider.bindings) == 2
        assert client.http.get("/health").status_code == 200
        assert value(client.http.get("/metrics").text, 'atoma_crypto_evidence_total{outcome="late"}') >= 2  # type: ignore[operator] # it is there
        over.set()
        until(lambda: client.lock().status_code == 200)
        first = offers_of(client.lock().json())
        check(first)
        provider.hangs = over = threading.Event()
        keys.rotate("v2")
        start = time.monotonic()
        for _ in range(5):
            assert offers_of(client.lock().json()) == first
        assert time.monotonic() - start < 10
    over.set()
    assert "no evidence within" in caplog.text


def test_evidence_of_a_key_that_stays_is_made_anew_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its collateral ends some day. Until there is new evidence the one from before is shown."""
    provider = Echo()
    provider.makes = lambda _: Evidence(KIND, b"%d" % len(provider.bindings))
    monkeypatch.setattr(_evidence, "_FRESH_SECONDS", 0.0)
    with attested(provider, protocols=("v1",), key=ac.SecretKey.generate()) as (client, _):
        first = client.lock().json()["evidence"]
        until(lambda: client.lock().json()["evidence"] != first)
        provider.error = OSError(5, SECRET)
        assert client.lock().status_code == 200


def test_offers_of_a_key_that_stays_hold_for_half_an_hour_as_their_evidence_does() -> None:
    provider, times = Echo(), Times(1763807400.0)
    assert times.wall.now % 1800 == 0
    with attested(provider, key=ac.SecretKey.generate(), times=times) as (client, _):
        (first,) = offers_of(published(client).json())
        assert first.not_after == times.wall.now + 3600
        times.go(1799)
        assert offers_of(published(client).json()) == [first]
        made = len(provider.bindings)
        provider.hangs = threading.Event()
        times.go(1)
        assert offers_of(published(client).json()) == [first]
        provider.hangs.set()
        until(lambda: offers_of(published(client).json()) != [first])
        (second,) = offers_of(published(client).json())
        check([second])
        assert second.not_after == times.wall.now + 3600
        assert len(provider.bindings) == made + 1  # v1's has not changed
