"""A router in the middle that spoils, drops, cuts, replays, reflects or writes in clear: no client believes it."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import atoma_crypto as ac
from attacked import SECRET_ANSWER, ask, assert_tells_nothing
from confidential_node import USAGE_EVENT, Node, delta, running, transport, typical
from middle import Attack, Middle, Passed, as_event, before, flipped, reflected, without
from serving import CANARY

KINDS = pytest.mark.parametrize("kind", ["httpx", "httpx2 async"])
CLEAR = json.dumps(typical("/chat/completions", {"model": "m"}) | {"id": "clear"}).encode()  # type: ignore[operator]
STREAM = [delta(SECRET_ANSWER), *(delta(f"word {i} ") for i in range(5)), delta(finish="stop"), USAGE_EVENT]
BEFORE: dict[bool, Passed] = {}  # an honest answer to an earlier request, whole and streamed


def answer(path: str, body: dict[str, Any]) -> Any:
    if body.get("stream"):
        return STREAM
    found = typical(path, body)
    assert isinstance(found, dict)
    return found | {"id": SECRET_ANSWER}


@pytest.fixture(scope="module")
def middle() -> Iterator[Middle]:
    with running(Node(answer)) as url, before(url) as middle:
        yield middle


@pytest.fixture(autouse=True)
def _honest_at_first(middle: Middle) -> None:
    middle.honest()


def attacked(middle: Middle, kind: str, attack: Attack, *, stream: bool, **options: Any) -> type[BaseException] | None:
    middle.on_answer = attack
    got, error = ask(middle, kind, stream=stream, **options)
    true = [SECRET_ANSWER, *(f"word {i} " for i in range(5)), ""] if stream else []
    assert got == true[: len(got)]  # what was given before the fault is what the node has said
    assert_tells_nothing(error)
    for word in (CANARY, SECRET_ANSWER):
        assert word.encode() not in middle.saw
    return None if error is None else type(error)


@KINDS
def test_a_whole_answer_whose_connection_is_cut(middle: Middle, kind: str) -> None:
    """The library's own error, after which the package may ask again."""
    assert attacked(middle, kind, lambda p: p.but(p.body[:40], abort=True), stream=False) is openai.APIConnectionError


def redirected(status: int) -> Attack:
    return lambda p: p.but(b"", status=status, headers={"location": "/elsewhere"})


WHOLE: dict[str, tuple[Attack, type[Exception]]] = {
    "ciphertext flipped": (lambda p: p.but(flipped(p.body)), ac.AuthenticationError),
    "nonce flipped": (lambda p: p.but(flipped(p.body, "nonce")), ac.AuthenticationError),
    "hash flipped": (lambda p: p.but(flipped(p.body, "response_hash")), ac.AuthenticationError),
    "cut": (lambda p: p.but(p.body[:-9]), ac.EnvelopeError),
    "empty": (lambda p: p.but(b""), ac.EnvelopeError),
    "an earlier answer": (lambda p: p.but(BEFORE[False].body), ac.AuthenticationError),
    "an event of an earlier stream": (lambda p: p.but(BEFORE[True].events[0][6:]), ac.AuthenticationError),
    "reflected": (lambda p: p.but(reflected(p)), ac.NonceReuseError),
    "clear": (lambda p: p.but(CLEAR), ac.EnvelopeError),
    "clear, 201": (lambda p: p.but(CLEAR, status=201), ac.EnvelopeError),
    "sealed, 202": (lambda p: p.but(status=202), ac.EnvelopeError),
    "no content": (lambda p: p.but(b"", status=204), ac.EnvelopeError),
    "clear events": (lambda p: p.but(as_event(CLEAR), content_type="text/event-stream"), ac.EnvelopeError),
    "compressed": (lambda p: p.but(gzip.compress(p.body), headers={"content-encoding": "gzip"}), ac.EnvelopeError),
    "said to be compressed": (lambda p: p.but(headers={"content-encoding": "gzip"}), ac.EnvelopeError),
    "too long": (lambda p: p.but(p.body + b" " * (1 << 18)), ac.MessageTooLargeError),
    **{str(status): (redirected(status), ac.EnvelopeError) for status in (301, 302, 303, 304, 307, 308)},
}
EVENTS: dict[str, tuple[Attack, type[Exception]]] = {
    "first flipped": (lambda p: p.but([flipped(p.events[0]), *p.events[1:]]), ac.AuthenticationError),
    "last flipped": (lambda p: p.but([*p.events[:-1], flipped(p.events[-1])]), ac.AuthenticationError),
    "end dropped": (lambda p: p.but(without(p.events, -1, -2)), ac.TruncatedStreamError),
    "finish dropped": (lambda p: p.but(without(p.events, -2)), ac.TruncatedStreamError),
    "all dropped": (lambda p: p.but(b": keep-alive\n\n"), ac.TruncatedStreamError),
    "nothing at all": (lambda p: p.but(b""), ac.TruncatedStreamError),
    "cut in an event": (lambda p: p.but(p.body[:-200]), ac.TruncatedStreamError),
    "cut in the last newline": (lambda p: p.but(p.body[:-1]), ac.TruncatedStreamError),
    "connection cut": (lambda p: p.but(p.events[:3], abort=True), ac.TruncatedStreamError),
    "connection cut at the end": (lambda p: p.but(abort=True), ac.TruncatedStreamError),
    "clear [DONE]": (lambda p: p.but([*p.events[:3], b"data: [DONE]\n\n"]), ac.TruncatedStreamError),
    "clear from the start": (lambda p: p.but(map(as_event, STREAM)), ac.FramingError),
    "clear in the middle": (
        lambda p: p.but([*p.events[:3], as_event(STREAM[3]), *p.events[3:]]),
        ac.FramingError,
    ),
    "clear and whole": (lambda p: p.but(CLEAR, content_type="application/json"), ac.FramingError),
    "sealed and whole": (lambda p: p.but(BEFORE[False].body, content_type="application/json"), ac.FramingError),
    "an earlier stream": (lambda p: p.but(BEFORE[True].body), ac.AuthenticationError),
    "an earlier event": (lambda p: p.but([*p.events[:3], *BEFORE[True].events[3:]]), ac.AuthenticationError),
    "reflected": (lambda p: p.but(as_event(reflected(p))), ac.NonceReuseError),
    "reflected in the middle": (
        lambda p: p.but([*p.events[:3], as_event(reflected(p)), *p.events[3:]]),
        ac.NonceReuseError,
    ),
    "too long an event": (lambda p: p.but(b"data: " + b"A" * (1 << 17)), ac.MessageTooLargeError),
    "said to be compressed": (lambda p: p.but(headers={"content-encoding": "br"}), ac.EnvelopeError),
    "307": (redirected(307), ac.EnvelopeError),
}


@pytest.fixture(scope="module", autouse=True)
def _earlier_answers(middle: Middle) -> None:
    def keep(passed: Passed) -> Passed:
        BEFORE[passed.content_type.startswith("text/event-stream")] = passed
        return passed

    middle.on_answer = keep
    for stream in (False, True):
        got, error = ask(middle, "httpx", stream=stream)
        assert error is None
        assert got[0] == SECRET_ANSWER
    assert set(BEFORE) == {False, True}


LIMITS = ac.Limits(max_response_bytes=1 << 16, max_event_bytes=1 << 16, max_line_bytes=1 << 16)


@KINDS
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer(middle: Middle, kind: str, name: str) -> None:
    attack, expected = WHOLE[name]
    assert attacked(middle, kind, attack, stream=False, limits=LIMITS) is expected
    assert len(middle.paths) == 2  # nothing was sent again, least of all to where a redirect leads


@KINDS
@pytest.mark.parametrize("name", EVENTS)
def test_a_stream(middle: Middle, kind: str, name: str) -> None:
    attack, expected = EVENTS[name]
    assert attacked(middle, kind, attack, stream=True, limits=LIMITS) is expected
    assert len(middle.paths) == 2


@KINDS
def test_an_event_twice(middle: Middle, kind: str) -> None:
    """Which protocol v1 itself cannot tell from a node that repeats nonces."""
    attack: Attack = lambda p: p.but([p.events[0], *p.events])  # noqa: E731 - as those in the tables
    assert attacked(middle, kind, attack, stream=True, nonce_reuse="error") is ac.NonceReuseError


LOCKS: dict[str, tuple[Attack, type[Exception]]] = {
    "not JSON": (lambda p: p.but(b"<html>"), ac.EnvelopeError),
    "a list": (lambda p: p.but(b"[]"), ac.EnvelopeError),
    "no key": (lambda p: p.but(b'{"stack_small_id":1}'), ac.EnvelopeError),
    "another's answer": (lambda p: p.but(CLEAR), ac.EnvelopeError),
    "204": (lambda p: p.but(b"", status=204), ac.EnvelopeError),
    "too long": (lambda p: p.but(p.body + b" " * (1 << 22)), ac.MessageTooLargeError),
    "an all-zero secret": (
        lambda p: p.but(json.dumps(json.loads(p.body) | {"public_key": "A" * 43 + "="}).encode()),
        ac.AuthenticationError,
    ),
    "307": (redirected(307), ac.EnvelopeError),
}


@KINDS
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock(middle: Middle, kind: str, name: str) -> None:
    middle.on_lock, expected = LOCKS[name]
    got, error = ask(middle, kind, stream=True)
    assert got == []
    assert type(error) is expected
    assert_tells_nothing(error)
    assert middle.paths == ["/v1/nodes/lock"]  # the request itself was never sent


SPELLINGS = (  # httpx itself takes /./ and /../ out, before a transport sees them: see test_targets.py
    *("/v1/chat/completions/", "/v1//chat/completions", "/v1/Chat/Completions", "/v1/chat%2Fcompletions"),
    *("/v1/chat/completions?x=1", "/v1/chat/completions%20", "/v1/chat/completions/x", "/v1/%63hat/completions"),
    *("/v1/chat/completions;a=1", "/chat/completions", "/v1/confidential/chat/completions", "/v1/nodes/lock"),
    *("/", "/v1/chat/completions/v1/models", "/v1/responses", "/v1/files"),
)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_body_never_leaves_in_clear(middle: Middle, library: str) -> None:
    """However the path is spelt, and whatever the method: nothing is sent at all."""
    module, ours = transport(library, allow_plaintext=("/v1/models",))
    with module.Client(transport=ours, base_url=middle.url) as client:
        for path in SPELLINGS:
            with pytest.raises(ac.LocalProtocolError):
                client.post(path, json={"model": "m", "messages": [CANARY]})
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"):
            with pytest.raises(ac.LocalProtocolError):
                client.request(method, "/v1/chat/completions", json={"model": "m", "messages": [CANARY]})
        for body in (b"", b"{", b"[]", b'{"messages":[]}', b'{"model":"m","stream":1}', b'{"model":"m","model":"n"}'):
            with pytest.raises(ac.LocalProtocolError):
                client.post("/v1/chat/completions", content=body)
        with pytest.raises(ac.LocalProtocolError):
            client.post("/v1/embeddings", json={"model": "m", "stream": True})
        with pytest.raises(ac.LocalProtocolError):
            client.post("/v1/chat/completions", files={"file": b"x"})
    assert middle.paths == []


def test_nothing_is_logged(middle: Middle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for library in ("httpx", "httpx2"):
        module, ours = transport(library)
        with module.Client(transport=ours, base_url=middle.url) as client:
            body = {"model": "m", "messages": [CANARY]}
            assert SECRET_ANSWER in client.post("/v1/chat/completions", json=body).text
            assert SECRET_ANSWER in client.post("/v1/chat/completions", json=body | {"stream": True}).text
            middle.on_answer = lambda p: p.but(flipped(p.body))
            with pytest.raises(ac.AuthenticationError):
                client.post("/v1/chat/completions", json=body)
            middle.honest()
    assert caplog.records
    for record in caplog.records:
        told = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        assert CANARY not in told
        assert SECRET_ANSWER not in told


def test_hashes_of_the_plaintext_do_not_go_along(middle: Middle) -> None:
    _, ours = transport("httpx")
    digests = {"Digest": "sha-256=tellsalot", "Content-MD5": "tellsalot", "Idempotency-Key": "tellsalot"}
    with httpx.Client(transport=ours, base_url=middle.url, headers=digests) as client:
        client.post("/v1/chat/completions", json={"model": "m", "messages": []}).raise_for_status()
    assert b"tellsalot" not in middle.saw
