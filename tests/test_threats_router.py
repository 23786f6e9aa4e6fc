"""What a router tries by docs/threat-model.md and nothing else shows: bombs, words in clear, other people's answers."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import atoma_crypto as ac
from atoma_crypto.adapters._replies import is_sealed, refusal_code
from atoma_crypto.adapters.httpx import Origin
from confidential_node import Node, running, transport
from gateways import gateway
from helpers import REPLY_BODY, STREAM_BODY, SessionPair, new_client, new_node, read
from middle import Middle, Passed, before
from serving import serving
from test_exchange_v2 import streamed

NODE = Node(v2=True)
BODY = {"model": "m", "messages": []}
PROTOCOLS = pytest.mark.parametrize("protocol", ["v1", "v2"])
# Each list of it takes three bytes here and more than sixty when it is read.
LISTS = 1 << 16
BOMB = b'{"error":{"code":"KEY_UNKNOWN"},"v":2,"salt":"","ciphertext":"","x":[' + b"[]," * LISTS + b"[]]}"
FLAT = 4 * len(BOMB)


@pytest.fixture(scope="module")
def middle() -> Iterator[Middle]:
    with running(NODE) as url, before(url) as middle:
        yield middle


@pytest.fixture(autouse=True)
def _honest_at_first(middle: Middle) -> None:
    middle.honest()


def peak(function: Callable[..., object], *arguments: object) -> int:
    """The most bytes that Python's objects took meanwhile."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def post(middle: Middle, **options: Any) -> httpx.Response:
    defaults: dict[str, Any] = {"protocol": "v2", "verify": NODE.policy}
    _, ours = transport("httpx", **(defaults | options))
    with httpx.Client(transport=ours, base_url=middle.url) as client:
        return client.post("/v1/chat/completions", json=BODY)


def test_json_that_would_take_all_memory_is_not_read() -> None:
    """Sent in clear with the status of an error, it would be read before anything has verified it."""
    assert peak(json.loads, BOMB) > 2 * FLAT  # what it would be
    assert not is_sealed(BOMB)
    assert peak(is_sealed, BOMB) < FLAT
    assert refusal_code(BOMB) is None
    assert peak(refusal_code, BOMB) < FLAT
    for small, code in (
        (b'{"error":{"code":"KEY_UNKNOWN"}}', "KEY_UNKNOWN"),
        (b'{"error":[["code","KEY_UNKNOWN"]]}', None),
        (b'{"error":null}', None),
    ):
        assert refusal_code(small) == code
    assert is_sealed(b'{"v":2,"salt":"","ciphertext":"","more":[1,2]}')


def test_nor_by_the_gateway(middle: Middle) -> None:
    middle.on_answer = lambda passed: passed.but(BOMB, status=500)
    with gateway(middle.url, protocol="v2", verify=NODE.policy) as local:
        assert local.post().status_code == 500
        assert peak(local.post) < 2 * FLAT  # it is there more than once on its way


@pytest.mark.parametrize(("protocol", "at_lock"), [("v1", True), ("v1", False), ("v2", False)])
def test_a_refusal_that_is_packed_is_not_unpacked(protocol: Any, at_lock: bool) -> None:
    packed = zlib.compress(bytes(1 << 20))
    node = Node(v2=protocol == "v2")
    with running(node) as node_url:
        middle = Middle(node_url)

        def refused(passed: Passed) -> Passed:
            return passed.but(packed, status=500, headers={"content-encoding": "deflate"})

        if at_lock:
            middle.on_lock = refused
        else:
            middle.on_answer = refused
        with serving(middle.app()) as url:
            middle.url = url
            response = post(middle, protocol=protocol, verify=node.policy if protocol == "v2" else None)
            assert httpx.get(f"{url}{'/v1/nodes/lock' if at_lock else '/x'}").content == bytes(
                1 << 20
            )  # elsewhere it is
    assert (response.status_code, response.content) == (500, packed)
    assert response.extensions["atoma_crypto"] == Origin(False, protocol)


def test_a_date_in_clear_makes_nothing_run_again(middle: Middle) -> None:
    """docs/protocol-v2.md, section 6, would let a client seal once more by that Date; ours does not."""
    told = json.dumps({"error": {"code": "CLOCK_SKEW", "message": "your clock"}}).encode()
    middle.on_answer = lambda passed: passed.but(told, status=400, headers={"date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    before = len(NODE.seen)
    assert post(middle).status_code == 400
    assert len(NODE.seen) == before + 1


def test_a_pin_is_for_the_key_whatever_end_a_router_prints(middle: Middle) -> None:
    """Nobody has signed the end of a pinned key's offer. Without evidence it is the router's word."""

    def later(passed: Passed) -> Passed:
        told = json.loads(passed.body)
        told["keys"][0]["not_after"] = end
        return passed.but(json.dumps(told).encode())

    middle.on_lock, end = later, int(time.time()) + 10**9
    assert post(middle).status_code == 200
    end = int(time.time()) - 2
    with pytest.raises(ac.AttestationError):
        post(middle)


def test_of_v1_too_a_key_that_is_not_pinned_gets_nothing() -> None:
    """The lock reply is signed by nobody, so that only a client that looks at the key notices another."""
    node, thief = Node(), ac.SecretKey.generate().public_key

    def swapped(passed: Passed) -> Passed:
        return passed.but(json.dumps(json.loads(passed.body) | {"public_key": thief.to_base64()}).encode())

    with running(node) as url, before(url) as middle:
        assert post(middle, protocol="v1", verify=node.policy).status_code == 200
        middle.honest()
        middle.on_lock = swapped
        with pytest.raises(ac.AttestationError):
            post(middle, protocol="v1", verify=node.policy)
        assert middle.paths == ["/v1/nodes/lock"]
        middle.paths.clear()
        assert post(middle, protocol="v1", verify=None).status_code == 400  # of the node: it was sealed for another
        assert middle.paths == ["/v1/nodes/lock", "/v1/confidential/chat/completions"]
    assert len(node.seen) == 1


def test_a_header_does_not_make_an_answer_verified(middle: Middle) -> None:
    claim = json.dumps({"policy": "tdx", "key": "0" * 64, "until": None})
    middle.on_answer = lambda passed: passed.but(headers={"x-atoma-verified": claim, "set-cookie": "a=b"})
    with gateway(middle.url, protocol="v2", verify=NODE.policy) as local:
        answer = local.post()
    assert json.loads(answer.headers["x-atoma-verified"])["policy"] == "pinned"
    assert "set-cookie" not in answer.headers


def test_fields_of_sse_that_a_router_adds_do_not_reach_the_app() -> None:
    """An `id` would be sent back by a browser, `retry` sets its pace, and `event` its handler."""
    exchange, events = streamed(b'{"n":0}', b'{"n":1}')
    added = b"\xef\xbb\xbfid: tracked\nretry: 1\n\n: a comment\nevent: other\nid: tracked\n"
    received = exchange.receive(added + events[0] + b"retry: 9\n" + b"".join(events[1:])) + exchange.end()
    assert received == b'data: {"n":0}\n\ndata: {"n":1}\n\ndata: [DONE]\n\n'


@PROTOCOLS
def test_of_two_users_none_gets_the_others_answer(protocol: Any) -> None:
    for stream in (False, True):
        one, other = (SessionPair(protocol=protocol, stream=stream) for _ in range(2))
        if not stream:
            with pytest.raises(ac.AuthenticationError):
                one.client.open_response(other.node.seal_response(b"{}"))
            continue
        one.client.receive_data(other.node.seal_chunk(b"{}"))
        with pytest.raises(ac.AuthenticationError):
            one.client.next_event()


def test_v1_takes_what_a_router_writes_into_the_clear_members() -> None:
    """And `stream` alone is compared; all of these are bound in v2."""
    sealed = json.loads(new_client().seal_request(REPLY_BODY, stream=False))
    for written in ({"model_name": "dear"}, {"stack_small_id": 7}, {"num_compute_units": 1}):
        assert new_node().open_request(json.dumps(sealed | written).encode()).body == REPLY_BODY
    with pytest.raises(ac.EnvelopeError):
        new_node().open_request(json.dumps(sealed | {"stream": True}).encode())


@PROTOCOLS
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2), (0, 0, 1, 2), (0,)])
def test_v1_reads_events_in_any_order_and_v2_does_not(protocol: Any, order: tuple[int, ...]) -> None:
    pair = SessionPair(protocol=protocol)
    pair.client._warned = True  # one that comes twice repeats its nonce
    events = [pair.node.seal_chunk(b'{"n":%d}' % number) for number in range(3)]
    found = read(pair.client, [events[at] for at in order])
    if protocol == "v1":
        assert [chunk[0] for chunk in found.chunks] == [b'{"n":%d}' % at for at in order]
        assert isinstance(found.end, ac.EndOfStream)
    else:
        assert isinstance(found.end, type)
        assert [chunk[0] for chunk in found.chunks] == [b'{"n":%d}' % at for at in range(len(found.chunks))]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_of_one_protocol_is_none_of_the_other(stream: bool) -> None:
    """One key serves both here, and what stands in both envelopes is put where the other has it."""
    key = ac.SecretKey.generate()
    body = STREAM_BODY if stream else REPLY_BODY

    def members(protocol: Any) -> dict[str, Any]:
        client = ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol=protocol)
        found: dict[str, Any] = json.loads(client.seal_request(body, stream=stream))
        return found

    v1, v2 = members("v1"), members("v2")
    assert ac.NodeSession(key).open_request(json.dumps(v1).encode()).protocol == "v1"
    assert ac.NodeSession(key).open_request(json.dumps(v2).encode()).protocol == "v2"
    again = members("v2")
    as_v1 = v1 | {"ciphertext": again["ciphertext"], "client_dh_public_key": again["enc"]}
    as_v2 = again | {"ciphertext": v1["ciphertext"], "enc": v1["client_dh_public_key"]}
    for forged in (as_v1, as_v2):
        with pytest.raises(ac.AuthenticationError):
            ac.NodeSession(key).open_request(json.dumps(forged).encode())
    for only, other in (("v1", again), ("v2", v1), ("v1", again | {"v": ...}), ("v2", v1 | {"v": 2})):
        sent = json.dumps({name: value for name, value in other.items() if value is not ...}).encode()
        with pytest.raises(ac.EnvelopeError):
            ac.NodeSession(key, protocols=(only,)).open_request(sent)  # type: ignore[arg-type] # of these names
