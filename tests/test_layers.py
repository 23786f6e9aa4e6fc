"""The arrow points down: who may import and include whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "src" / "atoma_crypto"
MODULES: Final = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
CSRC: Final = ROOT / "csrc"
C_FILES: Final = sorted(path.name for path in CSRC.glob("*.[ch]"))

# The line that a module stands in; what is not named here is HTTP's or the command's, on top. Errors, types and the
# values that sessions give are everybody's. _opener hands the codecs what the core leaves to them.
LINES: Final = {
    "_errors": 0,
    "_typing": 0,
    "_events": 0,
    "_native": 2,
    "_core": 3,
    "_attested": 4,
    "_keys": 4,
    "_xwing": 4,
    "replay": 4,  # knows nothing but errors, and a key carries its store
    "hazmat": 4,
    "_envelope": 5,
    "_envelope_v2": 5,
    "_sse": 5,
    "_opener": 5,
    "_opener_v1": 5,
    "_opener_v2": 5,
    "_padding": 5,
    "_sealer": 5,
    "_sealer_v1": 5,
    "_sealer_v2": 5,
    "_v2": 5,
    "records": 5,
    "_state": 6,
    "client": 6,
    "_offers": 6,
    "keyring": 6,
    "attestation": 6,
    "attestation._binding": 6,
    "attestation._chain": 6,
    "attestation._combined": 6,
    "attestation._guard": 6,
    "attestation._nvidia": 6,
    "attestation._policies": 6,
    "attestation._providers": 6,
    "attestation._snp": 6,
    "attestation._tdx": 6,
    "attestation._tdx_policy": 6,
    "attestation._values": 6,
    "attestation._vcek": 6,
    "attestation._wire": 6,
    "attestation.policy_file": 7,
    "node": 6,
    "__init__": 6,
}
TOP: Final = 7
# What belongs to no layer but the top: sockets, servers, processes, printing and logs.
ONLY_ON_TOP: Final = {"anyio", "argparse", "asyncio", "fastapi", "http", "httpx", "httpx2", "logging", "openai"}
ONLY_ON_TOP.update(("prometheus_client", "pydantic", "rich", "select", "selectors", "socket", "socketserver", "ssl"))
ONLY_ON_TOP.update(("starlette", "subprocess", "tomli", "tomllib", "urllib", "uvicorn"))
# Which modules below the top may ask for an extra, when they are used and not when they are imported.
EXTRAS: Final = {
    "_xwing": {"cryptography"},
    "attestation._binding": {"blake3"},
    "attestation._chain": {"cryptography"},  # imported by what says so if it is missing
    "attestation._nvidia": {"blake3"},
    "attestation._tdx": {"dcap_qvl"},
    "attestation._vcek": {"cryptography"},
}
ONLY_IN_CORE: Final = frozenset(("nacl", "cffi", "_cffi_backend", "ctypes"))


def name_of(path: Path) -> str:
    """`client`, or `server.node`; the package itself is `__init__`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1]) if parts[-1] == "__init__" and len(parts) > 1 else ".".join(parts)


def line_of(name: str) -> int:
    return LINES.get(name, TOP)


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Each import anywhere in the file: the name, and whether it is one of the package's own modules."""
    inside = {name_of(module) for module in MODULES} | {"_native"}
    package = path.parent.parts
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = ("atoma_crypto", *package)[: len(package) + 2 - node.level] if node.level else ()
            base = ".".join((*up, *((node.module,) if node.module else ())))
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            own, _, rest = target.partition(".")
            if own != "atoma_crypto":
                yield own, False
                continue
            while rest and rest not in inside:  # down to the module that the name is taken from
                rest = rest.rpartition(".")[0]
            yield rest or "__init__", True


def test_every_module_has_its_line() -> None:
    names = {name_of(path) for path in MODULES}
    assert set(LINES) - {"_native"} <= names
    beside = {name for name in names if name not in LINES}
    assert {name.partition(".")[0] for name in beside} <= {"adapters", "server", "sdk", "cli", "__main__"}


def test_imports_are_found() -> None:
    """Else the tests below would pass over an empty list."""
    assert ("_native", True) in set(imports_of(Path("_core.py")))
    assert ("nacl", False) in set(imports_of(Path("_core.py")))
    assert {("_envelope", True), ("_core", True)} <= set(imports_of(Path("_opener_v1.py")))
    assert ("_opener_v1", True) in set(imports_of(Path("client.py")))
    assert any(own and line_of(name) < TOP for name, own in imports_of(Path("server/node.py")))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down_or_sideways(path: Path) -> None:
    mine = line_of(name_of(path))
    upward = [name for name, own in imports_of(path) if own and line_of(name) > mine]
    assert upward == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_the_core_knows_c(path: Path) -> None:
    foreign = {name for name, own in imports_of(path) if name in ONLY_IN_CORE or (own and name == "_native")}
    assert foreign == ({"nacl", "_native"} if name_of(path) == "_core" else set())


@pytest.mark.parametrize("path", [path for path in MODULES if line_of(name_of(path)) < TOP], ids=str)
def test_http_and_logs_live_on_top_only(path: Path) -> None:
    assert {name for name, own in imports_of(path) if not own} & ONLY_ON_TOP == set()


def test_codecs_know_no_keys() -> None:
    for name in ("_envelope", "_envelope_v2", "_padding", "_sse"):
        own = {target for target, inside in imports_of(Path(f"{name}.py")) if inside}
        assert own <= {"_envelope", "_errors", "_typing"}


def test_the_core_depends_on_nothing_else() -> None:
    """Whoever installs the library without extras gets all of it below the top."""
    allowed = {"__future__", "abc", "nacl", "array", "base64", "binascii", "collections", "dataclasses", "datetime"}
    allowed |= {"enum", "errno", "hashlib", "heapq", "itertools", "json", "math", "os", "pathlib", "re", "secrets"}
    allowed |= {"sys", "threading", "time", "types", "typing", "warnings", "zlib"}
    for path in MODULES:
        if line_of(name_of(path)) < TOP:
            foreign = {name for name, own in imports_of(path) if not own}
            assert foreign - EXTRAS.get(name_of(path), set()) <= allowed, path


def test_extras_are_imported_when_they_are_used() -> None:
    code = "import sys, atoma_crypto, atoma_crypto.hazmat; print(sorted({'cryptography', 'redis'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n", "")


# ---- C ----------------------------------------------------------------------------------------------------------


def text_of(name: str) -> str:
    return (CSRC / name).read_text(encoding="utf-8")


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", C_FILES)
def test_includes(name: str) -> None:
    """Files of the core meet in one header; the contract needs no other than C's own."""
    own = set(re.findall(r'#include "([^"]+)"', text_of(name)))
    if name == "atoma_crypto.h":
        assert own == set()
    elif name == "ac_internal.h":
        assert own == {"atoma_crypto.h"}
    else:
        assert own <= {header for header in C_FILES if header.endswith(".h")}
        assert "atoma_crypto.h" not in own
        assert "ac_internal.h" in own
    system = set(re.findall(r"#include <([^>]+)>", text_of(name)))
    assert not any(header.startswith(("stdio", "stdlib", "sodium", "sys/", "unistd", "time")) for header in system)


# Each word, and the only files that may speak it.
SPOKEN_IN: Final = {
    r"\baci_v1_schedule\b": {"ac_keysched.c", "ac_internal.h", "ac_request.c"},
    r"\baci_v2_response_schedule\b": {"ac_keysched.c", "ac_internal.h", "ac_v2_record.c"},
    r"\baci_randombytes\b": {
        *("ac_util.c", "ac_internal.h", "ac_sodium.c", "ac_request.c", "ac_stream.c", "ac_v2_record.c")
    },
    r"\baci_hpke_(schedule|export)\b": {"ac_keysched.c", "ac_internal.h", "ac_hpke.c"},
    r"HPKE-v1|atoma/2": {"ac_keysched.c"},
    r"\baci_hkdf_|\baci_hmac": {"ac_hkdf.c", "ac_internal.h", "ac_keysched.c"},
    r"\bsequence\b": {"atoma_crypto.h", "ac_hpke.c"},
    r"\bnext_nonce\b": {"atoma_crypto.h", "ac_stream.c"},
    r"\bac_v1_(sealer|opener)\b": {
        "atoma_crypto.h",
        "ac_internal.h",
        "ac_stream.c",
        "ac_frame.c",
        "ac_reader.c",
        "ac_request.c",
    },
    r"\bac_v2_(sealer|opener)\b": {
        "atoma_crypto.h",
        "ac_internal.h",
        "ac_v2_record.c",
        "ac_v2_frame.c",
        "ac_v2_reader.c",
        "ac_v2_request.c",
    },
    r"\bput_nonce\b": {"ac_v2_record.c"},
    r"\b(malloc|calloc|realloc|free|printf|getenv|alloca)\s*\(": set(),
}


@pytest.mark.parametrize("word", SPOKEN_IN)
def test_who_speaks_of_what(word: str) -> None:
    """Key schedules and nonces are made in one place each, and nothing in the core allocates."""
    speakers = {name for name in C_FILES if re.search(word, without_comments(text_of(name)))}
    assert speakers <= SPOKEN_IN[word]
    assert speakers or not SPOKEN_IN[word]
