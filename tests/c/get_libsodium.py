"""Build the libsodium that PyNaCl bundles, from the sdist of the PyNaCl that is installed, into a directory.

    get_libsodium.py DIRECTORY CFLAGS [--host=…]

It leaves DIRECTORY/lib/libsodium.a and DIRECTORY/include, or nothing. The compiler is $CC. What stands behind CFLAGS is
for configure: a cross compiler's --host.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

# What configure compiles is instrumented too, and leaks are none of its business. What make was told is not for
# libsodium's own makefile.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}},
    "ASAN_OPTIONS": "detect_leaks=0",
}


def run(log: Path, directory: Path, *command: str) -> None:
    with log.open("ab") as out:
        done = subprocess.run(
            command, cwd=directory, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode != 0:
        sys.stderr.write(log.read_text(encoding="utf-8", errors="replace")[-4000:])
        sys.exit(f"{command[0]} failed")


def build(target: Path, cflags: str, *options: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="libsodium-build-") as name:
        place = Path(name)
        log = place / "log"
        pip = (sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps")
        run(log, place, *pip, "--no-binary", "pynacl", f"pynacl=={version('pynacl')}")
        with tarfile.open(next(place.glob("*.tar.gz"))) as sdist:
            sdist.extractall(place, filter="data")
        source = next(place.glob("*/src/libsodium"))
        built = place / "built"
        where = (f"--prefix={built}", f"--libdir={built}/lib")
        what = ("--disable-shared", "--enable-static", "--disable-dependency-tracking", f"CFLAGS={cflags}")
        run(log, source, "./configure", "-q", *where, *what, *options)
        run(log, source, "make", "-s", f"-j{os.cpu_count() or 1}", "-C", "src", "install")
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve(), *sys.argv[2:])
