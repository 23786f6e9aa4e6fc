"""Looks for a conversation's words in the bytes that passed a router."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

# What HTTP and both protocols write in clear, whatever is said: these words prove nothing where they turn up.
_FRAME = """
POST /v1/nodes/lock HTTP/1.1  POST /v1/confidential/chat/completions HTTP/1.1
host accept: text/event-stream */* accept-encoding: gzip, deflate, br, zstd connection: keep-alive close
user-agent: python-httpx authorization: Bearer demo content-type: application/json charset=utf-8
content-length
HTTP/1.1 200 OK cache-control: no-cache transfer-encoding: chunked
{"model":"eliza"} {"public_key","node_small_id","stack_entry_digest":null,"stack_small_id"}
"keys":[{"key_id","suite":"X25519","public_key","not_after","evidence":null}]
{"ciphertext","enc","endpoint","key_id","model_name","sent_at","v"}  data: {"flag","salt"}
{"ciphertext","client_dh_public_key","model_name","node_dh_public_key","nonce","num_compute_units"
"plaintext_body_hash","salt","stack_small_id","stream":true}
data: {"ciphertext","nonce","usage":{"prompt_tokens","completion_tokens","total_tokens"}
"signature","response_hash"}
"""
_WORD = re.compile(r"[^\W\d_]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}|[A-Za-z0-9+/]{11}=")  # the shortest are v2's key ids: 8 bytes
_CHUNK_SIZE = re.compile(rb"^[0-9a-f]+\r$", re.MULTILINE)  # HTTP's, in hexadecimal: some of them are words

# In that much random text a shorter word would turn up by itself now and then.
RAW_LETTERS = 8
DECODED_LETTERS = 6


@dataclass(frozen=True, slots=True)
class Search:
    """How many different words were looked for, and those that were there."""

    word_count: int
    found: frozenset[str]


def search(recorded: bytes, said: Iterable[str]) -> Search:
    """Look for each word of the texts in `said`: as a word, as a part of anything, and under base64.

    As a word it is looked for outside of base64, in any case; as a part of anything from RAW_LETTERS up, and in
    what base64 decodes to from DECODED_LETTERS up, as it was said. The words that the protocol itself writes in
    clear are not looked for, nor are parts of them that are as long.
    """
    words = {word for text in said for word in _words(text) if not _protocols(word.lower())}
    readable = _BASE64.sub(b" ", _CHUNK_SIZE.sub(b"", recorded)).decode("utf-8", "replace")
    plain = {word.lower() for word in _words(readable)}
    # a run may begin with letters that are not base64, so each of the four ways to begin is tried
    decoded = b"\n".join(_decoded(run[skip:]) for run in _BASE64.findall(recorded) for skip in range(4))
    found = {
        word
        for word in words
        if word.lower() in plain
        or (len(word) >= RAW_LETTERS and word.encode() in recorded)
        or (len(word) >= DECODED_LETTERS and word.encode() in decoded)
    }
    return Search(len({word.lower() for word in words}), frozenset(found))


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _protocols(word: str) -> bool:
    return word in _FRAME_WORDS or (len(word) >= RAW_LETTERS and any(word in own for own in _FRAME_WORDS))


def _decoded(run: bytes) -> bytes:
    digits = run.rstrip(b"=")
    whole = len(digits) - (len(digits) % 4 == 1)  # one digit alone holds no byte
    return base64.b64decode(digits[:whole] + b"=" * (-whole % 4))


_FRAME_WORDS = frozenset(word.lower() for word in _words(_FRAME))
