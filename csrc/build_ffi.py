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

# No debug information: it names the folders of the machine that built. The other flags are what `make counts` counts
# with. A stack protector is not among them: it adds 1 to 3 % of instructions to every event.
COMPILE = ["/std:c11"] if sys.platform == "win32" else ["-std=c11", "-O2", "-g0", "-fvisibility=hidden"]
LINK = [] if sys.platform == "win32" else ["-pthread"]
if sys.platform == "linux":
    LINK += ["-Wl,-z,relro,-z,now,-z,noexecstack"]  # what the loader has bound nobody writes to any more

ffibuilder = FFI()
ffibuilder.cdef(CONTRACT)
ffibuilder.set_source(
    "atoma_crypto._native",
    '#include "atoma_crypto.h"',
    sources=SOURCES,
    depends=DEPENDS,
    include_dirs=["csrc"],
    extra_compile_args=COMPILE,
    extra_link_args=LINK,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
