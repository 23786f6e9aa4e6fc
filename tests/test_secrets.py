"""What must not be seen: plaintext and keys, in texts, in copies and in files; tests/test_wiped.py has memory."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from helpers import SessionPair, new_client, new_node, node_key
from oracle import OracleClient

SECRET: Final = bytes(range(100, 132))
PLAIN: Final = b'{"stream":true,"prompt":"tell nobody about the llamas"}'
MARK: Final = b"llamas"


def spellings(secret: bytes) -> list[str]:
    """How a secret could stand in a text."""
    return [
        secret.decode("latin-1"),
        repr(secret)[2:-1],
        secret.hex(),
        base64.b64encode(secret).decode().rstrip("="),
        str(list(secret))[1:-1],
    ]


def texts_of(value: object) -> str:
    return "\n".join((repr(value), str(value), f"{value}", f"{value!s}", ascii(value)))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that hangs on it, shown or not."""
    while error is not None:
        yield error
        if error.__cause__ is not None:
            yield from chain(error.__cause__)
        error = error.__context__


def assert_silent(text: str, *secrets: bytes) -> None:
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in text


def objects() -> dict[str, Any]:
    pair = SessionPair(node={"signing_key": SECRET})
    pair.client.receive_data(pair.node.seal_chunk(PLAIN))
    chunk = pair.client.next_event()
    return {
        "SecretKey": ac.SecretKey.from_bytes(SECRET),
        "SigningKey": ac.SigningKey.from_bytes(SECRET),
        "AES256GCM": hazmat.AES256GCM(SECRET),
        "NodeSession": ac.NodeSession(ac.SecretKey.from_bytes(SECRET), signing_key=SECRET),
        "client in use": pair.client,
        "node in use": pair.node,
        "Chunk": chunk,
        "Request": new_node().open_request(new_client().seal_request(PLAIN, stream=True)),
        "opener": pair.client._opener,
        "sealer": pair.node._sealer,
        "scratch": pair.node._sealer._places[0][4],
    }


@pytest.mark.parametrize("name", objects())
def test_nothing_secret_in_a_repr(name: str) -> None:
    assert_silent(texts_of(objects()[name]), SECRET, PLAIN, MARK)


def failing() -> dict[str, Callable[[], object]]:
    """Calls that fail with a secret at hand."""

    def stream(raw: bytes) -> Callable[[], object]:
        def call() -> object:
            pair = SessionPair()
            pair.client.receive_data(pair.node.seal_chunk(PLAIN)[:-3] + raw)
            pair.client.receive_eof()
            return list(pair.client.events())

        return call

    def opened(**change: str) -> Callable[[], object]:
        def call() -> object:
            members = json.loads(new_client().seal_request(PLAIN, stream=True))
            return new_node().open_request(json.dumps(members | change).encode())

        return call

    def sealed_body(body: bytes, seen: bool) -> Callable[[], object]:
        """A body that no client of ours would seal, sealed by one of another kind."""

        def call() -> object:
            client = OracleClient(bytes(node_key().public_key))
            return new_node().open_request(client.seal_request(body, stream=seen))

        return call

    node = SessionPair().node
    small = SessionPair(node={"limits": ac.Limits(max_event_bytes=64)}).node
    key = hazmat.AES256GCM(SECRET)
    return {
        "body is no JSON": lambda: new_client().seal_request(PLAIN[:-1], stream=True),
        "body is no UTF-8": lambda: new_client().seal_request(PLAIN + b"\xff", stream=True),
        "body is no object": lambda: new_client().seal_request(b"[%b]" % PLAIN, stream=True),
        "body says otherwise": lambda: new_client().seal_request(PLAIN, stream=False),
        "body is no boolean": lambda: new_client().seal_request(PLAIN.replace(b"true", b"5"), stream=True),
        "body is text": lambda: new_client().seal_request(PLAIN.decode(), stream=True),  # type: ignore[arg-type] # tested
        "opened body is no JSON": sealed_body(PLAIN[:-1], True),
        "opened body is no UTF-8": sealed_body(PLAIN + b"\xff", True),
        "opened body is no object": sealed_body(b"[%b]" % PLAIN, True),
        "opened body says otherwise": sealed_body(PLAIN, False),
        "wrong nonce": opened(nonce="A" * 16),
        "wrong hash": opened(plaintext_body_hash="A" * 43 + "="),
        "event spoiled": stream(b',"x":[}\n\n'),
        "event cut": stream(b""),
        "chunk is text": lambda: node.seal_chunk(PLAIN.decode()),  # type: ignore[arg-type] # that is what is tested
        "chunk too long": lambda: small.seal_chunk(PLAIN),
        "batch is text": lambda: node.seal_chunks([PLAIN, PLAIN.decode()]),  # type: ignore[list-item] # the same
        "key too long": lambda: ac.SecretKey.from_bytes(SECRET + b"x"),
        "seed too long": lambda: ac.SigningKey.from_bytes(SECRET + b"x"),
        "aes key too long": lambda: hazmat.AES256GCM(SECRET + b"x"),
        "key is text": lambda: ac.SecretKey.from_bytes(SECRET.decode("latin-1")),  # type: ignore[arg-type] # the same
        "scalar too long": lambda: hazmat.x25519(SECRET + b"x", bytes(32)),
        "small order": lambda: hazmat.x25519(SECRET, bytes(32)),
        "room too small": lambda: key.seal_into(bytes(12), PLAIN, bytearray(len(PLAIN) + 15)),
        "forged": lambda: key.open(bytes(12), PLAIN),
        "pickled": lambda: pickle.dumps(ac.SecretKey.from_bytes(SECRET)),
    }


@pytest.mark.parametrize("name", failing())
def test_nothing_secret_in_an_error(name: str) -> None:
    with pytest.raises((ac.AtomaCryptoError, TypeError, ValueError)) as caught:
        failing()[name]()
    errors = list(chain(caught.value))
    own_lines = [f"{type(error).__name__}: {error}\n{error!r}\n{error.args!r}" for error in errors]
    for error in errors:
        own_lines += [repr(value) for value in vars(error).values()]
        own_lines += [repr(getattr(error, name, "")) for name in ("doc", "object")]
    assert_silent("\n".join(own_lines), SECRET, MARK)
    # the lines of source that a traceback shows hold the names of things, but never their values
    assert_silent("".join(traceback.format_exception(caught.value)), SECRET, b"nobody about the llamas")


def test_the_test_above_sees_what_an_error_carries() -> None:
    """json's own error holds the whole text: it must hang on none of ours."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(PLAIN[:-1])
    assert MARK.decode() in caught.value.doc
    with pytest.raises(UnicodeDecodeError) as undecoded:
        (PLAIN + b"\xff").decode()
    assert MARK.decode() in repr(undecoded.value)


@pytest.mark.parametrize(
    "name", ["SecretKey", "SigningKey", "AES256GCM", "NodeSession", "client in use", "node in use", "opener", "sealer"]
)
def test_no_copies(name: str) -> None:
    value = objects()[name]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(value, protocol)
    if name not in ("opener", "sealer"):  # these two are nobody's but their session's
        for make in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not to be pickled or copied"):
                make(value)


def test_what_is_public_can_be_copied() -> None:
    key = ac.SecretKey.from_bytes(SECRET).public_key
    for again in (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key))):  # noqa: S301 - our own
        assert again == key
    for value in (ac.Limits(), ac.EndOfStream(1, None), ac.Chunk(b"", 0, None)):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value  # noqa: S301 - our own


# ---- files ------------------------------------------------------------------------------------------------------

EXCHANGE: Final = """
import os, sys
sys.path.insert(0, {tests!r})
import atoma_crypto as ac
from helpers import SessionPair, read

SessionPair()  # everything that is imported late is imported now
seen = []
sys.addaudithook(lambda name, args: seen.append((name, args)) if name.split(".")[0] in WATCHED else None)
WATCHED = ("open", "os", "socket", "subprocess", "shutil", "tempfile", "sqlite3")
for stream in (True, False):
    pair = SessionPair(stream=stream, node={{"signing_key": bytes(32)}})
    if stream:
        assert read(pair.client, [pair.node.seal_chunk(b"x"), pair.node.finish()]).end == ac.EndOfStream(1, None)
    else:
        assert pair.client.open_response(pair.node.seal_response(b"x")) == b"x"
    pair.node.close()
    pair.client.close()
print(seen)
"""


def test_an_exchange_opens_no_file_and_no_socket(tmp_path: Path) -> None:
    code = EXCHANGE.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert list(tmp_path.iterdir()) == []
