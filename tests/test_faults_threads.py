"""Threads that do everything that can be done, all at once, to one object of each class.

What is public is looked up in the classes, so that a method which is added must be added here. They give what they
should or a documented error; nothing is given twice, and the object can be closed in the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from faulty_cases import split
from helpers import REPLY_BODY, STREAM_BODY, USAGE, SessionPair, member, new_client, node_key
from programs import run_program
from threads import run

Calls = dict[str, Callable[[Any], Any]]
ENC: Final = bytes(31) + b"\x09"
REFUSED: Final = (ac.AtomaCryptoError,)

SESSION: Final[Calls] = {"close": lambda s: s.close()}
CALLS: Final[dict[type, Calls]] = {
    ac.ClientSession: {
        **SESSION,
        "seal_request": lambda s: s.seal_request(STREAM_BODY, stream=True),
        "open_response": lambda s: s.open_response(b"{}"),
        "receive_data": lambda s: s.receive_data(b": comment\n\n"),
        "receive_eof": lambda s: s.receive_eof(),
        "next_event": lambda s: s.next_event(),
        "events": lambda s: list(s.events()),
    },
    ac.NodeSession: {
        **SESSION,
        "open_request": lambda s: s.open_request(b"{}"),
        "seal_response": lambda s: s.seal_response(b"x"),
        "seal_chunk": lambda s: s.seal_chunk(b"x" * 400, USAGE),
        "seal_chunks": lambda s: s.seal_chunks([b"x", b"y" * 900]),
        "finish": lambda s: s.finish(),
        "abort": lambda s: s.abort("CODE", "text", 500),
    },
    ac.NodeKeyring: {
        **SESSION,
        "public_key": lambda s: s.public_key,
        "offers": lambda s: s.offers(),
        "candidates": lambda s: s.candidates(ahead=10.0),
        "rotate": lambda s: s.rotate("v2"),
        "native_for": lambda s: s.native_for(b""),
        "select": lambda s: s.select(bytes(8)),
        "from_key": lambda _: ac.NodeKeyring.from_key(ac.SecretKey.generate()).close(),
    },
    ac.SecretKey: {
        **SESSION,
        "suite": lambda s: s.suite,
        "public_key": lambda s: bytes(s.public_key),
        "replay_cache": lambda s: len(s.replay_cache),
        "native": lambda s: s.native,
        "native_for": lambda s: s.native_for(b""),
        "select": lambda s: s.select(bytes(8)),
        "decapsulate": lambda s: s.decapsulate(bytes(1120)),
        "generate": lambda _: ac.SecretKey.generate().close(),
        "from_bytes": lambda _: ac.SecretKey.from_bytes(bytes(32)).close(),
    },
    ac.SigningKey: {
        **SESSION,
        "native": lambda s: s.native,
        "public_key": lambda s: s.public_key,
        "generate": lambda _: ac.SigningKey.generate().close(),
        "from_bytes": lambda _: ac.SigningKey.from_bytes(bytes(32)).close(),
    },
    ac.MemoryReplayCache: {**SESSION, "admit": lambda s: s.admit(random.randbytes(1) * 32, 2.0**40)},
    ac.Sealer: {
        **SESSION,
        "salt": lambda s: s.salt,
        "seal": lambda s: s.seal(b"x" * 100),
        "seal_into": lambda s: s.seal_into(b"x", bytearray(17)),
    },
    ac.Opener: {
        **SESSION,
        "salt": lambda s: s.salt,
        "ended": lambda s: s.ended,
        "open": lambda s: s.open(bytes(40)),
        "open_into": lambda s: s.open_into(bytes(40), bytearray(24)),
        "finish": lambda s: s.finish(),
    },
    hazmat.AES256GCM: {
        **SESSION,
        "seal": lambda s: s.seal(bytes(12), b"x" * 1000),
        "open": lambda s: s.open(bytes(12), bytes(1000)),
        "seal_into": lambda s: s.seal_into(bytes(12), b"x" * 1000, bytearray(1016)),
        "open_into": lambda s: s.open_into(bytes(12), bytes(1016), bytearray(1000)),
    },
    hazmat.HPKEContext: {
        **SESSION,
        "seal": lambda s: s.seal(b"x" * 100),
        "open": lambda s: s.open(bytes(100)),
        "export": lambda s: s.export(b"c", 32),
    },
}


def opened(protocol: Any) -> ac.NodeSession:
    return SessionPair(protocol=protocol).node


def asked(protocol: Any) -> ac.ClientSession:
    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.seal_chunks([b"%d" % i for i in range(200)]) + pair.node.finish())
    return pair.client


MAKE: Final[list[Callable[[], Any]]] = [
    *(lambda protocol=protocol: opened(protocol) for protocol in ("v1", "v2")),
    *(lambda protocol=protocol: asked(protocol) for protocol in ("v1", "v2")),
    *(lambda protocol=protocol: new_client(protocol=protocol) for protocol in ("v1", "v2")),
    lambda: ac.NodeSession(node_key()),
    ac.NodeKeyring,
    lambda: ac.SecretKey.generate("X-Wing"),
    ac.SigningKey.generate,
    lambda: ac.MemoryReplayCache(fresh_key=True),
    lambda: ac.Sealer(bytes(32), ENC),
    lambda: ac.Opener(bytes(32), ENC, bytes(32)),
    lambda: hazmat.AES256GCM(bytes(32)),
    lambda: hazmat.hpke_setup_sender(ENC, b"")[1],
    lambda: hazmat.hpke_setup_recipient(ENC, node_key(), b""),
]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_nothing_public_is_left_out() -> None:
    handles = {
        kind
        for module in (ac, hazmat)
        for name in module.__all__
        if isinstance(kind := getattr(module, name), type) and hasattr(kind, "close") and kind is not ac.ReplayCache
    }
    assert handles == set(CALLS)
    assert {type(make()) for make in MAKE} == handles
    for kind, calls in CALLS.items():
        assert public(kind) == set(calls), kind


def hammer(make: Callable[[], Any], seed: int, rounds: int) -> int:
    """How often something was given. All calls but those that end the object; and from the middle on those, too."""
    one = make()
    calls = CALLS[type(one)]
    given: list[list[tuple[str, Any]]] = [[] for _ in range(8)]
    last = {"close", "finish", "abort", "receive_eof"}

    def work(number: int) -> None:
        random_ = random.Random(seed * 8 + number)
        for at in range(rounds):
            name = random_.choice(
                [name for name in calls if name not in last or at > rounds // 2 + random_.randrange(9)]
            )
            try:
                given[number].append((name, calls[name](one)))
            except REFUSED:
                pass
            except ac.NonceReuseWarning:
                raise AssertionError("a nonce was used twice") from None

    run(work)
    one.close()
    one.close()
    results = [result for results in given for result in results]
    check(one, results)
    return len(results)


def check(one: Any, results: list[tuple[str, Any]]) -> None:
    if isinstance(one, ac.NodeSession):
        events = [event for name, raw in results if name in {"seal_chunk", "seal_chunks"} for event in split(raw)]
        nonces = [member(event, "nonce") for event in events if b'"nonce"' in event]
        assert len(set(nonces)) == len(nonces)
        texts = [member(event, "ciphertext") for event in events]
        assert len(set(texts)) == len(texts)  # in v2 the same under one index would be the same
        assert sum(name in {"finish", "abort", "seal_response"} for name, _ in results) <= 1
    if isinstance(one, ac.ClientSession):
        chunks = [event for name, event in results if name == "next_event" and isinstance(event, ac.Chunk)]
        chunks += [
            event for name, found in results if name == "events" for event in found if isinstance(event, ac.Chunk)
        ]
        assert len({chunk.index for chunk in chunks}) == len(chunks)
        assert all(chunk.plaintext == b"%d" % chunk.index for chunk in chunks)
        assert sum(name == "seal_request" for name, _ in results) <= 1
    if isinstance(one, ac.MemoryReplayCache):
        assert sum(admitted for name, admitted in results if name == "admit") <= 256
    if isinstance(one, ac.Sealer | hazmat.HPKEContext):
        sealed = [result for name, result in results if name == "seal"]
        assert len(set(sealed)) == len(sealed)


@pytest.mark.parametrize("make", MAKE, ids=lambda make: type(make()).__name__)
def test_threads_do_everything_at_once(make: Callable[[], Any]) -> None:
    assert hammer(make, 1, 30)


def test_what_is_given_twice_is_noticed() -> None:
    pair = SessionPair()
    event = pair.node.seal_chunk(b"x")
    with pytest.raises(AssertionError):
        check(pair.node, [("seal_chunk", event)] * 2)
    with pytest.raises(AssertionError):
        check(pair.client, [("next_event", ac.Chunk(b"0", 0, None))] * 2)


def test_a_request_goes_to_many_threads_and_one_answers() -> None:
    store = ac.MemoryReplayCache(fresh_key=True)
    envelope = new_client(protocol="v2").seal_request(REPLY_BODY, stream=False)
    admitted: list[int] = []

    def work(number: int) -> None:
        try:
            ac.NodeSession(node_key(), replay_cache=store).open_request(envelope)
            admitted.append(number)
        except ac.ReplayedError:
            pass

    run(work)
    assert len(admitted) == 1


@pytest.mark.long
def test_for_longer_in_developers_mode() -> None:
    code = "import test_faults_threads as t\nfor make in t.MAKE:\n for seed in range(6): t.hammer(make, seed, 120)\n"
    done = run_program("-X", "dev", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
