"""Every action in every state: allowed if the table says so, refused without a trace if not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import pytest

import atoma_crypto as ac
from atoma_crypto import _envelope_v2
from atoma_crypto._core import ffi
from atoma_crypto._state import (
    CLIENT,
    CLIENT_V1,
    CLIENT_V2,
    NODE,
    NODE_V1,
    NODE_V2,
    Action,
    State,
    Table,
    require_protocol,
)
from atoma_crypto._typing import Protocol
from helpers import REPLY_BODY, STREAM_BODY, SessionPair, native, new_client, new_node

CLIENT_STATES: Final = [
    State.IDLE,
    State.AWAIT_RESPONSE,
    State.AWAIT_EVENTS,
    State.EVENTS_ENDED,
    State.STREAM_ENDED,
    State.DONE,
    State.FAILED,
    State.CLOSED,
]
NODE_STATES: Final = [State.IDLE, State.RESPOND, State.STREAM, State.REFUSED, State.DONE, State.FAILED, State.CLOSED]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("v1", "v2")
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
# Those that a protocol has: v1 refuses nothing after it has admitted it.
NODE_CASES: Final = [
    (state, name) for name in PROTOCOLS for state in NODE_STATES if (state, name) != (State.REFUSED, "v1")
]
nodes = pytest.mark.parametrize(("state", "protocol"), NODE_CASES)
# A body that a v2 client would not seal: the node has to refuse it after it has admitted it.
OTHER_MODEL: Final = b'{"model":"other","messages":[],"stream":true}'


def answer(pair: SessionPair) -> bytes:
    """The object for a client that awaits one; where it awaits a stream, that can only be an abort."""
    if pair.client._state is State.AWAIT_EVENTS and pair.protocol == "v2":
        return pair.node.abort("FAILED", "", 500)
    return pair.node.seal_response(b"x")


# How each action is called; what it needs from the other end stands in the pair.
CLIENT_CALLS: Final[dict[Action, Callable[[SessionPair], Any]]] = {
    "seal_request": lambda p: p.client.seal_request(REPLY_BODY, stream=False),
    "seal_request, stream": lambda p: p.client.seal_request(STREAM_BODY, stream=True),
    "open_response": lambda p: p.client.open_response(answer(p)),
    "receive_data": lambda p: p.client.receive_data(b": c\n"),
    "receive_data, late": lambda p: p.client.receive_data(b": c\n"),
    "receive_eof": lambda p: p.client.receive_eof(),
    "next_event": lambda p: p.client.next_event(),
    "next_event, end": lambda p: p.client.next_event(),
}
NODE_CALLS: Final[dict[Action, Callable[[SessionPair], Any]]] = {
    "open_request": lambda p: p.node.open_request(
        new_client(protocol=p.protocol).seal_request(REPLY_BODY, stream=False)
    ),
    "open_request, stream": lambda p: p.node.open_request(
        new_client(protocol=p.protocol).seal_request(STREAM_BODY, stream=True)
    ),
    "open_request, refused": lambda p: p.node.open_request(sealed_other(p)),
    "seal_response": lambda p: p.node.seal_response(b"x"),
    "seal_chunk": lambda p: p.node.seal_chunk(b"x"),
    "finish": lambda p: p.node.finish(),
    "abort": lambda p: p.node.abort("CODE", "message", 500),
}


def sealed_other(pair: SessionPair) -> bytes:
    client = new_client(protocol=pair.protocol)
    if pair.protocol == "v2":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_envelope_v2, "check_body", lambda *_: None)
            return client.seal_request(OTHER_MODEL, stream=True)
    return client.seal_request(OTHER_MODEL, stream=True)


def client_in(state: State, protocol: Protocol = "v1") -> SessionPair:
    pair = SessionPair(stream=state not in (State.AWAIT_RESPONSE, State.DONE), protocol=protocol)
    if state is State.IDLE:
        pair.client = new_client(protocol=protocol)
    if state in (State.EVENTS_ENDED, State.STREAM_ENDED):
        pair.client.receive_data(pair.node.seal_chunk(b"x"))
        if state is State.STREAM_ENDED:
            pair.client.receive_data(pair.node.finish())
        pair.client.receive_eof()
    if state is State.STREAM_ENDED:
        assert isinstance(list(pair.client.events())[-1], ac.EndOfStream)
    if state is State.DONE:
        assert pair.client.open_response(pair.node.seal_response(b"x")) == b"x"
    if state is State.FAILED:
        pair.client.receive_data(b"data: x\n\n")
        with pytest.raises(ac.FramingError):
            pair.client.next_event()
    if state is State.CLOSED:
        pair.client.close()
    assert pair.client._state is state
    return pair


def node_in(state: State, protocol: Protocol = "v1") -> SessionPair:
    pair = SessionPair(stream=state is not State.RESPOND, protocol=protocol)
    if state in (State.IDLE, State.FAILED, State.REFUSED):
        pair.node = new_node()
    if state is State.REFUSED:
        with pytest.raises(ac.EnvelopeError, match="'model' of the body"):
            pair.node.open_request(sealed_other(pair))
    if state is State.DONE:
        pair.node.finish()
    if state is State.FAILED:
        with pytest.raises(ac.EnvelopeError):
            pair.node.open_request(b"{}")
    if state is State.CLOSED:
        pair.node.close()
    assert pair.node._state is state
    return pair


def refused(session: ac.ClientSession | ac.NodeSession, call: Callable[[], Any], method: str) -> None:
    state = session._state
    before = repr(session)
    with pytest.raises(ac.LocalProtocolError, match=f"^{method}") as caught:
        call()
    assert type(caught.value) is (ac.SessionClosedError if state is State.CLOSED else ac.LocalProtocolError)
    expected = {State.CLOSED: "is closed", State.FAILED: "has failed before"}
    assert expected.get(state, f"state is {state.value!r}") in str(caught.value)
    assert session._state is state
    assert repr(session) == before == f"<{type(session).__name__} {state.value}>"


@protocols
@pytest.mark.parametrize("action", CLIENT_CALLS)
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_every_action_of_a_client_in_every_state(state: State, action: Action, protocol: Protocol) -> None:
    if action == "next_event, end":  # a result of next_event: the row of EVENTS_ENDED has a test of its own
        action = "next_event"
    pair = client_in(state, protocol)
    allowed = CLIENT[protocol].get(state, {})
    if action == "receive_data" and "receive_data, late" in allowed:  # one method for both
        action = "receive_data, late"
    if action in allowed or (action == "receive_data, late" and "receive_data" in allowed):
        if allowed.get(action) is State.FAILED:
            with pytest.raises(ac.RemoteAbortError):
                CLIENT_CALLS[action](pair)
        else:
            CLIENT_CALLS[action](pair)
        assert pair.client._state is allowed.get(action, state)
        return
    if action == "open_response" and pair.node._state is not State.RESPOND:
        call: Callable[[], Any] = lambda: pair.client.open_response(b"{}")  # noqa: E731 - one of two
    else:
        call = lambda: CLIENT_CALLS[action](pair)  # noqa: E731 - one of two
    refused(pair.client, call, action.partition(",")[0])


@nodes
@pytest.mark.parametrize("action", NODE_CALLS)
def test_every_action_of_a_node_in_every_state(state: State, action: Action, protocol: Protocol) -> None:
    if (protocol, action) == ("v1", "open_request, refused"):
        action = "open_request, stream"
    pair = node_in(state, protocol)
    allowed = NODE[protocol].get(state, {})
    if action in allowed:
        if allowed[action] is State.REFUSED:
            with pytest.raises(ac.EnvelopeError, match="'model' of the body"):
                NODE_CALLS[action](pair)
        else:
            NODE_CALLS[action](pair)
        assert pair.node._state is allowed[action]
        return
    refused(pair.node, lambda: NODE_CALLS[action](pair), action.partition(",")[0])


@nodes
def test_a_batch_is_allowed_where_a_chunk_is(state: State, protocol: Protocol) -> None:
    pair = node_in(state, protocol)
    if "seal_chunk" in NODE[protocol].get(state, {}):
        pair.node.seal_chunks([b"x"])
        assert pair.node._state is state
    else:
        refused(pair.node, lambda: pair.node.seal_chunks([b"x"]), "seal_chunk")


def test_the_end_of_the_events() -> None:
    pair = client_in(State.EVENTS_ENDED)
    assert isinstance(pair.client.next_event(), ac.Chunk)
    assert pair.client._state is State.EVENTS_ENDED
    end = pair.client.next_event()
    assert end == ac.EndOfStream(1, None)
    assert CLIENT_V1[State.EVENTS_ENDED]["next_event, end"] is State.STREAM_ENDED
    assert repr(pair.client) == "<ClientSession stream ended>"
    pair.client.receive_eof()
    assert pair.client.next_event() is end
    assert [event is end for event in pair.client.events()] == [True]
    with pytest.raises(ac.LocalProtocolError, match=r"^receive_data is not possible now.*'stream ended'"):
        pair.client.receive_data(b"x")
    assert pair.client.next_event() is end


def test_nothing_comes_after_a_reply() -> None:
    for table in (CLIENT_V1, CLIENT_V2, NODE_V1, NODE_V2):
        assert State.DONE not in table


@pytest.mark.parametrize("table", [CLIENT_V1, CLIENT_V2, NODE_V1, NODE_V2])
def test_the_tables_are_whole(table: Table) -> None:
    """All that can be reached has a row or is an end; nothing leads out of failure and closing."""
    reached = {State.IDLE}
    while True:
        more = reached | {after for state in reached for after in table.get(state, {}).values()}
        if more == reached:
            break
        reached = more
    assert set(table) <= reached
    assert State.DONE in reached
    assert State.FAILED not in table
    assert State.CLOSED not in table
    assert {action for row in table.values() for action in row} <= set(get_args(Action))


def test_every_action_is_tested() -> None:
    assert set(CLIENT_CALLS) | set(NODE_CALLS) == set(get_args(Action))


@protocols
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_a_client_closes_in_every_state_and_twice(state: State, protocol: Protocol) -> None:
    client = client_in(state, protocol).client
    with client as same:
        assert same is client
    client.close()
    assert client._state is State.CLOSED
    refused(client, client.next_event, "next_event")


@nodes
def test_a_node_closes_in_every_state_and_twice(state: State, protocol: Protocol) -> None:
    node = node_in(state, protocol).node
    with node as same:
        assert same is node
    node.close()
    assert node._state is State.CLOSED
    refused(node, lambda: node.seal_chunk(b"x"), "seal_chunk")


def test_a_session_closes_when_its_block_fails() -> None:
    pair = SessionPair()
    with pytest.raises(ZeroDivisionError), pair.node, pair.client:
        raise ZeroDivisionError
    assert pair.node._state is pair.client._state is State.CLOSED


def test_protocols() -> None:
    assert require_protocol("v1", CLIENT) is CLIENT_V1
    assert require_protocol("v1", NODE) is NODE_V1
    assert require_protocol("v2", CLIENT) is CLIENT_V2
    assert require_protocol("v2", NODE) is NODE_V2
    for tables in (CLIENT, NODE):
        for unknown in ("v3", "", "V1", None, 1, ["v1"]):
            with pytest.raises(ValueError, match="must be 'v1' or 'v2'"):
                require_protocol(unknown, tables)


def test_an_error_that_is_nobodys_ends_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not a harmless mistake of the caller, MemoryError and KeyboardInterrupt too, fails it for good."""
    for error in (MemoryError, KeyboardInterrupt, RecursionError, ac.NativeError):
        pair = SessionPair()
        sealer = native(pair.node)

        def fail(*_: object, error: type[BaseException] = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(type(pair.node._sealer), "event", fail)
            with pytest.raises(error):
                pair.node.seal_chunk(b"x")
        refused(pair.node, lambda p=pair: p.node.seal_chunk(b"x"), "seal_chunk")  # type: ignore[misc] # bound now
        assert not any(bytes(ffi.buffer(ffi.addressof(sealer, "aes"))))
