"""What a client reads of the body that is to be sealed. LocalProtocolError: it cannot be, and nothing was sent."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import atoma_crypto as ac
from atoma_crypto._envelope import load_members, write_model
from atoma_crypto._typing import Protocol
from atoma_crypto.adapters._routes import Endpoint

_MAX_V2_MODEL_BYTES: Final = 256


def read_body(body: bytes) -> Mapping[str, object]:
    """Its members, each of which stands once."""
    members = load_members(body, "the body", ac.LocalProtocolError)
    asked = dict(members)
    if len(asked) != len(members):  # of two readers one could take the first and the other the last
        raise ac.LocalProtocolError("a member of the body stands twice")
    return asked


def model_of(asked: Mapping[str, object]) -> str:
    """The model that it names."""
    model = asked.get("model")
    if not isinstance(model, str):
        raise ac.LocalProtocolError("'model' of the body is missing or not a string")
    return model


def model_json(model: str, protocol: Protocol) -> bytes:
    """The model's name as JSON."""
    written = None
    with suppress(ValueError):
        written = write_model(model)
    if written is None:
        raise ac.LocalProtocolError("'model' of the body holds half of a surrogate pair")
    if protocol == "v2" and not 1 <= len(model.encode()) <= _MAX_V2_MODEL_BYTES:
        raise ac.LocalProtocolError(f"'model' of the body is empty or longer than {_MAX_V2_MODEL_BYTES} bytes")
    return written


def stream_of(endpoint: Endpoint, asked: Mapping[str, object]) -> bool:
    """Whether it asks for a stream."""
    stream = asked.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise ac.LocalProtocolError("'stream' of the body is not a boolean")
    if stream and not endpoint.streams:
        raise ac.LocalProtocolError(f"{endpoint.plaintext} does not stream")
    return bool(stream)
