"""What docs/threat-model.md says of the ends and their machines: nodes and clients that lie, thieves, tracebacks."""

from __future__ import annotations

import base64
import json
import socket
import tracemalloc
from types import TracebackType
from typing import Any

import pytest

import atoma_crypto as ac
import reference_v2
from atoma_crypto.adapters._terms import DEFAULT_SUITES, Terms
from atoma_crypto.attestation import PinnedKeys, Unverified
from atoma_crypto.server._json import read_object
from atoma_crypto.server.model import Answer
from helpers import REPLY_BODY, STREAM_BODY, SessionPair
from oracle import NodeSide, OracleClient, unb64
from reference_hpke import encapsulate, public_of
from serving import CHAT, ScriptedModel, connected, error_of, head, node, recorded_sessions, request_body
from test_secrets import spellings

PROTOCOLS = pytest.mark.parametrize("protocol", ["v1", "v2"])
SECRET = bytes(range(100, 132))
PROMPT = b'{"model":"m","prompt":"tell nobody about the llamas"}'
ANSWER = b'{"model":"m","answer":"nor about the alpacas"}'


# ---- a malicious node ----------------------------------------------------------------------------------------------


@PROTOCOLS
def test_a_node_answers_with_whatever_model_it_likes(protocol: Any) -> None:
    """Neither protocol proves which model has answered, nor how many tokens that took."""
    pair = SessionPair(protocol=protocol, stream=False)
    lies = {"prompt_tokens": 10**6, "completion_tokens": 10**6, "total_tokens": 3}
    cheap = b'{"model":"a cheaper one"}'
    assert pair.client.open_response(pair.node.seal_response(cheap, usage=lies)) == cheap


@PROTOCOLS
def test_a_node_knows_again_whom_it_gave_a_key_of_his_own(protocol: Any) -> None:
    """What a client sends is new each time; the key that it was given, and the stack, are what it says them to."""
    keys = [ac.SecretKey.generate() for _ in range(2)]
    name = "node_dh_public_key" if protocol == "v1" else "key_id"
    seen: dict[str, set[str]] = {}
    for key in keys:
        for _ in range(3):
            client = ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol=protocol)
            members = json.loads(client.seal_request(REPLY_BODY, stream=False))
            for each, value in members.items():
                seen.setdefault(each, set()).add(str(value))
    assert len(seen[name]) == 2
    for each in ("ciphertext", *(("nonce", "salt", "client_dh_public_key") if protocol == "v1" else ("enc",))):
        assert len(seen[each]) == 6
    offers = [ac.KeyOffer("v2", key.public_key, 60.0, 2**40) for key in keys]
    pinned = PinnedKeys(keys[0].public_key)
    assert pinned.verify(None, offers[0], now=0).public_key == keys[0].public_key
    with pytest.raises(ac.AttestationError):
        pinned.verify(None, offers[1], now=0)


def test_an_endless_stream_of_v2_takes_no_more_memory_than_its_beginning() -> None:
    pair = SessionPair(protocol="v2")
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(3):
            tracemalloc.reset_peak()
            for _ in range(50):
                pair.client.receive_data(b": keep-alive\n\n" + pair.node.seal_chunks([b"{}"] * 20) + b":")
                assert sum(isinstance(event, ac.Chunk) for event in pair.client.events()) == 20
                pair.client.receive_data(b"\n")
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert abs(peaks[-1] - peaks[1]) < 20_000


# ---- a malicious client --------------------------------------------------------------------------------------------


def test_without_a_token_no_body_is_read_and_nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = recorded_sessions(monkeypatch)
    with node(ScriptedModel(), token="sesame") as client:  # noqa: S106 - the test's
        with connected(client.url) as connection:
            connection.sendall(head(CHAT, "Content-Length: 30000000"))  # and no byte of the body
            connection.settimeout(30)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")
            connection.shutdown(socket.SHUT_RDWR)
        assert sessions == []
        client.http.headers["Authorization"] = "Bearer sesame"
        assert error_of(client.http.post(CHAT, content=b"{}"))[0] == 400
    assert len(sessions) == 1


def test_a_body_takes_its_length_many_times_over_while_it_is_read_but_not_twice_that() -> None:
    """So there are as many readers as processors and no more; and docs/threat-model.md says how many times."""
    raw = b'{"a":[' + b"[]," * (1 << 15) + b"[]]}"
    tracemalloc.start()
    try:
        for function, least, most in ((read_object, 20, 28), (lambda raw: (json.loads(raw), json.loads(raw)), 35, 60)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            function(raw)
            assert least < (tracemalloc.get_traced_memory()[1] - before) / len(raw) < most
    finally:
        tracemalloc.stop()


@PROTOCOLS
def test_a_key_id_that_is_tried_says_no_more_than_the_list_of_keys(protocol: Any) -> None:
    """Keys that are held, and one that is not, are told apart in v2 alone; and they are published."""
    with node(ScriptedModel(), protocol=protocol) as client:
        client.lock()
        stranger = ac.SecretKey.generate().public_key
        for key, code in (
            (None, "DECRYPTION_FAILED"),
            (stranger, "KEY_UNKNOWN" if protocol == "v2" else "DECRYPTION_FAILED"),
        ):
            sealed = json.loads(client.session().seal_request(request_body(), stream=False))
            sealed["ciphertext"] = base64.b64encode(bytes(64)).decode()
            if key is not None and protocol == "v2":
                sealed["key_id"] = base64.b64encode(key.key_id).decode()
            elif key is not None:
                sealed["node_dh_public_key"] = key.to_base64()
            assert error_of(client.http.post(CHAT, content=json.dumps(sealed)))[1] == code


def test_requests_without_a_lock_take_room_in_the_store_and_reach_no_model() -> None:
    """Admission comes first: v2 promises that what was opened is remembered, whatever comes of it."""
    store = ac.MemoryReplayCache(fresh_key=True)
    model = ScriptedModel([Answer(b"{}")])
    with node(model, protocol="v2", replay_cache=store) as client:
        client.lock()
        assert client.ask(request_body())[1].status_code == 200
        for _ in range(3):
            assert client.ask(request_body())[1].status_code == 425
    assert (len(store), len(model.bodies)) == (4, 1)


@PROTOCOLS
def test_who_has_a_token_can_use_up_the_lock_of_another(protocol: Any) -> None:
    """A lock is known by its stack alone, as at deployed nodes."""
    with node(ScriptedModel([Answer(b"{}")]), protocol=protocol) as client:
        client.lock()
        other = type(client)(client.url, token="another's", protocol=protocol, told=dict(client.told))  # noqa: S106
        with other:
            assert other.ask(request_body())[1].status_code == 200
        assert client.ask(request_body())[1].status_code == 425


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_nodes_signature_is_over_a_json_object_and_so_over_no_transaction(stream: bool) -> None:
    """What Sui's wallets sign begins with the number of an intent, which is not that of a brace."""

    def asked(plaintext: bytes, **more: Any) -> tuple[int, bytes, OracleClient]:
        answer = Answer(plaintext)
        with node(ScriptedModel([[answer] if stream else answer]), **more) as client:
            oracle = OracleClient.lock(client.url, model="scripted")
            return *oracle.chat(client.url, request_body(stream=stream), stream=stream), oracle

    for plaintext in (b"{}", b" \t\r\n{}"):
        status, raw, oracle = asked(plaintext, signing_key=SECRET)
        assert status == 200
        opened = oracle.open_events(raw)[0] if stream else oracle.open_reply(raw)
        assert opened.plaintext == plaintext
        assert opened.members["signature"]
    for plaintext in (b"\x00\x00\x00 a transaction", b"\x00{}", b" \x00{}", b"\x0b{}", b"[{}]", b'"{"', b"1", b""):
        status, raw, _ = asked(plaintext, signing_key=SECRET)
        assert (status, json.loads(raw)["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert asked(b"1")[0] == 200  # what nobody signs is the model's affair
    with node(ScriptedModel([[Answer(b"1")] if stream else Answer(b"1")]), protocol="v2", signing_key=SECRET) as client:
        client.lock()
        assert client.ask(request_body(stream=stream))[1].status_code == 200  # nor is it signed in v2


# ---- a thief of a node's key ---------------------------------------------------------------------------------------


def test_who_has_v1s_key_reads_recorded_requests_and_answers() -> None:
    key = ac.SecretKey.from_bytes(SECRET)
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol="v1")
    request = client.seal_request(PROMPT, stream=False)
    session = ac.NodeSession(key)
    session.open_request(request)
    answer = json.loads(session.seal_response(ANSWER))
    thief = NodeSide.open_request(SECRET, request)  # which shares nothing with the library
    assert thief.body == PROMPT
    reader = OracleClient(bytes(key.public_key))
    reader.key = thief.key  # what a client has, a thief has
    assert reader.open_sealed(answer).plaintext == ANSWER
    # and answers in the node's place
    assert client.open_response(thief.reply(b'{"from":"a thief"}')) == b'{"from":"a thief"}'


@pytest.mark.parametrize("suite", ["X25519", "X-Wing"])
def test_who_has_v2s_key_reads_recorded_requests_and_answers(suite: Any) -> None:
    key = ac.SecretKey.from_bytes(SECRET, suite)
    assert public_of(suite, SECRET) == bytes(key.public_key)
    clients = [ac.ClientSession(key.public_key, model="m", stack_small_id=42, protocol="v2") for _ in range(2)]
    request, another = (client.seal_request(PROMPT, stream=False) for client in clients)
    store = ac.MemoryReplayCache(fresh_key=True)
    session = ac.NodeSession(key, replay_cache=store)
    session.open_request(request)
    answer = session.seal_response(ANSWER)
    thief = reference_v2.open_request(suite, SECRET, request, now=json.loads(request)["sent_at"])
    assert thief.body == PROMPT
    [record] = reference_v2.read_reply(thief.exported, thief.envelope.enc, False, answer)
    assert record.plaintext == ANSWER
    # and answers in the node's place
    taken = reference_v2.open_request(suite, SECRET, another, now=json.loads(another)["sent_at"])
    salt, forged = bytes(32), reference_v2.Record(3, None, b'{"from":"a thief"}')
    keys = reference_v2.reply_keys(taken.exported, taken.envelope.enc, salt)
    written = reference_v2.write_record(forged, reference_v2.seal_record(keys, 0, forged), salt, event=False)
    assert clients[1].open_response(written) == forged.plaintext


def test_who_steals_the_keys_that_are_held_gets_none_that_was_wiped() -> None:
    now = [0.0]
    keys = ac.NodeKeyring(rotate_after=3600, grace=300, clock=lambda: now[0], wall_clock=lambda: 10**9 + now[0])
    with keys:
        v1, v2 = keys.offers()
        recorded = []
        for offer in (v1, v2):
            client = ac.ClientSession(
                offer.public_key, model="m", stack_small_id=1, protocol=offer.protocol, clock=lambda: 10**9
            )
            recorded.append(client.seal_request(REPLY_BODY, stream=False))
        for now[0] in (3600.0, 3901.0):
            keys.offers()
        for request, error in zip(recorded, (ac.AuthenticationError, ac.UnknownKeyError), strict=True):
            with pytest.raises(error):
                ac.NodeSession(keys, clock=lambda: 10**9).open_request(request)


# ---- others on the machine -----------------------------------------------------------------------------------------


def locals_of(traceback: TracebackType | None) -> str:
    """As reporters of errors show them: each local of each of our frames."""
    found = []
    while traceback is not None:
        if "atoma_crypto" in traceback.tb_frame.f_code.co_filename:
            found += [repr(value) for value in traceback.tb_frame.f_locals.values()]
        traceback = traceback.tb_next
    return "\n".join(found)


def failed(protocol: Any, suite: Any, body: bytes) -> tuple[str, list[bytes]]:
    """The locals where a node refuses a request that was spoiled, or whose body is not what it should be; its keys."""
    key = ac.SecretKey.from_bytes(SECRET, suite)
    client: Any
    if protocol == "v1":
        client = OracleClient(bytes(key.public_key))
        request, secrets = client.seal_request(body, stream=False), [SECRET, client.key]
    else:
        metadata: dict[str, Any] = {
            "endpoint": "/v1/x",
            "model_name": "m",
            "stack_small_id": None,
            "num_compute_units": None,
        }
        metadata |= {"stream": False, "sent_at": 10**9}
        public = bytes(key.public_key)
        encapsulated = encapsulate(suite, public, bytes(range(1, 33)))
        made = reference_v2.seal_request(suite, public, encapsulated, body, metadata)
        request, secrets = reference_v2.write_envelope(made[0]), [SECRET, made[1], encapsulated[0]]
    session = ac.NodeSession(key, clock=lambda: 10**9, replay_cache=ac.MemoryReplayCache(fresh_key=True))
    with pytest.raises(ac.RemoteProtocolError) as caught:
        session.open_request(request)
    return locals_of(caught.value.__traceback__), secrets


@pytest.mark.parametrize(("protocol", "suite"), [("v1", "X25519"), ("v2", "X25519"), ("v2", "X-Wing")])
def test_locals_of_a_traceback_show_no_key_but_they_show_a_body(protocol: Any, suite: Any) -> None:
    """Reporters that collect locals collect text: where a body is refused, it stands in some frame."""
    said, secrets = failed(protocol, suite, b'{"llamas":1,"stream":5}')
    assert "llamas" in said  # so what is looked for would be found
    for secret in secrets:
        assert not any(spelling in said for spelling in spellings(secret))


# ---- who records for a quantum computer ----------------------------------------------------------------------------


def test_nobody_gets_x_wing_who_does_not_ask_for_it() -> None:
    with pytest.warns(UserWarning, match="any key"):
        policy = Unverified()
    assert Terms(protocol="v2", verify=policy).suites == DEFAULT_SUITES == ("X25519",)
    with ac.NodeKeyring() as keys:
        assert {offer.public_key.suite for offer in keys.offers()} == {"X25519"}


def test_v1_shows_hashes_that_need_no_computer_to_come() -> None:
    guessed = SessionPair(stream=True)
    shown = unb64(json.loads(guessed.envelope)["plaintext_body_hash"])
    assert shown == ac.hazmat.blake2b256(STREAM_BODY)
    sealed = SessionPair(stream=True, protocol="v2").envelope
    assert base64.b64encode(shown) not in sealed
