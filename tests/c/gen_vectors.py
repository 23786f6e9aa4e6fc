"""Turn tests/vectors/atoma_v1.json, or v2.json beside it, into a C header: gen_vectors.py IN.json OUT.h."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n"}


def literal(raw: bytes) -> str:
    """A C string literal, in lines."""
    text = all(0x20 <= byte < 0x7F or byte in ESCAPES for byte in raw)
    escaped = [ESCAPES.get(byte, chr(byte)) if text else f"\\x{byte:02x}" for byte in raw]
    step = 100 if text else 25
    lines = ["".join(escaped[i : i + step]) for i in range(0, len(escaped), step)] or [""]
    return "\n    ".join(f'"{line}"' for line in lines)


def view(raw: bytes) -> str:
    return f"{{(const uint8_t *){literal(raw)}, {len(raw)}}}"


def constant(name: str, raw: bytes) -> str:
    return f"static const view vec_{name} = {view(raw)};\n"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def unsigned(text: str) -> bytes:
    """The same message from a node that has no signing key."""
    begin = text.index('"signature":"') + len('"signature":"')
    return (text[:begin] + text[text.index('"', begin) :]).encode()


def chunk(entry: dict[str, Any]) -> str:
    message = json.loads(entry["sse"].removeprefix("data: "))
    usage = compact(message["usage"]) if "usage" in message else b""
    fields = (entry["plaintext"].encode(), entry["sse"].encode(), unsigned(entry["sse"]), usage)
    return "    {" + ",\n     ".join(view(field) for field in fields) + "},\n"


def header(vectors: dict[str, Any]) -> str:
    request, reply, stream = vectors["request"], vectors["response"], vectors["stream"]
    put = vectors["node_attestation_put"]
    envelope = json.loads(request["envelope"])
    reply_members = json.loads(reply["envelope"])
    attested = put["node_small_id"].to_bytes(8, "little") + bytes(put["compressed_evidence"])
    hashed = {
        "request": (request["plaintext"].encode(), bytes.fromhex(request["plaintext_body_hash_hex"])),
        "attestation": (attested, bytes.fromhex(put["blake2b256_hex"])),
        "empty": (b"", bytes.fromhex(vectors["blake2b256_empty_hex"])),
    }
    constants = {
        "client_secret": bytes.fromhex(vectors["client_private_hex"]),
        "client_public": bytes.fromhex(vectors["client_public_hex"]),
        "node_secret": bytes.fromhex(vectors["node_private_hex"]),
        "node_public": bytes.fromhex(vectors["node_public_hex"]),
        "shared_secret": bytes.fromhex(vectors["shared_secret_hex"]),
        "salt": bytes.fromhex(vectors["salt_hex"]),
        "aes_key": bytes.fromhex(vectors["aes_key_hex"]),
        "zero_secret_key": bytes.fromhex(vectors["zero_shared_secret_key_hex"]),
        "seed": bytes.fromhex(vectors["ed25519_seed_hex"]),
        "sign_public": bytes.fromhex(vectors["ed25519_public_hex"]),
        "body": request["plaintext"].encode(),
        "request_nonce": bytes.fromhex(request["nonce_hex"]),
        "request_sealed": bytes.fromhex(request["ciphertext_and_tag_hex"]),
        "request": request["envelope"].encode(),
        "request_64_units": compact(dict(sorted({**envelope, "num_compute_units": 64}.items()))),
        "request_signature": request["x_signature_ed25519_sui_base64"].encode(),
        "attestation_signature": put["x_signature_base64"].encode(),
        "reply_plaintext": reply["plaintext"].encode(),
        "reply_nonce": bytes.fromhex(reply["nonce_hex"]),
        "reply_usage": compact(reply_members["usage"]),
        "reply": reply["envelope"].encode(),
        "reply_unsigned": unsigned(reply["envelope"]),
        "stream_nonce": bytes.fromhex(stream["nonce_hex"]),
    }
    for name, (plaintext, digest) in hashed.items():
        constants |= {f"{name}_hashed": plaintext, f"{name}_hash": digest}
    if base64.b64decode(envelope["ciphertext"]) != constants["request_sealed"]:
        raise ValueError("the vectors contradict themselves")
    chunks = "".join(chunk(entry) for entry in stream["chunks"])
    return (
        "/* Made by gen_vectors.py out of tests/vectors/atoma_v1.json. */\n"
        + "".join(constant(name, raw) for name, raw in constants.items())
        + "static const struct {\n  view plaintext, sse, sse_unsigned, usage;\n} vec_chunks[] = {\n"
        + chunks
        + "};\n"
    )


# ---- v2.json: a list, of which the harness takes what needs neither ML-KEM nor a parser of its own ----

BYTES = "latin-1"  # how that file writes bytes that are text
OUTCOMES = ("ok", "REPLY_REFUSED", "REPLY_TRUNCATED")


def number(value: int | None) -> str:
    return f"{value or 0}u, {int(value is not None)}"


def metadata(values: dict[str, Any]) -> str:
    endpoint, model = values["endpoint"].encode(), values["model_name"].encode()
    ids = f"{number(values['stack_small_id'])}, {number(values['num_compute_units'])}"
    return f"{{{view(endpoint)}, {view(model)}, {ids}, {values['sent_at']}u, {int(values['stream'])}}}"


def record(entry: dict[str, Any]) -> str:
    usage = entry["usage"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    numbers = ", ".join(f"{usage[name]}u" for name in names) if usage else "0, 0, 0"
    fields = (
        view(entry["plaintext"].encode(BYTES)),
        view(bytes.fromhex(entry.get("ciphertext", ""))),
        view(entry.get("event", "").encode()),
    )
    what = f"{entry.get('index', 0)}u, {entry['flag']}, {int(bool(usage))}, {{{numbers}}}"
    return "{" + ",\n     ".join((what, *fields)) + "}"


def table(kind: str, name: str, rows: list[str]) -> str:
    return f"static const {kind} vec_{name}[] = {{\n" + "".join(f"    {row},\n" for row in rows) + "};\n"


def records(name: str, entry: dict[str, Any]) -> tuple[str, str]:
    """A table of them, and what names it."""
    rows = [record(each) for each in entry["records"]]
    return (table("vec_record", name, rows), f"vec_{name}, {len(rows)}") if rows else ("", "NULL, 0")


def header_v2(vectors: list[dict[str, Any]]) -> str:
    tables, exchanges, requests, replies = [], [], [], []
    for i, entry in enumerate(vectors):
        if "received" in entry:
            rows, named = records(f"records_{i}", entry)
            tables.append(rows)
            fields = [view(bytes.fromhex(entry[name])) for name in ("enc", "exported")]
            what = f'"{entry["name"]}", {OUTCOMES.index(entry["expect"])}, {int(entry["stream"])}'
            fields.append(view(entry["received"].encode(BYTES)))
            replies.append("{" + ",\n     ".join((what, *fields, named)) + "}")
        elif "records" in entry:
            rows, named = records(f"records_{i}", entry)
            tables.append(rows)
            names = ("sk_r", "sk_e", "key_id", "enc", "exported", "salt")
            fields = [view(bytes.fromhex(entry.get(name) or "")) for name in names]
            model = view(json.dumps(entry["metadata"]["model_name"]).encode())
            texts = [view(entry[name].encode(BYTES)) for name in ("body", "envelope")]
            exchanges.append("{" + ",\n     ".join((metadata(entry["metadata"]), model, *fields, *texts, named)) + "}")
        elif entry["suite"] == "X25519" and entry["expect"] in ("ok", "DECRYPTION_FAILED"):
            envelope = json.loads(entry["envelope"].encode(BYTES))
            values = {"stack_small_id": None, "num_compute_units": None, **envelope}
            fields = [view(bytes.fromhex(entry["sk_r"]))]
            fields += [view(base64.b64decode(envelope[name])) for name in ("key_id", "enc")]
            texts = [view(envelope["ciphertext"].encode()), view(entry.get("body", "").encode(BYTES))]
            good = int(entry["expect"] == "ok")
            requests.append("{" + ",\n     ".join((str(good), metadata(values), *fields, *texts)) + "}")
    return (
        "/* Made by gen_vectors.py out of tests/vectors/v2.json. */\n"
        + "".join(tables)
        + table("vec_exchange", "exchanges", exchanges)
        + table("vec_request", "requests", requests)
        + table("vec_reply", "replies", replies)
    )


if __name__ == "__main__":
    source, target = (Path(argument) for argument in sys.argv[1:])
    found = json.loads(source.read_text(encoding="utf-8"))
    target.write_text(header_v2(found) if isinstance(found, list) else header(found), encoding="utf-8")
