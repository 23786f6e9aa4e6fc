"""`atoma-crypto doctor`: what this installation is made of, and whether it works here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atoma_crypto as ac
from atoma_crypto import _core, hazmat
from atoma_crypto._typing import Protocol, Suite
from atoma_crypto.server.keyfile import read_secret_key

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_PACKAGES = ("atoma-crypto", "cffi", "pynacl")
# Each extra, and what it brings.
_EXTRAS = {
    "httpx": ("httpx",),
    "httpx2": ("httpx2",),
    "asgi": ("anyio", "starlette"),
    "sdk": ("httpx", "pydantic"),
    "server": ("anyio", "httpx", "prometheus_client", "starlette", "uvicorn"),
    "pq": ("cryptography",),
    "redis": ("redis",),
    "cli": ("anyio", "h11", "httpx", "prometheus_client", "rich", "starlette", "uvicorn"),
}
_GOOD = "good"
_ADMITTED_SECONDS = 600  # so that a store that was started just now takes it, too
_PLAINTEXT, _AAD = bytes(range(256)) * 4, b"atoma-crypto"


def add_parser(subparsers: SubParsers) -> None:
    """Add `doctor` to the sub-commands."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this installation is made of, and test it",
        description="Show versions, CPU features, AES backends and extras, and test what must hold on this machine. "
        "The exit status is 0 if all of it does, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--key", metavar="FILE", type=Path, help="also see whether a node could read this key file")
    parser.add_argument(
        "--replay",
        metavar="URL",
        default=os.environ.get("ATOMA_CRYPTO_REPLAY"),
        help="also admit a request at this Redis, once and not twice (ATOMA_CRYPTO_REPLAY)",
    )
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Examine it. Returns 1 if something is wrong."""
    found: dict[str, Any] = {
        "versions": _versions(),
        "aes": {
            "backend": hazmat.aes_backend(),
            "usable": list(hazmat.aes_backends()),
            "chosen by environment": bool(os.environ.get("ATOMA_CRYPTO_AES_BACKEND")),
        },
        "cpu": _cpu(),
        "extras": {name: _extra(modules) for name, modules in _EXTRAS.items()},
        "checks": {name: _outcome(check) for name, check in _checks(arguments)},
    }
    healthy = all(outcome == _GOOD for outcome in found["checks"].values())
    found["healthy"] = healthy
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if arguments.json else "".join(_lines(found)))
    return 0 if healthy else 1


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for section, values in found.items():
        if not isinstance(values, dict):
            continue
        yield f"{section}\n"
        for name, value in values.items():
            shown = value
            if isinstance(value, list):
                shown = ", ".join(value)
            elif isinstance(value, bool):
                shown = "yes" if value else "no"
            yield f"  {name:<24} {shown}\n"
    yield "all is well\n" if found["healthy"] else "something is wrong\n"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # noqa: PERF203 - three of them; run from a source tree
            found[name] = ac.__version__ if name == "atoma-crypto" else "unknown"
    found["libsodium"] = _libsodium()
    threads = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with a GIL"
    found["python"] = f"{platform.python_version()} ({platform.python_implementation()}, {threads})"
    found["system"] = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return found


def _libsodium() -> str:
    """PyNaCl has no function that tells it; its change log, newest first, says what its wheels bundle."""
    with suppress(PackageNotFoundError):
        told = re.search(r"libsodium`* to (\d+\.\d+\.\d+[\w-]*)", distribution("pynacl").read_text("METADATA") or "")
        if told:
            return f"{told[1]}, by PyNaCl's change log"
    return "unknown"


def _cpu() -> dict[str, str]:
    masked = set(os.environ.get("ATOMA_CRYPTO_CPU_MASK", "").split(","))
    return {
        name: "yes" if usable else "masked by ATOMA_CRYPTO_CPU_MASK" if name in masked else "no"
        for name, usable in _core.cpu_features().items()
    }


def _extra(modules: tuple[str, ...]) -> str:
    missing = [name for name in modules if find_spec(name) is None]
    return f"not installed: {', '.join(missing)} missing" if missing else "installed"


# ---- checks ---------------------------------------------------------------------------------------------------------


def _checks(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "self-test at start", lambda: _must(_core.self_test_failure() == "")  # else nothing would have started
    yield "backends agree", _backends
    yield "both ends, v1", lambda: _exchange("v1")
    yield "both ends, v2", lambda: _exchange("v2")
    with suppress(ImportError):
        ac.SecretKey.generate("X-Wing").close()  # is the extra there, and new enough?
        yield "both ends, v2 X-Wing", lambda: _exchange("v2", "X-Wing")
    if hasattr(os, "fork"):
        yield "fork is noticed", _fork  # while there is no other thread, or Python warns of it
    yield "threads are kept apart", _threads
    if arguments.key is not None:
        yield "key file", lambda: read_secret_key(arguments.key).close()
    if arguments.replay is not None:
        yield "replay store", lambda: _replay_store(arguments.replay)


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except (OSError, ValueError, ac.ReplayStoreError) as error:  # of what was named, and says what is to be done
        return f"{error}"
    except ModuleNotFoundError as missing:
        return f"{missing.name} is missing"
    except Exception as error:  # noqa: BLE001 - whatever it is, the installation is what is wrong
        return f"failed: {type(error).__name__}"
    return _GOOD


def _must(holds: bool) -> None:
    if not holds:
        raise ac.NativeError("a check does not hold")


def _backends() -> None:
    """Each seals what the others open, and none opens what was changed."""
    sealed = set()
    for name in hazmat.aes_backends():
        aes = _core.Aes256Gcm(bytes(range(32)), backend=name)
        message = aes.seal(bytes(12), _PLAINTEXT, _AAD)
        sealed.add(message)
        _must(aes.open(bytes(12), message, _AAD) == _PLAINTEXT)
        try:
            aes.open(bytes(12), bytes([message[0] ^ 1]) + message[1:], _AAD)
        except ac.AuthenticationError:
            continue
        _must(False)
    _must(len(sealed) == 1)


def _pair(protocol: Protocol = "v1", suite: Suite = "X25519") -> tuple[ac.ClientSession, ac.NodeSession]:
    with ac.NodeKeyring(suites=(suite,)) as keys:
        key = keys.offers()[0 if protocol == "v1" else 1].public_key
        client = ac.ClientSession(key, model="doctor", stack_small_id=0, protocol=protocol)
        node = ac.NodeSession(keys)
        envelope = client.seal_request(b'{"stream":true}', stream=True)
        keys.rotate(protocol, suite)
        _must(node.open_request(envelope).body == b'{"stream":true}')
    return client, node


def _exchange(protocol: Protocol, suite: Suite = "X25519") -> None:
    client, node = _pair(protocol, suite)
    with client, node:
        client.receive_data(node.seal_chunks([b"one", b"two"]) + node.seal_chunk(_PLAINTEXT) + node.finish())
        client.receive_eof()
        *events, end = client.events()
        chunks = [event.plaintext for event in events if isinstance(event, ac.Chunk)]
        _must(chunks == [b"one", b"two", _PLAINTEXT] and isinstance(end, ac.EndOfStream))


def _replay_store(url: str) -> None:
    """It admits once, and not twice. What this leaves there goes by itself."""
    from atoma_crypto.adapters.redis import RedisReplayCache  # noqa: PLC0415 - the extra may be missing

    with closing(RedisReplayCache(url)) as cache:
        request_id, expires_at = os.urandom(32), time.time() + _ADMITTED_SECONDS
        _must(cache.admit(request_id, expires_at) and not cache.admit(request_id, expires_at))


def _threads() -> None:
    """A second thread is refused while one is inside."""
    client, node = _pair()
    refused = []

    def enter() -> None:
        try:
            node.finish()
        except ac.ConcurrentUseError:
            refused.append(True)

    with client, node, node._lock:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    _must(refused == [True])


def _fork() -> None:
    """A child cannot seal with its parent's nonces, and the parent goes on."""
    client, node = _pair()
    with client, node:
        child = os.fork()
        if child == 0:  # it leaves without a trace, whatever happens
            status = 1
            try:
                node.seal_chunk(b"x")
            except ac.LocalProtocolError:
                status = 0
            finally:
                os._exit(status)
        _must(os.waitpid(child, 0)[1] == 0)
        client.receive_data(node.seal_chunk(b"x"))
        event = client.next_event()
        _must(isinstance(event, ac.Chunk) and event.plaintext == b"x")
