"""The middleware's example and its page run as they stand there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serving import Client, opened, request_body, serving

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def said_to(client: Client, *, stream: bool) -> str:
    """Say Hello, and hear what is said back."""
    assert client.lock().status_code == 200
    session, response = client.ask(request_body(stream=stream))
    assert response.status_code == 200
    if not stream:
        return str(json.loads(session.open_response(response.content))["choices"][0]["message"]["content"])
    said = [json.loads(event.plaintext)["choices"][0]["delta"] for event in opened(session, response.content)]
    return "".join(delta.get("content", "") for delta in said)


def talks(command: list[str], port: int, **env: str) -> None:
    """Whether what is started so is a node, and takes nothing in clear."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | env) as process:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            with Client(f"http://127.0.0.1:{port}") as client:
                assert said_to(client, stream=False) == "Hello"
                assert said_to(client, stream=True) == "Hello "
                assert client.http.post("/v1/chat/completions", json={}).status_code == 403
        finally:
            process.terminate()


def test_the_example_runs() -> None:
    port = free_port()
    talks([sys.executable, str(EXAMPLES / "fastapi_node.py"), str(port)], port)


# In place of vLLM, which needs a GPU: it takes the same options, and adds a middleware as vLLM's own server does.
VLLM = """#!{python}
import argparse, importlib, inspect, runpy, uvicorn
parser = argparse.ArgumentParser()
parser.add_argument("serve", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--port", type=int)
parser.add_argument("--middleware", action="append")
given = parser.parse_args()
app = runpy.run_path({program!r})["app"]
app.user_middleware.clear()  # the example's own
for name in given.middleware:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(found)
    app.add_middleware(found)
uvicorn.run(app, port=given.port)
"""


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_vllm_s_command_line(tmp_path: Path) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text(VLLM.format(python=sys.executable, program=str(EXAMPLES / "fastapi_node.py")))
    vllm.chmod(0o755)
    port = free_port()
    command = ["sh", str(EXAMPLES / "vllm_node.sh"), "m", str(port)]
    talks(command, port, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_the_node_of_the_middleware_s_page_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "asgi.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "asgi.md", "exec"), names)  # noqa: S102 - that is the test
    with serving(names["app"]) as url, Client(url) as client:
        assert said_to(client, stream=False) == "You said: Hello"


def test_the_middleware_can_be_named_on_a_command_line() -> None:
    """As vLLM does it: the name is imported, and the class is added without arguments."""
    from importlib import import_module

    from fastapi import FastAPI

    named = re.findall(r"--middleware (\S+)", (ROOT / "docs" / "asgi.md").read_text(encoding="utf-8"))
    assert named
    for name in named:
        module, _, attribute = name.rpartition(".")
        app = FastAPI()
        app.add_middleware(getattr(import_module(module), attribute))
        with serving(app) as url, Client(url) as client:
            assert client.lock().status_code == 200
