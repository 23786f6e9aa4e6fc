"""What a mutant of the C core is run against. Only what the mutated file is part of is compiled anew."""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

CC = "cc"
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
HARNESS_FLAGS = f"-std=c11 -O1 {SANITIZE}"
EXTENSION_FLAGS = "-std=c11 -O2 -fPIC -fvisibility=hidden"  # as csrc/build_ffi.py has them


@dataclass(frozen=True)
class Lot:
    """Some of the harness's tests."""

    tests: str
    seconds: int  # of CPU that it may take: many times what it does
    files: str = ""  # beginnings of the names of the files that it is about; none is all
    stride: int = 0  # with which loops over many cases go on; 0 is the harness's own


FAST = (
    "primitives sha256 base64 text v2_text vectors hpke request sealer opener event_guards faults parallel v2_vectors "
    "v2_sealer v2_opener v2_states v2_request v2_bound v2_parallel v2_guards gcm_guards"
)
CIPHERS = "ac_gcm ac_ghash"
# First what is about the file itself, a seventh of it.
QUICK = tuple(
    Lot(tests, 60, files, 7)
    for files, tests in {
        "ac_util ac_cpu ac_sodium": "primitives parallel v2_parallel",
        "ac_sha256 ac_hkdf ac_keysched ac_hpke": "sha256 hpke vectors v2_vectors faults",
        CIPHERS: "gcm gcm_guards",
        "ac_base64": "base64",
        "ac_json": "text opener",
        "ac_v2_json": "v2_text v2_opener",
        "ac_sse ac_events ac_reader": "opener event_guards v2_opener",
        "ac_stream": "sealer opener vectors faults parallel",
        "ac_frame ac_write": "sealer v2_sealer",
        "ac_request": "request vectors faults",
        "ac_v2_record": "v2_sealer v2_opener v2_states v2_parallel",
        "ac_v2_frame": "v2_sealer",
        "ac_v2_reader": "v2_opener v2_states",
        "ac_v2_request": "v2_request v2_vectors",
    }.items()
)
# Then the rest, in the order of what it costs.
SLOW = (
    Lot("v2_stack stack", 200, "ac_util ac_sodium ac_sha256 ac_hk ac_keysched ac_hpke ac_gcm_p ac_request ac_v2_re"),
    Lot(FAST, 60),
    Lot("stream v2_stream", 200, "ac_sse ac_events ac_reader ac_v2_reader ac_json ac_v2_json ac_base64 ac_v2_record"),
    Lot("gcm differential masks", 60, f"{CIPHERS} ac_util ac_cpu ac_base64 ac_sha256", 37),
    Lot("differential", 300, "ac_gcm_x86 ac_ghash ac_gcm_v ac_gcm_aesni ac_gcm_p"),
)
WALL = 10  # an idle process is given this many times as much


class Noticed(Exception):  # noqa: N818 - it is the good end of a mutant
    """A check has noticed the mutant; the text says which, and how."""


def last_words(output: str) -> str:
    """The first line that tells of a failure."""
    for line in output.splitlines():
        for sign in (".c:", "ERROR: AddressSanitizer", "runtime error", "FAILED", "depend on secrets"):
            if sign in line:
                return line.strip()[:110]
    return "status"


class Checks:
    def __init__(self, top: Path, cache: Path) -> None:
        self.top, self.cache = top, cache
        self.csrc = top / "csrc"
        self.base = cache / "harness"
        self.sodium = top / ".cache" / f"libsodium-pynacl-{version('pynacl')}-{CC}" / "lib" / "libsodium.a"
        self.python = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:benchmark", "-p", "no:cacheprovider"]
        make = [
            "make",
            "-s",
            "-C",
            str(top / "tests" / "c"),
            f"PYTHON={sys.executable}",
            f"CC={CC}",
            f"OUT={self.base}",
        ]
        self.build([*make, f"CFLAGS={HARNESS_FLAGS}", str(self.base / "harness")])
        self.extension_base: Path | None = None
        digest = hashlib.sha256()  # of the core, and of what judges it
        for path in sorted([*self.csrc.glob("ac_*"), *(top / "tests" / "c").rglob("*.[ch]")]):
            digest.update(path.read_bytes())
        self.digest = digest.hexdigest()

    def build(self, command: list[str], **environment: str) -> str:
        env = {**os.environ, **environment}
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.top, env=env).stdout

    def run(
        self, what: str, command: list[str], seconds: int, environment: Mapping[str, str], good: Sequence[int] = (0,)
    ) -> None:
        """Noticed, if the command fails or takes too long."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                cwd=self.top,
                env={**os.environ, **environment},
                timeout=WALL * seconds,
                preexec_fn=limit,  # this program has one thread
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Noticed(f"{what}: no end after {WALL * seconds} s") from None
        if done.returncode in {-9, -24}:
            raise Noticed(f"{what}: no end after {seconds} s of CPU")
        if what == "python" and done.returncode > 1:  # 1 is a test that failed
            sys.exit(f"pytest has run nothing:\n{done.stdout}")
        if done.returncode not in good:
            raise Noticed(f"{what}: {last_words(done.stdout)} {done.returncode}")

    def affected(self, csrc: Path, file: str) -> list[str]:
        """The sources that are, or include, this file."""
        if file.endswith(".c"):
            return [file]
        sources = sorted(path.name for path in csrc.glob("ac_*.c"))
        rules = self.build([CC, "-std=c11", "-MM", *(str(csrc / name) for name in sources)]).replace("\\\n", " ")
        return [
            name for name, rule in zip(sources, rules.splitlines(), strict=True) if str(csrc / file) in rule.split()
        ]

    def link(self, csrc: Path, file: str, base: Path, flags: str, target: Path, *more: str) -> Path:
        """A program or library of the objects in `base`, those that the file is part of made anew."""
        new = {}
        for name in self.affected(csrc, file):
            made = target.parent / f"{target.name}-{Path(name).stem}.o"
            self.build([CC, *flags.split(), f"-I{csrc}", "-c", "-o", str(made), str(csrc / name)])
            new[f"{Path(name).stem}.o"] = str(made)
        if not new:
            sys.exit(f"nothing includes {file}")
        objects = [new.get(path.name, str(path)) for path in sorted(base.glob("*.o"))]
        self.build([CC, *more[:1][0].split(), "-pthread", "-o", str(target), *objects, *more[1:]])
        return target

    # ---- the checks ----

    def harness(self, csrc: Path, file: str, quickly: bool) -> None:
        program = self.link(csrc, file, self.base, HARNESS_FLAGS, self.cache / "mutant", SANITIZE, str(self.sodium))
        lots = QUICK if quickly else SLOW
        self.run_harness(program, [lot for lot in lots if file.startswith(tuple(lot.files.split() or [""]))])

    def run_harness(self, program: Path, lots: Sequence[Lot]) -> None:
        for lot in lots:
            environment = {"ASAN_OPTIONS": "detect_stack_use_after_return=0:quarantine_size_mb=16:detect_leaks=0"}
            if lot.stride != 0:
                environment["HARNESS_STRIDE"] = str(lot.stride)
            self.run("harness", [str(program), "--stop", *lot.tests.split()], lot.seconds, environment)

    def named(self, check: str, csrc: Path, file: str) -> None:
        kind, _, rest = check.partition(" ")
        known: dict[str, Callable[[], None]] = {
            "stack": lambda: self.stack(csrc),
            "ct": lambda: self.ct(csrc),
            "proofs": lambda: self.proofs(csrc),
            "python": lambda: self.pytest(csrc, file, rest.split()),
        }
        if kind not in known:
            sys.exit(f"no such check: {check}")
        known[kind]()

    def stack(self, csrc: Path) -> None:
        """tests/c/stack, as setup ships it."""
        out = self.cache / "stack"
        for compiler in ("gcc", "clang"):
            program = out / f"stack-{compiler}+-O2"
            self.make("tests/c", csrc, out, program)
            self.run("stack", [str(program)], 60, {})

    def ct(self, csrc: Path) -> None:
        """tests/c/ct without its planted faults, which check.py is for."""
        out = self.cache / "ct"
        for name in ("gcc-O2", "msan-O2"):
            program = out / name
            self.make("tests/c/ct", csrc, out, program)
            lines = self.build([str(program)]).splitlines()
            watcher = ["valgrind", "-q", "--error-exitcode=99"] if name.startswith("gcc") else []
            for backend in [line.removeprefix("backend ") for line in lines if line.startswith("backend ")]:
                # 4: this watcher has no such backend
                command = [*watcher, str(program), backend]
                self.run(f"ct ({name})", command, 300, {"MSAN_OPTIONS": "exit_code=99"}, good=(0, 4))

    def proofs(self, csrc: Path) -> None:
        """tests/c/proofs' search of the memory, on each backend that it finds; without its controls."""
        program = self.cache / "proofs" / "memory"
        for made in program.parent.glob("ac_*.o"):
            made.unlink()  # the source that one was made of may be older, and another mutant's
        self.make("tests/c/proofs", csrc, program.parent, program)
        self.run("proofs", [str(program)], 300, {})

    def make(self, directory: str, csrc: Path, out: Path, target: Path) -> None:
        target.unlink(missing_ok=True)  # the copy of csrc/ is younger than what it was made of, or it is not
        where = ["make", "-s", "-C", str(self.top / directory), f"PYTHON={sys.executable}"]
        self.build([*where, f"CSRC={csrc}", f"OUT={out}", str(target)])

    def pytest(self, csrc: Path, file: str, tests: list[str]) -> None:
        """Tests in Python, on a copy of the package with the extension built of the mutant."""
        source, name = self.package()
        flags = f"{EXTENSION_FLAGS} -I{sysconfig.get_paths()['include']}"
        base = self.extension_base
        if base is None:
            sys.exit("package() makes it")
        self.link(csrc, file, base, flags, source / "atoma_crypto" / name, "-shared")
        self.run_pytest(source, tests)

    def run_pytest(self, source: Path, tests: list[str]) -> None:
        self.run("python", [*self.python, *tests], 300, {"PYTHONPATH": str(source)})

    def package(self) -> tuple[Path, str]:
        """The copy, and the extension's name; made once."""
        source = self.cache / "src"
        name = next((self.top / "src" / "atoma_crypto").glob("_native*.so")).name
        if self.extension_base is None:
            base = self.extension_base = self.cache / "extension"
            shutil.rmtree(base, ignore_errors=True)
            shutil.rmtree(source, ignore_errors=True)
            shutil.copytree(self.top / "src", source, ignore=shutil.ignore_patterns("__pycache__", "_native.c"))
            base.mkdir()
            generate = (
                "import sys; sys.path.insert(0, 'csrc'); import build_ffi as b; b.ffibuilder.emit_c_code(sys.argv[1])"
            )
            self.build([sys.executable, "-c", generate, str(base / "_native.c")])
            include = f"-I{sysconfig.get_paths()['include']}"
            for path in (*sorted(self.csrc.glob("ac_*.c")), base / "_native.c"):
                flags = [*EXTENSION_FLAGS.split(), include, f"-I{self.csrc}"]
                self.build([CC, *flags, "-c", "-o", str(base / f"{path.stem}.o"), str(path)])
        return source, name

    def control(self, quickly: bool, named: Sequence[str]) -> None:
        """Unchanged, the core passes, what is named too: else every mutant would be killed by nothing."""
        checks = [] if quickly else sorted(set(named))
        passed, what = self.cache / "control", repr((self.digest, checks))
        if passed.exists() and passed.read_text(encoding="ascii") == what:
            return
        try:
            self.run_harness(self.base / "harness", QUICK if quickly else SLOW)
            for check in checks:
                self.named(check, self.csrc, "ac_util.c")
        except Noticed as by:
            sys.exit(f"the core itself does not pass: {by}")
        if not quickly:
            passed.write_text(what, encoding="ascii")
