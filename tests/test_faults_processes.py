"""Forks around every operation, the end of an interpreter with live sessions, and sub-interpreters.

Each is a program of its own. tests/test_threads_fork.py and test_v2_threads_fork.py say in detail what a child is told.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Final

import pytest

from programs import run_program

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() on this system")


def run(code: str, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run_program(*options, "-c", code, env=env)


def assert_silent(done: subprocess.CompletedProcess[str], said: str = "done\n") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


# ---- fork -----------------------------------------------------------------------------------------------------------

# A child before each operation and one behind it; it does what its parent does, and shows what it was given.
FORKED: Final = """
import os, pickle, sys
import atoma_crypto as ac
from faulty_cases import CASES
from helpers import SessionPair

SEALS = ("seal", "finish", "abort", "Sealer", "HPKEContext.seal")
REFUSED = {refused}

def in_child(work):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(write, pickle.dumps(work()))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as pipe:
        given = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, name
    return pickle.loads(given)

def child():
    given = error = None
    try:
        given = case.call()
    except ac.AtomaCryptoError as exc:
        error = type(exc).__name__
    case.close()
    own = SessionPair(node={{"replay_cache": ac.MemoryReplayCache(fresh_key=True)}}, protocol="v2")
    own.client.receive_data(own.node.seal_chunk(b"x") + own.node.finish())
    assert len(list(own.client.events())) == 2
    return (given if isinstance(given, bytes) else None), error

seals = 0
for name, make in CASES.items():
    for before in (True, False):
        case = make()
        if before:
            theirs, error = in_child(child)
        given = case.call()
        if not before:
            theirs, error = in_child(child)
        if "seal_request" in name:  # what a client seals to a node is under a key that it draws then
            assert theirs is None or theirs != given, name
        elif any(word in name for word in SEALS) and name != "v1 finish":
            seals += 1
            assert theirs is None, name
            assert error == REFUSED, (name, error)
        case.check(given)
        case.close()
assert seals >= 30, seals
print("done")
"""


@forks
def test_a_fork_before_and_behind_every_operation() -> None:
    assert_silent(run(FORKED.format(refused="'LocalProtocolError'"), "-W", "error"))


@forks
@pytest.mark.long
def test_a_child_that_is_not_refused_is_noticed() -> None:
    done = run(FORKED.format(refused="'Another'"), "-W", "error")
    assert done.returncode != 0
    assert "AssertionError: ('v1 seal_chunk, first', 'LocalProtocolError')" in done.stderr


# The child is made while a thread is inside the core, and in the middle of an iterator that a batch is taken from.
INSIDE: Final = """
import os, sys, threading
from collections.abc import Sequence
import atoma_crypto as ac
from helpers import SessionPair, native
from programs import in_child

LIMITS = {"limits": ac.Limits(max_event_bytes=64 << 20)}
TEXT = bytes(16 << 20)

def refused():
    for _ in range(2):
        try:
            pair.node.seal_chunk(b"child")
        except ac.LocalProtocolError:
            pass
        else:
            raise AssertionError("sealed")
    pair.node.close()
    assert not any(bytes(ac._core.ffi.buffer(ac._core.ffi.addressof(native(pair.node), "aes"))))

for protocol in ("v1", "v2"):
    for attempt in range(50):
        pair, made = SessionPair(protocol=protocol, client=LIMITS, node=LIMITS), []
        thread = threading.Thread(target=lambda: made.append(pair.node.seal_chunk(TEXT)))
        thread.start()
        while thread.is_alive() and not native(pair.node).busy:
            pass
        inside = native(pair.node).busy
        in_child(refused)
        thread.join()
        pair.client.receive_data(made[0] + pair.node.seal_chunk(b"more"))
        assert [len(chunk.plaintext) for chunk in pair.client.events()] == [len(TEXT), 4]
        if inside:
            break
    else:
        raise AssertionError("no thread was inside")

    class Forking(Sequence):
        def __len__(self):
            return 2
        def __getitem__(self, at):
            if at == 1:
                in_child(refused)
            return [b"a", b"b"][at]

    pair = SessionPair(protocol=protocol)
    pair.client.receive_data(pair.node.seal_chunks(Forking()))
    assert [chunk.plaintext for chunk in pair.client.events()] == [b"a", b"b"]
print("done")
"""


@forks
def test_a_fork_while_a_thread_is_inside_and_in_the_middle_of_a_batch() -> None:
    assert_silent(run(INSIDE, "-W", "ignore::DeprecationWarning"))


# ---- the end of the interpreter -------------------------------------------------------------------------------------

ENDING: Final = {
    "globals": "pass",
    "cycles": "ring = [pair]; ring.append(ring)",
    "atexit": """
import atexit
def at_the_end():
    pair.client.receive_data(pair.node.seal_chunk(b"late") + pair.node.finish())
    assert len(list(pair.client.events())) == (2 if pair.protocol == "v2" else 1)
atexit.register(at_the_end)
""",
    "__del__": """
class Late:
    def __init__(self, pair):
        self.pair, self.chunk = pair, pair.node.seal_chunk
    def __del__(self, refused=ac.LocalProtocolError):
        try:
            self.chunk(b"late")
        except refused:
            pass  # what goes in one heap may have been wiped already, and the core knows it
        self.pair.node.close()
late = Late(pair)
""",
    "daemon in the core": """
import threading
started = threading.Event()
def work():
    key, text = hazmat.AES256GCM(bytes(32)), bytes(4 << 20)
    while True:
        key.seal(bytes(12), text)
        pair.node.seal_chunk(b"x" * 1000)
        started.set()
threading.Thread(target=work, daemon=True).start()
started.wait()
""",
    "iterator": """
pair.client.receive_data(pair.node.seal_chunks([b"x"] * 9))
events = pair.client.events()
next(events)
""",
}


@pytest.mark.parametrize("debug", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("protocol", [pytest.param("v1", marks=pytest.mark.long), "v2"])
@pytest.mark.parametrize("how", ENDING)
def test_the_interpreter_ends_with_live_sessions(how: str, protocol: str, debug: bool) -> None:
    code = f"""
import atoma_crypto as ac
from atoma_crypto import hazmat
from helpers import SessionPair
pair = SessionPair(protocol={protocol!r})
keys, ring = ac.SigningKey.generate(), ac.NodeKeyring()
sender = hazmat.hpke_setup_sender(bytes(32 * [9]), b"")
{ENDING[how]}
print("done")
"""
    options = ("-X", "dev") if debug else ()
    assert_silent(run(code, *options, env={"PYTHONMALLOC": "debug"} if debug else None))


def test_an_end_that_is_not_silent_is_noticed() -> None:
    done = run("class Late:\n def __del__(self): raise ValueError\nlate = Late()\nprint('done')")
    assert done.stderr != ""


# ---- sub-interpreters -----------------------------------------------------------------------------------------------

WITHIN: Final = """
import sys
sys.path[:0] = {path!r}
import os
import atoma_crypto as ac
key = ac.SecretKey.generate()
for protocol in ("v1", "v2"):
    client = ac.ClientSession(key.public_key, model="m", stack_small_id=1, protocol=protocol)
    node = ac.NodeSession(key)
    node.open_request(client.seal_request(b'{{"stream":true}}', stream=True))
    client.receive_data(node.seal_chunk(b"x"))
    assert client.next_event() == (b"x", 0, None)
print("exchanged", flush=True)
"""

INTERPRETERS: Final = """
import sys
import atoma_crypto as ac
from helpers import SessionPair
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
pair = SessionPair(protocol="v2")
for own_gil in {own!r}:
    if sys.version_info >= (3, 13):
        one = interpreters.create("isolated" if own_gil else "legacy")
    else:
        one = interpreters.create(isolated=own_gil)
    try:
        failed = interpreters.run_string(one, {within!r})
    except Exception as exc:
        failed = exc
    if failed is not None:
        assert "ImportError" in repr(failed) + str(failed), failed
        print("ImportError" if "does not support loading in subinterpreters" in repr(failed) + str(failed) else failed)
    interpreters.destroy(one)
pair.client.receive_data(pair.node.seal_chunk(b"x") + pair.node.finish())
assert len(list(pair.client.events())) == 2
"""


@pytest.mark.skipif(
    not (find_spec("_interpreters") or find_spec("_xxsubinterpreters")), reason="this Python has no sub-interpreters"
)
@pytest.mark.parametrize("own_gil", [True, False])
def test_a_sub_interpreter_works_or_is_refused(own_gil: bool) -> None:
    """From 3.12 on one with a GIL of its own is refused: cffi, which PyNaCl and we stand on, does not support it."""
    within = WITHIN.format(path=[path for path in sys.path if path])
    said = "ImportError\n" if own_gil and sys.version_info >= (3, 12) else "exchanged\n"
    assert_silent(run(INTERPRETERS.format(own=[own_gil], within=within), "-W", "ignore"), said)
