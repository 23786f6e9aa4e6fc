"""The openai client behind a router in the middle: what its user gets of an answer, and what is raised."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from confidential_node import chat, openai_client
from middle import Middle
from serving import CANARY

SECRET_ANSWER: Final = "marmalade-canary-9052"  # noqa: S105 - it is what must not be seen


def ask(middle: Middle, kind: str, *, stream: bool, **options: Any) -> tuple[list[str], BaseException | None]:
    """The content of each chunk that a client has got, or the id of the whole answer; and what was raised."""
    got: list[str] = []

    async def run() -> None:
        async with openai_client(kind, middle.url, **options) as client:
            messages = [{"role": "user", "content": CANARY}]
            if not stream:
                got.append((await chat(client, messages=messages)).id)
                return
            chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
            if hasattr(chunks, "__await__"):
                async for chunk in await chunks:
                    got.extend(choice.delta.content or "" for choice in chunk.choices)
            else:
                for chunk in chunks:
                    got.extend(choice.delta.content or "" for choice in chunk.choices)

    try:
        asyncio.run(run())
    except Exception as error:  # noqa: BLE001 - whatever a client's user would see
        return got, error
    return got, None


def assert_tells_nothing(error: BaseException | None) -> None:
    """Neither the error nor any that it came from holds a word of what was said."""
    while error is not None:
        told = f"{error!s} {error!r} {error.args!r} {vars(error)!r}"
        assert CANARY not in told
        assert SECRET_ANSWER not in told
        assert error.__cause__ is None or error.__cause__ is error.__context__
        error = error.__context__
