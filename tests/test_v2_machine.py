"""Client, node and an adversary who has all of the wire between them, driven by hypothesis against a plain model.

The adversary drops, duplicates, swaps, splices, flips, cuts, replays, reflects and downgrades, in both directions, and
waits. Whatever it does: a client gives nothing but what its node has sealed to it, in order, and knows the end from a
cut; a node opens nothing but what a client has sealed, in time, and once. test_v2_adversary.py has
bits and bytes instead of whole events.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import atoma_crypto as ac
from atoma_crypto._typing import Suite
from v2_exchange import NOW, Clock, b64, body, client_of, key_of, members, with_members

OTHER_KEY: Final = ac.SecretKey.generate()
OF_REQUESTS: Final = ("ciphertext", "enc", "v", "model_name", "sent_at", "stream", "endpoint", "key_id")
OF_REPLIES: Final = ("ciphertext", "flag", "usage", "salt", "v")


# ---- the model ------------------------------------------------------------------------------------------------------


class Call:
    """What has to come of one request: all that the model knows."""

    def __init__(self, sent_at: int, *, stream: bool) -> None:
        self.sent_at, self.stream = sent_at, stream
        self.admitted = False
        self.sealed: list[tuple[str, bytes]] = []  # by the node, in order: what it is, and its plaintext
        self.taken = 0  # of these, by the client
        self.given: list[bytes] = []  # by the client to its caller
        self.state = "open"  # the client's: open, ended, failed

    def request(self, now: float, *, spoilt: bool) -> str:
        """What the node says when the envelope comes."""
        if spoilt:
            return "refused"
        if not (self.sent_at <= now + 60 and now < self.sent_at + 300):
            return "skew"
        said, self.admitted = ("replayed" if self.admitted else "opened"), True
        return said

    def may_seal(self) -> bool:
        return self.admitted and not (self.sealed and self.sealed[-1][0] != "chunk")

    def event(self, number: int | None) -> str:
        """What the client says when event `number` of this reply comes, or (None) anything else."""
        if self.state == "failed":
            return "misuse"
        if self.state == "ended" or number is None or number != self.taken:
            self.state = "failed"
            return "refused"
        kind, plaintext = self.sealed[number]
        self.taken += 1
        if plaintext and kind != "abort":
            self.given.append(plaintext)
        self.state = {"chunk": "open", "end": "ended", "answer": "failed", "abort": "failed"}[kind]
        return kind

    def cut(self) -> str:
        """What the client says when the bytes end."""
        said = {"open": "cut", "ended": "end", "failed": "misuse"}[self.state]
        self.state = "ended" if said == "end" else "failed"
        return said


# ---- the real thing, and what stands between ------------------------------------------------------------------------


def said_by_client(client: ac.ClientSession, raw: bytes | None, given: list[bytes], *, stream: bool) -> str:
    """Give it bytes (None: their end), take what it gives, and say in the model's words what came."""
    try:
        if not stream:
            given.append(client.open_response(raw or b""))
            return "answer"
        if raw is None:
            client.receive_eof()
        else:
            client.receive_data(raw)
        said = "end" if raw is None else "chunk"
        for event in client.events():
            if isinstance(event, ac.Chunk):
                given.append(event.plaintext)
            else:
                said = "end"
        return said
    except ac.RemoteAbortError:
        return "abort"
    except ac.TruncatedStreamError:
        return "cut"
    except ac.LocalProtocolError:
        return "misuse"
    except ac.RemoteProtocolError:
        return "refused" if stream or raw else "cut"


class Wire(RuleBasedStateMachine):
    """`calls`, `clients`, `nodes`, `envelopes` and `events` go by the number of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.calls: list[Call] = []
        self.clients: list[ac.ClientSession] = []
        self.nodes: list[ac.NodeSession | None] = []
        self.envelopes: list[bytes] = []
        self.events: list[list[bytes]] = []
        self.given: list[list[bytes]] = []

    @initialize(suite=st.sampled_from(["X25519", "X-Wing"]))
    def node_starts(self, suite: Suite) -> None:
        self.key = key_of(suite)
        self.cache = ac.MemoryReplayCache(fresh_key=True, clock=self.clock)

    @precondition(lambda self: len(self.calls) < 8)
    @rule(stream=st.booleans(), ahead=st.sampled_from([0, 0, -5, 5, 60]))
    def client_seals(self, stream: bool, ahead: int) -> None:
        client = client_of(self.key, clock=lambda: self.clock.now + ahead)
        self.envelopes.append(client.seal_request(body(stream=stream), stream=stream))
        self.calls.append(Call(int(self.clock.now) + ahead, stream=stream))
        self.clients.append(client)
        self.nodes.append(None)
        self.events.append([])
        self.given.append([])

    @rule(seconds=st.sampled_from([0, 1, 1, 1, 59, 61, 240, 301]))
    def time_goes_by(self, seconds: int) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), as_it_is=st.booleans())
    def request_comes(self, data: st.DataObject, as_it_is: bool) -> None:
        """The first time, again, or spoilt: also as one of v1, and for another key."""
        number = data.draw(st.integers(0, len(self.calls) - 1))
        raw = self.envelopes[number]
        if not as_it_is:
            raw = spoilt(raw, data.draw(st.sampled_from(OF_REQUESTS)), data)
        self.hand_over(number, raw, spoilt=not as_it_is)

    @precondition(lambda self: any(call.state == "open" for call in self.calls))
    @rule(data=st.data(), steps=st.integers(1, 5), kind=st.sampled_from(["chunk", "chunk", "end", "abort"]))
    def nobody_interferes(self, data: st.DataObject, steps: int, kind: str) -> None:
        """A while: the request comes, the node seals, the client reads."""
        number = data.draw(st.sampled_from([n for n, call in enumerate(self.calls) if call.state == "open"]))
        call = self.calls[number]
        if not call.admitted:
            self.hand_over(number, self.envelopes[number], spoilt=False)
        for step in range(steps):
            if call.may_seal():
                self.seal(number, kind if step == steps - 1 else "chunk")
            if call.state == "open" and call.taken < len(call.sealed):
                self.client_takes(number, self.events[number][call.taken], call.taken)

    @precondition(lambda self: any(self.events))
    @rule(data=st.data())
    def reply_comes_as_a_request(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([n for n, events in enumerate(self.events) if events]))
        event = data.draw(st.sampled_from(self.events[number]))
        sealed = members(event)["ciphertext"]
        self.hand_over(number, with_members(self.envelopes[number], ciphertext=sealed), spoilt=True)

    def hand_over(self, number: int, raw: bytes, *, spoilt: bool) -> None:
        expected = self.calls[number].request(self.clock.now, spoilt=spoilt)
        node = ac.NodeSession(self.key, replay_cache=self.cache, clock=self.clock)
        try:
            node.open_request(raw)
            said = "opened"
            self.nodes[number] = node
        except ac.ReplayedError:
            said = "replayed"
        except ac.ClockSkewError:
            said = "skew"
        except ac.RemoteProtocolError:
            said = "refused"
        # a spoilt one may be out of time as well, and that is said first
        assert said == expected or (spoilt and said == "skew"), (said, expected)

    @precondition(lambda self: any(call.may_seal() for call in self.calls))
    @rule(data=st.data(), kind=st.sampled_from(["chunk", "chunk", "chunk", "end", "abort"]))
    def node_seals(self, data: st.DataObject, kind: str) -> None:
        self.seal(data.draw(st.sampled_from([n for n, call in enumerate(self.calls) if call.may_seal()])), kind)

    def seal(self, number: int, kind: str) -> None:
        call, node = self.calls[number], self.nodes[number]
        assert node is not None
        text = b'{"call":%d,"n":%d}' % (number, len(call.sealed))
        if kind == "abort":
            event = node.abort("FAILED", "it has failed", 500)
        elif not call.stream:
            kind, event = "answer", node.seal_response(text)
        elif kind == "end":
            text, event = b"", node.finish()
        else:
            event = node.seal_chunk(text)
        call.sealed.append((kind, text))
        self.events[number].append(event)

    def listening(self, data: st.DataObject) -> int:
        """A client; one that has failed only where there is no other."""
        found = [number for number, call in enumerate(self.calls) if call.state != "failed"]
        return int(data.draw(st.sampled_from(found or range(len(self.calls)))))

    @precondition(lambda self: any(self.events))
    @rule(data=st.data(), turn=st.sampled_from(["next", "next", "next", "any", "flip", "splice"]))
    def event_comes(self, data: st.DataObject, turn: str) -> None:
        """The next one, an earlier or later one, a spoilt one, or one of another reply."""
        number = self.listening(data)
        call, mine = self.calls[number], self.events[number]
        index: int | None = None
        if turn == "splice":
            every = [event for n, events in enumerate(self.events) if n != number for event in events]
            raw = data.draw(st.sampled_from(every)) if every else b"data: {}\n\n"
        elif not mine or (turn == "next" and call.taken >= len(mine)):
            raw = b"data: [DONE]\n\n"
        else:
            index = call.taken if turn == "next" else data.draw(st.integers(0, len(mine) - 1))
            raw = mine[index]
        if turn == "flip":
            name = data.draw(st.sampled_from(OF_REPLIES))
            raw, index = spoilt(raw, name, data) if members_of(raw) else raw, None
        self.client_takes(number, raw, index)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), version=st.sampled_from([1, 2]))
    def request_comes_as_a_reply(self, data: st.DataObject, version: int) -> None:
        """Reflected as it is sealed, in the form of v2, and in that of v1."""
        number = self.listening(data)
        sealed = members(self.envelopes[number])["ciphertext"]
        form: dict[str, Any] = (
            {"nonce": b64(bytes(12))} if version == 1 else {"salt": b64(bytes(32)), "v": 2, "flag": 1}
        )
        text = json.dumps({"ciphertext": sealed} | form).encode()
        self.client_takes(number, b"data: " + text + b"\n\n" if self.calls[number].stream else text, None)

    def client_takes(self, number: int, raw: bytes, index: int | None) -> None:
        stream = self.calls[number].stream
        if stream is not raw.startswith(b"data: "):  # in the form that this client reads
            raw = b"data: " + raw + b"\n\n" if stream else raw[6:-2]
        expected = self.calls[number].event(index)
        said = said_by_client(self.clients[number], raw, self.given[number], stream=stream)
        assert said == expected, (said, expected, raw)

    @precondition(lambda self: any(call.stream for call in self.calls))
    @rule(data=st.data())
    def bytes_end(self, data: st.DataObject) -> None:
        """Between two events, or inside of the next."""
        number = data.draw(st.sampled_from([n for n, call in enumerate(self.calls) if call.stream]))
        call, mine = self.calls[number], self.events[number]
        client, given = self.clients[number], self.given[number]
        if call.state == "open" and call.taken < len(mine):
            event = mine[call.taken]
            part = event[: data.draw(st.integers(0, len(event) - 1))]
            assert said_by_client(client, part, given, stream=True) == "chunk"
        assert said_by_client(client, None, given, stream=True) == call.cut()

    @invariant()
    def nothing_but_what_was_sealed(self) -> None:
        for call, given in zip(self.calls, self.given, strict=True):
            assert given == call.given
            assert given == [text for kind, text in call.sealed if kind != "abort" and text][: len(given)]
        assert len(self.cache) <= sum(call.admitted for call in self.calls)


def members_of(event: bytes) -> bool:
    return b'"ciphertext"' in event


def spoilt(raw: bytes, name: str, data: st.DataObject) -> bytes:
    """One member is another, or is there where it was not."""
    found = members(raw)
    if name in ("ciphertext", "enc", "salt") and name in found:
        text = found[name]
        at = data.draw(st.integers(0, len(text.rstrip("=")) - 3))
        other = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        return with_members(raw, **{name: other})
    others: dict[str, list[Any]] = {
        "usage": [{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}],
        "flag": [flag for flag in range(4) if flag != found.get("flag", 0)],
        "v": [..., 1, 3] if "v" in found else [2],
        "model_name": ["n", "", ...],
        "sent_at": [NOW + 1_000_000, found.get("sent_at", 0) + 1, ...],
        "stream": [not found.get("stream", False), None],
        "endpoint": ["/v1/completions", "x"],
        "key_id": [b64(OTHER_KEY.public_key.key_id), b64(bytes(7))],
    }
    if name not in others:  # it has no such member: then another protocol's
        return with_members(raw, salt=b64(bytes(16)), v=1)
    return with_members(raw, **{name: data.draw(st.sampled_from(others[name]))})


TestWire = Wire.TestCase
TestWire.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


@pytest.mark.long
def test_the_wire_for_longer() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Wire,
        settings=settings(
            max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
