"""Calls the real `atoma-sdk`, inside that package's own environment; `tests/test_interop_sdk.py` starts it.

One job a line on stdin: {"url", "method", "arguments"}. One answer a line on stdout: {"read": what the SDK
returned, members that were not sent left out} or {"error": its class and text}.
"""

import asyncio
import json
import sys
from typing import Any

from atoma_sdk import AtomaSDK  # type: ignore[import-not-found, unused-ignore]  # lives in its own environment


def _plain(result: Any) -> Any:
    return result.model_dump(mode="json", exclude_unset=True)


async def _asynchronous(sdk: Any, method: str, arguments: dict[str, Any]) -> Any:
    result = await getattr(sdk.confidential_chat, method)(**arguments)
    if method == "create_async":
        return _plain(result)
    return [_plain(event)["data"] async for event in result]


def _run(url: str, method: str, arguments: dict[str, Any]) -> Any:
    sdk = AtomaSDK(bearer_auth="any", server_url=url)
    if method.endswith("_async"):
        return asyncio.run(_asynchronous(sdk, method, arguments))
    result = getattr(sdk.confidential_chat, method)(**arguments)
    return _plain(result) if method == "create" else [_plain(event)["data"] for event in result]


def main() -> None:
    for line in sys.stdin:
        try:
            answer = {"read": _run(**json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
