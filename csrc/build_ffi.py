"""Describes the C core to cffi: the declarations are cut out of the header itself, between its two marks."""

import sys
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent
HEADER = (CSRC / "atoma_crypto.h").read_text(encoding="utf-8")
CONTRACT = HEADER.split("/* === contract begins === */")[1].split("/* === contract ends === */")[0]

# setuptools wants paths relative to setup.py; the script itself stands in `depends` so that the sdist holds it.
SOURCES = sorted(f"csrc/{path.name}" for path in CSRC.glob("ac_*.c"))
DEPENDS = [*sorted(f"csrc/{path.name}" for path in CSRC.glob("*.h")), "csrc/build_ffi.py"]

WINDOWS = sys.platform == "win32"

ffibuilder = FFI()
ffibuilder.cdef(CONTRACT)
ffibuilder.set_source(
    "atoma_crypto._native",
    '#include "atoma_crypto.h"',
    sources=SOURCES,
    depends=DEPENDS,
    include_dirs=["csrc"],
    extra_compile_args=["/std:c11"] if WINDOWS else ["-std=c11", "-O2", "-fvisibility=hidden"],
    extra_link_args=[] if WINDOWS else ["-pthread"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
