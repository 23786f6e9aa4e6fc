"""What v2's sessions must not leave behind: keys and plaintext in memory that is done with, and in texts."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope_v2, _sealer_v2
from atoma_crypto._core import Scratch, ffi
from atoma_crypto._typing import Suite
from helpers import USAGE, SessionPair, native, new_client, new_node
from test_secrets import MARK, PLAIN, assert_silent, chain, texts_of
from test_wiped import _scratch_is_kept, scratch_of

__all__ = ["_scratch_is_kept"]  # a fixture

SECRET_FIELDS: Final = ("aes", "base", "key")
Session = ac.ClientSession | ac.NodeSession


def zero(session: Session) -> bool:
    """No key is left in the native object: a salt, which is public, and numbers are."""
    held = native(session)
    fields = [name for name in SECRET_FIELDS if hasattr(held, name)]
    assert len(fields) == 2
    return not any(any(bytes(ffi.buffer(ffi.addressof(held, name)))) for name in fields)


def closes(session: Session) -> Session:
    session.close()
    return session


def node_finishes(pair: SessionPair) -> Session:
    pair.node.finish(USAGE)
    return pair.node


def node_aborts(pair: SessionPair) -> Session:
    pair.node.abort("X", "", 500)
    return pair.node


def client_ends(pair: SessionPair) -> Session:
    pair.client.receive_data(pair.node.finish())
    assert isinstance(list(pair.client.events())[-1], ac.EndOfStream)
    return pair.client


def client_learns_of_an_abort(pair: SessionPair) -> Session:
    pair.client.receive_data(pair.node.abort("X", "", 500))
    with pytest.raises(ac.RemoteAbortError):
        list(pair.client.events())
    return pair.client


def client_fails(pair: SessionPair) -> Session:
    pair.client.receive_data(b"data: x\n\n")
    with pytest.raises(ac.FramingError):
        list(pair.client.events())
    return pair.client


ENDS: Final[list[Callable[[SessionPair], Session]]] = [
    *(node_finishes, node_aborts, client_ends, client_learns_of_an_abort, client_fails),
    lambda pair: closes(pair.node),
    lambda pair: closes(pair.client),
]


@pytest.mark.usefixtures("_scratch_is_kept")
@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
@pytest.mark.parametrize("end", ENDS)
def test_an_ended_session_holds_no_key_and_no_plaintext(end: Callable[[SessionPair], Session], suite: Suite) -> None:
    pair = SessionPair(protocol="v2", suite=suite)
    assert not zero(pair.client)  # the secret that waits for its salt
    pair.client.receive_data(pair.node.seal_chunk(PLAIN))
    assert isinstance(pair.client.next_event(), ac.Chunk)
    assert not zero(pair.node)
    assert not zero(pair.client)
    views = [scratch_of(pair.client).view, scratch_of(pair.node).view]
    assert MARK in bytes(views[0])
    session = end(pair)
    assert zero(session)
    assert not any(bytes(views[0] if session is pair.client else views[1]))


def test_an_answer_leaves_no_key_on_either_side() -> None:
    pair = SessionPair(protocol="v2", stream=False)
    raw = pair.node.seal_response(PLAIN)
    assert zero(pair.node)
    assert pair.client.open_response(raw) == PLAIN
    assert zero(pair.client)


class Refusing:
    def admit(self, _id: bytes, _expires_at: float) -> bool:
        return False

    def close(self) -> None:
        pass


@pytest.mark.usefixtures("_scratch_is_kept")
def test_a_request_that_is_not_admitted_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tag has verified, and no plaintext of it leaves: neither the session nor what is left in memory."""
    made: list[Scratch] = []

    def watched(cap: int) -> Scratch:
        made.append(Scratch(cap))
        return made[-1]

    monkeypatch.setattr(_sealer_v2, "Scratch", watched)
    node = new_node(replay_cache=Refusing())
    with pytest.raises(ac.ReplayedError) as caught:
        node.open_request(new_client(protocol="v2").seal_request(PLAIN, stream=True))
    assert len(made) == 1
    assert not any(bytes(made[0].view))
    assert zero(node)
    assert node._keys is None
    text = "".join(traceback.format_exception(caught.value))
    assert_silent(text, PLAIN, MARK)


def failing() -> list[Callable[[], object]]:
    def request(body: bytes) -> Callable[[], object]:
        def call() -> object:
            client = new_client(protocol="v2")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_envelope_v2, "check_body", lambda *_: None)
                raw = client.seal_request(body, stream=True)
            return new_node().open_request(raw)

        return call

    def abort(plaintext: bytes) -> Callable[[], object]:
        def call() -> object:
            pair = SessionPair(protocol="v2")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_envelope_v2, "write_abort", lambda *_: plaintext)
                return pair.client.open_response(pair.node.abort("X", "", 500))

        return call

    def event(change: dict[str, object]) -> Callable[[], object]:
        def call() -> object:
            pair = SessionPair(protocol="v2")
            members = json.loads(pair.node.seal_chunk(PLAIN)[6:]) | change
            pair.client.receive_data(b"data: %b\n\n" % json.dumps(members).encode())
            return pair.client.next_event()

        return call

    changes: list[dict[str, object]] = [{"flag": 1}, {"flag": 9}, {"usage": {"llamas": 1}}, {"v": 3}]
    return [
        *(request(body) for body in (b'{"model":"llamas","stream":true}', b'{"llamas":1,"llamas":1}', b"llamas")),
        request(b'{"stream":"llamas"}'),
        lambda: new_client(protocol="v2").seal_request(b'{"model":"llamas"}', stream=False),
        lambda: new_client(protocol="v2").seal_request(b'{"llamas', stream=False),
        *(abort(text) for text in (b"llamas", b'{"error":"llamas"}', b'{"error":{"code":"llamas"}}')),
        *(event(change) for change in changes),
    ]


@pytest.mark.parametrize("call", failing())
def test_errors_say_nothing_of_what_was_sealed(call: Callable[[], object]) -> None:
    with pytest.raises(ac.AtomaCryptoError) as caught:
        call()
    for one in chain(caught.value):
        assert_silent(texts_of(one), MARK)
        assert isinstance(one, ac.AtomaCryptoError)


def test_an_abort_says_what_the_node_said_when_it_is_asked() -> None:
    pair = SessionPair(protocol="v2")
    with pytest.raises(ac.RemoteAbortError) as caught:
        pair.client.open_response(pair.node.abort("X", "llamas", 500))
    assert_silent(texts_of(caught.value), MARK)
    assert caught.value.message == "llamas"
    assert caught.value.__context__ is None
