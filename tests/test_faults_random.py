"""The kernel gives no random bytes: the process dies, or an error is raised, and nothing was made without them.

Linux alone: a seccomp filter refuses system calls. libsodium's randombytes cannot report, nor can its place in the
core's table: it ends the process (SIGABRT) rather than give bytes that are not random.
"""

from __future__ import annotations

import platform
import signal
import sys
from typing import Final

import pytest

from programs import TESTS, run_program

CALLS: Final = {"x86_64": (0xC000003E, 318, 257, 2), "aarch64": (0xC00000B7, 278, 56, 56)}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in CALLS, reason="no seccomp filter is written for this machine"
)

# Refuses getrandom, and open and openat if asked, from here on in this process; `failing` says with which errno.
FILTER: Final = """
import ctypes, errno, os, struct, sys
sys.path.insert(0, {tests!r})

def refuse(failing, opening):
    arch, getrandom, openat, open_ = {calls!r}
    refused = [getrandom] + [openat, open_] * opening
    def op(code, true, false, k):
        return struct.pack("HBBI", code, true, false, k)
    program = [op(0x20, 0, 0, 4), op(0x15, 1, 0, arch), op(6, 0, 0, 0x7fff0000), op(0x20, 0, 0, 0)]
    for at, number in enumerate(refused):
        program.append(op(0x15, len(refused) - at, 0, number))
    program += [op(6, 0, 0, 0x7fff0000), op(6, 0, 0, 0x00050000 | failing)]
    code = b"".join(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    class Prog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    prog = Prog(len(program), ctypes.addressof(buffer))
    if libc.prctl(22, 2, ctypes.byref(prog), 0, 0) != 0:
        print("no seccomp here:", os.strerror(ctypes.get_errno()))
        os._exit(0)
"""

# Each in a child of its own: `made` is printed if it comes back with something.
EACH: Final = """
import atoma_crypto as ac
from atoma_crypto import hazmat
from helpers import STREAM_BODY, new_client, new_node, node_key
requests = {{
    protocol: new_client(protocol=protocol).seal_request(STREAM_BODY, stream=True) for protocol in ("v1", "v2")
}}
xwing = node_key("X-Wing").public_key
calls = {{
    "SecretKey.generate": ac.SecretKey.generate,
    "SecretKey.generate, X-Wing": lambda: ac.SecretKey.generate("X-Wing"),
    "SigningKey.generate": ac.SigningKey.generate,
    "NodeKeyring": ac.NodeKeyring,
    "v1 seal_request": lambda: new_client().seal_request(STREAM_BODY, stream=True),
    "v2 seal_request": lambda: new_client(protocol="v2").seal_request(STREAM_BODY, stream=True),
    "X-Wing seal_request": lambda: new_client(protocol="v2", suite="X-Wing").seal_request(STREAM_BODY, stream=True),
    "v1 open_request": lambda: new_node().open_request(requests["v1"]),
    "v2 open_request": lambda: new_node(replay_cache=ac.MemoryReplayCache(fresh_key=True)).open_request(requests["v2"]),
    "Sealer": lambda: ac.Sealer(bytes(32), bytes(32)),
    "hpke_setup_sender": lambda: hazmat.hpke_setup_sender(bytes(node_key().public_key), b""),
    "hpke_setup_sender, X-Wing": lambda: hazmat.hpke_setup_sender(bytes(xwing), b"", suite="X-Wing"),
}}
for name, call in calls.items():
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        if {failing}:
            refuse({failing}, {opening})
        status = 3
        try:
            call()
            status = 0
        except BaseException:
            pass
        os._exit(status)
    print(name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sep=": ")
"""


def run(code: str, **names: object) -> dict[str, int]:
    code = (FILTER + code).format(tests=str(TESTS), calls=CALLS[platform.machine()], **names)
    done = run_program("-c", code)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("no seccomp"):
        pytest.skip(done.stdout)
    return {name: int(status) for name, status in (line.split(": ") for line in done.stdout.splitlines())}


@pytest.mark.parametrize(("failing", "opening"), [(1, False), (38, True)])  # EPERM, ENOSYS
def test_nothing_is_made_without_random_bytes(failing: int, opening: bool) -> None:
    ended = run(EACH, failing=failing, opening=opening)
    assert len(ended) == 12
    for name, status in ended.items():
        assert status in ((-signal.SIGABRT, 3) if "X-Wing" in name else (-signal.SIGABRT,)), ended


def test_the_same_with_them() -> None:
    assert set(run(EACH, failing=0, opening=False).values()) == {0}


# libsodium looks for its source when it is set up, which importing nacl.bindings does, and then we do.
IMPORTED: Final = """
from nacl import _sodium
pid = os.fork()
if pid == 0:
    refuse(38, {opening})
    if {opening}:
        _sodium.lib.sodium_init()
    import atoma_crypto as ac
    ac.SecretKey.generate()
    os._exit(0)
print("import", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sep=": ")
"""


def test_without_the_system_call_the_device_is_read() -> None:
    assert run(IMPORTED, opening=False) == {"import": 0}


def test_without_both_it_is_not_set_up() -> None:
    assert run(IMPORTED, opening=True) == {"import": -signal.SIGABRT}
