"""Strict readers of JSON for what comes in, and protocol v1's members. Knows no keys."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

from ._errors import EnvelopeError, RemoteProtocolError
from ._typing import Usage

_U64_MAX: Final = 2**64 - 1
Members: TypeAlias = tuple[tuple[str, Any], ...]  # of a JSON object, in order


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# A message has about ten members, and base64 has no comma. This bounds what reading a hostile one can cost.
_MAX_COMMAS: Final = 1000


def _bound(text: bytes | str, what: str, error: type[Exception]) -> None:
    if (text.count(b",") if isinstance(text, bytes) else text.count(",")) > _MAX_COMMAS:
        raise error(f"{what} has too many members")


# An object as the pairs that it is written as, so that members that stand twice are seen; an array stays a list.
_PAIRS: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant)
_MAX_DIGITS: Final = len(str(_U64_MAX))
# The same for messages of ours. An integer that no member of ours can be is -1 there, whatever it is: Python would read
# -0 as 0, and long ones slowly, or not at all, though the members that nobody knows may hold them.
_MESSAGE: Final = json.JSONDecoder(
    object_pairs_hook=tuple,
    parse_constant=_no_constant,
    parse_int=lambda text: -1 if text[0] == "-" or len(text) > _MAX_DIGITS else int(text),
)
_PLAIN: Final = json.JSONDecoder(parse_constant=_no_constant)


def _load(decoder: json.JSONDecoder, kind: type, text: bytes | str, what: str, error: type[Exception]) -> Any:
    """What `decoder` makes of a JSON object, which is of `kind`. `error`: it is none (RFC 8259)."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = decoder.decode(text)
        if isinstance(value, kind):
            return value
        problem = f"{what} is not a JSON object"
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or a number too long for int()
        problem = f"{what} is not JSON"
    raise error(problem)  # out here: json's own errors hold the text, and a context would keep them


def load_object(text: bytes | str, what: str, error: type[Exception]) -> dict[str, Any]:
    """Read a JSON object; of members that stand twice, the last. `error`: it is none (RFC 8259)."""
    found: dict[str, Any] = _load(_PLAIN, dict, text, what, error)
    return found


def load_members(text: bytes | str, what: str, error: type[Exception]) -> Members:
    """The members of a JSON object in order, those that stand twice included; what is nested in them likewise."""
    members: Members = _load(_PAIRS, tuple, text, what, error)
    return members


def read_members(text: bytes | str, what: str, error: type[Exception]) -> Members:
    """As above, of a message, whose members are few. `error` also for one that has too many."""
    _bound(text, what, error)
    members: Members = _load(_MESSAGE, tuple, text, what, error)
    return members


def _known(members: Members, names: frozenset[str], what: str, error: type[Exception]) -> dict[str, Any]:
    """The members by name. `error`: one of those `names`, which we know, stands twice."""
    found = dict(members)
    if len(found) == len(members):  # none at all stands twice
        return found
    seen: set[str] = set()
    for name, _ in members:
        if name in names and name in seen:
            raise error(f"{what} has {name!r} twice")
        seen.add(name)
    return found


def base64_text(found: dict[str, Any], name: str, error: type[RemoteProtocolError]) -> bytes:
    """A member that is base64 text, which the core decodes."""
    value = found.get(name)
    if type(value) is str and value.isascii():
        return value.encode()
    raise error(f"{name!r} is missing or not base64 text")


def _integer(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= _U64_MAX:
        raise EnvelopeError(f"{name!r} is missing or not an integer of 64 bits")
    return value


class RequestEnvelope(NamedTuple):  # a third of the price of a frozen dataclass
    """A v1 request as received: base64 members still as ASCII text, absent and null already made one."""

    ciphertext: bytes
    nonce: bytes
    salt: bytes
    client_public: bytes
    node_public: bytes
    body_hash: bytes
    model: str
    stack_small_id: int
    num_compute_units: int | None
    stream: bool


_REQUEST_MEMBERS: Final = frozenset(
    (
        "ciphertext",
        "client_dh_public_key",
        "model_name",
        "node_dh_public_key",
        "nonce",
        "num_compute_units",
        "plaintext_body_hash",
        "salt",
        "stack_small_id",
        "stream",
        "v",
    )
)


def read_request(raw: bytes) -> RequestEnvelope:
    """Read a request envelope; unknown members are ignored. EnvelopeError."""
    return request_of(read_members(raw, "the request", EnvelopeError))


def request_of(members: Members) -> RequestEnvelope:
    """As above, of the envelope's members."""
    found = _known(members, _REQUEST_MEMBERS, "the request", EnvelopeError)
    if "v" in found:
        raise EnvelopeError("the request is not of protocol v1")
    model = found.get("model_name")
    if not isinstance(model, str) or not encodable(model):
        raise EnvelopeError("'model_name' is missing or not a string")
    units = found.get("num_compute_units")
    stream = found.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise EnvelopeError("'stream' is not a boolean")
    return RequestEnvelope(
        ciphertext=base64_text(found, "ciphertext", EnvelopeError),
        nonce=base64_text(found, "nonce", EnvelopeError),
        salt=base64_text(found, "salt", EnvelopeError),
        client_public=base64_text(found, "client_dh_public_key", EnvelopeError),
        node_public=base64_text(found, "node_dh_public_key", EnvelopeError),
        body_hash=base64_text(found, "plaintext_body_hash", EnvelopeError),
        model=model,
        stack_small_id=_integer(found.get("stack_small_id"), "stack_small_id"),
        num_compute_units=None if units is None else _integer(units, "num_compute_units"),
        stream=bool(stream),
    )


def encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


class SealedMessage(NamedTuple):
    """A v1 reply or event: base64 members as ASCII text; `response_hash` is empty if none was sent."""

    ciphertext: bytes
    nonce: bytes
    response_hash: bytes
    usage: Usage | None


_SEALED_MEMBERS: Final = frozenset(("ciphertext", "nonce", "response_hash", "usage"))


def read_sealed(text: bytes | str, what: str, error: type[RemoteProtocolError]) -> SealedMessage:
    """Read a reply or the data of an event; unknown members are ignored, `signature` among them."""
    found = _known(read_members(text, what, error), _SEALED_MEMBERS, what, error)
    claimed = found.get("response_hash")
    usage = found.get("usage")
    if usage is not None:
        if not isinstance(usage, tuple):
            raise error("'usage' is not an object")
        usage = load_object(text, what, error)["usage"]
    if claimed is not None and claimed == "":
        raise error("'response_hash' is empty")
    return SealedMessage(
        ciphertext=base64_text(found, "ciphertext", error),
        nonce=base64_text(found, "nonce", error),
        response_hash=b"" if claimed is None else base64_text(found, "response_hash", error),
        usage=usage,
    )


def read_usage(text: bytes, error: type[RemoteProtocolError]) -> Usage:
    """A usage object that the core has found in a message."""
    return load_object(text, "'usage'", error)


def write_usage(usage: Usage | None) -> bytes:
    """Compact ASCII JSON, on one line; empty for None. TypeError, ValueError: not a JSON mapping."""
    if usage is None:
        return b""
    if not isinstance(usage, Mapping):
        raise TypeError(f"usage must be a mapping, not {type(usage).__name__}")
    try:
        return json.dumps(dict(usage), separators=(",", ":"), allow_nan=False).encode("ascii")
    except RecursionError:
        raise ValueError("usage is nested too deeply") from None


_UNESCAPED: Final = json.JSONEncoder(ensure_ascii=False)


def write_model(model: str) -> bytes:
    """A model's name as a JSON string in UTF-8, unescaped where JSON allows it (a router re-prints it so)."""
    if not isinstance(model, str):
        raise TypeError(f"model must be str, not {type(model).__name__}")
    try:
        return _UNESCAPED.encode(model).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("model holds half of a surrogate pair") from None


_BODY_MEMBERS: Final = frozenset(("stream",))


def body_stream(body: bytes, error: type[Exception]) -> bool:
    """What `stream` of a request's body says; absent and null mean false. `error`: no JSON object, not a boolean."""
    return stream_of(_known(load_members(body, "the body", error), _BODY_MEMBERS, "the body", error), error)


def stream_of(body: dict[str, Any], error: type[Exception]) -> bool:
    """As above, of the body's members by name."""
    stream = body.get("stream")
    if stream is None:
        return False
    if not isinstance(stream, bool):
        raise error("'stream' of the body is not a boolean")
    return stream
