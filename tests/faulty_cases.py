"""What is done while something fails (tests/test_faults_memory.py), and what must hold of the session after that.

A case makes its objects anew. `call` is what is struck; `check` is told what it gave, or None if it raised, and goes on
in another thread, so that nothing can be left locked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._state import State
from atoma_crypto._typing import Protocol, Suite
from helpers import REPLY_BODY, STREAM_BODY, USAGE, SessionPair, member, new_client, new_node, node_key, punted
from interrupting import Session, key_is_gone


class Case(NamedTuple):
    """An operation, and a look at what it has left behind."""

    call: Callable[[], Any]
    check: Callable[[Any], object]
    close: Callable[[], object]  # must work, whatever has happened
    session: Session | None = None


def fail_or(call: Callable[[], bytes], session: Session) -> bytes | None:
    """What a call gives; None: the session has failed for good, and its key is wiped."""
    try:
        return call()
    except ac.LocalProtocolError as error:
        assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - its subclasses say that it is closed, or locked
        assert session._state is State.FAILED, error  # noqa: PT017 - as above
        assert key_is_gone(session)
        return None


def split(events: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in events.split(b"\n\n")[:-1]]


def assert_no_nonce_twice(events: list[bytes]) -> None:
    """In v1 an event shows its nonce; in v2 it is the number that the client counts to, so that it reads no other."""
    nonces = [member(event, "nonce") for event in events]
    assert len(set(nonces)) == len(nonces), nonces


# ---- a node's session -----------------------------------------------------------------------------------------------


def sealing(
    protocol: Protocol,
    seal: Callable[[ac.NodeSession], bytes],
    texts: list[bytes],
    *,
    begun: bool,
    limits: ac.Limits = ac.Limits(),  # noqa: B008 - frozen
) -> Case:
    """One event was given before, and one is asked for after it."""
    pair = SessionPair(protocol=protocol, client={"limits": limits}, node={"limits": limits})
    first = [pair.node.seal_chunk(b"first")] if begun else []

    def check(given: bytes | None) -> None:
        more = fail_or(lambda: pair.node.seal_chunk(b"more"), pair.node)
        end = fail_or(pair.node.finish, pair.node)
        events = [*first, *split(given or b""), *([more] if more else [])]
        if protocol == "v1":
            assert_no_nonce_twice(events)
        pair.client.receive_data(b"".join(events) + (end or b""))
        want = [b"first"] * begun + texts * (given is not None) + [b"more"] * (more is not None)
        got = [event.plaintext for event in pair.client.events() if isinstance(event, ac.Chunk)]
        assert got == want, (got, want)
        assert given is None or more is not None  # what has succeeded has failed nothing

    return Case(lambda: seal(pair.node), check, pair.node.close, pair.node)


def ending(protocol: Protocol, end: Callable[[ac.NodeSession], bytes]) -> Case:
    """At most one end is given, and nothing behind it."""
    pair = SessionPair(protocol=protocol)
    first = pair.node.seal_chunk(b"first")

    def check(given: bytes | None) -> None:
        ends = [given] if given is not None else []
        if given is not None:
            assert pair.node._state is State.DONE
        else:
            again = fail_or(pair.node.finish, pair.node)
            ends += [] if again is None else [again]
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.finish())
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.seal_chunk(b"behind"))
        pair.client.receive_data(first + b"".join(ends))
        with suppress(ac.RemoteAbortError):
            assert [type(event) for event in pair.client.events()][:1] == [ac.Chunk]

    return Case(lambda: end(pair.node), check, pair.node.close, pair.node)


def answering(protocol: Protocol) -> Case:
    pair = SessionPair(protocol=protocol, stream=False)

    def check(given: bytes | None) -> None:
        if given is None:
            given = fail_or(lambda: pair.node.seal_response(b'{"answer":1}', USAGE), pair.node)
        if given is not None:
            assert pair.client.open_response(given) == b'{"answer":1}'
        with suppress(ac.LocalProtocolError):
            raise AssertionError(pair.node.seal_response(b"x"))

    return Case(lambda: pair.node.seal_response(b'{"answer":1}', USAGE), check, pair.node.close, pair.node)


def opening_request(protocol: Protocol, body: bytes = REPLY_BODY, suite: Suite = "X25519") -> Case:
    """In v2, of all who are given one request, one answers."""
    store = ac.MemoryReplayCache(fresh_key=True)
    client = new_client(protocol=protocol, suite=suite)
    envelope = client.seal_request(body, stream=False)
    nodes = [new_node(suite=suite, replay_cache=store) for _ in range(3)]

    def opens(node: ac.NodeSession) -> bool:
        try:
            return node.open_request(envelope).body == body
        except ac.ReplayedError:
            return False
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            return False

    def check(given: ac.Request | None) -> None:
        node = nodes[0]
        if given is None:
            assert node._state in {State.IDLE, State.FAILED}
            assert node._state is State.IDLE or key_is_gone(node)
        opened = [given is not None or opens(node), *map(opens, nodes[1:])]
        if protocol == "v2":
            assert sum(opened) <= 1, opened
            assert given is None or sum(opened) == 1
            assert store._seen is not None
            assert set(store._seen) == {request_id for _, request_id in store._expiries}
        for node, was_opened in zip(nodes, opened, strict=True):
            if was_opened:
                assert client.open_response(node.seal_response(b"answer")) == b"answer"
                break

    return Case(lambda: nodes[0].open_request(envelope), check, nodes[0].close, nodes[0])


# ---- a client's session ---------------------------------------------------------------------------------------------


def requesting(protocol: Protocol, body: bytes = STREAM_BODY, suite: Suite = "X25519") -> Case:
    client = new_client(protocol=protocol, suite=suite)

    def call() -> bytes:
        return client.seal_request(body, stream=True)

    def check(given: bytes | None) -> None:
        envelope = given if given is not None else fail_or(call, client)
        if envelope is None:
            return
        node = new_node(suite=suite)
        assert node.open_request(envelope).body == body
        client.receive_data(node.seal_chunk(b"x"))
        assert client.next_event() == (b"x", 0, None)

    return Case(call, check, client.close, client)


READ: Final = [b"0", b"1", b"22", b"3"]


def reading(protocol: Protocol, *, before: int, dress: Callable[[bytes], bytes] = bytes, joined: bool = True) -> Case:
    """Four chunks and the end; some of them were given before, one is asked for, and then the rest."""
    pair = SessionPair(protocol=protocol)
    events = [dress(pair.node.seal_chunk(text, USAGE if text == b"22" else None)) for text in READ]
    events.append(pair.node.finish())
    pair.client._warned = True
    got: list[Any] = []
    for piece in [b"".join(events)] if joined else events:
        pair.client.receive_data(piece)
        if len(got) < before:
            got.append(pair.client.next_event())
    got += [pair.client.next_event() for _ in range(before - len(got))]
    pair.client.receive_eof()

    def check(given: Any) -> None:
        got.extend([given] if given is not None else [])
        try:
            got.extend(pair.client.events() if not isinstance(given, ac.EndOfStream) else [])
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            assert pair.client._state is State.FAILED
            assert key_is_gone(pair.client)
            assert given is None
            assert all(isinstance(event, ac.Chunk) for event in got)
        else:
            assert isinstance(got.pop(), ac.EndOfStream)
            assert len(got) == len(READ)
        texts = [event.plaintext for event in got if isinstance(event, ac.Chunk)]
        assert texts == READ[: len(texts)], texts

    return Case(pair.client.next_event, check, pair.client.close, pair.client)


def receiving(protocol: Protocol, *, late: bool = False) -> Case:
    """Bytes are taken, or not: then they can be given once more."""
    pair = SessionPair(protocol=protocol)
    event = bytearray(b": behind\n\n" if late else pair.node.seal_chunk(b"x"))
    if late:
        pair.client.receive_data(pair.node.finish())
        pair.client.next_event()

    def call() -> bool:
        pair.client.receive_data(event)
        return True

    def check(given: bool | None) -> None:
        try:
            if given is None:
                call()
            found = pair.client.next_event()
        except ac.LocalProtocolError as error:
            assert type(error) is ac.LocalProtocolError, error  # noqa: PT017 - as in fail_or
            assert key_is_gone(pair.client)
        else:
            assert isinstance(found, ac.EndOfStream if late else ac.Chunk)
            assert late or pair.client.next_event() is ac.NEED_DATA

    return Case(call, check, pair.client.close, pair.client)


def opening_response(protocol: Protocol, answer: bytes = b"answer") -> Case:
    pair = SessionPair(protocol=protocol, stream=False)
    raw = pair.node.seal_response(answer, USAGE)

    def check(given: bytes | None) -> None:
        if given is None:
            given = fail_or(lambda: pair.client.open_response(raw), pair.client)
        assert given in {None, answer}

    return Case(lambda: pair.client.open_response(raw), check, pair.client.close, pair.client)


# ---- everything else ------------------------------------------------------------------------------------------------


def closing(protocol: Protocol, end: str) -> Case:
    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.seal_chunks([b"x", b"y"]))
    pair.client.next_event()
    session: Session = pair.client if end == "client" else pair.node

    def call() -> bool:
        session.close()
        return True

    def check(given: bool | None) -> None:
        session.close()
        assert session._state is State.CLOSED
        assert key_is_gone(session)
        assert given is None or session._state is State.CLOSED

    return Case(call, check, session.close, session)


def keyring(use: Callable[[ac.NodeKeyring], Any]) -> Case:
    """The offers go on, each key that they name is there, and no request is admitted twice."""
    now = [0.0]
    ring = ac.NodeKeyring(rotate_after=10, grace=100, clock=lambda: now[0])
    offers = ring.offers()
    now[0] = 11.0  # a rotation is due

    def opens(offer: ac.KeyOffer) -> None:
        client = ac.ClientSession(offer.public_key, model="m", stack_small_id=1, protocol=offer.protocol)
        envelope = client.seal_request(REPLY_BODY, stream=False)
        node = ac.NodeSession(ring)
        assert node.open_request(envelope).body == REPLY_BODY
        if offer.protocol == "v2":
            with suppress(ac.ReplayedError):
                raise AssertionError(ac.NodeSession(ring).open_request(envelope))

    def check(_: object) -> None:
        for offer in (*offers, *ring.offers()):
            opens(offer)
        for one in ring._rings:
            assert len({held.name for held in one.held}) == len(one.held)
        ring.close()
        with suppress(ac.SessionClosedError):
            raise AssertionError(ring.public_key)

    return Case(lambda: use(ring) or True, check, ring.close)


def records(struck: str) -> Case:
    sealer = ac.Sealer(bytes(32), bytes(32))
    opener = ac.Opener(bytes(32), bytes(32), sealer.salt)
    sealed = [sealer.seal(b"0")]

    def call() -> Any:
        return sealer.seal(b"1", usage=USAGE) if struck == "seal" else opener.open(sealed[0])

    def check(given: Any) -> None:
        if struck == "seal":
            # A record that was sealed and not given is lost, and the opener says so: its number is not used again.
            assert sealer._native is not None
            spent = sealer._native.index
            assert spent in ({2} if given is not None else {1, 2})
            assert opener.open(sealed[0]) == b"0"
            if given is not None:
                assert opener.open(given, usage=USAGE) == b"1"
            more = sealer.seal(b"more")
            with suppress(*[ac.AuthenticationError] * (given is None and spent == 2)):
                assert opener.open(more) == b"more"
        else:
            assert given in {None, b"0"}
            with suppress(ac.AuthenticationError):  # what was opened and not given is not opened again
                assert opener.open(sealed[0]) == b"0"
                assert given is None
            opener.close()

    return Case(call, check, sealer.close if struck == "seal" else opener.close)


def hpke(struck: str) -> Case:
    key = node_key()
    enc, sender = hazmat.hpke_setup_sender(bytes(key.public_key), b"info")
    recipient = hazmat.hpke_setup_recipient(enc, key, b"info")
    call = (lambda: sender.seal(b"1")) if struck == "seal" else (lambda: recipient.export(b"c", 32))

    def check(given: bytes | None) -> None:
        if struck == "seal":
            if given is not None:
                assert recipient.open(given) == b"1"
            assert sender.seal(b"1") != given
        else:
            assert given in {None, sender.export(b"c", 32)}

    return Case(call, check, sender.close)


def making(make: Callable[[], Any], use: Callable[[Any], object]) -> Case:
    """An object is made whole or not at all."""
    made: list[Any] = []

    def call() -> Any:
        made.append(make())
        return made[0]

    def check(given: Any) -> None:
        use(given if given is not None else make())

    return Case(call, check, lambda: [one.close() for one in made if hasattr(one, "close")])


def hpke_setup(end: str, suite: Suite) -> Case:
    """A context is set up whole or not at all."""
    key, info = node_key(suite), b"info"
    public = bytes(key.public_key)
    enc, sender = hazmat.hpke_setup_sender(public, info, suite=suite)
    sealed = sender.seal(b"1")

    def recipient_of(enc: bytes) -> hazmat.HPKEContext:
        return hazmat.hpke_setup_recipient(enc, key, info, suite=suite)

    def sends(made: tuple[bytes, hazmat.HPKEContext]) -> None:
        assert recipient_of(made[0]).open(made[1].seal(b"2")) == b"2"

    def receives(made: hazmat.HPKEContext) -> None:
        assert made.open(sealed) == b"1"

    if end == "sender":
        return making(lambda: hazmat.hpke_setup_sender(public, info, suite=suite), sends)
    return making(lambda: recipient_of(enc), receives)


def exchange_with(key: ac.SecretKey, protocol: Protocol) -> None:
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol=protocol)
    node = ac.NodeSession(key)
    node.open_request(client.seal_request(REPLY_BODY, stream=False))
    assert client.open_response(node.seal_response(b"x")) == b"x"


def _long(node: ac.NodeSession) -> bytes:
    return node.seal_chunk(bytes(9000))


def _many(node: ac.NodeSession) -> bytes:
    return node.seal_chunks([b"a", bytearray(b"b"), memoryview(b"c")])


def _both(protocol: Protocol) -> dict[str, Callable[[], Case]]:
    return {
        f"{protocol} seal_chunk, first": lambda: sealing(protocol, lambda n: n.seal_chunk(b"x"), [b"x"], begun=False),
        f"{protocol} seal_chunk": lambda: sealing(protocol, lambda n: n.seal_chunk(b"x"), [b"x"], begun=True),
        f"{protocol} seal_chunk, long": lambda: sealing(protocol, _long, [bytes(9000)], begun=True),
        f"{protocol} seal_chunk, usage": lambda: sealing(
            protocol, lambda n: n.seal_chunk(bytearray(b"x"), USAGE), [b"x"], begun=True
        ),
        f"{protocol} seal_chunks": lambda: sealing(protocol, _many, [b"a", b"b", b"c"], begun=True),
        f"{protocol} seal_chunks, first": lambda: sealing(protocol, _many, [b"a", b"b", b"c"], begun=False),
        f"{protocol} finish": lambda: ending(protocol, lambda n: n.finish()),
        f"{protocol} seal_response": partial(answering, protocol),
        f"{protocol} open_request": partial(opening_request, protocol),
        f"{protocol} seal_request": partial(requesting, protocol),
        f"{protocol} next_event, first": partial(reading, protocol, before=0),
        f"{protocol} next_event, each in its piece": partial(reading, protocol, before=0, joined=False),
        f"{protocol} next_event, usage": partial(reading, protocol, before=2, joined=False),
        f"{protocol} next_event, general parser": partial(reading, protocol, before=1, dress=punted),
        f"{protocol} next_event, end": partial(reading, protocol, before=4),
        f"{protocol} receive_data": partial(receiving, protocol),
        f"{protocol} open_response": partial(opening_response, protocol),
        f"{protocol} close, client": partial(closing, protocol, "client"),
        f"{protocol} close, node": partial(closing, protocol, "node"),
        f"{protocol} SecretKey.generate": partial(
            making, ac.SecretKey.generate, lambda key: exchange_with(key, protocol)
        ),
        f"{protocol} ClientSession": partial(
            making, lambda: new_client(protocol=protocol), lambda c: c.seal_request(b"{}", stream=False)
        ),
    }


CASES: Final[dict[str, Callable[[], Case]]] = {
    **_both("v1"),
    **_both("v2"),
    "v2 receive_data, late": partial(receiving, "v2", late=True),
    "v2 abort": lambda: ending("v2", lambda n: n.abort("CODE", "text", 500)),
    "keyring public_key": lambda: keyring(lambda ring: ring.public_key),
    "keyring offers": lambda: keyring(lambda ring: ring.offers()),
    "keyring rotate": lambda: keyring(lambda ring: ring.rotate("v2")),
    "keyring candidates": lambda: keyring(lambda ring: ring.candidates()),
    "keyring select": lambda: keyring(lambda ring: ring.select(ring._rings[1].held[0].name)),
    "NodeKeyring": partial(making, ac.NodeKeyring, lambda ring: ring.offers()),
    "NodeSession": partial(making, lambda: ac.NodeSession(node_key(), signing_key=bytes(32)), lambda node: node),
    "Sealer.seal": partial(records, "seal"),
    "Opener.open": partial(records, "open"),
    "HPKEContext.seal": partial(hpke, "seal"),
    "HPKEContext.export": partial(hpke, "export"),
    **{
        f"hpke_setup_{end}, {suite}": partial(hpke_setup, end, suite)
        for end in ("sender", "recipient")
        for suite in ("X25519", "X-Wing")
    },
    "X-Wing seal_request": partial(requesting, "v2", suite="X-Wing"),
    "X-Wing open_request": partial(opening_request, "v2", suite="X-Wing"),
    "X-Wing SecretKey.generate": partial(
        making, lambda: ac.SecretKey.generate("X-Wing"), lambda key: exchange_with(key, "v2")
    ),
    "X-Wing SecretKey.from_bytes": partial(
        making, lambda: ac.SecretKey.from_bytes(bytes(32), "X-Wing"), lambda key: key.public_key
    ),
    "AES256GCM": partial(making, lambda: hazmat.AES256GCM(bytes(32)), lambda aes: aes.seal(bytes(12), b"x")),
    "SigningKey.generate": partial(making, ac.SigningKey.generate, lambda key: key.public_key),
    "SecretKey.from_bytes": partial(making, lambda: ac.SecretKey.from_bytes(bytes(32)), lambda key: key.public_key),
}
