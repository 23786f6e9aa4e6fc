"""The sdist holds every file that git tracks, and the wheel is one for all Pythons from 3.10 on."""

import subprocess
import sys
import tarfile
from pathlib import Path

dist = Path(sys.argv[1])
(sdist,) = dist.glob("*.tar.gz")
(wheel,) = dist.glob("*.whl")

with tarfile.open(sdist) as archive:
    held = {name.partition("/")[2] for name in archive.getnames()}
tracked = set(subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.split("\n"))
missing = tracked - held - {"", ".gitignore"}
if missing:
    sys.exit(f"{sdist.name} lacks {', '.join(sorted(missing))}")
if "-cp310-abi3-" not in wheel.name:
    sys.exit(f"{wheel.name} is not tagged cp310-abi3")
print(f"{sdist.name} is complete, {wheel.name} is tagged right")
