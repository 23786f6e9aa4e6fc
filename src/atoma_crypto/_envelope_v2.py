"""Protocol v2's JSON (docs/protocol-v2.md, sections 3 and 4): strict readers of all that comes in. Knows no keys."""

import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ._envelope import Members, base64_text, encodable, load_members, read_members, stream_of
from ._errors import EnvelopeError, RemoteAbortError, RemoteProtocolError
from ._typing import Usage

MAX_INTEGER: Final = 2**53 - 1  # JavaScript's
_MAX_DEPTH: Final = 16
_MAX_MODEL_BYTES: Final = 256
_KEY_ID_BYTES: Final = 8
_TAG_BYTES: Final = 16
_ENC_BYTES: Final = (32, 1120)  # of the suites that there are
_MAX_FLAG: Final = 3
_ENDPOINT: Final = re.compile(r"/[A-Za-z0-9/_.-]{0,127}")
_CODE: Final = re.compile(r"[A-Z0-9_]{1,64}")
_STATUS: Final = range(400, 600)
_MAX_MESSAGE: Final = 1024
_USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")  # in the order of a record's additional data
UsageNumbers: TypeAlias = tuple[int, int, int]


class Metadata(NamedTuple):
    """What a request says in clear, parsed: the additional data of its ciphertext is made of it."""

    endpoint: str
    model: str
    stack_small_id: int | None
    num_compute_units: int | None
    stream: bool
    sent_at: int


class RequestEnvelope(NamedTuple):
    """A v2 request as received: `ciphertext` still as base64 text, which the core decodes."""

    ciphertext: bytes
    enc: bytes
    key_id: bytes
    metadata: Metadata


class Record(NamedTuple):
    """One record as received: `ciphertext` and `salt` as base64 text, the latter empty where none stands."""

    ciphertext: bytes
    flag: int
    salt: bytes
    usage: UsageNumbers | None


# ---- what both sides ask of a value -------------------------------------------------------------------------------


def is_integer(value: object) -> bool:
    """Whether it is an integer that v2 can carry: 0 to 2^53-1."""
    return type(value) is int and 0 <= value <= MAX_INTEGER


def is_model(value: object) -> bool:
    """Whether it can be a model's name: 1 to 256 bytes of UTF-8."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_MODEL_BYTES
        and encodable(value)
        and len(value.encode()) <= _MAX_MODEL_BYTES
    )


def is_endpoint(value: object) -> bool:
    """Whether it can be an endpoint: 1 to 128 of A-Z a-z 0-9 / _ . -, and a slash first."""
    return isinstance(value, str) and _ENDPOINT.fullmatch(value) is not None


# ---- reading ----------------------------------------------------------------------------------------------------


def _depth(value: Any, limit: int) -> bool:
    """Whether arrays and objects are nested no deeper than `limit`. Objects are tuples of pairs."""
    if isinstance(value, tuple):
        return limit > 0 and all(_depth(member, limit - 1) for _, member in value)
    if isinstance(value, list):
        return limit > 0 and all(_depth(element, limit - 1) for element in value)
    return True


def _strict(members: Members, what: str, error: type[RemoteProtocolError]) -> dict[str, Any]:
    """The members by name. `error`: one stands twice, whatever its name, or what they hold is nested too deeply."""
    found = dict(members)
    if len(found) != len(members):
        raise error(f"{what} has a member twice")
    if not _depth(members, _MAX_DEPTH):
        raise error(f"{what} is nested too deeply")
    return found


def _integer(found: dict[str, Any], name: str, error: type[RemoteProtocolError]) -> int:
    value: Any = found.get(name)
    if not is_integer(value):
        raise error(f"{name!r} is missing or not an integer from 0 to 2^53-1")
    return value  # type: ignore[no-any-return] # is_integer() has said so


def _integer_or_null(found: dict[str, Any], name: str) -> int | None:
    return None if found.get(name) is None else _integer(found, name, EnvelopeError)


def _bytes(found: dict[str, Any], name: str) -> bytes:
    """A member that is base64 (RFC 4648, section 4), spare bits zero, decoded."""
    text = base64_text(found, name, EnvelopeError)
    try:
        raw = binascii.a2b_base64(text)
    except binascii.Error:
        raw = b""
    if binascii.b2a_base64(raw, newline=False) != text:
        raise EnvelopeError(f"{name!r} is not base64")
    return raw


def version_of(members: Members) -> int:
    """The protocol that a request is of: 1 if it does not say so. EnvelopeError: another than 1 and 2."""
    found = [value for name, value in members if name == "v"]
    if not found:
        return 1
    if len(found) == 1 and type(found[0]) is int and found[0] == 2:
        return 2
    raise EnvelopeError("the request is of no protocol that is known")


def request_of(members: Members) -> RequestEnvelope:
    """Read a request envelope's members, of which `v` is 2; unknown ones are ignored. EnvelopeError."""
    found = _strict(members, "the request", EnvelopeError)
    ciphertext = base64_text(found, "ciphertext", EnvelopeError)
    if len(ciphertext) // 4 * 3 - ciphertext[-2:].count(b"=") < _TAG_BYTES:
        raise EnvelopeError("'ciphertext' is shorter than its tag")
    enc, key_id = _bytes(found, "enc"), _bytes(found, "key_id")
    if len(enc) not in _ENC_BYTES:
        raise EnvelopeError("'enc' is of the wrong length")
    if len(key_id) != _KEY_ID_BYTES:
        raise EnvelopeError("'key_id' is of the wrong length")
    endpoint, model, stream = found.get("endpoint"), found.get("model_name"), found.get("stream")
    if not is_endpoint(endpoint):
        raise EnvelopeError("'endpoint' is missing or malformed")
    if not is_model(model):
        raise EnvelopeError("'model_name' is missing or malformed")
    if not isinstance(stream, bool):
        raise EnvelopeError("'stream' is missing or not a boolean")
    metadata = Metadata(
        endpoint=str(endpoint),
        model=str(model),
        stack_small_id=_integer_or_null(found, "stack_small_id"),
        num_compute_units=_integer_or_null(found, "num_compute_units"),
        stream=stream,
        sent_at=_integer(found, "sent_at", EnvelopeError),
    )
    return RequestEnvelope(ciphertext, enc, key_id, metadata)


def read_record(text: bytes | str, what: str, error: type[RemoteProtocolError]) -> Record:
    """Read the object that answers, or the data of an event; unknown members are ignored."""
    found = _strict(read_members(text, what, error), what, error)
    flag, usage = found.get("flag", 0), found.get("usage")
    if type(flag) is not int or not 0 <= flag <= _MAX_FLAG:
        raise error("'flag' is not an integer from 0 to 3")
    if ("v" in found) is not ("salt" in found) or ("v" in found and (type(found["v"]) is not int or found["v"] != 2)):
        raise error(f"{what} is not of protocol v2")
    if found.get("salt") == "":  # to the core it would be none
        raise error("'salt' is empty")
    return Record(
        ciphertext=base64_text(found, "ciphertext", error),
        flag=flag,
        salt=base64_text(found, "salt", error) if "salt" in found else b"",
        usage=None if usage is None else _usage_of(usage, error),
    )


def _usage_of(usage: object, error: type[RemoteProtocolError]) -> UsageNumbers:
    if not isinstance(usage, tuple) or sorted(name for name, _ in usage) != sorted(_USAGE):
        raise error("'usage' is not an object of the three that it has to be of")
    found = dict(usage)
    first, second, third = (_integer(found, name, error) for name in _USAGE)
    return first, second, third


def check_body(body: bytes, model: str, stream: bool, error: type[Exception]) -> None:
    """What both ends ask of a request's body. `error`: it does not hold.

    It is a JSON object without a name twice, whose `model`, if it has one, and `stream` are those of the envelope.
    """
    members = load_members(body, "the body", error)
    found = dict(members)
    if len(found) != len(members):
        raise error("the body has a member twice")
    if "model" in found and found["model"] != model:
        raise error("'model' of the body is not that of the envelope")
    if stream_of(found, error) is not stream:
        raise error("'stream' of the body is not that of the envelope")


def abort_of(plaintext: bytes, error: type[RemoteProtocolError]) -> RemoteProtocolError:
    """What a record of flag 2 is to be raised as: RemoteAbortError, or `error` if it does not say what it has to."""
    try:
        found = _strict(load_members(plaintext, "the abort", error), "the abort", error)
        told = found.get("error")
        found = _strict(told, "the abort", error) if isinstance(told, tuple) else {}
    except RemoteProtocolError as exc:
        return error(str(exc))
    code, message, status = found.get("code"), found.get("message"), found.get("status")
    if not isinstance(code, str) or not _CODE.fullmatch(code) or not isinstance(message, str):
        return error("the abort has no code or no message")
    if type(status) is not int or status not in _STATUS:
        return error("the abort has no status from 400 to 599")
    return RemoteAbortError(code, message, status)


# ---- writing ----------------------------------------------------------------------------------------------------


_ASCII: Final = json.JSONEncoder()


def write_model(model: str) -> bytes:
    """A model's name as a JSON string in ASCII."""
    return _ASCII.encode(model).encode("ascii")


def usage_numbers(usage: Usage) -> UsageNumbers:
    """The three integers in the order of the additional data. TypeError: no mapping; ValueError: other members."""
    if not isinstance(usage, Mapping):
        raise TypeError(f"usage must be a mapping, not {type(usage).__name__}")
    found = dict(usage)
    first, second, third = (found.pop(name, None) for name in _USAGE)
    if found or not (is_integer(first) and is_integer(second) and is_integer(third)):
        raise ValueError(f"usage must be {', '.join(_USAGE)}, integers from 0 to 2^53-1, and nothing else")
    return first, second, third  # type: ignore[return-value] # is_integer() has said so


def usage_mapping(numbers: UsageNumbers) -> dict[str, int]:
    """Usage as sessions give it."""
    return dict(zip(_USAGE, numbers, strict=True))


def write_abort(code: str, message: str, status: int) -> bytes:
    """The plaintext of an abort. TypeError; ValueError: not what `NodeSession.abort` says."""
    if not isinstance(code, str) or not isinstance(message, str) or type(status) is not int:
        raise TypeError("code and message must be str, and status int")
    if not _CODE.fullmatch(code):
        raise ValueError("code must be 1 to 64 of A-Z, 0-9 and _")
    if len(message) > _MAX_MESSAGE or not encodable(message):
        raise ValueError(f"message must be up to {_MAX_MESSAGE} characters, without half of a surrogate pair")
    if status not in _STATUS:
        raise ValueError("status must be 400 to 599")
    told = {"error": {"code": code, "message": message, "status": status}}
    return json.dumps(told, separators=(",", ":")).encode("ascii")
