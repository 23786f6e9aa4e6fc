"""What is checked before anything is sent. No message of an exception holds what was refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from atoma_crypto.sdk._unset import UNSET
from atoma_crypto.sdk.models import Model

MAX_STOPS = 4


def check_number(name: str, value: object, low: float, high: float) -> None:
    """`low` to `high`, both included; None and UNSET are the model's own choice."""
    if value is None or value is UNSET:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number")
    if not low <= value <= high:  # true of a NaN too
        raise ValueError(f"{name} must be {low:g} to {high:g}")


def check_count(name: str, value: object, low: int) -> None:
    """A whole number from `low` on."""
    if value is None or value is UNSET:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be int")
    if value < low:
        raise ValueError(f"{name} must be {low} or more")


def check_text(name: str, value: object) -> None:
    """A string that must be given."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str")


def check_stop(value: object) -> None:
    """One string, or a list of up to four."""
    if value is None or value is UNSET or isinstance(value, str):
        return
    if not isinstance(value, list | tuple) or not all(isinstance(stop, str) for stop in value):
        raise TypeError("stop must be a string or a list of strings")
    if len(value) > MAX_STOPS:
        raise ValueError(f"stop must be up to {MAX_STOPS} sequences")


def check_messages(value: Sequence[object]) -> None:
    """A list of mappings or models."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping | BaseModel) for item in value):
        raise TypeError("messages must be a list of dicts or of ChatCompletionMessage")


def write_body(members: Mapping[str, object]) -> bytes:
    """Compact JSON in UTF-8 of all members that are set. ValueError: one cannot be written so."""
    written = []
    for name, value in members.items():
        if value is UNSET:
            continue
        text: bytes | None
        try:
            text = json.dumps(
                value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            ).encode()
        except (TypeError, ValueError, RecursionError):
            text = None
        if text is None:  # raised here, for the errors above quote the text
            raise ValueError(f"{name} cannot be written as JSON in UTF-8")
        written.append(b'"%b":%b' % (name.encode(), text))
    return b"{" + b",".join(written) + b"}"


def _plain(value: object) -> object:
    if isinstance(value, Model):  # what was not given is not sent, and what came goes back as it came
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, BaseModel):  # another's: its defaults say something
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
