"""Build the sdist and the wheel twice, under different circumstances, and compare them byte for byte.

    reproduce.py OUT           of the commit that is checked out: OUT gets both
    reproduce.py OUT SDIST     of an sdist: OUT gets its wheel

The environment that this runs in builds: it holds what requirements/dev.txt names. What is printed is what sha256sum
prints. Another compiler, Python or zlib may well make other bytes: docs/releasing.md says which make a release.
"""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# What must not matter: the second build has all of this otherwise than the first.
FIRST = {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}
SECOND = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}
DAY = 86_400


def git(*arguments: str) -> bytes:
    """What git prints."""
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE).stdout


def unpack(archive: Path, folder: Path, shift: int) -> None:
    """Lay the files out, as old as they are in the archive, and so much older or younger."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        modified = path.stat().st_mtime + shift
        os.utime(path, (modified, modified))


def backend(tree: Path, out: Path, what: str, epoch: int, surroundings: dict[str, str]) -> None:
    """Have setuptools build a tree, with what is installed here."""
    command = [sys.executable, "-m", "build", "--no-isolation", what, "--outdir", str(out), str(tree)]
    environment = os.environ | surroundings | {"SOURCE_DATE_EPOCH": str(epoch)}
    # The wheel holds the modes that the linker and the interpreter gave their files.
    done = subprocess.run(
        command, env=environment, umask=0o022, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        sys.exit(done.stdout)


def settle(sdist: Path, epoch: int) -> None:
    """Pack an sdist anew: in order, of one time, of nobody. setuptools keeps the times and owners that it finds."""
    plain = io.BytesIO()
    with tarfile.open(sdist) as found, tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in sorted(found, key=lambda member: member.name):
            settled = tarfile.TarInfo(member.name)
            settled.type, settled.size, settled.mtime = member.type, member.size, epoch
            settled.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            tar.addfile(settled, found.extractfile(member))
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed:
        packed.write(plain.getvalue())


def build_sdist(out: Path, room: Path, surroundings: dict[str, str], shift: int) -> Path:
    """The sdist of the last commit, as old as that: what lies in the folder beside it does not count."""
    epoch = int(git("log", "-1", "--format=%ct"))
    archive, tree = room / "commit.tar", room / "commit"
    archive.write_bytes(git("archive", "HEAD"))
    unpack(archive, tree, shift)
    backend(tree, out, "--sdist", epoch, surroundings)
    (sdist,) = out.glob("*.tar.gz")
    settle(sdist, epoch)
    return sdist


def build_wheel(sdist: Path, out: Path, room: Path, surroundings: dict[str, str], shift: int) -> None:
    """The wheel of an sdist, as old as that."""
    with tarfile.open(sdist) as tar:
        epoch = int(max(member.mtime for member in tar))
    unpack(sdist, room / "sdist", shift)
    (tree,) = (room / "sdist").iterdir()
    backend(tree, out, "--wheel", epoch, surroundings)


def build(out: Path, room: Path, given: Path | None, surroundings: dict[str, str], shift: int) -> None:
    """One build, in a room of its own."""
    room.mkdir(parents=True)
    build_wheel(given or build_sdist(out, room, surroundings, shift), out, room, surroundings, shift)


def members(archive: Path) -> dict[str, tuple[object, ...]]:
    """What is told of each member, and the hash of its content."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {
                info.filename: (
                    info.date_time,
                    oct(info.external_attr >> 16),
                    hashlib.sha256(wheel.read(info)).hexdigest(),
                )
                for info in wheel.infolist()
            }
    with tarfile.open(archive) as tar:
        return {
            member.name: (
                member.mtime,
                oct(member.mode),
                (member.uid, member.gid, member.uname, member.gname),
                hashlib.sha256(file.read() if (file := tar.extractfile(member)) else b"").hexdigest(),
            )
            for member in tar
        }


def differences(first: Path, second: Path) -> list[str]:
    """Where two archives of one name differ; nothing if they are the same bytes."""
    if first.read_bytes() == second.read_bytes():
        return []
    one, other = members(first), members(second)
    found = [
        f"{first.name}: {name}: {one.get(name, 'missing')}, then {other.get(name, 'missing')}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return found or [f"{first.name}: the members are the same, their order or packing is not"]


def main(out: Path, given: Path | None) -> None:
    """Build twice, compare, and print the hashes."""
    out.mkdir(parents=True, exist_ok=True)
    if list(out.iterdir()):
        sys.exit(f"{out} is not empty")
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        again = room / "again"
        build(out, room / "first", given, FIRST, 0)
        os.umask(0o077)
        build(again, room / "the-second-in-a-longer-path" / "second", given, SECOND, -DAY)
        made = sorted(path.name for path in out.iterdir())
        if made != sorted(path.name for path in again.iterdir()):
            sys.exit("two builds made files of different names")
        found = [line for file in made for line in differences(out / file, again / file)]
    if found:
        sys.exit("\n".join(found))
    for file in made:
        print(f"{hashlib.sha256((out / file).read_bytes()).hexdigest()}  {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None)
