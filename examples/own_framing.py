"""Protocol v2's records under a framing of one's own: length-prefixed, over a socket, with no HTTP and no JSON.

    python examples/own_framing.py

HPKE carries the question and gives both ends a secret. Out of it a Sealer and an Opener make the answer: records whose
order and end are proven. A frame here is its length (4 bytes) and its bytes; a record's frame begins with its flag. The
public key is handed over in the same program: elsewhere the client has to know from somewhere whose key it is.
"""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import atoma_crypto as ac
from atoma_crypto import hazmat

INFO = b"example of own framing"
MORE, END, ABORT = 0, 1, 2
MAX_FRAME = 1 << 20


def send(stream: BinaryIO, frame: bytes) -> None:
    """One frame."""
    stream.write(struct.pack(">I", len(frame)) + frame)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """One frame, or None where the bytes end before it is whole."""
    head = stream.read(4)
    size = struct.unpack(">I", head)[0] if len(head) == 4 else 0
    if not 0 < size <= MAX_FRAME:
        return None
    frame = stream.read(size)
    return frame if len(frame) == size else None


def serve(connection: socket.socket, key: ac.SecretKey) -> None:
    """Answer one question, word by word."""
    with connection, connection.makefile("rwb") as stream:
        enc, sealed = receive(stream) or b"", receive(stream) or b""
        with hazmat.hpke_setup_recipient(enc, key, INFO) as context:
            question = context.open(sealed)
            secret = context.export(b"answer", 32)
        # After it has verified, and before it is answered: a question that is sent again is not answered again.
        if not key.replay_cache.admit(hashlib.sha256(enc).digest(), time.time() + 360):
            return
        with ac.Sealer(secret, enc) as sealer:
            send(stream, sealer.salt)
            try:
                for word in question.split():
                    send(stream, bytes([MORE]) + sealer.seal(word[::-1], flag=MORE))
                send(stream, bytes([END]) + sealer.seal(b"", flag=END))
            except ValueError:
                send(stream, bytes([ABORT]) + sealer.seal(b"this node has failed", flag=ABORT))


def ask(connection: socket.socket, public: ac.PublicKey, question: bytes) -> Iterator[bytes]:
    """The words of the answer, each when it has verified. TruncatedStreamError: some are missing."""
    enc, context = hazmat.hpke_setup_sender(bytes(public), INFO)
    with connection, connection.makefile("rwb") as stream, context:
        send(stream, enc)
        send(stream, context.seal(question))
        salt = receive(stream)
        if salt is None:
            raise ac.TruncatedStreamError("no answer came")
        with ac.Opener(context.export(b"answer", 32), enc, salt) as opener:
            while (frame := receive(stream)) is not None:
                word = opener.open(frame[1:], flag=frame[0])
                if frame[0] == ABORT:
                    raise RuntimeError(word.decode())
                if word:
                    yield word
            opener.finish()


def main() -> None:
    """Ask a node in a thread, over a pair of sockets."""
    with ac.SecretKey.generate() as key:
        here, there = socket.socketpair()
        node = threading.Thread(target=serve, args=(there, key))
        node.start()
        print(*(word.decode() for word in ask(here, key.public_key, b"stressed desserts drawer reward")))
        node.join()


if __name__ == "__main__":
    main()
