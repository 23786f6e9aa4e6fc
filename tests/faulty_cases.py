"""All that is done while something fails: of sessions what faulty_sessions.py has, and here the rest, and the list."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import atoma_crypto as ac
from atoma_crypto import hazmat
from atoma_crypto._typing import Protocol, Suite
from faulty_sessions import (
    Case,
    answering,
    closing,
    ending,
    opening_request,
    opening_response,
    reading,
    receiving,
    requesting,
    sealing,
)
from helpers import REPLY_BODY, USAGE, new_client, node_key, punted


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
