"""What a release holds, and what it must not: the sdist every file that git tracks, the wheel the package and no more.

check_dist.py DIST
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

# Folders of those who build. What a program opens at run time lies elsewhere, as /dev and /sys do.
FOLDERS = re.compile(rb"/(?:build|builds|home|host|io|mnt|opt|private|project|root|srv|tmp|usr|Users|var|work)/[ -~]+")
FOR_GIT_ALONE = {"", ".gitattributes", ".gitignore"}


def readelf(*arguments: str) -> str:
    """Its words, in English."""
    command = ["readelf", "--wide", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={"LC_ALL": "C"}).stdout


def extension_faults(extension: Path) -> list[str]:
    """What the linker should have done for an ELF file and has not, and what the file tells of who built it."""
    segments = readelf("--program-headers", str(extension))
    dynamic = readelf("--dynamic", str(extension))
    sections = readelf("--section-headers", str(extension))
    (stack,) = re.findall(r"GNU_STACK.*", segments) or [""]
    checks = {
        "no RELRO segment": "GNU_RELRO" in segments,
        "not bound at load": re.search(r"FLAGS.*\bNOW\b|BIND_NOW", dynamic),
        "an executable stack": re.search(r" RW +0x", stack),
        "text relocations": "TEXTREL" not in dynamic,
        "a run path": "(RPATH)" not in dynamic and "(RUNPATH)" not in dynamic,
        "debug information": ".debug_" not in sections,
    }
    faults = [f"{extension.name}: {fault}" for fault, good in checks.items() if not good]
    named = {match.decode() for match in FOLDERS.findall(extension.read_bytes())}
    return faults + [f"{extension.name} names {folder}" for folder in sorted(named)]


def sdist_faults(sdist: Path) -> list[str]:
    """What git tracks and the sdist lacks."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = set(subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.split("\n"))
    return [f"{sdist.name} lacks {name}" for name in sorted(tracked - held - FOR_GIT_ALONE)]


def wheel_faults(wheel: Path, package: Path) -> list[str]:
    """Files, tag, metadata and extension of a wheel; `package` is what it should hold of Python."""
    faults = []
    if "-cp310-abi3-" not in wheel.name:
        faults.append(f"{wheel.name} is not tagged cp310-abi3")
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as room:
        names = archive.namelist()
        (info,) = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
        of_info = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"]
        expected = {f"{info}/{name}" for name in of_info} | {
            str(path.relative_to(package.parent))
            for path in package.rglob("*")
            if path.suffix in (".py", ".pyi") or path.name == "py.typed"
        }
        expected.add("atoma_crypto/_native.abi3.so")
        faults += [f"{wheel.name} lacks {name}" for name in sorted(expected - set(names))]
        faults += [f"{wheel.name} holds {name}" for name in sorted(set(names) - expected)]
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        entries = archive.read(f"{info}/entry_points.txt").decode()
        if "atoma-crypto = atoma_crypto.cli:main" not in entries:
            faults.append(f"{wheel.name} installs no command")
        # What a user gets without asking: two names, and whoever adds one changes this line too.
        plain = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
        if {re.split(r"[^a-z0-9._-]", line)[0] for line in plain} != {"cffi", "pynacl"}:
            faults.append(f"{wheel.name} requires {', '.join(sorted(plain))}")
        if metadata["License-Expression"] != "Apache-2.0" or metadata["Requires-Python"] != ">=3.10":
            faults.append(f"{wheel.name}: licence or Python of its metadata are not pyproject's")
        if shutil.which("readelf"):
            extension = Path(archive.extract("atoma_crypto/_native.abi3.so", room))
            faults += extension_faults(extension)
    return faults


def main(dist: Path) -> None:
    """Look at the one sdist and the one wheel in a folder."""
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    faults = sdist_faults(sdist) + wheel_faults(wheel, Path("src/atoma_crypto"))
    if faults:
        sys.exit("\n".join(faults))
    print(f"{sdist.name} is complete, {wheel.name} holds what it should and is tagged right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
