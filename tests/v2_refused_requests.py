"""The vectors of v2.json that a node refuses: each says one thing that is not allowed, and is sealed as it says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import reference_hpke as hpke
import reference_v2 as v2
from make_v2_vectors import METADATA, NOW, PUBLICS, SECRETS, SENT_AT, Sealed, Vector, request_part, sealed, seed

BODY, KEY, SKEW, FORGED = "INVALID_BODY", "KEY_UNKNOWN", "CLOCK_SKEW", "DECRYPTION_FAILED"
P: Final = 2**255 - 19
# Every u of small order, canonical or not (RFC 7748, section 7; a result of all zeros).
LOW_ORDER: Final = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
)
NAMES: Final = ("ciphertext", "enc", "endpoint", "key_id", "model_name", "sent_at", "stream", "v")

# Title, what stands in the canonical envelope, what stands there instead, and other metadata if any.
Edit = tuple[str, str, str, dict[str, Any]]
EDITS: Final[Sequence[Edit]] = (
    ("v is 1", '"v":2', '"v":1', {}),
    ("v is 3", '"v":2', '"v":3', {}),
    ("v is a string", '"v":2', '"v":"2"', {}),
    ("v is a fraction", '"v":2', '"v":2.0', {}),
    ("v twice", '"v":2', '"v":2,"v":2', {}),
    ("v twice, once escaped", '"v":2', '"v":2,"\\u0076":2', {}),
    ("an unknown member twice", '"v":2', '"v":2,"x":1,"x":1', {}),
    ("model_name twice", '"v":2', '"v":2,"model_name":"n"', {}),
    ("depth 17", '"v":2', '"v":2,"x":' + "[" * 16 + "]" * 16, {}),
    ("depth 17 of objects", '"v":2', '"v":2,"x":' + '{"x":' * 16 + "1" + "}" * 16, {}),
    ("NaN in an unknown member", '"v":2', '"v":2,"x":NaN', {}),
    ("a leading zero", '"v":2', '"v":02', {}),
    ("a comma at the end", '"v":2', '"v":2,', {}),
    ("a line feed in a string", '"v":2', '"v":2,"x":"\n"', {}),
    ("an unknown escape", '"v":2', '"v":2,"x":"\\x41"', {}),
    ("a comment", '"v":2', '"v":2/**/', {}),
    ("stream is 1", '"stream":true', '"stream":1', {}),
    ("stream is a string", '"stream":true', '"stream":"true"', {}),
    ("stack_small_id is 2^53", ":42", ":9007199254740992", {"stack_small_id": 2**53}),
    ("stack_small_id is 2^64 - 1", ":42", ":18446744073709551615", {"stack_small_id": 2**64 - 1}),
    ("stack_small_id is negative", ":42", ":-1", {"stack_small_id": 2**64 - 1}),
    ("stack_small_id has a fraction", ":42", ":42.0", {}),
    ("stack_small_id has an exponent", ":42", ":42e0", {}),
    ("stack_small_id is a string", ":42", ':"42"', {}),
    ("stack_small_id is true", ":42", ":true", {"stack_small_id": 1}),
    ("num_compute_units is 2^53", ":64", ":9007199254740992", {"num_compute_units": 2**53}),
    ("num_compute_units has a fraction", ":64", ":64.5", {}),
    ("num_compute_units is an array", ":64", ":[64]", {}),
    ("sent_at has a fraction", f":{SENT_AT}", f":{SENT_AT}.0", {}),
    ("sent_at is a string", f":{SENT_AT}", f':"{SENT_AT}"', {}),
    ("model_name is empty", '"model_name":"m"', '"model_name":""', {"model_name": ""}),
    ("model_name of 257 bytes", '"m"', '"' + "m" * 257 + '"', {"model_name": "m" * 257}),
    ("model_name of 129 characters, 258 bytes", '"m"', '"' + "\\u00e9" * 129 + '"', {"model_name": "é" * 129}),
    ("model_name with a high surrogate alone", '"m"', '"\\ud83d"', {"model_name": "\ufffd"}),
    ("model_name with a low surrogate alone", '"m"', '"\\ude00x"', {"model_name": "\ufffdx"}),
    ("model_name with surrogates in the wrong order", '"m"', '"\\ude00\\ud83d"', {"model_name": "\ufffd\ufffd"}),
    ("model_name is a number", '"m"', "5", {"model_name": "5"}),
    ("endpoint is empty", '"/v1/chat/completions"', '""', {"endpoint": ""}),
    ("endpoint without its slash", '"/v1/chat', '"v1/chat', {"endpoint": "v1/chat/completions"}),
    ("endpoint with a query", 'completions"', 'completions?a"', {"endpoint": "/v1/chat/completions?a"}),
    ("endpoint with a percent sign", 'completions"', 'completions%2f"', {"endpoint": "/v1/chat/completions%2f"}),
    ("endpoint with a space", 'completions"', 'completions "', {"endpoint": "/v1/chat/completions "}),
    ("endpoint with a line feed", 'completions"', 'completions\\n"', {"endpoint": "/v1/chat/completions\n"}),
    ("endpoint is not ASCII", '"/v1/chat/completions"', '"/\\u00e9"', {"endpoint": "/é"}),
    ("endpoint of 129 characters", '"/v1/chat/completions"', '"/' + "a" * 128 + '"', {"endpoint": "/" + "a" * 128}),
)
# Whole texts instead of an envelope.
TEXTS: Final = (b"", b" ", b"{", b"{}", b"[]", b"null", b'"x"', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00")
# Title, body, changes to metadata: opened, admitted, and refused under seal.
BODIES: Final[Sequence[tuple[str, bytes, dict[str, Any]]]] = (
    ("empty", b"", {"stream": False}),
    ("spaces", b"  ", {"stream": False}),
    ("not JSON", b"{]", {"stream": False}),
    ("an array", b"[]", {"stream": False}),
    ("a string", b'"model"', {"stream": False}),
    ("two objects", b"{}{}", {"stream": False}),
    ("NaN", b'{"temperature":NaN}', {"stream": False}),
    ("a byte order mark", b"\xef\xbb\xbf{}", {"stream": False}),
    ("not UTF-8", b'{"x":"\xe9"}', {"stream": False}),
    ("an encoded surrogate", b'{"x":"\xed\xa0\x80"}', {"stream": False}),
    ("another model", b'{"model":"n","stream":true}', {}),
    ("model in another case", b'{"model":"M","stream":true}', {}),
    ("model with a space", b'{"model":"m ","stream":true}', {}),
    ("model is null", b'{"model":null,"stream":true}', {}),
    ("model is an array", b'{"model":["m"],"stream":true}', {}),
    ("model normalised", '{"model":"\u00e9","stream":true}'.encode(), {"model_name": "e\u0301"}),
    ("model twice", b'{"model":"m","model":"m","stream":true}', {}),
    ("model twice, once escaped", b'{"model":"m","mod\\u0065l":"n","stream":true}', {}),
    ("another name twice", b'{"model":"m","x":1,"x":1,"stream":true}', {}),
    ("stream is true, the envelope's false", b'{"model":"m","stream":true}', {"stream": False}),
    ("stream is false, the envelope's true", b'{"model":"m","stream":false}', {}),
    ("stream is absent, the envelope's true", b'{"model":"m"}', {}),
    ("stream is null, the envelope's true", b'{"model":"m","stream":null}', {}),
    ("stream is 1", b'{"model":"m","stream":1}', {}),
    ("stream is a string", b'{"model":"m","stream":"true"}', {}),
    ("stream is 0", b'{"model":"m","stream":0}', {"stream": False}),
    ("stream twice", b'{"stream":true,"stream":true}', {}),
)


ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def spare_bit_set(text: str) -> str:
    """Of what ends in one `=`, and so has two spare bits."""
    return text[:-2] + ALPHABET[ALPHABET.index(text[-2]) + 1] + "="


def spoilt_base64(text: str) -> Iterator[tuple[str, str]]:
    """Of 32 bytes, which end in one `=` and two spare bits."""
    yield "without padding", text[:-1]
    yield "with more padding", text + "="
    yield "with a spare bit set", spare_bit_set(text)
    yield "with a space", text[:8] + " " + text[8:]
    yield "with a line feed", text + "\\n"
    yield "with padding inside", text[:4] + "=" + text[4:]
    yield "of the URL alphabet", text[:4] + "_-" + text[6:]
    yield "in hexadecimal", "00" * 32
    yield "empty", ""


def replaced(text: bytes, old: str, new: str) -> bytes:
    assert text.count(old.encode()) == 1, old
    return text.replace(old.encode(), new.encode())


def written(request: Sealed, **changes: Any) -> bytes:
    """The same envelope with other bytes or other metadata in it."""
    metadata = {name: changes.pop(name) for name in list(changes) if name in METADATA}
    envelope = request.envelope
    return v2.write_envelope(envelope._replace(metadata=envelope.metadata | metadata, **changes))


def flipped(raw: bytes, bit: int) -> bytes:
    return (int.from_bytes(raw, "little") ^ 1 << bit).to_bytes(len(raw), "little")


def of_the_json() -> Iterator[Vector]:
    for title, old, new, changes in EDITS:
        request = sealed(title, **changes)
        if changes:  # it is printed as what it was before, to be edited in the same way
            raw = replaced(written(request, **METADATA), old, new)
        else:
            raw = replaced(v2.write_envelope(request.envelope), old, new)
        yield request_part(title, request, raw, BODY)
    for name in NAMES:
        request = sealed(f"{name} is missing")
        members = v2.read_object(v2.write_envelope(request.envelope))
        for title, changed in (("missing", {}), ("null", {name: None}), ("an object", {name: {}})):
            rest = {key: value for key, value in members.items() if key != name}
            yield request_part(f"{name} is {title}", request, v2.dumps(rest | changed), BODY)
    for raw in TEXTS:
        yield request_part(f"the text {raw!r}", sealed("no envelope"), raw, BODY)
    request = sealed("around the envelope")
    text = v2.write_envelope(request.envelope)
    for title, raw in (
        ("a byte order mark before it", b"\xef\xbb\xbf" + text),
        ("another object after it", text + b"{}"),
        ("a NUL after it", text + b"\x00"),
        ("in an array", b"[" + text + b"]"),
        ("in UTF-16", text.decode().encode("utf-16-le")),
        ("cut by one byte", text[:-1]),
        ("bytes that are not UTF-8", text.replace(b'"v":2', b'"v":2,"x":"\xe9"')),
        ("an encoded surrogate", text.replace(b'"v":2', b'"v":2,"x":"\xed\xa0\x80"')),
        ("an overlong encoding", text.replace(b'"v":2', b'"v":2,"x":"\xc0\xaf"')),
    ):
        yield request_part(f"the envelope: {title}", request, raw, BODY)


def of_the_lengths() -> Iterator[Vector]:
    request = sealed("lengths and base64")
    text = v2.write_envelope(request.envelope)
    old = v2.b64(request.envelope.enc)
    for title, new in spoilt_base64(old):
        yield request_part(f"enc {title}", request, replaced(text, old, new), BODY)
    for title, changes in (
        ("enc of 31 bytes", {"enc": request.envelope.enc[:31]}),
        ("enc of 33 bytes", {"enc": request.envelope.enc + b"\x00"}),
        ("enc of 1120 bytes, and a key of X25519", {"enc": seed("1120", 1120)}),
        ("key_id of 7 bytes", {"key_id": request.envelope.key_id[:7]}),
        ("key_id of 9 bytes", {"key_id": request.envelope.key_id + b"\x00"}),
        ("key_id of 32 bytes", {"key_id": seed("key_id")}),
        ("ciphertext of 15 bytes", {"ciphertext": request.envelope.ciphertext[:15]}),
        ("ciphertext of no bytes", {"ciphertext": b""}),
    ):
        yield request_part(title, request, written(request, **changes), BODY)
    old = v2.b64(request.envelope.key_id)
    for title, new in (("without padding", old[:-1]), ("with a spare bit set", spare_bit_set(old))):
        yield request_part(f"key_id {title}", request, replaced(text, old, new), BODY)
    old = v2.b64(request.envelope.ciphertext)
    yield request_part("ciphertext with a space", request, replaced(text, old, old[:4] + " " + old[4:]), BODY)
    yield request_part("ciphertext with one letter more", request, replaced(text, old, old.rstrip("=") + "A"), BODY)
    xwing = sealed("X-Wing: stream", "X-Wing")
    yield request_part("enc of 32 bytes, and a key of X-Wing", xwing, written(xwing, enc=request.envelope.enc), BODY)
    yield request_part("enc of 1119 bytes", xwing, written(xwing, enc=xwing.envelope.enc[:-1]), BODY)


def of_the_order() -> Iterator[Vector]:
    """Key, time, seal, body: the first that is wrong is what a node says."""
    name = "key and time"
    request = sealed(name)
    text = v2.write_envelope(request.envelope)
    unknown = {"key_id": flipped(request.envelope.key_id, 63)}
    yield request_part("unknown key", request, written(request, **unknown), KEY)
    other = {"key_id": v2.key_id_of("X-Wing", PUBLICS["X25519"])}
    yield request_part("key_id with the id of another suite", request, written(request, **other), KEY)
    yield request_part(
        "unknown key, and enc of the other suite", request, written(request, enc=bytes(1120), **unknown), KEY
    )
    yield request_part("unknown key, and too old", request, written(request, **unknown), KEY, SENT_AT + 300)
    yield request_part("unknown key, and stream is null", request, written(request, stream=None, **unknown), BODY)
    yield request_part("too old by a second", request, text, SKEW, SENT_AT + 300)
    yield request_part("too early by a second", request, text, SKEW, SENT_AT - 61)
    yield request_part("sent_at is 0", request, written(request, sent_at=0), SKEW)
    late = written(request, sent_at=v2.INT_MAX, ciphertext=bytes(16))
    yield request_part("sent_at is the largest, and forged", request, late, SKEW)
    mixed = sealed("forged, and another model in the body", body=b'{"model":"n"}')
    yield request_part("forged, and another model in the body", mixed, written(mixed, sent_at=NOW), FORGED)


def of_the_seal() -> Iterator[Vector]:
    request = sealed("forgeries")
    envelope = request.envelope
    for title, changes in (
        ("a bit of the ciphertext", {"ciphertext": flipped(envelope.ciphertext, 0)}),
        ("a bit of the tag", {"ciphertext": flipped(envelope.ciphertext, len(envelope.ciphertext) * 8 - 1)}),
        ("a tag alone", {"ciphertext": envelope.ciphertext[-16:]}),
        ("one byte less", {"ciphertext": envelope.ciphertext[:-1]}),
        ("bit 255 of enc", {"enc": flipped(envelope.enc, 255)}),
        ("bit 0 of enc", {"enc": flipped(envelope.enc, 0)}),
        ("another endpoint", {"endpoint": "/v1/completions"}),
        ("another model_name", {"model_name": "n"}),
        ("another stack_small_id", {"stack_small_id": 43}),
        ("no stack_small_id", {"stack_small_id": None}),
        ("another num_compute_units", {"num_compute_units": 65}),
        ("no num_compute_units", {"num_compute_units": None}),
        ("the two ids exchanged", {"stack_small_id": 64, "num_compute_units": 42}),
        ("another stream", {"stream": False}),
        ("another sent_at", {"sent_at": SENT_AT + 1}),
    ):
        yield request_part(f"forged: {title}", request, written(request, **changes), FORGED)
    null = sealed("forged: zero for null", stack_small_id=None)
    yield request_part("forged: zero for null", null, written(null, stack_small_id=0), FORGED)
    for number, u in enumerate(LOW_ORDER):
        yield request_part(f"enc of low order {number}", request, of_point(u.to_bytes(32, "little"), bytes(32)), FORGED)
    # The shared point of u = 9 is the public key itself. It is not to be had again as u = 9 + p.
    yield request_part("enc is 9", request, of_point((9).to_bytes(32, "little"), PUBLICS["X25519"]), "ok")
    again = of_point((9).to_bytes(32, "little"), PUBLICS["X25519"], (9 + P).to_bytes(32, "little"))
    yield request_part("enc is 9 + p", request, again, FORGED)
    yield from of_other_contexts(request)
    xwing = sealed("X-Wing: stream", "X-Wing")
    for title, bit in (("of ML-KEM", 0), ("of X25519", 1088 * 8), ("255 of X25519", 1120 * 8 - 1)):
        raw = written(xwing, enc=flipped(xwing.envelope.enc, bit))
        yield request_part(f"X-Wing: bit {title}", xwing, raw, FORGED)
    zero = xwing.envelope.enc[:1088] + bytes(32)
    yield request_part("X-Wing: X25519 of low order", xwing, of_zero_xwing(xwing, zero), FORGED)


def of_point(enc: bytes, dh: bytes, sent: bytes | None = None) -> bytes:
    """A request of somebody who knows the result of X25519 without a secret: it opens, unless that is refused."""
    encapsulated = hpke.dhkem(dh, enc, PUBLICS["X25519"]), enc
    body = b'{"model":"m","stream":true}'
    envelope, _ = v2.seal_request("X25519", PUBLICS["X25519"], encapsulated, body, METADATA)
    return v2.write_envelope(envelope._replace(enc=sent or enc))


def of_zero_xwing(request: Sealed, enc: bytes) -> bytes:
    ml_kem, sk_x = hpke.xwing_parts(SECRETS["X-Wing"])
    shared = hpke.xwing_combine(ml_kem.decapsulate(enc[:1088]), bytes(32), bytes(32), hpke.x25519_public(sk_x))
    body = b'{"model":"m","stream":true}'
    envelope, _ = v2.seal_request("X-Wing", PUBLICS["X-Wing"], (shared, enc), body, request.envelope.metadata)
    return v2.write_envelope(envelope)


def of_other_contexts(request: Sealed) -> Iterator[Vector]:
    """The right key, and one thing of the construction left out."""
    enc, key_id = request.envelope.enc, request.envelope.key_id
    shared = hpke.decapsulate("X25519", SECRETS["X25519"], enc)
    body, aad = b'{"model":"m","stream":true}', v2.aad_of(METADATA)
    for title, sealed_body in (
        ("no info", hpke.Context("X25519", shared, b"").seal(body, aad)),
        ("info without key_id", hpke.Context("X25519", shared, b"atoma/2 request\x00").seal(body, aad)),
        ("no metadata", hpke.Context("X25519", shared, v2.info_of(key_id)).seal(body, b"")),
        ("the second message", hpke.Context("X25519", shared, v2.info_of(key_id)).seal(body, aad, 1)),
    ):
        yield request_part(f"forged: {title}", request, written(request, ciphertext=sealed_body), FORGED)


def of_the_body() -> Iterator[Vector]:
    for title, body, changes in BODIES:
        request = sealed(f"body refused: {title}", body=body, **changes)
        raw = v2.write_envelope(request.envelope)
        yield request_part(f"body refused: {title}", request, raw, f"SEALED {BODY}")


def vectors() -> Iterator[Vector]:
    for part in (of_the_json, of_the_lengths, of_the_order, of_the_seal, of_the_body):
        yield from checked(part())


def checked(found: Iterator[Vector]) -> Iterator[Vector]:
    """Each as the reference says."""
    for vector in found:
        secret = SECRETS[vector["suite"]]
        try:
            v2.open_request(vector["suite"], secret, vector["envelope"].encode("latin-1"), now=vector["now"])
            said = "ok"
        except v2.RefusedError as refused:
            said = str(refused)
        assert said == vector["expect"], (vector["name"], said)
        yield vector
