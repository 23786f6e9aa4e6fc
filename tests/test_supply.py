"""What is installed here is what the locks name, and the extension tells nothing of the machine that built it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from atoma_crypto import _native

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLATFORMS: Final = [("linux", "posix", "Linux"), ("darwin", "posix", "Darwin"), ("win32", "nt", "Windows")]
ENVIRONMENTS: Final[list[dict[str, str | AbstractSet[str]]]] = [
    {
        **cast("dict[str, str]", default_environment()),
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.9",
        "sys_platform": sys_platform,
        "os_name": os_name,
        "platform_system": platform_system,
    }
    for minor in range(10, 15)
    for sys_platform, os_name, platform_system in PLATFORMS
]
PIN = re.compile(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^\s,*]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+")


def lines(lock: str) -> list[str]:
    """A lock's requirements, each with its hashes on one line, and its comments."""
    joined = lock.replace(" \\\n    --hash", " --hash").splitlines()
    return [line.strip() for line in joined if line.strip()]


def faults(lock: str) -> list[str]:
    """What should not stand in a lock: a requirement without version or hashes, an option, the name of a host."""
    return [line for line in lines(lock) if "://" in line or not (line.startswith("#") or PIN.fullmatch(line))]


def pins(*locks: str) -> list[Requirement]:
    return [Requirement(line.partition(" --hash")[0]) for lock in locks for line in lines(lock) if line[0] != "#"]


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject asks for with these extras, and with those that they name."""
    found = [Requirement(text) for text in PROJECT["project"]["dependencies"]] if not extras else []
    for extra in extras:
        for text in PROJECT["project"]["optional-dependencies"][extra]:
            requirement = Requirement(text)
            found += wanted(*requirement.extras) if requirement.name == "atoma-crypto" else [requirement]
    return found


def unmet(requirements: list[Requirement], pinned: list[Requirement]) -> list[str]:
    """Each requirement that some system or Python would not get from these pins, in exactly one release that fits."""
    found = set()
    for environment in ENVIRONMENTS:
        held: dict[str, set[str]] = {}
        for pin in pinned:
            if pin.marker is None or pin.marker.evaluate(environment):
                held.setdefault(canonicalize_name(pin.name), set()).add(next(iter(pin.specifier)).version)
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate(environment):
                versions = held.get(canonicalize_name(requirement.name), set())
                if len(versions) != 1 or not all(requirement.specifier.contains(v, prereleases=True) for v in versions):
                    found.add(f"{requirement}: {sorted(versions)}")
    return sorted(found)


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_releases_by_hash_and_names_no_host(lock: Path) -> None:
    content = lock.read_text(encoding="utf-8")
    assert not faults(content)
    assert pins(content)


HASH = " --hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "h11==0.16.0",
        "h11>=0.16.0" + HASH,
        "h11==0.*" + HASH,
        "h11" + HASH,
        "h11==0.16.0 --hash=sha256:" + "0" * 63,
        "h11==0.16.0 --hash=md5:" + "0" * 32,
        "h11 @ https://example.com/h11-0.16.0.whl" + HASH,
        "--index-url https://example.com/simple",
        "--extra-index-url=simple",
        "--find-links wheels",
        "--trusted-host example.com",
        "-e .",
        "# https://example.com/simple",
    ],
)
def test_what_a_lock_must_not_hold_is_found(line: str) -> None:
    good = f"anyio==4.16.0 ; python_full_version < '3.11' \\\n    --hash=sha256:{'1' * 64}\n    # via httpx\n"
    assert not faults(good)
    assert faults(good + line + "\n") == [line]


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    build = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    dev = wanted() + wanted("dev") + build
    assert len(dev) > 30
    assert not unmet(dev, pins(text("dev")))
    assert not unmet(build, pins(text("build")))
    assert not unmet(wanted("bench"), pins(text("dev"), text("bench")))


def test_what_builds_a_release_is_what_builds_here() -> None:
    exact = [Requirement(f"{pin.name}{pin.specifier}") for pin in pins(text("build")) if pin.marker is None]
    assert exact
    assert not unmet(exact, pins(text("dev")))


@pytest.mark.parametrize(
    ("asked", "pinned"),
    [
        ("h11>=0.17", ["h11==0.16.0"]),
        ("h11", []),
        ("h11", ["h11==0.16.0; python_version < '3.14'"]),
        ("h11", ["h11==0.16.0; sys_platform != 'darwin'"]),
        ("h11", ["h11==0.16.0", "h11==0.16.1; python_version >= '3.13'"]),
    ],
)
def test_a_lock_that_does_not_fit_is_found(asked: str, pinned: list[str]) -> None:
    assert not unmet([Requirement("h11>=0.14")], [Requirement("h11==0.16.0")])
    assert unmet([Requirement(asked)], [Requirement(pin) for pin in pinned])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loose_actions(workflow: str) -> list[str]:
    """Actions that are not named by a commit: a tag can be moved to another."""
    used = re.findall(r"^\s*(?:-\s+)?uses:\s*(.*)$", workflow, re.MULTILINE)
    assert used
    return [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)]


def test_a_workflow_names_its_actions_by_commit() -> None:
    for workflow in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        assert not loose_actions(workflow.read_text(encoding="utf-8"))
    assert loose_actions("  - uses: actions/checkout@v7\n    uses: a/b@main # v1\n") == [
        "actions/checkout@v7",
        "a/b@main # v1",
    ]


CC: Final = shutil.which("cc")
needs_readelf = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("readelf") is None, reason="readelf shows what Linux's linker has done"
)


@needs_readelf
def test_the_extension_is_bound_before_it_runs_and_names_no_folder() -> None:
    assert _native.__file__ is not None
    assert script("check_dist").extension_faults(Path(_native.__file__)) == []


@needs_readelf
@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_an_extension_that_is_not_is_found(tmp_path: Path) -> None:
    assert CC is not None
    source = tmp_path / "weak.c"
    source.write_text("const char *where(void);\nconst char *where(void) { return __FILE__; }\n")
    weak = tmp_path / "weak.so"
    flags = ["-g0", "-Wl,-z,norelro,-z,lazy,-z,execstack", "-Wl,-rpath,/opt/lib", "-Wl,-soname,weak.so"]
    subprocess.run([CC, "-shared", "-fPIC", *flags, "-o", weak, source], check=True)
    found = script("check_dist").extension_faults(weak)
    for fault in ("RELRO", "bound", "executable", "run path", str(source)):
        assert any(fault in line for line in found), (fault, found)
    subprocess.run([CC, "-shared", "-fPIC", "-g", "-o", weak, source], check=True)
    assert any("debug information" in line for line in script("check_dist").extension_faults(weak))


def a_wheel(path: Path, content: bytes, mode: int = 0o644, year: int = 2020) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in ("first.py", "second.py"):
            info = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
            info.external_attr = mode << 16
            wheel.writestr(info, b"" if name == "first.py" else content)
    return path


def test_archives_that_differ_are_told_apart_by_member(tmp_path: Path) -> None:
    differences = script("reproduce").differences
    one = a_wheel(tmp_path / "1.whl", b"a")
    assert differences(one, a_wheel(tmp_path / "2.whl", b"a")) == []
    (line,) = differences(one, a_wheel(tmp_path / "3.whl", b"b"))
    assert "second.py" in line
    assert len(differences(one, a_wheel(tmp_path / "4.whl", b"a", mode=0o755))) == 2
    assert len(differences(one, a_wheel(tmp_path / "5.whl", b"a", year=2021))) == 2
    with zipfile.ZipFile(tmp_path / "6.whl", "w", zipfile.ZIP_DEFLATED) as packed, zipfile.ZipFile(one) as stored:
        for info in stored.infolist():
            packed.writestr(info, stored.read(info), zipfile.ZIP_DEFLATED)
    (line,) = differences(one, tmp_path / "6.whl")
    assert "packing" in line


def test_an_sdist_is_of_no_time_and_nobody(tmp_path: Path) -> None:
    reproduce = script("reproduce")
    made = []
    for number, (names, mode) in enumerate([(["b", "a"], 0o600), (["a", "b"], 0o664)]):
        sdist = tmp_path / f"{number}.tar.gz"
        with tarfile.open(sdist, "w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.mode, member.mtime, member.uid, member.uname = mode, number, number, f"user{number}"
                tar.addfile(member)
        made.append(sdist)
    assert reproduce.differences(*made)
    for sdist in made:
        reproduce.settle(sdist, 1_600_000_000)
    assert reproduce.differences(*made) == []


METADATA = """License-Expression: Apache-2.0
Requires-Python: >=3.10
Requires-Dist: cffi>=1.17
Requires-Dist: pynacl<2,>=1.6
"""


INFO = "atoma_crypto-0.1.0.dist-info"


def a_release(path: Path, left_out: str = "", content: dict[str, str] | None = None) -> Path:
    """A wheel of a package of two files, as setuptools would make it."""
    files = dict.fromkeys((f"{INFO}/{name}" for name in ("RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt")), "")
    files |= {"atoma_crypto/__init__.py": "", "atoma_crypto/py.typed": "", f"{INFO}/METADATA": METADATA}
    files |= {f"{INFO}/entry_points.txt": "[console_scripts]\natoma-crypto = atoma_crypto.cli:main\n"} | (content or {})
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            if not name.endswith(left_out or "nothing"):
                wheel.writestr(name, text)
        if _native.__file__ is not None:
            wheel.write(_native.__file__, "atoma_crypto/_native.abi3.so")
    return path


@pytest.mark.parametrize(
    ("left_out", "content", "fault"),
    [
        ("py.typed", {}, "lacks atoma_crypto/py.typed"),
        ("LICENSE", {}, f"lacks {INFO}/licenses/LICENSE"),
        ("", {"tests/test_core.py": ""}, "holds tests/test_core.py"),
        ("", {f"{INFO}/entry_points.txt": ""}, "no command"),
        ("", {f"{INFO}/METADATA": METADATA + "Requires-Dist: pynacl-core\n"}, "requires"),
        ("", {f"{INFO}/METADATA": METADATA.replace("Apache-2.0", "MIT")}, "licence"),
    ],
)
@needs_readelf
def test_a_wheel_that_holds_what_it_should_not_is_found(
    left_out: str, content: dict[str, str], fault: str, tmp_path: Path
) -> None:
    faults_of = script("check_dist").wheel_faults
    package = tmp_path / "atoma_crypto"
    package.mkdir()
    for name in ("__init__.py", "py.typed"):
        (package / name).touch()
    name = "atoma_crypto-0.1.0-{}-linux_x86_64.whl"
    good = a_release(tmp_path / name.format("cp310-abi3"))
    assert faults_of(good, package) == []
    assert "tagged" in "".join(faults_of(good.rename(tmp_path / name.format("cp311-cp311")), package))
    (line,) = faults_of(a_release(tmp_path / name.format("cp310-abi3"), left_out, content), package)
    assert fault in line
