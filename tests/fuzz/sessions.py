"""Both sessions, fed with any bytes, most of them nearly right: RemoteProtocolError, or nothing.

What has failed stays failed, nothing secret is in what is raised, and what comes out is what was sealed: in v2 the
beginning of it, in order, and all of it where the stream has ended; in v1 nothing else, at least.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Sequence
from typing import Final

from fuzz.engine import Program, check, instrumented, start
from fuzz.messages import (
    ABORT,
    MARK,
    NODE_SECRET,
    NOW,
    Admitting,
    Exchange,
    exchange,
    request,
    spoiled,
    stream,
    twin,
)

with instrumented():
    import atoma_crypto as ac
    from atoma_crypto import _sse
    from atoma_crypto._opener_v2 import V2Opener
    from atoma_crypto.client import ClientSession

warnings.simplefilter("ignore", ac.NonceReuseWarning)

V1: Final = exchange("v1", stream=True)
V2: Final = (exchange("v2", stream=True), exchange("v2", stream=True, abort=True))
REPLIES: Final = (exchange("v1", stream=False), exchange("v2", stream=False), exchange("v2", stream=False, abort=True))
REQUESTS: Final = (request("v1"), request("v2"), exchange("v1", stream=False), exchange("v2", stream=False))
KEY: Final = ac.SecretKey.from_bytes(NODE_SECRET)
SECRETS: Final = (
    MARK,
    repr(NODE_SECRET)[2:-1],
    NODE_SECRET.hex(),
    base64.b64encode(NODE_SECRET).decode(),
)
Session = ac.ClientSession | ac.NodeSession


# ---- what holds of every failure --------------------------------------------------------------------------------


def told(error: BaseException) -> str:
    """All that somebody who logs an error could write down of it and of those behind it."""
    parts: list[str] = []
    seen: list[BaseException | None] = [None]
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        parts += [str(one), repr(one)]
        if not isinstance(one, ac.RemoteAbortError):  # its message was sealed for whoever catches it
            parts += [repr(one.args), repr(vars(one)), repr(getattr(one, "doc", "")), repr(getattr(one, "object", ""))]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(parts)


def refused(call: Callable[[], object], error: type[Exception]) -> None:
    try:
        call()
    except error:
        return
    check(False, f"the session has failed, and does not raise {error.__name__}")


def calls_of(session: Session) -> list[Callable[[], object]]:
    if isinstance(session, ac.NodeSession):
        return [
            lambda: session.open_request(b"{}"),
            lambda: session.seal_chunk(b"x"),
            lambda: session.seal_response(b"x"),
            session.finish,
        ]
    return [
        lambda: session.open_response(b"{}"),
        lambda: session.receive_data(b"x"),
        session.next_event,
        session.receive_eof,
    ]


def failed(session: Session, error: ac.RemoteProtocolError) -> None:
    """It has raised this: it tells no secret, and that was the end."""
    text = told(error)
    check(not any(secret in text for secret in SECRETS), f"a secret stands in a {type(error).__name__}")
    for call in calls_of(session):
        refused(call, ac.LocalProtocolError)
    ended(session)


def ended(session: Session) -> None:
    """close() works, twice, and nothing after it."""
    session.close()
    session.close()
    for call in calls_of(session):
        refused(call, ac.SessionClosedError)


# ---- the client -------------------------------------------------------------------------------------------------


def check_abort(error: ac.RemoteProtocolError, of: Exchange) -> None:
    if isinstance(error, ac.RemoteAbortError):
        check(of.aborted and (error.code, error.message, error.status) == ABORT, "an abort that nobody has sealed")


def read(client: ac.ClientSession, of: Exchange, pieces: Sequence[bytes], protocol: str) -> None:
    """Feed a client, asking for events after each piece."""
    given: list[ac.Chunk] = []
    try:
        for piece in pieces:
            client.receive_data(piece)
            take(client, of, given, protocol)
        client.receive_eof()
        take(client, of, given, protocol)
        check(client.next_event() is client.next_event(), "after the end there is another one")
    except ac.RemoteProtocolError as error:
        check_abort(error, of)
        whole = len(given) == len(of.chunks)
        check(whole or protocol == "v1" or not isinstance(error, ac.RemoteAbortError), "an abort too early")
        failed(client, error)
        return
    ended(client)


def take(client: ac.ClientSession, of: Exchange, given: list[ac.Chunk], protocol: str) -> None:
    """All events that there are by now."""
    while True:
        event = client.next_event()
        if event is ac.NEED_DATA:
            return
        if isinstance(event, ac.EndOfStream):
            check(event.chunk_count == len(given), "a wrong number of chunks")
            whole = len(given) == len(of.chunks) and not of.aborted
            check(whole or protocol == "v1", "an end that nobody has sealed")
            return
        assert isinstance(event, ac.Chunk)
        check(event.index == len(given), "a wrong index")
        if protocol == "v1":
            check(any(event.plaintext == plaintext for plaintext, _ in of.chunks), "nobody has sealed that")
        else:
            right = len(given) < len(of.chunks) and event[0::2] == of.chunks[len(given)]
            check(right, "not the next that was sealed")
        given.append(event)


def open_reply(client: ac.ClientSession, of: Exchange, raw: bytes) -> None:
    try:
        plaintext = client.open_response(raw)
    except ac.RemoteProtocolError as error:
        check_abort(error, of)
        failed(client, error)
        return
    check(not of.aborted and plaintext == of.chunks[0][0], "nobody has sealed that")
    ended(client)


def v1_stream(program: Program) -> None:
    read(twin(V1.client), V1, stream(program, V1.sealed), "v1")


def v2_stream(program: Program) -> None:
    of = program.one_of(V2)
    read(twin(of.client), of, stream(program, of.sealed), "v2")


def reply(program: Program) -> None:
    of = program.one_of(REPLIES)
    open_reply(twin(of.client), of, spoiled(program, of.sealed[0], of.sealed))


def reply_to_stream(program: Program) -> None:
    """An object where a stream was asked for, in v2: an abort, or nothing."""
    of = program.one_of(V2)
    client, raw = twin(of.client), spoiled(program, of.sealed[-1], of.sealed)
    try:
        client.open_response(raw)
    except ac.RemoteProtocolError as error:
        check(not isinstance(error, ac.RemoteAbortError), "the abort of another place")
        failed(client, error)
        return
    check(False, "an event has passed for an answer")


# ---- the node ---------------------------------------------------------------------------------------------------


def node_request(program: Program) -> None:
    of = program.one_of(REQUESTS)
    raw = spoiled(program, of.request, [one.request for one in REQUESTS])
    node = ac.NodeSession(KEY, clock=lambda: NOW, replay_cache=Admitting())
    try:
        opened = node.open_request(raw)
    except ac.RemoteProtocolError as error:
        failed(node, error)
        return
    if opened.protocol == "v1":
        bound = [(one.opened.body, one.opened.stream) for one in REQUESTS if one.opened.protocol == "v1"]
        check((opened.body, opened.stream) in bound, "nobody has sealed that")
    else:
        check(opened in [one.opened for one in REQUESTS], "nobody has sealed that")
    if opened.stream:
        node.seal_chunk(b"x")
        node.finish()
    else:
        node.seal_response(b"x")
    ended(node)


WAYS: Final = (v1_stream, v2_stream, reply, node_request, v1_stream, v2_stream, reply_to_stream)


def target(program: Program) -> None:
    program.one_of(WAYS)(program)


# ---- what has to be found ---------------------------------------------------------------------------------------


def cut_passes_for_whole() -> None:
    def end(self: V2Opener) -> None:
        if self.abort is not None:
            raise self.abort

    V2Opener.end = end  # type: ignore[method-assign] # planted


def failure_is_forgotten() -> None:
    def _fail(self: object) -> None:
        """Do nothing."""

    ClientSession._fail = _fail  # type: ignore[method-assign] # planted


def plaintext_is_shown() -> None:
    ac.RemoteAbortError.__repr__ = Exception.__repr__  # type: ignore[method-assign] # planted


def wrong_exception() -> None:
    def text_of(data: bytes) -> str:
        return data.decode()

    _sse.text_of = text_of


FAULTS: Final = (cut_passes_for_whole, failure_is_forgotten, plaintext_is_shown, wrong_exception)

if __name__ == "__main__":
    start(target, FAULTS)
