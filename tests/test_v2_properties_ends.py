"""What protocol v2 promises (docs/protocol-v2.md, section 8), by number: 5 to 7, 10 and 11, at the two ends."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import pytest

import atoma_crypto as ac
import reference_v2 as v2
from atoma_crypto._core import ffi
from atoma_crypto._envelope_v2 import Metadata
from atoma_crypto._opener_v2 import V2Opener
from atoma_crypto._typing import Suite
from make_v2_vectors import SECRETS
from threads import insist
from v2_exchange import (
    CHUNKS,
    NOW,
    Clock,
    Exchange,
    Reading,
    b64,
    body,
    client_of,
    key_of,
    members,
    read,
    refusal,
    store,
    with_members,
)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")
KEPT_BYTES: Final = 1 << 20  # of plaintext, for an abort: as much as it can be padded to
SUITES: Final[tuple[Suite, ...]] = ("X25519", "X-Wing")


# ---- 5, 6 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("ahead", [0, 5, 60])
def test_5_the_same_request_every_second_until_it_is_too_old(ahead: int, suite: Suite) -> None:
    key, clock = key_of(suite), Clock()
    cache = ac.MemoryReplayCache(fresh_key=True, clock=clock)
    envelope = client_of(key, clock=Clock(NOW + ahead)).seal_request(body(stream=True), stream=True)
    said = []
    for second in range(ahead + 302):
        clock.now = NOW + second
        said.append(refusal(ac.NodeSession(key, replay_cache=cache, clock=clock), envelope))
    assert said == [None] + [ac.ReplayedError] * (ahead + 299) + [ac.ClockSkewError] * 2


def test_6_after_a_restart_with_a_saved_key() -> None:
    raw, clock = os.urandom(32), Clock()
    first = ac.SecretKey.from_bytes(raw)
    envelope = client_of(first, clock=Clock(NOW + 60)).seal_request(body(stream=True), stream=True)
    cache = ac.MemoryReplayCache(fresh_key=True, clock=clock)
    assert refusal(ac.NodeSession(first, replay_cache=cache, clock=clock), envelope) is None
    again, lost = ac.SecretKey.from_bytes(raw), ac.MemoryReplayCache(clock=clock)
    for second in range(362):
        clock.now = NOW + second
        said = refusal(ac.NodeSession(again, replay_cache=lost, clock=clock), envelope)
        assert said is (ac.ReplayStoreError if second < 360 else ac.ClockSkewError)


@forks
def test_6_in_a_second_worker() -> None:
    exchange = Exchange(admitted=False)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = refusal(exchange.new_node(), exchange.envelope)
            os.write(writing, b"refused" if said is ac.ReplayStoreError else b"admitted")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    assert os.read(reading, 100) == b"refused"
    os.close(reading)


@pytest.mark.parametrize("suite", SUITES)
def test_6_garbage_under_a_victims_enc(suite: Suite) -> None:
    exchange = Exchange(suite, admitted=False)
    for garbage in (b64(bytes(16)), b64(os.urandom(100))):
        spoilt = with_members(exchange.envelope, ciphertext=garbage)
        assert refusal(exchange.new_node(), spoilt) is ac.AuthenticationError
    assert len(exchange.cache) == 0
    assert refusal(exchange.new_node(), exchange.envelope) is None
    assert refusal(exchange.new_node(), exchange.envelope) is ac.ReplayedError


# ---- 7 --------------------------------------------------------------------------------------------------------------


def test_7_two_threads_never_share_a_nonce() -> None:
    """Of one plaintext, two ciphertexts are alike where two nonces are."""
    sealer = ac.Sealer(bytes(32), bytes(32))
    made: list[list[bytes]] = [[], []]
    gate = threading.Barrier(2)

    def work(mine: list[bytes]) -> None:
        gate.wait()
        while len(mine) < 300:
            mine.append(insist(lambda: sealer.seal(bytes(4000))))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made[0] + made[1])) == 600
    opener, left = ac.Opener(bytes(32), bytes(32), sealer.salt), made
    for _ in range(600):  # each thread's own are in order: the next is the first of one of the two
        if not left[0] or (left[1] and not _is_next(opener, left[0][0])):
            left.reverse()
        assert opener.open(left[0].pop(0)) == bytes(4000)


def _is_next(opener: ac.Opener, sealed: bytes) -> bool:
    """Tried with a copy: a record that does not verify fails an opener for good."""
    copy: Any = ac.Opener(bytes(32), bytes(32), bytes(32))
    ffi.memmove(copy._native, opener._native, ffi.sizeof("ac_v2_opener"))
    try:
        copy.open(sealed)
    except ac.AuthenticationError:
        return False
    return True


@forks
def test_7_a_child_cannot_seal_with_its_parents_counter() -> None:
    exchange = Exchange()
    first = exchange.node.seal_chunk(CHUNKS[0])
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            exchange.node.seal_chunk(b"x")
            os.write(writing, b"sealed")
        except ac.LocalProtocolError:
            os.write(writing, b"refused")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    assert os.read(reading, 100) == b"refused"
    os.close(reading)
    rest = [exchange.node.seal_chunk(CHUNKS[1]), exchange.node.finish()]
    assert read(exchange.client, [first, *rest]) == Reading(list(CHUNKS[:2]), ac.EndOfStream)


@pytest.mark.parametrize("name", ["index", "bytes_left"])
def test_7_counters_are_refused_before_they_wrap(name: str) -> None:
    """One more record, and then nothing but the abort, for which an index and some bytes are kept back."""
    exchange = Exchange()
    native: Any = exchange.node._sealer
    kept = 2**32 - 2 if name == "index" else KEPT_BYTES + 1
    setattr(native._native, name, kept)
    exchange.node.seal_chunk(b"x")
    for _ in range(2):
        with pytest.raises(ac.LimitExceededError):
            exchange.node.seal_chunk(b"x")
    assert members(exchange.node.abort("SPENT", "m" * 1024, 500))["flag"] == 2


# ---- 10, 11 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        (b'{"model":"n","stream":true}', True),
        (b'{"model":null,"stream":true}', True),
        (b'{"model":"m"}', True),
        (b'{"model":"m","stream":false}', True),
        (b'{"model":"m","stream":true}', False),
        (b'{"model":"m","model":"m"}', False),
    ],
)
def test_10_a_body_that_says_otherwise_is_refused_under_seal(text: bytes, stream: bool) -> None:
    """The client refuses to seal it. Who seals it all the same hears so from the node, and nobody else does."""
    with pytest.raises(ac.LocalProtocolError):
        client_of(key_of()).seal_request(text, stream=stream)
    client = client_of(key_of())
    client.seal_request(body(stream=stream), stream=stream)
    opener = client._opener = V2Opener(ac.Limits())  # which is less strict than the session
    metadata = Metadata("/v1/chat/completions", "m", None, None, stream, NOW)
    envelope = opener.seal_request(text, key_of().public_key, metadata)
    cache = store()
    node = ac.NodeSession(key_of(), replay_cache=cache, clock=Clock())
    assert refusal(node, envelope) is ac.EnvelopeError
    assert len(cache) == 1  # it was admitted: what follows is sealed
    with pytest.raises(ac.LocalProtocolError):
        node.seal_chunk(b"x") if stream else node.seal_response(b"{}")
    answer = node.abort("INVALID_BODY", "the body says otherwise", 400)
    assert b"otherwise" not in answer
    with pytest.raises(ac.RemoteAbortError) as caught:
        client.open_response(answer)
    assert (caught.value.code, caught.value.status) == ("INVALID_BODY", 400)


def test_11_secrets_are_gone_after_close() -> None:
    """What of either end's native memory is secret is there before, by the reference's reckoning, and not after."""
    key = ac.SecretKey.from_bytes(SECRETS["X25519"])
    client = client_of(key)
    node = ac.NodeSession(key, replay_cache=store(), clock=Clock())
    envelope = client.seal_request(body(stream=True), stream=True)
    exported = v2.open_request("X25519", SECRETS["X25519"], envelope, now=NOW).exported
    opener: Any = client._opener
    assert exported in bytes(ffi.buffer(opener._native))  # until the salt comes
    node.open_request(envelope)
    event = node.seal_chunk(b"x")
    keys = v2.reply_keys(exported, v2.read_envelope(envelope).enc, v2.read_salt(event[6:]))
    assert read(client, [event], eof=False).chunks == [b"x"]
    sealer: Any = node._sealer
    for session, held in ((client, opener._native), (node, sealer._native)):
        before, size = bytes(ffi.buffer(held)), ffi.sizeof(held[0])
        assert size == len(before)
        assert exported not in before
        assert keys.prk not in before
        assert keys.base in before
        session.close()
        after = bytes(ffi.buffer(held))
        assert keys.base not in after
        expanded = bytes(ffi.buffer(ffi.addressof(held.key.aes if session is client else held.aes)))
        assert not any(expanded)
    secret: Any = key.native
    assert SECRETS["X25519"] in bytes(ffi.buffer(secret))
    key.close()
