"""What must not be left in memory: keys and plaintext of v1's sessions, of keys that were closed, of calls that failed.

tests/test_v2_secrets.py has v2's sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import _core, hazmat, records
from atoma_crypto._core import Scratch, ffi, lib
from helpers import REPLY_BODY, SessionPair, member, native, new_client, new_node, node_key, punted, twin
from test_secrets import MARK, PLAIN, SECRET

HARMLESS: Final = {
    *("chunks_left", "bytes_left", "signs", "state", "busy", "generation"),
    *("chunks", "max_event_bytes", "max_line_bytes", "scan_pos", "line_pos", "data_pos", "data_len", "data_lines"),
    *("fields", "skip_lf", "started", "refuse_nonce_reuse", "nonce_reused", "sse"),
}


@pytest.fixture
def _scratch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a Scratch outlives it, so that a test may look at it: else it would read what was freed."""
    kept = []

    class Keeping:
        def __getattr__(self, name: str) -> Any:
            return getattr(ffi, name)

        def new(self, ctype: str, *init: object) -> Any:
            memory = ffi.new(ctype, *init)
            kept.append(memory)
            return memory

    monkeypatch.setattr(_core, "ffi", Keeping())


def zero(session: ac.ClientSession | ac.NodeSession) -> bool:
    """No key, seed or nonce is left in the native object: numbers are, which say how far it has come."""
    held = native(session)
    copied = ffi.new(ffi.typeof(held))  # with the padding, which must not hold anything either
    ffi.memmove(copied, held, ffi.sizeof(copied[0]))
    fields = dict(ffi.typeof(copied[0]).fields)
    for name in HARMLESS & fields.keys():
        at = ffi.addressof(copied, name)
        ffi.memmove(at, bytes(ffi.sizeof(ffi.typeof(at).item)), ffi.sizeof(ffi.typeof(at).item))
    secret = fields.keys() - HARMLESS
    assert secret == ({"aes", "signing"} if isinstance(session, ac.NodeSession) else {"aes"}) | {
        name for name in fields if name.endswith("_nonce")
    }
    return not any(bytes(ffi.buffer(copied)))


def scratch_of(session: ac.ClientSession | ac.NodeSession) -> Scratch:
    scratch = session._opener._scratch if isinstance(session, ac.ClientSession) else session._sealer._places[0][4]
    assert scratch is not None
    return scratch


def ended_sessions() -> dict[str, Callable[[SessionPair], ac.ClientSession | ac.NodeSession]]:
    def close(session: ac.ClientSession | ac.NodeSession) -> ac.ClientSession | ac.NodeSession:
        session.close()
        return session

    def node_finishes(pair: SessionPair) -> ac.NodeSession:
        pair.node.finish()
        return pair.node

    def client_ends(pair: SessionPair) -> ac.ClientSession:
        pair.client.receive_eof()
        list(pair.client.events())
        return pair.client

    def client_fails(pair: SessionPair) -> ac.ClientSession:
        pair.client.receive_data(b"data: x\n\n")
        with pytest.raises(ac.FramingError):
            list(pair.client.events())
        return pair.client

    return {
        "node closed": lambda pair: close(pair.node),
        "client closed": lambda pair: close(pair.client),
        "node finished": node_finishes,
        "client at the end": client_ends,
        "client failed": client_fails,
    }


@pytest.mark.usefixtures("_scratch_is_kept")
@pytest.mark.parametrize("name", ended_sessions())
def test_an_ended_session_holds_no_key_and_no_plaintext(name: str) -> None:
    pair = SessionPair(node={"signing_key": SECRET})
    event = pair.node.seal_chunk(PLAIN)
    pair.client.receive_data(event)
    assert isinstance(pair.client.next_event(), ac.Chunk)
    assert not zero(pair.node)
    assert not zero(pair.client)
    assert SECRET in bytes(ffi.buffer(native(pair.node)))  # else the scan would find nothing anyway
    views = [scratch_of(pair.client).view, scratch_of(pair.node).view]
    assert MARK in bytes(views[0])
    session = ended_sessions()[name](pair)
    assert zero(session)
    view = views[0] if session is pair.client else views[1]
    assert not any(bytes(view))


def test_a_reply_leaves_no_key_on_either_side() -> None:
    pair = SessionPair(stream=False, node={"signing_key": SECRET})
    raw = pair.node.seal_response(PLAIN)
    assert zero(pair.node)
    client = twin(pair.client)
    assert client.open_response(raw) == PLAIN
    assert zero(client)
    client = twin(pair.client)
    with pytest.raises(ac.EnvelopeError):
        client.open_response(b"{}")
    assert zero(client)


def test_a_request_that_was_refused_leaves_no_key() -> None:
    node = new_node(signing_key=SECRET)
    envelope = json.loads(new_client().seal_request(REPLY_BODY, stream=False))
    with pytest.raises(ac.EnvelopeError):
        node.open_request(json.dumps(envelope | {"stream": True}).encode())
    assert zero(node)
    assert node._keys is None
    assert node._signing is None


def test_chunks_that_were_not_taken_go_with_the_session() -> None:
    pair = SessionPair()
    pair.client.receive_data(pair.node.seal_chunks([PLAIN, PLAIN, PLAIN]))
    pair.client.next_event()
    assert len(pair.client._opener.ready) == 2
    pair.client.close()
    assert len(pair.client._opener.ready) == 0
    assert pair.client._opener._data == b""


@pytest.mark.usefixtures("_scratch_is_kept")
def test_a_forged_event_leaves_no_plaintext() -> None:
    """The tag holds, the hash does not: what was decrypted is wiped before the error is told."""
    for punt in (False, True):
        pair = SessionPair()
        event = pair.node.seal_chunk(PLAIN)
        pair.client.receive_data(event)
        pair.client.next_event()
        view = scratch_of(pair.client).view
        assert MARK in bytes(view)
        view[:] = bytes(len(view))
        members = json.loads(pair.node.seal_chunk(PLAIN).removeprefix(b"data: "))
        members["response_hash"] = "A" * 43 + "="
        forged = b"data: " + json.dumps(members).encode() + b"\n\n"
        pair.client.receive_data(punted(forged) if punt else forged)
        with pytest.raises(ac.AuthenticationError):
            pair.client.next_event()
        assert MARK not in bytes(view)


def test_the_core_leaves_nothing_of_a_forged_event() -> None:
    """Without Python's own wiping: the output is zero, the key is gone, and the opener is failed for good."""
    pair = SessionPair()
    event = pair.node.seal_chunk(PLAIN)
    opener = native(pair.client)
    text, nonce = (member(event, name).encode() for name in ("ciphertext", "nonce"))
    for claimed in (b"A" * 43 + b"=", member(event, "response_hash").encode()):
        out, size = ffi.new("uint8_t[]", len(text)), ffi.new("size_t *")
        rest = (text, len(text), nonce, len(nonce), claimed, len(claimed))
        again = native(twin(pair.client))
        status = lib.ac_v1_sealed_open(again, out, len(text), size, *rest)
        if claimed.startswith(b"AAAA"):
            assert status == lib.AC_ERR_AUTH
            assert not any(ffi.buffer(out)[: len(PLAIN)])
            assert not any(bytes(ffi.buffer(ffi.addressof(again, "aes"))))
            assert lib.ac_v1_sealed_open(again, out, len(text), size, *rest) == lib.AC_ERR_STATE
        else:
            assert status == lib.AC_OK
            assert ffi.buffer(out)[: size[0]] == PLAIN
    assert lib.ac_v1_sealed_open(opener, out, len(text), size, *rest) == lib.AC_OK


@pytest.mark.parametrize("forged", [True, False])
def test_the_core_leaves_nothing_of_a_forged_request(forged: bool) -> None:
    """Again without Python's wiping: a body whose hash does not hold."""
    members = json.loads(new_client().seal_request(PLAIN, stream=True))
    envelope, lent = ffi.new("ac_v1_envelope *"), []
    for field, name in (
        ("ciphertext", "ciphertext"),
        ("nonce", "nonce"),
        ("salt", "salt"),
        ("client_public", "client_dh_public_key"),
        ("node_public", "node_dh_public_key"),
        ("body_hash", "plaintext_body_hash"),
    ):
        text = b"A" * 43 + b"=" if forged and field == "body_hash" else members[name].encode()
        lent.append(ffi.from_buffer("uint8_t[]", text))
        setattr(envelope, field, lent[-1])
        setattr(envelope, f"{field}_len", len(text))
    cap = lib.ac_base64_decoded_max(len(members["ciphertext"]))
    sealer, body, size = ffi.new("ac_v1_sealer *"), ffi.new("uint8_t[]", cap), ffi.new("size_t *")
    rest = (size, node_key().native, ffi.NULL, envelope)
    assert lib.ac_v1_request_open(sealer, body, cap - 1, *rest) == lib.AC_ERR_CAPACITY
    status = lib.ac_v1_request_open(sealer, body, cap, *rest)
    if forged:
        assert status == lib.AC_ERR_AUTH
        assert not any(bytes(ffi.buffer(body)))
        assert not any(bytes(ffi.buffer(sealer)))
    else:
        assert status == lib.AC_OK
        assert ffi.buffer(body)[: size[0]] == PLAIN
        lib.ac_v1_sealer_wipe(sealer)


def test_closed_keys_are_wiped() -> None:
    for make, wipe in (
        (lambda: ac.SecretKey.from_bytes(SECRET), lib.ac_secret_key_wipe),
        (lambda: ac.SigningKey.from_bytes(SECRET), lib.ac_signing_key_wipe),
        (lambda: hazmat.AES256GCM(SECRET), lib.ac_aes256gcm_wipe),
    ):
        key: Any = make()
        name = "_key" if isinstance(key, hazmat.AES256GCM) else "_native"
        held = getattr(key, name)
        assert any(bytes(ffi.buffer(held)))
        setattr(key, name, ffi.gc(held, wipe))
        key.close()
        assert not any(bytes(ffi.buffer(held)))


class _LikeBytes(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, bytes)


class NoCopy(metaclass=_LikeBytes):
    """`bytes`, but there is no memory for a copy of what C has written."""

    written: Final[list[bytearray]] = []

    def __new__(cls, of: Any) -> Any:
        if type(of) is not bytearray:
            return bytes(of)
        assert any(of)
        cls.written.append(of)
        raise MemoryError


def aes_open() -> Callable[[], object]:
    key = hazmat.AES256GCM(SECRET)
    sealed = key.seal(bytes(12), PLAIN)
    return lambda: key.open(bytes(12), sealed)


def record_open() -> Callable[[], object]:
    sealer = ac.Sealer(SECRET, SECRET)
    sealed = sealer.seal(PLAIN)
    opener = ac.Opener(SECRET, SECRET, sealer.salt)
    return lambda: opener.open(sealed)


def hpke_open() -> Callable[[], object]:
    enc, sender = hazmat.hpke_setup_sender(bytes(node_key().public_key), b"")
    sealed = sender.seal(PLAIN)
    recipient = hazmat.hpke_setup_recipient(enc, node_key(), b"")
    return lambda: recipient.open(sealed)


def hpke_export() -> Callable[[], object]:
    _, sender = hazmat.hpke_setup_sender(bytes(node_key().public_key), b"")
    return lambda: sender.export(b"", 32)


@pytest.mark.parametrize(
    ("make", "module"), [(aes_open, _core), (record_open, records), (hpke_open, hazmat), (hpke_export, hazmat)]
)
def test_what_cannot_be_copied_out_is_wiped(
    make: Callable[[], Callable[[], object]], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = make()
    monkeypatch.setattr(module, "bytes", NoCopy, raising=False)
    with pytest.raises(MemoryError):
        call()
    assert not any(NoCopy.written.pop())
