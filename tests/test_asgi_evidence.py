"""The middleware offers no key without evidence either: without a timer, and after fork() with keys of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import atoma_crypto as ac
from asgi_apps import fastapi_app, whole
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
from atoma_crypto.attestation import Evidence, evidence_from_json, evidence_to_json
from evidence_nodes import Echo, Times, check, new_challenge, offers_of, published, until
from serving import Client, error_of, serving

APP = fastapi_app(whole({"choices": []}))


def test_evidence_is_made_when_somebody_asks_and_goes_along_with_the_keys() -> None:
    provider, keys = Echo(), ac.NodeKeyring()
    app = ConfidentialMiddleware(APP, keys=keys, evidence=provider)
    with serving(app) as url, Client(url, model="m") as client:
        assert client.http.get("/v1/models").status_code == 200
        assert provider.bindings == []
        check(offers_of(client.lock().json()))
        challenge, spelled = new_challenge()
        check(offers_of(client.lock(challenge=spelled).json()), challenge)
        check(offers_of(published(client, spelled).json()), challenge)
        (first,) = offers_of(published(client).json())
        keys.rotate("v2")
        until(lambda: offers_of(published(client).json()) != [first])
        check(offers_of(published(client).json()))
        assert error_of(published(client, "short"))[:2] == (400, "INVALID_CHALLENGE")


def test_after_an_idle_time_the_one_who_asks_waits_for_evidence() -> None:
    """Nothing was asked for while the key came to its end."""
    provider, times = Echo(), Times()
    with times.keys(grace=1.0) as keys:
        app = ConfidentialMiddleware(APP, keys=keys, evidence=provider)
        with serving(app) as url, Client(url, model="m") as client:
            first = offers_of(client.lock().json())
            times.go(36000)
            second = offers_of(client.lock().json())
            check(second)
            assert not {offer.public_key for offer in first} & {offer.public_key for offer in second}


def test_the_environment_names_a_file_of_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "evidence.json"
    made = Evidence.together(Evidence("tdx", b"quote", b"{}"), Evidence("nvidia", b"gpus"))
    monkeypatch.setenv("ATOMA_CRYPTO_NODE_EVIDENCE", str(file))
    with serving(ConfidentialMiddleware(APP)) as url, Client(url, model="m") as client:
        assert error_of(client.lock())[:2] == (503, "EVIDENCE_UNAVAILABLE")
        file.write_text(json.dumps(evidence_to_json(made)))
    with serving(ConfidentialMiddleware(APP)) as url, Client(url, model="m") as client:
        assert {evidence_from_json(offer.evidence) for offer in offers_of(client.lock().json())} == {made}
    monkeypatch.setenv("ATOMA_CRYPTO_EVIDENCE_COLLATERAL", str(file))
    with pytest.raises(ValueError, match="a file has it inside"):
        ConfidentialMiddleware(APP)


FORKED = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
import httpx
from atoma_crypto.adapters.asgi import ConfidentialMiddleware
import atoma_crypto as ac
from evidence_nodes import Echo, check, offers_of

provider = Echo()
keys = ac.NodeKeyring()
app = ConfidentialMiddleware(None, keys=keys, evidence=provider)

async def asked():
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://node", headers={{"Authorization": "Bearer any"}}
    ) as client:
        offers = offers_of((await client.post("/v1/nodes/lock", json={{"model": "m"}})).json())
    check(offers)
    assert [o.public_key for o in offers] == [o.public_key for o in keys.offers()]
    return offers

parents = asyncio.run(asked())
# as if another thread of the parent was inside at the fork
(route,) = [route for route in app._node.routes if route.path.endswith("atoma-node-keys")]
attested = route.endpoint.__self__._attested
held = attested._here().lock
held.acquire()
child = os.fork()
if child == 0:
    try:
        own = asyncio.run(asked())
        assert own[0] == parents[0] and own[1].public_key != parents[1].public_key
        assert len(provider.bindings) == 4
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(repr(error))
    os._exit(1)
held.release()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert asyncio.run(asked()) == parents and len(provider.bindings) == 2
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
def test_a_child_shows_evidence_for_its_own_keys() -> None:
    code = FORKED.format(tests=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
