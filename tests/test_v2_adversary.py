"""One stream and an adversary who has its bytes: what is flipped, cut or delivered is any bit, anywhere.

What a client has to say of that is not always known beforehand (a flip may hide an event in a comment), but what it may
never give is: the model is of that. test_v2_machine.py has whole events, both directions and time, and exact verdicts.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import atoma_crypto as ac
from helpers import USAGE, SessionPair, tamper


class Model:
    """What a client may have said, from what the node has sent and what has reached the client.

    As long as the one begins with the other, each whole event of it has been given, in its order. The end is given only
    where all was sent that is to come, and has come, in its order: what stands between may be a comment by now.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []  # each event, and the plaintext of it
        self.last = ""  # "end" or "abort", once the node has sent it
        self.arrived = b""

    def send(self, event: bytes, plaintext: bytes) -> None:
        self.sent.append((event, plaintext))

    @property
    def wire(self) -> bytes:
        return b"".join(event for event, _ in self.sent)

    @property
    def honest(self) -> bool:
        """Whether all that has arrived is what was sent, as far as it goes."""
        return self.wire.startswith(self.arrived)

    def whole(self) -> list[bytes]:
        """The plaintexts of the events of which every byte has arrived, in place of which no other one stands."""
        found, at = [], 0
        for event, plaintext in self.sent:
            if self.arrived[at : at + len(event)] != event:
                break
            found.append(plaintext)
            at += len(event)
        return found

    def ended(self) -> str:
        """What the node has ended with, if all that it has sent has arrived whole and in order, whatever else has."""
        at = 0
        for event, _ in self.sent:
            at = self.arrived.find(event, at)
            if at < 0:
                return ""
            at += len(event)
        return self.last


class Exchange(RuleBasedStateMachine):
    """The rules are the node's steps and the adversary's; after each of them the client reads what there is."""

    @initialize()
    def begin(self) -> None:
        self.pair = SessionPair(protocol="v2")
        self.other = SessionPair(protocol="v2")  # another call to the same node, whose answer the adversary sees too
        self.model = Model()
        self.queue: list[bytes] = []  # what the node has sent and the adversary holds
        self.given: list[bytes] = []
        self.end: object = None
        self.count = 0

    # ---- the node ----

    @precondition(lambda self: not self.model.last)
    @rule(count=st.integers(1, 3), usage=st.sampled_from([None, USAGE]))
    def node_seals(self, count: int, usage: Any) -> None:
        texts = [b"%d" % (self.count + i) for i in range(count)]
        self.count += count
        events = self.pair.node.seal_chunks(texts, usage).split(b"\n\n")[:-1]
        for event, text in zip(events, texts, strict=True):
            self.model.send(event + b"\n\n", text)
            self.queue.append(event + b"\n\n")

    @precondition(lambda self: not self.model.last)
    @rule(abort=st.booleans())
    def node_ends(self, abort: bool) -> None:
        if abort and not self.count:
            return  # that would be one object: test_v2_client.py has it
        event = self.pair.node.abort("X", "m", 500) if abort else self.pair.node.finish(USAGE)
        self.model.send(event, b"")
        self.model.last = "abort" if abort else "end"
        self.queue.append(event)

    # ---- the adversary ----

    @rule(cut=st.integers(0, 200))
    def delivers(self, cut: int) -> None:
        if self.queue:
            event = self.queue.pop(0)
            self.arrive(event[:cut])
            self.arrive(event[cut:])

    @rule()
    def delivers_all(self) -> None:
        self.arrive(b"".join(self.queue))
        self.queue.clear()

    @rule()
    def drops(self) -> None:
        del self.queue[:1]

    @rule()
    def duplicates(self) -> None:
        self.queue[1:1] = self.queue[:1]

    @rule()
    def swaps(self) -> None:
        self.queue[:2] = self.queue[1::-1]

    @rule(bit=st.integers(0, 8 * 150))
    def flips(self, bit: int) -> None:
        if self.queue and self.queue[0]:
            self.queue[0] = tamper(self.queue[0], bit % (8 * len(self.queue[0])))

    @rule(at=st.integers(0, 200))
    def cuts(self, at: int) -> None:
        if self.queue:
            self.queue[0] = self.queue[0][:at]

    @rule(end=st.booleans())
    def splices(self, end: bool) -> None:
        other = self.other.node
        if other._state.value == "stream":
            self.queue.insert(0, other.finish() if end else other.seal_chunk(b"0"))

    @rule()
    def reflects(self) -> None:
        self.queue.insert(0, b"data: " + self.pair.envelope + b"\n\n")

    @rule(late=st.booleans())
    def downgrades(self, late: bool) -> None:
        event = b"data: [DONE]\n\n" if late else SessionPair().node.seal_chunk(b"0")
        self.queue.insert(0, event)

    @rule()
    def hangs_up(self) -> None:
        self.arrive(b"", eof=True)

    # ---- the client ----

    def arrive(self, data: bytes, *, eof: bool = False) -> None:
        client, model = self.pair.client, self.model
        if self.end is not None and not isinstance(self.end, ac.EndOfStream):
            return  # it has failed, which is for good
        if client._state.value == "events ended":
            return
        before = self.given.copy()
        model.arrived += data
        try:
            client.receive_data(data)
            if eof:
                client.receive_eof()
            while isinstance(event := client.next_event(), ac.Chunk):
                self.given.append(event.plaintext)
            if isinstance(event, ac.EndOfStream):
                self.end = event
        except ac.RemoteProtocolError as error:
            self.end = error
        self.check(before, eof=eof)

    def check(self, before: list[bytes], *, eof: bool) -> None:
        model, whole = self.model, self.model.whole()
        sent = [text for _, text in model.sent if text]
        assert self.given[: len(before)] == before
        assert self.given == sent[: len(self.given)]  # in order, none of them another's, none twice
        if model.honest:
            assert self.given == [text for text in whole if text]
        if isinstance(self.end, ac.EndOfStream):
            assert self.end.chunk_count == len(self.given) == len(sent)
            assert model.ended() == "end"
        elif isinstance(self.end, ac.RemoteAbortError):
            assert model.ended() == "abort"
            assert self.given == sent
        elif model.honest:
            if model.ended():
                raise AssertionError("the end was not given")
            assert (self.end is None) is not eof
            assert self.end is None or isinstance(self.end, ac.TruncatedStreamError)


SETTINGS: Final = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestExchange = Exchange.TestCase
TestExchange.settings = SETTINGS


@pytest.mark.long
@pytest.mark.timeout(600)
class TestExchangeAtLength(Exchange.TestCase):  # type: ignore[misc,valid-type] # made at run time
    """The same, for longer."""

    settings = settings(SETTINGS, max_examples=200, stateful_step_count=40)
