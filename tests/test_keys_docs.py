"""The code of docs/replay.md runs as it stands there; that of docs/keys.md in test_cli_keys, with the command."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

import atoma_crypto as ac
from helpers import REPLY_BODY
from redis_server import RedisServer, needs_redis

ROOT: Final = Path(__file__).resolve().parent.parent


@needs_redis
def test_the_docs_own_store_runs() -> None:
    text = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with RedisServer() as server:
        names: dict[str, Any] = {}
        exec(compile(program.replace("redis://127.0.0.1:6379", server.url), "replay.md", "exec"), names)  # noqa: S102 - that is the test
        client = ac.ClientSession(names["key"].public_key, model="m", stack_small_id=1, protocol="v2")
        envelope = client.seal_request(REPLY_BODY, stream=False)
        with pytest.raises(ac.ReplayStoreError, match="a store before this one"):
            names["node"].open_request(envelope)
        server.age()
        for answer in (None, ac.ReplayedError):
            node = ac.NodeSession(names["key"], replay_cache=names["store"])
            if answer is None:
                assert node.open_request(envelope).body == REPLY_BODY
            else:
                with pytest.raises(answer):
                    node.open_request(envelope)
        names["store"].close()


def test_what_the_docs_say_of_arguments_and_offers() -> None:
    text = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    arguments = set(inspect.signature(ac.NodeKeyring).parameters)
    for name in (*arguments, *set(ac.KeyOffer._fields) - {"protocol", "public_key"}, "key_id"):
        assert f"| `{name}` |" in text
