"""Run the benchmarks and all the peers, round after round, and write tables and a plot of what was measured.

    compare.py --speed PROGRAM --peers PYTHON --sdk PYTHON [--rounds 5] [--out FOLDER] [--docs FOLDER]

A round runs everything once: what is compared was measured side by side, and a figure is the median of the rounds.
FOLDER gets results.json, tables.md and plot.svg; with --docs, docs/benchmarks.md and its plot are made from them.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plot
import tables
from atoma_crypto import hazmat
from atoma_crypto._core import ffi
from results import OURS, Results, Round

HERE = Path(__file__).parent
# Hides AVX-512 from the OpenSSL inside `cryptography`, as if the CPU had AES in 256-bit registers and no more.
NO_AVX512 = {"OPENSSL_ia32cap": ":~0xd0030000"}
MASKED = "cryptography, AVX-512 hidden"
# What the peers call it: the operation that it stands beside.
SAME = {"seal 300": "seal 300", "open 300": "open 300", "set-up": "set-up of a client"}


def run(*arguments: str, env: dict[str, str] | None = None) -> str:
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | (env or {})).stdout


def benchmarks(into: Round, *arguments: str, rename: str = "", env: dict[str, str] | None = None) -> None:
    """What pytest-benchmark measures."""
    with tempfile.TemporaryDirectory() as room:
        out = Path(room, "benchmarks.json")
        run(sys.executable, "-m", "pytest", "-q", *arguments, f"--benchmark-json={out}", env=env)
        found = json.loads(out.read_text())["benchmarks"]
    for each in found:
        info, stats = each["extra_info"], each["stats"]
        ns = stats["median"] * 1e9 / info["per"]
        into.add(info["operation"], rename or info["who"], ns, stats["iqr"] / stats["median"], info["bytes"])


def in_c(into: Round, speed: str) -> None:
    """What the core does without Python, libsodium beside it, and the limit of the CPU's units."""
    (found,) = json.loads(run(speed, "1"))
    for who, did in found.items():
        if who.startswith("limit"):
            into.limits[who] = did
        elif who != "round":
            for name, ns in did.items():
                size = int(name.split()[1]) if " " in name else 0
                operation = f"{name} B in C" if size else "expand a key in C"
                into.add(operation, who, ns, 0, size if size > 4096 else 0)


def peers(into: Round, python: str, script: str) -> None:
    for who, did in json.loads(run(python, str(HERE / "peers" / script))).items():
        for name, ns in did.items():
            into.add(SAME[name], who, ns, 0, 0)


def one_round(arguments: argparse.Namespace) -> Round:
    into = Round()
    in_c(into, arguments.speed)
    benchmarks(into, str(HERE))
    if "avx512f" in cpu_flags():
        benchmarks(into, str(HERE / "bench_bulk.py"), "-k", "cryptography", rename=MASKED, env=NO_AVX512)
    peers(into, arguments.peers, "peers.py")
    peers(into, arguments.sdk, "sdk.py")
    return into


def cpu_info(key: str) -> str:
    """One line of the first CPU's, where there is /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() == key), "")


def cpu_flags() -> list[str]:
    return cpu_info("flags").split()


def machine() -> dict[str, Any]:
    name = cpu_info("model name") or platform.processor() or platform.machine()
    if cpu_info("cpu family"):
        name += f" (family {cpu_info('cpu family')}, model {cpu_info('model')})"
    return {
        "CPU": f"{name}, {os.cpu_count()} cores; AES backends: {', '.join(hazmat.aes_backends())}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{package} {version(package)}" for package in ("atoma-crypto", "cffi", "PyNaCl", "cryptography")]
            + [run("cc", "--version").splitlines()[0]]
        ),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "bytes": {
            name: ffi.sizeof(name)
            for name in ("ac_v1_sealer", "ac_v1_opener", "ac_v1_events", "ac_v2_sealer", "ac_v2_opener", "ac_v2_events")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--sdk", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--docs", type=Path)
    arguments = parser.parse_args()
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        rounds.append(one_round(arguments))
    results = Results(machine(), rounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results.to_json(), indent=1) + "\n")
    text = tables.everything(results)
    (arguments.out / "tables.md").write_text(text)
    plot.draw(results, arguments.out / "plot.svg")
    print(text)
    if arguments.docs is not None:
        page = arguments.docs / "benchmarks.md"
        page.write_text(tables.replaced(page.read_text(), text))
        plot.draw(results, arguments.docs / "benchmarks.svg")
    print(f"written to {arguments.out}; {OURS}'s figures are medians of {arguments.rounds} rounds", file=sys.stderr)


if __name__ == "__main__":
    main()
