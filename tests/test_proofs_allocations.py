"""The extension and libsodium allocate nothing for a session: what is allocated, Python does for its own objects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PLACE: Final = Path(__file__).parent / "interposed"
# glibc is among them: it allocates for whoever calls it.
OURS: Final = ("_native", "_sodium", "libsodium", "libc.so")
# How the control allocates, and in whose name.
WAYS: Final = {
    **dict.fromkeys(("malloc", "calloc", "realloc", "reallocarray"), "control.so"),
    **dict.fromkeys(("aligned_alloc", "memalign", "posix_memalign", "mmap", "mmap64"), "control.so"),
    "strdup": "libc.so.6",
}


def test_nothing_native_allocates(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("the interposed functions are glibc's")
    for name in ("interposed", "control"):
        built = [
            compiler,
            "-O2",
            "-fPIC",
            "-shared",
            "-o",
            str(tmp_path / f"{name}.so"),
            str(PLACE / f"{name}.c"),
            "-ldl",
        ]
        subprocess.run(built, check=True)
    environment = os.environ | {"LD_PRELOAD": str(tmp_path / "interposed.so"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(PLACE / "counted.py"), str(tmp_path / "control.so"), *WAYS]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    counts: dict[str, dict[str, int]] = json.loads(told)
    for way, library in WAYS.items():
        assert counts.pop(f"control {way}").get(library) == 200, way
    assert len(counts) == 6
    for call, libraries in counts.items():
        assert libraries, f"{call}: not even Python's own bytes were counted"
        assert not [library for library in libraries if library.startswith(OURS)], call
