"""What else reads what strangers send: lock replies, offers, evidence, policies, bodies, answers of models.

Each raises its own errors, or nothing. Where a policy says yes, whatever was changed, it is for the same key.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fuzz.engine import Program, check, instrumented, start
from fuzz.messages import NODE_SECRET, Sealed, spliced, spoiled

with instrumented():
    import atoma_crypto as ac
    from amd_pki import amd_maker, chip, pem
    from atoma_crypto import _envelope, _envelope_v2, _offers
    from atoma_crypto._keys import SUITES
    from atoma_crypto._offers import write_offer
    from atoma_crypto.adapters._asked import model_json, model_of, read_body
    from atoma_crypto.adapters._lock import Lock
    from atoma_crypto.adapters._replies import is_sealed
    from atoma_crypto.attestation import (
        Evidence,
        NvidiaGpuVerifier,
        SnpPolicy,
        SnpTcb,
        SnpVerifier,
        TdxPolicy,
        TdxVerifier,
        Verifier,
        evidence_from_json,
        evidence_to_json,
        nvidia_nonce,
        report_data,
    )
    from atoma_crypto.attestation import _nvidia as nvidia
    from atoma_crypto.attestation.policy_file import PolicyFileError, load_policy
    from atoma_crypto.keyring import KeyOffer
    from atoma_crypto.server._answers import asking_for_usage, read_answer
    from atoma_crypto.server.coalesce import Joiner
    from atoma_crypto.server.model import Answer, InferenceError
    from attestation_pki import gpu_maker, maker
    from certificates import HOUR, NOW

KEY: Final = ac.SecretKey.from_bytes(NODE_SECRET).public_key
XWING: Final = ac.SecretKey.from_bytes(NODE_SECRET, "X-Wing").public_key
OFFER: Final = KeyOffer("v2", KEY, HOUR, NOW + HOUR)
TDX: Final = Evidence("tdx", maker().quote(report_data(OFFER)), maker().collateral())
SNP: Final = Evidence("snp", chip().report(report_data(OFFER)), chip().collateral)
ENTRY: Final = gpu_maker().device(nvidia_nonce(bytes(KEY), contract_nonce=7))
NVIDIA: Final = Evidence("nvidia", zlib.compress(json.dumps([ENTRY]).encode()))
with instrumented():  # they import more
    VERIFIERS: Final[dict[str, Verifier]] = {
        "tdx": TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der),
        "snp": SnpVerifier(SnpPolicy.any_measurement(SnpTcb()), root=amd_maker().root),
        "nvidia": NvidiaGpuVerifier(7, root=gpu_maker().root.der),
    }
for _kind, _good in (("tdx", TDX), ("snp", SNP), ("nvidia", NVIDIA)):
    VERIFIERS[_kind].verify(_good, OFFER, now=NOW)  # what is spoiled below is good


Errors = type[Exception] | tuple[type[Exception], ...]


def only(errors: Errors, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What it gives, or None where it raises one of these. Whatever else it raises is a finding."""
    try:
        return call(*arguments, **named)
    except errors as error:
        check(len(str(error)) < 2000, "an error that talks too much")
        return None


def deep(program: Program) -> bytes:
    """Something nested, near to where Python's recursion ends or far from it."""
    depth = program.number() % 3000
    return b"[" * depth + b"]" * depth if program.byte() & 1 else b'{"a":' * depth + b"1" + b"}" * depth


def objects(program: Program, good: Sequence[Sealed]) -> bytes:
    """One of these objects, spoiled; sometimes with something deep inside."""
    one = program.one_of(good)
    raw = spoiled(program, one, good)
    if program.byte() < 24 and raw.endswith(b"}"):
        name = json.dumps(program.one_of(["x", *(name for name, _ in one.members)])).encode()
        raw = raw[:-1] + b"," + name + b":" + deep(program) + b"}"
    return raw


# ---- lock replies, offers and keys ------------------------------------------------------------------------------

TOGETHER: Final = evidence_to_json(Evidence.together(NVIDIA, SNP))
OFFERS: Final = [write_offer(KeyOffer("v2", key, HOUR, NOW + HOUR, TOGETHER)) for key in (KEY, XWING)]
LOCK: Final = {"node_small_id": 7, "stack_entry_digest": "0x1", "stack_small_id": 42}
LOCKS: Final = [
    Sealed.of(json.dumps(LOCK | {"public_key": KEY.to_base64(), "evidence": TOGETHER}).encode()),
    Sealed.of(json.dumps(LOCK | {"keys": OFFERS}).encode()),
]
OFFER_TEXTS: Final = [Sealed.of(json.dumps(offer | {"evidence": None}).encode()) for offer in OFFERS]


def locks(program: Program) -> None:
    raw = objects(program, LOCKS)
    for protocol in ("v1", "v2"):
        lock = only((ac.EnvelopeError, ac.MessageTooLargeError), Lock.read, raw, protocol)
        check(lock is None or all(offer.public_key.suite in SUITES for offer in lock.offers), "a key of no suite")


def offers(program: Program) -> None:
    listed = b",".join(objects(program, OFFER_TEXTS) for _ in range(1 + program.below(3)))
    lock = only(ac.EnvelopeError, Lock.read, b'{"keys":[' + listed + b"]}", "v2")
    check(
        lock is None or all(offer.public_key in (KEY, XWING) for offer in lock.offers), "another key than was offered"
    )


def keys(program: Program) -> None:
    text = spliced(program, KEY.to_base64().encode()).decode("utf-8", "replace")
    for suite in SUITES:
        key = only(ac.InvalidKeyError, ac.PublicKey.from_base64, text, suite)
        check(key is None or key.to_base64() == text, "another text for the same key")


# ---- evidence ---------------------------------------------------------------------------------------------------

EVIDENCE: Final = [
    Sealed.of(json.dumps(evidence_to_json(one)).encode()) for one in (TDX, SNP, NVIDIA, Evidence.together(SNP, NVIDIA))
]
ENTRIES: Final = [Sealed.of(json.dumps(ENTRY).encode())]
PACKED: Final = [Sealed(TDX.data, []), Sealed(SNP.data, [])]
REPORT: Final = base64.b64decode(ENTRY["evidence"])
CHAIN: Final = base64.b64decode(ENTRY["certificate"])


def judged(evidence: Evidence) -> None:
    for kind, verifier in VERIFIERS.items():
        if kind == evidence.kind or evidence.parts:
            found = only(ac.AttestationError, verifier.verify, evidence, OFFER, now=NOW)
            check(found is None or found.public_key == KEY, "a verdict for another key")


def in_json(program: Program) -> None:
    value = only((ValueError, RecursionError), json.loads, objects(program, EVIDENCE))
    evidence = only(ac.AttestationError, evidence_from_json, value)
    if evidence is not None:
        judged(evidence)


def machines(program: Program) -> None:
    """The evidence of CPUs, spoiled as the bytes that it is."""
    good = program.one_of((TDX, SNP))
    data, collateral = good.data, good.collateral
    match program.below(4):
        case 0:
            data = flipped(program, data)
        case 1 if good is TDX:
            collateral = spoiled(program, COLLATERAL, [COLLATERAL])
        case 1:
            collateral = flipped(program, chip().table)
        case 2 if good is SNP:
            collateral = b"".join(map(pem, (flipped(program, chip().vcek), *chip().above)))
        case _:
            collateral = flipped(program, collateral)
    judged(Evidence(good.kind, data, collateral))


COLLATERAL: Final = Sealed.of(TDX.collateral)


def flipped(program: Program, raw: bytes) -> bytes:
    """With bits flipped, numbers changed, or a stretch of it replaced."""
    out = bytearray(raw)
    for _ in range(1 + program.below(3)):
        at = program.number() % (len(out) or 1)
        if program.byte() < 128:
            out[at : at + 1] = program.take(1)
        else:
            out[at : at + program.below(40)] = program.take(program.below(40))
    return bytes(out)


def devices(program: Program) -> None:
    if program.byte() < 32:
        judged(Evidence("nvidia", flipped(program, NVIDIA.data)))
        return
    entry: dict[str, str] = dict(ENTRY)
    if program.byte() & 1:
        entry["evidence"] = base64.b64encode(flipped(program, REPORT)).decode()
    else:
        entry["certificate"] = base64.b64encode(flipped(program, CHAIN)).decode()
    raw = (
        objects(program, [Sealed.of(json.dumps(entry).encode())]) if program.byte() & 1 else json.dumps(entry).encode()
    )
    judged(Evidence("nvidia", zlib.compress(b"[" + raw + b"]", 1)))


# ---- policies ---------------------------------------------------------------------------------------------------

FILE: Final = Path("policy.toml")
POLICIES: Final = (
    f'[pinned]\nkeys = [{{suite = "X25519", public_key = "{KEY.to_base64()}"}}]\n',
    'require = "any"\n[tdx]\nany_measurement = true\nstatuses = ["UpToDate", "OutOfDate"]\nmin_evaluation = 17\n'
    '[nvidia]\ncontract_nonce = "7"\ndevice_slot = 300\n',
    '[snp]\nmin_tcb = {snp = 8, microcode = 200}\nmax_vmpl = 1\n[[snp.measurements]]\nmeasurement = "'
    + "ab" * 48
    + '"\n',
    '[tdx]\nadvisories = ["INTEL-SA-00001"]\n[[tdx.measurements]]\nrt_mr0 = ""\nmr_td = "' + "00" * 48 + '"\n',
)  # fmt: skip
TOML: Final = (
    *("true", "false", "0", "-1", "1.5", "inf", "nan", '""', '"x"', "''", "[]", "{}", "[[]]", "1979-05-27", "07:32:00"),
    *("\n", "#", "=", ".", "[", "]", "[[", "]]", "tdx", "snp", "nvidia", "pinned", "require", '"all"', "0x10", "\x00"),
    *("root = 'none'\n", "root = '.'\n", 'root = "\\u0000"\n', "9223372036854775808", '"' + "9" * 5000 + '"', "\ufeff"),
    *('"\u00b2"', '"\u0661"', "[" * 2000, "a = " + "{a=" * 600),
    *("any_measurement = true\n", "measurements = 1\n", "keys = []\n", 'suite = "X-Wing"', '"zz"', "min_tcb = {}\n"),
)  # fmt: skip


def policies(program: Program) -> None:
    raw = program.one_of(POLICIES).encode()
    for _ in range(program.below(5)):
        at, gone = program.number() % (len(raw) + 1), program.one_of((0, 0, 1, 4, 20, 100))
        raw = (
            raw[:at]
            + (program.one_of(TOML).encode() if program.byte() < 192 else program.take(program.below(8)))
            + raw[at + gone :]
        )
    FILE.write_bytes(raw)
    found = only((PolicyFileError, OSError), load_policy, FILE)
    if found is not None:
        only(ac.AttestationError, found.verify, SNP, OFFER, now=NOW)


# ---- bodies, and answers of models ------------------------------------------------------------------------------

USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
BODIES: Final = [Sealed.of(json.dumps(one).encode()) for one in (
    {"model": "m", "stream": True, "messages": []},
    {"model": "m", "stream": True, "stream_options": {"include_usage": False}},
    {"error": {"code": "X", "message": "m", "status": 500}},
    {"id": "1", "choices": [{"index": 0, "delta": {"content": "x"}}], "usage": USAGE},
)]  # fmt: skip


def bodies(program: Program) -> None:
    raw = objects(program, BODIES)
    only(ac.LocalProtocolError, _envelope.body_stream, raw, ac.LocalProtocolError)
    only(ac.EnvelopeError, _envelope_v2.check_body, raw, "m", True, ac.EnvelopeError)
    asked = only(ac.LocalProtocolError, read_body, raw)
    if asked is not None:
        model = only(ac.LocalProtocolError, model_of, asked)
        for protocol in ("v1", "v2") if model is not None else ():
            only(ac.LocalProtocolError, model_json, model, protocol)
    found = _envelope_v2.abort_of(raw, ac.EnvelopeError)
    check(isinstance(found, ac.RemoteAbortError | ac.EnvelopeError), "an abort is raised as something else")
    is_sealed(raw)
    only(InferenceError, read_answer, raw)
    more = only(InferenceError, asking_for_usage, raw)
    if more is not None:
        check(json.loads(more)["stream_options"] == {"include_usage": True}, "usage is not asked for")


def texts_of(answers: Sequence[Answer]) -> str:
    """What a reader of the whole stream has of it, in order."""
    found = ""
    for answer in answers:
        value = only((ValueError, RecursionError), json.loads, answer.plaintext)
        for choice in value["choices"] if isinstance(value, dict) and isinstance(value.get("choices"), list) else ():
            if isinstance(choice, dict):
                delta = choice.get("delta")
                found += str(delta.get("content") if isinstance(delta, dict) else choice.get("text"))
    return found


FRAMES: Final = (
    '{"id":"1","choices":[{"index":0,"delta":{"content":%s}}]}',
    '{"id":"1","choices":[{"index":0,"delta":{"content":%s}}],"usage":null}',
    '{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":%s}}]}',
    '{"id":"2","choices":[{"index":0,"text":%s,"logprobs":null}]}',
    '{"id":"1","choices":[{"index":0,"delta":{"content":%s},"finish_reason":"stop"}]}',
    '{"id":"1","id":"1","choices":[{"index":0,"delta":{"content":%s}}]}',
)


def joined(program: Program) -> None:
    joiner = Joiner(2 + program.below(40), 4096)
    given, taken = [], []
    for _ in range(program.below(12)):
        words = program.take(program.below(8)).decode("latin-1")
        text = program.one_of(FRAMES) % json.dumps(words if program.byte() < 250 else "\ud800")
        raw = text.encode("utf-8", "surrogatepass")
        if program.byte() < 64:
            raw = objects(program, [Sealed.of(raw)])
        answer = Answer(raw, USAGE if program.byte() == 0xFF else None)
        given.append(answer)
        taken += joiner.add(answer)
    taken += joiner.flush()
    check(joiner.holding == 0, "something is held back at the end")
    check(texts_of(taken) == texts_of(given), "the text of a stream is another one when it is joined")


WAYS: Final = (locks, offers, keys, in_json, machines, devices, policies, bodies, joined, bodies, joined, offers)


def target(program: Program) -> None:
    program.one_of(WAYS)(program)


# ---- what has to be found ---------------------------------------------------------------------------------------


def library_raises() -> None:
    def guarded(_failing: str, call: Callable[[], Any]) -> Any:
        return call()

    setattr(nvidia, "guarded", guarded)  # noqa: B010 - it is imported there, and not exported


def text_is_lost() -> None:
    true = Joiner.flush

    def flush(self: Joiner) -> list[Answer]:
        return true(self)[1:] if self.holding == 1 else true(self)

    Joiner.flush = flush  # type: ignore[method-assign] # planted


def key_id_is_not_compared() -> None:
    class Same(str):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment] # nobody asks

        def __eq__(self, _: object) -> bool:
            return True

        def __ne__(self, _: object) -> bool:
            return False

    _offers._id_of = lambda public_key: Same(public_key.suite)


FAULTS: Final = (library_raises, text_is_lost, key_id_is_not_compared)

if __name__ == "__main__":
    start(target, FAULTS)
