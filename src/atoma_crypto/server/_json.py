"""JSON from outside, read strictly."""

from __future__ import annotations

from atoma_crypto._envelope import load_members, load_object


def read_object(text: bytes | bytearray) -> dict[str, object]:
    """Read one JSON object in UTF-8. Raises ValueError for anything else, with no word of what it was.

    An object whose own members are not all different is refused too: of two readers one could take the first
    and the other the last.
    """
    raw = bytes(text)
    members = len(load_members(raw, "the text", ValueError))  # alone: each of the two may take many times the text
    found = load_object(raw, "the text", ValueError)
    if len(found) != members:
        raise ValueError("a member stands twice")
    return found
