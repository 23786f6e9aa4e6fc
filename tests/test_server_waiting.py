"""Requests that wait for a replay store, and keys that wait for a policy: nothing else waits with them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import atoma_crypto as ac
from atoma_crypto.attestation import AttestedKey
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.node import create_app
from confidential_node import Node, running
from gateways import body, gateway
from serving import Client, error_of, request_body, serving

MANY = (os.cpu_count() or 1) + 2  # more than there are threads for work


class Hanging:
    """A replay store, or a policy, that says nothing until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = threading.Semaphore(0)

    def _hang(self) -> None:
        self.asked.release()
        assert self.released.wait(30)

    def admit(self, _request_id: bytes, _expires_at: float) -> bool:
        self._hang()
        raise ac.ReplayStoreError("gone")

    def close(self) -> None:
        """There is nothing to close."""

    def verify(self, _evidence: object, offer: ac.KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:  # noqa: ARG002 - as Verifier has it
        if offer.public_key.suite == "X25519":
            return AttestedKey(offer.public_key, {}, now + 100)
        self._hang()
        raise ac.AttestationError("not this one")


def test_large_requests_that_wait_for_their_store_hold_up_no_answer() -> None:
    store = Hanging()
    app = create_app(ac.NodeKeyring(), ElizaModel(7), replay_cache=store)
    with serving(app) as url, Client(url, model="eliza") as other, ThreadPoolExecutor(MANY) as threads:

        def ask(_number: int) -> tuple[int, str]:
            with Client(url, model="eliza", protocol="v2") as client:
                client.lock(timeout=60)
                return error_of(client.ask(request_body(model="eliza", padding="x" * 20_000))[1])[:2]

        answers = [threads.submit(ask, number) for number in range(MANY)]
        try:
            for _ in range(os.cpu_count() or 1):
                assert store.asked.acquire(timeout=30)
            other.lock()
            assert other.ask(request_body(model="eliza"))[1].status_code == 200
            assert not any(answer.done() for answer in answers)
        finally:
            store.released.set()
        assert {answer.result() for answer in answers} == {(503, "REPLAY_STORE_UNAVAILABLE")}


def test_keys_that_wait_for_their_verdict_hold_up_no_request_to_another_node() -> None:
    policy = Hanging()
    known, unknown = Node(v2=True), Node(v2=True, key=ac.SecretKey.generate("X-Wing"))
    with (
        running(known) as good,
        running(unknown) as bad,
        gateway(good, bad, protocol="v2", verify=policy, suites=("X25519", "X-Wing")) as gate,
        ThreadPoolExecutor(2 * MANY) as threads,
    ):
        assert gate.post(body()).status_code == 200
        answers = [threads.submit(gate.post, body()) for _ in range(2 * MANY)]  # in turn, so that half of them wait
        try:
            done = as_completed(answers, timeout=20)
            assert [next(done).result().status_code for _ in range(MANY)] == [200] * MANY
            assert sum(answer.done() for answer in answers) == MANY
        finally:
            policy.released.set()
    assert {answer.result().status_code for answer in answers} == {200}  # by the other node
