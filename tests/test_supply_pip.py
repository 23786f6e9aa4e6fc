"""Whatever pip fetches for tests and builds, it compares with a hash, but for our own wheel, as a user installs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PLACES: Final = (
    "Makefile requirements/Makefile tests/**/Makefile tests/**/*.py benchmarks/**/*.py csrc/*.py *.py *.toml .ci/* "
    ".github/workflows/*.yml"
)
PIP: Final = re.compile(r"""(-m["', ]+|bin/)pip["', ]+(install|download|wheel)\b""")
# Our own: the tree, for which nothing is fetched, and in CI the wheel with what a user gets that day.
OURS: Final = {
    "Makefile": ["--no-deps --no-build-isolation --editable ."],
    ".ci/run": ['"$(echo dist/*.whl)[test]"', "dist/*.tar.gz", '"$(echo "$room"/*-cp3??-cp3??t-*.whl)[test]"'],
}


def loose(script: str) -> list[str]:
    """The commands that take whatever they are given."""
    commands = re.sub(r"\\\n\s*", "", script).splitlines()
    return [line.strip() for line in commands if PIP.search(line) and "--require-hashes" not in line]


def test_pip_is_told_the_hash_of_what_it_fetches() -> None:
    files = {path for place in PLACES.split() for path in ROOT.glob(place) if path.is_file()} - {Path(__file__)}
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    found = {name: loose(text) for name, text in sorted(texts.items()) if loose(text)}
    assert sum(bool(PIP.search(text)) for text in texts.values()) >= 7  # those who call pip were looked at
    assert found.keys() <= OURS.keys()
    for name, ends in OURS.items():
        assert len(found[name]) == len(ends)
        assert all(line.endswith(end) for line, end in zip(found[name], ends, strict=True))


@pytest.mark.parametrize(
    "script",
    [
        "\t@$(PYTHON) -m pip install -q --no-deps --target $(ZIG) ziglang==0.17.1\n",
        'pip = (sys.executable, "-m", "pip", "download", "--no-deps")\n',
        "room/bin/pip install \\\n  -q thing\n",
        "python3 -m pip wheel thing\n",
    ],
)
def test_a_pip_that_is_not_is_found(script: str) -> None:
    assert len(loose(script)) == 1
    assert not loose(script.replace("thing", "--require-hashes thing").replace("no-deps", "require-hashes"))


def test_a_source_of_another_hash_is_not_built(tmp_path: Path) -> None:
    """libsodium's source is run, by configure and make."""
    lock = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    (release,) = re.findall(r"^pynacl==(\S+) ", lock, re.MULTILINE)
    (tmp_path / f"pynacl-{release}.tar.gz").write_bytes(b"not what was pinned")
    (tmp_path / "out").mkdir()
    program = (
        "import pathlib, sys; sys.path.insert(0, 'tests/c'); import get_libsodium; "
        "place = pathlib.Path(sys.argv[1]); get_libsodium.fetch(place / 'log', place)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not list((tmp_path / "out").glob("*.tar.gz"))
