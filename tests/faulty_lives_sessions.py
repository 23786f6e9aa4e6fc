"""Lives of the sessions (faulty_life.py)."""

import itertools
import random
from typing import Final

from cryptography.exceptions import InvalidTag

import atoma_crypto as ac
import oracle
import reference_v2
from atoma_crypto._typing import Protocol
from faulty_life import NODE, NOW, SECRET, SESSION, Errors, Life, NotYetError
from faulty_sessions import split
from helpers import REPLY_BODY, STREAM_BODY, USAGE


class NodeSession(Life):
    """It opens its request, whichever thread comes first, and what it seals is read by the other writing."""

    kind = ac.NodeSession
    always = SESSION

    def __init__(self, protocol: Protocol, *, stream: bool) -> None:
        never = dict.fromkeys(("seal_chunk", "seal_chunks", "finish"), "the request is not a stream")
        never = {"seal_response": "the request is a stream"} if stream else never
        if protocol == "v1":
            never["abort"] = "v1 cannot say it"
        super().__init__(
            ac.NodeSession(NODE, replay_cache=ac.MemoryReplayCache(fresh_key=True), clock=lambda: NOW), never=never
        )
        self.ends.add("seal_response")
        self.protocol, self.body = protocol, STREAM_BODY if stream else REPLY_BODY
        if protocol == "v1":
            self.theirs = oracle.OracleClient(bytes(NODE.public_key))
            self.envelope = self.theirs.seal_request(self.body, stream=stream)
        else:
            client = ac.ClientSession(NODE.public_key, model="m", stack_small_id=42, protocol="v2", clock=lambda: NOW)
            self.envelope = client.seal_request(self.body, stream=stream)
            self.request = reference_v2.open_request("X25519", SECRET, self.envelope, now=NOW)
        self.opened: list[ac.Request] = []
        self.last: list[tuple[int, list[bytes], bytes]] = []  # flag, plaintext, and what was sealed

    def do_open_request(self) -> None:
        request = self.one.open_request(self.envelope)
        self.opened.append(request)
        assert (request.body, request.protocol) == (self.body, self.protocol)

    def do_seal_chunk(self) -> None:
        text = self.text(400)
        self.notes.append(([text], self.one.seal_chunk(text, USAGE)))

    def do_seal_chunks(self) -> None:
        texts = [self.text(), self.text(900), self.text()]
        self.notes.append((texts, self.one.seal_chunks(texts, USAGE)))

    def do_seal_response(self) -> None:
        text = self.text()
        self.last.append((3, [text], self.one.seal_response(text, USAGE)))

    def do_finish(self) -> None:
        self.last.append((1, [], self.one.finish()))

    def do_abort(self) -> None:
        self.last.append((2, [], self.one.abort("CODE", "text", 500)))

    def judge(self) -> None:
        assert len(self.opened) <= 1
        assert len(self.last) <= 1
        assert self.opened or not (self.notes or self.last)
        (self._judge_v1 if self.protocol == "v1" else self._judge_v2)()

    def _judge_v1(self) -> None:
        nonces = [self.theirs.nonce]
        for texts, raw in self.notes:
            found = self.theirs.open_events(raw)
            assert [one.plaintext for one in found] == texts
            nonces += [one.nonce for one in found]
        for _, texts, raw in self.last:
            assert [self.theirs.open_reply(raw).plaintext] == texts if texts else raw == b""
        assert len(set(nonces)) == len(nonces)

    def _judge_v2(self) -> None:
        """Where each event stands is not said: it is the one that opens under the next number."""
        batches = [(texts, split(raw)) for texts, raw in self.notes]
        for flag, texts, raw in self.last:
            batches.append((texts, split(raw) if raw.startswith(b"data: ") else [raw]))
            assert len(batches[-1][1]) == 1, flag
        if not batches:
            return
        first = next(events[0] for _, events in batches if b'"salt"' in events[0])
        salt = reference_v2.read_salt(first.removeprefix(b"data: "))
        keys = reference_v2.reply_keys(self.request.exported, self.request.envelope.enc, salt)
        number, left = 0, list(batches)
        while left:
            found = [at for at, (_, events) in enumerate(left) if self._read(keys, number, events[0]) is not None]
            assert len(found) == 1, f"{len(found)} records of number {number}"
            texts, events = left.pop(found[0])
            records = [self._read(keys, number + more, event) for more, event in enumerate(events)]
            number += len(events)
            assert None not in records
            if not self.last or left:
                assert [(one.flag, one.plaintext) for one in records if one] == [(0, text) for text in texts]
            else:  # the last of all
                flag, texts, _ = self.last[0]
                assert records[0] is not None
                assert records[0].flag == flag
                plaintext = records[0].plaintext
                told = {"code": "CODE", "message": "text", "status": 500}
                assert reference_v2.abort_of(plaintext) == told if flag == 2 else plaintext == b"".join(texts)

    @staticmethod
    def _read(keys: reference_v2.ReplyKeys, number: int, event: bytes) -> reference_v2.Record | None:
        """None: it is not the one of this number."""
        try:
            return reference_v2.read_record(event.removeprefix(b"data: "), number, keys, {0, 1, 2, 3})
        except (ValueError, InvalidTag):
            return None


class ClientSession(Life):
    """Whichever thread seals the request, a node answers it; what is received is given once, and in order."""

    kind = ac.ClientSession
    always = SESSION
    TEXTS: Final = [b"%d" % number for number in range(60)]

    def __init__(self, protocol: Protocol, *, stream: bool) -> None:
        never = dict.fromkeys(("receive_data", "receive_eof", "next_event", "events"), "the answer is not a stream")
        may: dict[str, Errors] = {}
        if stream:
            never = {"open_response": "the answer is a stream"}
        if stream and protocol == "v2":
            cut = (ac.TruncatedStreamError,)  # where receive_eof comes too early
            may = {"next_event": cut, "events": cut, "open_response": (ac.EnvelopeError,)}
        super().__init__(
            ac.ClientSession(NODE.public_key, model="m", stack_small_id=42, protocol=protocol, clock=lambda: NOW),
            never=never,
            may=may,
        )
        if may:
            self.ends.add("open_response")  # whatever comes as one object fails the session
        self.protocol, self.stream = protocol, stream
        if stream:
            self.wanted |= {"a chunk", "the end"}
        self.feed: list[bytes] = []  # by event; the end too, in v2
        self.fed = self.sealed = 0
        self.answer = b"{}"
        self.chunks: list[ac.Chunk] = []
        self.ended: list[ac.EndOfStream] = []

    def do_seal_request(self) -> None:
        body = STREAM_BODY if self.stream else REPLY_BODY
        envelope = self.one.seal_request(body, stream=self.stream)
        self.sealed += 1
        store = ac.MemoryReplayCache(fresh_key=True)
        node = ac.NodeSession(NODE, replay_cache=store, clock=lambda: NOW)
        assert node.open_request(envelope).body == body
        if not self.stream:
            self.answer = node.seal_response(b"answer", USAGE)
            return
        events = split(node.seal_chunks(self.TEXTS)) + split(node.finish())
        self.feed = events

    def do_open_response(self) -> None:
        if not self.stream and self.answer == b"{}":  # who comes too early would fail it
            raise NotYetError
        assert self.one.open_response(self.answer) == b"answer"

    def do_receive_data(self) -> None:
        self.one.receive_data(b": between any two events\n\n")
        with self.lock:
            for event in self.feed[self.fed : self.fed + random.randrange(9)]:
                self.one.receive_data(event)
                self.fed += 1

    def do_receive_eof(self) -> None:
        with self.lock:  # so that it is known what came before
            self.one.receive_eof()
        assert repr(self.one).endswith((" ended>", " failed>", " closed>"))

    def _take(self, event: object) -> None:
        if isinstance(event, ac.Chunk):
            self.chunks.append(event)
            self.wanted.discard("a chunk")
        elif isinstance(event, ac.EndOfStream):
            self.ended.append(event)
            self.wanted.discard("the end")
        else:
            assert event is ac.NEED_DATA
            raise NotYetError

    def do_next_event(self) -> None:
        self._take(self.one.next_event())

    def do_events(self) -> None:
        event = None
        for event in itertools.islice(self.one.events(), 2 * len(self.TEXTS)):  # a fault may be that it never ends
            self._take(event)
        if event is None:
            raise NotYetError

    def judge(self) -> None:
        assert self.sealed <= 1
        assert sorted(chunk.index for chunk in self.chunks) == list(range(len(self.chunks)))
        assert len(self.chunks) <= self.fed
        assert all(chunk.plaintext == self.TEXTS[chunk.index] for chunk in self.chunks)
        assert {end.chunk_count for end in self.ended} <= {len(self.chunks)}
        assert not self.ended or len(self.chunks) == (self.fed if self.protocol == "v1" else len(self.TEXTS))
