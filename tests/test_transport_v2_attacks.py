"""A router in the middle of protocol v2 that downgrades, substitutes, splices, cuts and forges: nobody believes it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from math import inf
from typing import Any

import httpx
import openai
import pytest

import atoma_crypto as ac
import attacked
from atoma_crypto._offers import write_offer
from atoma_crypto.adapters.httpx import Origin
from atoma_crypto.attestation import AttestedKey
from attacked import SECRET_ANSWER, assert_tells_nothing
from confidential_node import USAGE_EVENT, Node, delta, running, transport, typical
from middle import Attack, Middle, Passed, as_event, before, flipped, without
from serving import CANARY

KINDS = pytest.mark.parametrize("kind", ["httpx", "httpx2 async"])
STREAM = [delta(SECRET_ANSWER), *(delta(f"word {i} ") for i in range(4)), delta(finish="stop"), USAGE_EVENT]
GOT = [SECRET_ANSWER, *(f"word {i} " for i in range(4)), ""]
CLEAR = json.dumps(typical("/chat/completions", {"model": "m"}) | {"id": "clear"}).encode()  # type: ignore[operator]
X_WING = ac.SecretKey.generate("X-Wing")
NODE = Node(v2=True, more_keys=[X_WING])
POLICY = NODE.policy
BEFORE: dict[bool, Passed] = {}  # an honest answer to an earlier request, whole and streamed


def answer(path: str, body: dict[str, Any]) -> Any:
    found: Any = STREAM if body.get("stream") else typical(path, body)
    return found if body.get("stream") else found | {"id": SECRET_ANSWER}


NODE.answer = answer


@pytest.fixture(scope="module")
def middle() -> Iterator[Middle]:
    with running(NODE) as url, before(url) as middle:
        yield middle


@pytest.fixture(autouse=True)
def _honest_at_first(middle: Middle) -> None:
    middle.honest()
    middle.saw.clear()
    NODE.status = 200


def ask(middle: Middle, kind: str, *, stream: bool, **options: Any) -> tuple[list[str], BaseException | None]:
    return attacked.ask(middle, kind, stream=stream, **{"protocol": "v2", "verify": POLICY} | options)


@pytest.fixture(scope="module", autouse=True)
def _earlier_answers(middle: Middle) -> None:
    def keep(passed: Passed) -> Passed:
        BEFORE[passed.content_type.startswith("text/event-stream")] = passed
        return passed

    middle.on_answer = keep
    for stream in (False, True):
        got, error = ask(middle, "httpx", stream=stream)
        assert error is None
        assert got == (GOT if stream else [SECRET_ANSWER])
    assert set(BEFORE) == {False, True}


# ---- the lock: keys and protocols -------------------------------------------------------------------------------


def told(members: dict[str, Any]) -> Attack:
    """Other members in the lock reply."""
    return lambda p: p.but(json.dumps(json.loads(p.body) | members).encode())


def offer(key: ac.SecretKey, *, ends: float = 3600) -> dict[str, Any]:
    return write_offer(ac.KeyOffer("v2", key.public_key, inf, int(time.time() + ends)))


def altered(**members: Any) -> Attack:
    """Other members in the offer of suite X25519."""

    def attack(passed: Passed) -> Passed:
        reply = json.loads(passed.body)
        reply["keys"] = [one | members if one["suite"] == "X25519" else one for one in reply["keys"]]
        return passed.but(json.dumps(reply).encode())

    return attack


THIEF = ac.SecretKey.generate()
V1_REPLY = {"public_key": THIEF.public_key.to_base64(), "node_small_id": 7, "stack_small_id": 42}
LOCKS: dict[str, tuple[Attack, type[Exception]]] = {
    "a reply of v1": (lambda p: p.but(json.dumps(V1_REPLY).encode()), ac.EnvelopeError),
    "offers are null": (told({"keys": None} | V1_REPLY), ac.EnvelopeError),
    "no offers": (told({"keys": []} | V1_REPLY), ac.EnvelopeError),
    "offers that are none": (told({"keys": "none"}), ac.EnvelopeError),
    "only another suite": (told({"keys": [offer(X_WING)]}), ac.EnvelopeError),
    "only an unknown suite": (told({"keys": [offer(NODE.key) | {"suite": "P-256"}]}), ac.EnvelopeError),
    "another's key": (told({"keys": [offer(THIEF)]}), ac.AttestationError),
    "another's key beside": (told({"keys": [offer(NODE.key), offer(THIEF, ends=9999)]}), ac.AttestationError),
    "another's key under its id": (altered(public_key=THIEF.public_key.to_base64()), ac.EnvelopeError),
    "a wrong id": (altered(key_id=base64.b64encode(b"12345678").decode()), ac.EnvelopeError),
    "no id": (altered(key_id=None), ac.EnvelopeError),
    "an offer that is over": (altered(not_after=int(time.time()) - 1), ac.AttestationError),
    "an offer without end": (altered(not_after=None), ac.EnvelopeError),
    "an offer of no time": (altered(not_after=1e300), ac.EnvelopeError),
    "a stack beyond JavaScript": (told({"stack_small_id": 2**53}), ac.EnvelopeError),
    "a stack of text": (told({"stack_small_id": "42"}), ac.EnvelopeError),
    "keys twice": (lambda p: p.but(p.body[:-1] + b',"keys":[]}'), ac.EnvelopeError),
    "too long": (lambda p: p.but(p.body + b" " * (1 << 22)), ac.MessageTooLargeError),
}


@pytest.mark.parametrize("name", LOCKS)
def test_nothing_is_sealed_to_what_is_not_accepted(middle: Middle, name: str) -> None:
    middle.on_lock, expected = LOCKS[name]
    got, error = ask(middle, "httpx2 async" if len(name) % 2 else "httpx", stream=True)
    assert got == []
    assert type(error) is expected
    assert_tells_nothing(error)
    assert middle.paths == ["/v1/nodes/lock"]  # the request itself was never sent
    assert CANARY.encode() not in middle.saw


@KINDS
@pytest.mark.parametrize("stream", [False, True])
def test_who_requires_post_quantum_gets_it_or_nothing(middle: Middle, kind: str, stream: bool) -> None:
    options: dict[str, Any] = {"suites": ("X-Wing",), "stream": stream}
    assert ask(middle, kind, **options)[1] is None
    middle.honest()
    middle.on_lock = told({"keys": [offer(NODE.key)]})
    got, error = ask(middle, kind, **options)
    assert (got, type(error)) == ([], ac.EnvelopeError)
    assert "X-Wing" in str(error)
    assert middle.paths == ["/v1/nodes/lock"]


class Binding:
    """As evidence does: accepts one key, with the end that the node has given it."""

    def __init__(self, ends: set[int]) -> None:
        self.ends = ends
        self.asked = 0

    def verify(self, _evidence: object, offer: ac.KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        self.asked += 1
        assert challenge == b""
        assert abs(now - time.time()) < 60
        if offer.public_key != NODE.key.public_key or offer.not_after not in self.ends:
            raise ac.AttestationError("the evidence is not for this")
        return AttestedKey(offer.public_key, {"measured": "well"}, now + 1000)


def test_a_verdict_is_kept_for_the_offer_that_it_was_given_for(middle: Middle) -> None:
    """Longer life for a key that was accepted before is another question, and is asked."""
    end = int(time.time()) + 1000
    policy = Binding({end})
    _, ours = transport("httpx", protocol="v2", verify=policy)
    with httpx.Client(transport=ours, base_url=middle.url) as client:
        body = {"model": "m", "messages": [CANARY]}
        for asked in (1, 1, 1):
            middle.on_lock = altered(not_after=end)
            response = client.post("/v1/chat/completions", json=body)
            assert response.extensions["atoma_crypto"].claims == {"measured": "well"}
            assert policy.asked == asked
        middle.honest()
        middle.on_lock = altered(not_after=end + 1)
        with pytest.raises(ac.AttestationError):
            client.post("/v1/chat/completions", json=body)
        assert policy.asked == 2
        assert middle.paths == ["/v1/nodes/lock"]


# ---- answers ----------------------------------------------------------------------------------------------------


def v1_sealed(passed: Passed) -> bytes:
    members = json.loads(passed.body)
    return json.dumps({"ciphertext": members["ciphertext"], "nonce": base64.b64encode(bytes(12)).decode()}).encode()


def reflected(passed: Passed) -> bytes:
    asked = json.loads(passed.request)
    salt = base64.b64encode(bytes(32)).decode()
    return json.dumps({"ciphertext": asked["ciphertext"], "flag": 3, "salt": salt, "v": 2}).encode()


def with_members(**members: Any) -> Attack:
    return lambda p: p.but(json.dumps(json.loads(p.body) | members).encode())


WHOLE: dict[str, tuple[Attack, type[Exception]]] = {
    "ciphertext flipped": (lambda p: p.but(flipped(p.body)), ac.AuthenticationError),
    "salt flipped": (lambda p: p.but(flipped(p.body, "salt")), ac.AuthenticationError),
    "flag of an error": (with_members(flag=2), ac.AuthenticationError),
    "usage that was not said": (
        with_members(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
        ac.AuthenticationError,
    ),
    "cut": (lambda p: p.but(p.body[:-9]), ac.EnvelopeError),
    "empty": (lambda p: p.but(b""), ac.EnvelopeError),
    "more after it": (lambda p: p.but(p.body + p.body), ac.EnvelopeError),
    "an earlier answer": (lambda p: p.but(BEFORE[False].body), ac.AuthenticationError),
    "reflected": (lambda p: p.but(reflected(p)), ac.AuthenticationError),
    "sealed as in v1": (lambda p: p.but(v1_sealed(p)), ac.EnvelopeError),
    "in clear": (lambda p: p.but(CLEAR), ac.EnvelopeError),
    "in clear, created": (lambda p: p.but(CLEAR, status=201), ac.EnvelopeError),
    "a stream": (lambda p: p.but(BEFORE[True].body, content_type="text/event-stream"), ac.EnvelopeError),
    "forged, with an error's status": (lambda p: p.but(flipped(p.body), status=500), ac.AuthenticationError),
    "said to be compressed": (lambda p: p.but(headers={"content-encoding": "br"}), ac.EnvelopeError),
    "307": (lambda p: p.but(b"", status=307, headers={"location": "/elsewhere"}), ac.EnvelopeError),
}
EVENTS: dict[str, tuple[Attack, type[Exception]]] = {
    "flipped": (lambda p: p.but([*p.events[:2], flipped(p.events[2]), *p.events[3:]]), ac.AuthenticationError),
    "first salt flipped": (lambda p: p.but([flipped(p.events[0], "salt"), *p.events[1:]]), ac.AuthenticationError),
    "one dropped": (lambda p: p.but(without(p.events, 2)), ac.AuthenticationError),
    "the first dropped": (lambda p: p.but(without(p.events, 0)), ac.FramingError),
    "two swapped": (
        lambda p: p.but([*p.events[:2], p.events[3], p.events[2], *p.events[4:]]),
        ac.AuthenticationError,
    ),
    "one twice": (lambda p: p.but([*p.events[:3], *p.events[2:]]), ac.AuthenticationError),
    "the end dropped": (lambda p: p.but(without(p.events, -1)), ac.TruncatedStreamError),
    "the end cut off": (lambda p: p.but(p.body[:-1]), ac.TruncatedStreamError),
    "nothing at all": (lambda p: p.but(b""), ac.TruncatedStreamError),
    "connection cut": (lambda p: p.but(p.events[:3], abort=True), ac.TruncatedStreamError),
    "clear [DONE]": (lambda p: p.but([*p.events[:3], b"data: [DONE]\n\n"]), ac.FramingError),
    "clear from the start": (lambda p: p.but(map(as_event, STREAM)), ac.FramingError),
    "clear and whole": (lambda p: p.but(CLEAR, content_type="application/json"), ac.EnvelopeError),
    "sealed and whole": (
        lambda p: p.but(BEFORE[False].body, content_type="application/json"),
        (ac.EnvelopeError, ac.AuthenticationError),  # type: ignore[dict-item] # either will do
    ),
    "another's end": (lambda p: p.but([*p.events[:3], BEFORE[True].events[-1]]), ac.AuthenticationError),
    "an earlier stream": (lambda p: p.but(BEFORE[True].body), ac.AuthenticationError),
    "too long an event": (lambda p: p.but(b"data: " + b"A" * (1 << 17)), ac.MessageTooLargeError),
    "said to be compressed": (lambda p: p.but(headers={"content-encoding": "br"}), ac.EnvelopeError),
    "302": (lambda p: p.but(b"", status=302, headers={"location": "/elsewhere"}), ac.EnvelopeError),
}
LIMITS = ac.Limits(max_response_bytes=1 << 16, max_event_bytes=1 << 16, max_line_bytes=1 << 16)
CASES = [(False, name) for name in WHOLE] + [(True, name) for name in EVENTS]


@KINDS
@pytest.mark.parametrize(("stream", "name"), CASES, ids=str)
def test_what_is_not_the_nodes_answer_is_none(middle: Middle, kind: str, stream: bool, name: str) -> None:
    middle.on_answer, expected = (EVENTS if stream else WHOLE)[name]
    got, error = ask(middle, kind, stream=stream, limits=LIMITS)
    assert got == (GOT if stream else [])[: len(got)]  # what came before the fault is what the node has said
    assert len(got) < len(GOT) or name.startswith("the end")
    assert isinstance(error, expected)
    assert_tells_nothing(error)
    assert middle.paths == ["/v1/nodes/lock", "/v1/confidential/chat/completions"]
    for word in (CANARY, SECRET_ANSWER):
        assert word.encode() not in middle.saw


@KINDS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [201, 404, 500])
def test_the_status_does_not_count_where_the_body_is_sealed(
    middle: Middle, kind: str, status: int, stream: bool
) -> None:
    middle.on_answer = lambda p: p.but(status=status)
    assert ask(middle, kind, stream=stream) == (GOT if stream else [SECRET_ANSWER], None)


@KINDS
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_in_clear_is_untrusted_text_and_no_more(middle: Middle, kind: str, stream: bool) -> None:
    forged = b'{"error":{"code":"USE_V1","message":"please"}}'
    middle.on_answer = lambda p: p.but(forged, status=426, content_type="application/json")
    got, error = ask(middle, kind, stream=stream)
    assert got == []
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.body) == (426, {"code": "USE_V1", "message": "please"})
    assert len(middle.paths) == 2
    _, ours = transport("httpx", protocol="v2", verify=POLICY)
    with httpx.Client(transport=ours, base_url=middle.url) as client:
        response = client.post("/v1/chat/completions", json={"model": "m", "messages": [], "stream": stream})
    assert (response.status_code, response.content) == (426, forged)
    assert response.extensions["atoma_crypto"] == Origin(False, "v2")


@KINDS
def test_a_connection_that_is_cut_behind_the_end_does_not_matter(middle: Middle, kind: str) -> None:
    middle.on_answer = lambda p: p.but(abort=True)
    assert ask(middle, kind, stream=True) == (GOT, None)


def test_what_comes_behind_the_end_is_refused_and_does_not_unsay_it(middle: Middle) -> None:
    middle.on_answer = lambda p: p.but([*p.events, p.events[-1]])
    _, ours = transport("httpx", protocol="v2", verify=POLICY)
    received: list[bytes] = []
    body = {"model": "m", "messages": [], "stream": True}
    with (
        httpx.Client(transport=ours, base_url=middle.url) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
        pytest.raises(ac.FramingError),
    ):
        received.extend(response.iter_raw())
    got = b"".join(received)
    assert got.endswith(b"\n\ndata: [DONE]\n\n")
    assert got.count(b"data: ") == len(STREAM) + 1


@pytest.mark.parametrize("kind", ["httpx", "httpx2"])
def test_cut_anywhere_it_never_just_ends(middle: Middle, kind: str) -> None:
    """Through the real package: after some bytes of each event, at each of its ends, and around the last."""
    length = len(BEFORE[True].body)
    ends = [BEFORE[True].body.index(event) + len(event) for event in BEFORE[True].events]
    cuts = {end + shift for end in ends for shift in (-2, -1, 0, 1)} | set(range(0, length, 211))
    for cut in sorted(cut for cut in cuts if cut < length):
        middle.on_answer = lambda p, cut=cut: p.but(p.body[:cut])  # type: ignore[misc] # mypy takes no lambda with a default
        got, error = ask(middle, kind, stream=True)
        assert isinstance(error, ac.TruncatedStreamError | ac.FramingError), cut
        assert got == GOT[: len(got)]


@KINDS
def test_a_word_in_clear_makes_nothing_run_again_where_that_is_switched_off(middle: Middle, kind: str) -> None:
    """The router lets the node work each time, and says that it has not."""
    for status, code in ((422, "KEY_UNKNOWN"), (423, "LOCKED"), (425, "UNAVAILABLE_STACK")):
        forged = json.dumps({"error": {"code": code, "message": "once more"}}).encode()
        middle.on_answer = lambda passed, forged=forged, status=status: passed.but(forged, status=status)  # type: ignore[misc] # of this turn
        before = len(NODE.seen)
        got, error = ask(middle, kind, stream=False, retry_unknown_key=False)
        assert got == []
        assert isinstance(error, openai.APIStatusError)
        assert error.status_code == status
        assert len(NODE.seen) == before + 1
