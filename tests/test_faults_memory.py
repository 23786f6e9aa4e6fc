"""No memory, at every allocation: a session is usable or failed for good, no nonce is used twice, nothing is lost.

tests/faulty_cases.py and faulty_sessions.py have the operations and what must hold; each runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import atoma_crypto as ac
from faulty_cases import CASES
from programs import TESTS, run_program

SHORT: Final = [
    *("v1 seal_chunk, long", "v2 seal_chunks", "v1 next_event, first", "v2 open_request", "v1 close, client"),
    *("v2 seal_request", "keyring rotate", "X-Wing seal_request"),
]
# Where Rust's own code, of which `cryptography` is made, gets no memory from malloc, it ends the process.
WITHOUT_RUST: Final = [name for name in CASES if "X-Wing" not in name]
QUIETLY: Final = {"RUST_BACKTRACE": "0"}  # traces of its panics would take longer than all else
NOTHING_TO_FAIL: Final = {"v1 finish"}

HOOKED: Final = importlib.util.find_spec("_testcapi") is not None and hasattr(
    importlib.import_module("_testcapi"), "set_nomemory"
)
hooked = pytest.mark.skipif(not HOOKED, reason="this Python has no _testcapi.set_nomemory")
calls_are_free: Final = pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="a call needs memory here, so that after three failures wiping may be left to close()",
)

# CPython 3.12 and 3.13 crash by themselves where json has no memory, as this shows, in which there is nothing of ours.
PROBE: Final = """
import _testcapi, json
text = '{"v":2,"metadata":{"model":"m","id":42,"none":null,"sent_at":1763808745,"stream":false},"enc":"%s","c":"%s"}'
text %= ("A" * 44, "B" * 200)
for hook in (None, tuple):
    for at in [*range(120)] * 4:
        try:
            _testcapi.set_nomemory(at, at + 1)
            json.JSONDecoder(object_pairs_hook=hook, parse_int=lambda text: int(text)).decode(text)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
"""


@pytest.fixture(scope="module")
def sound_json() -> None:
    if HOOKED and run_program("-c", PROBE).returncode < 0:
        pytest.skip("this Python's own json crashes where it has no memory")


CC: Final = shutil.which(os.environ.get("CC", "cc"))
preloads = pytest.mark.skipif(
    CC is None or sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="glibc and a C compiler are needed to stand before malloc",
)

# Counts only in the thread that has armed it.
FAILING: Final = """
#include <errno.h>
#include <stddef.h>
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static long count, from, until;
static __thread int armed;
static int fails(void) {
  if (!armed || count++ < from || count > until) return 0;
  errno = ENOMEM;
  return 1;
}
void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return fails() ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void fault_arm(long first, long end) { count = 0; from = first; until = end; armed = 1; }
void fault_disarm(void) { armed = 0; }
"""


def assert_all_held(done: subprocess.CompletedProcess[str], names: list[str]) -> None:
    """What CPython prints meanwhile is its own: of a bytearray or a generator, say, that it could not end."""
    assert done.returncode == 0, done.stderr
    struck = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert list(struck) == names
    assert {name for name, points in struck.items() if points == "0"} <= NOTHING_TO_FAIL


@hooked
@pytest.mark.usefixtures("sound_json")
def test_python_has_no_memory() -> None:
    assert_all_held(run_program(str(TESTS / "faulty_memory.py"), "python", "1", *SHORT, env=QUIETLY), SHORT)


@hooked
@pytest.mark.usefixtures("sound_json")
@pytest.mark.long
@pytest.mark.parametrize("in_a_row", [1, pytest.param(3, marks=calls_are_free)])
def test_python_has_no_memory_anywhere(in_a_row: int) -> None:
    assert_all_held(run_program(str(TESTS / "faulty_memory.py"), "python", str(in_a_row), env=QUIETLY), list(CASES))


@preloads
@pytest.mark.usefixtures("sound_json")
@pytest.mark.long
def test_malloc_has_no_memory_anywhere(tmp_path: Path) -> None:
    """Python's, cffi's, libsodium's: all of them, as Python is told to ask malloc for everything."""
    source, library = tmp_path / "failing.c", tmp_path / "failing.so"
    source.write_text(FAILING)
    assert CC is not None
    subprocess.run([CC, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    env = {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "verify_asan_link_order=0"}
    done = run_program(str(TESTS / "faulty_memory.py"), "native", "1", *WITHOUT_RUST, env=env)
    assert_all_held(done, WITHOUT_RUST)


# What would be wrong, and where it must be noticed.
PLANTED: Final = {
    "v2 seal_chunk, long": "_state.Session._judge = lambda *_: None",  # goes on, one index ahead
    "v1 close, client": "_state.Session._free = lambda session: session._lock.acquire()",
    "v1 next_event, first": "client.ClientSession._fail = lambda _: None",
    "v2 open_request": "replay.MemoryReplayCache.admit = lambda *_: True",
    "keyring rotate": "keyring.NodeKeyring._keep = lambda self, ring, held, now: setattr(ring, 'held', held[:1])",
}


@hooked
@pytest.mark.usefixtures("sound_json")
@pytest.mark.long
@pytest.mark.parametrize("name", PLANTED)
def test_the_faults_that_it_must_find(name: str) -> None:
    code = (
        "import faulty_memory\nfrom atoma_crypto import _state, client, keyring, replay\n"
        f"{PLANTED[name]}\nfaulty_memory.main('python', 1, [{name!r}])"
    )
    done = run_program("-c", code)
    assert done.returncode != 0
    assert "AssertionError" in done.stderr


# ---- X-Wing's secrets, which pass through objects of Python ----------------------------------------------------------

SHARED: Final = "ML-KEM's secret, X-Wing's secret, scratch"
HPKE: Final = {"setup_sender": SHARED, "setup_recipient": SHARED, "from_bytes": "expanded seed"}
SESSIONS: Final = {"seal_request": SHARED, "open_request": SHARED}
in_rows: Final = pytest.mark.parametrize("in_a_row", [1, pytest.param(3, marks=[calls_are_free, pytest.mark.long])])


def assert_wiped(in_a_row: int, operations: dict[str, str]) -> None:
    done = run_program(str(TESTS / "faulty_secrets.py"), str(in_a_row), *operations, env=QUIETLY)
    assert done.returncode == 0, done.stderr
    seen = dict(line.split(": ") for line in done.stdout.splitlines())
    assert {name: text.partition(", ")[2] for name, text in seen.items()} == operations
    assert all(int(text.partition(", ")[0]) > 20 for text in seen.values()), seen


@hooked
@in_rows
def test_hpke_wipes_x_wings_secrets_where_there_is_no_memory(in_a_row: int) -> None:
    assert_wiped(in_a_row, HPKE)


@hooked
@pytest.mark.usefixtures("sound_json")
@in_rows
def test_sessions_wipe_x_wings_secrets_where_there_is_no_memory(in_a_row: int) -> None:
    assert_wiped(in_a_row, SESSIONS)


# Not done at all; done at the end of what goes well; done in a way that needs memory.
UNWIPED: Final = {
    "setup_recipient: ML-KEM's": "_xwing._wipe = lambda *_: None",
    "setup_sender: scratch": "_core.Scratch.wipe = lambda _: None",
    "from_bytes: expanded seed": "_xwing._wipe = lambda secret, n: _core.lib.ac_wipe(_core.ffi.from_buffer(secret), n)",
}


@hooked
@pytest.mark.parametrize("name", UNWIPED)
def test_secrets_that_are_left_are_found(name: str) -> None:
    operation, what = name.split(": ")
    code = (
        "import faulty_secrets\nfrom atoma_crypto import _core, _xwing\n"
        f"{UNWIPED[name]}\nfaulty_secrets.main(1, [{operation!r}])"
    )
    done = run_program("-c", code, env=QUIETLY)
    assert done.returncode != 0
    assert re.search(f"AssertionError: {operation}, allocation [0-9]+: .*{what}", done.stderr), done.stderr


def test_what_a_store_could_not_note_was_not_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def heappush(*_: object) -> None:
        raise MemoryError

    store = ac.MemoryReplayCache(fresh_key=True)
    with monkeypatch.context() as patch:
        patch.setattr("heapq.heappush", heappush)
        with pytest.raises(MemoryError):
            store.admit(bytes(32), 2.0**40)
    assert len(store) == 0
    assert store.admit(bytes(32), 2.0**40)
