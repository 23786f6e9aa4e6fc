"""Build the libsodium that PyNaCl bundles, from the sdist of the PyNaCl that is pinned, into a directory.

    get_libsodium.py DIRECTORY CFLAGS [HOST]

It leaves DIRECTORY/lib/libsodium.a and DIRECTORY/include, or nothing. The compiler is $CC. HOST is what a
cross compiler compiles for.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements" / "dev.txt"
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


def make(log: Path, source: Path, built: Path, cflags: str) -> None:
    where = (f"--prefix={built}", f"--libdir={built}/lib")
    what = ("--disable-shared", "--enable-static", "--disable-dependency-tracking", f"CFLAGS={cflags}")
    run(log, source, "./configure", "-q", *where, *what)
    run(log, source, "make", "-s", f"-j{os.cpu_count() or 1}", "-C", "src", "install")


def make_at_once(log: Path, source: Path, built: Path, cflags: str, host: str) -> None:
    """One call of the compiler: libtool takes longer for each file than that does."""
    run(log, source, "./configure", "-q", "--disable-shared", "--disable-dependency-tracking", f"--host={host}")
    library, objects = source / "src/libsodium", built / "objects"
    defines = re.search(r"^DEFS = (.*)$", (library / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if defines is None:
        sys.exit("configure has defined nothing")
    shutil.copytree(library / "include", built / "include")
    objects.mkdir()
    flags = (*shlex.split(cflags), *shlex.split(defines[1]), f"-I{library}/include/sodium", f"-I{library}/include")
    run(log, objects, *shlex.split(os.environ["CC"]), *flags, "-c", *map(str, sorted(library.rglob("*.[cS]"))))
    (built / "lib").mkdir()
    run(log, built, "ar", "rcs", "lib/libsodium.a", *map(str, sorted(objects.glob("*.o"))))
    shutil.rmtree(objects)


def fetch(log: Path, place: Path) -> None:
    """The sdist, if the lock names its hash. pip asks it for its metadata, with the setuptools of the lock."""
    pin = re.search(r"^pynacl==.*(\\\n.*)+$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        sys.exit(f"{LOCK.name} pins no pynacl")
    (place / "pin.txt").write_text(pin[0], encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "download", "--require-hashes", "--disable-pip-version-check", "--no-deps")
    run(log, place, *pip, "--no-binary", "pynacl", "--no-build-isolation", "-r", "pin.txt")


def build(target: Path, cflags: str, host: str | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="libsodium-build-") as name:
        place = Path(name)
        log = place / "log"
        fetch(log, place)
        with tarfile.open(next(place.glob("*.tar.gz"))) as sdist:
            sdist.extractall(place, filter="data")
        source = next(place.glob("*/src/libsodium"))
        built = place / "built"
        if host is None:
            make(log, source, built, cflags)
        else:
            make_at_once(log, source, built, cflags, host)
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve(), *sys.argv[2:])
