"""A stand-in for Linux's configfs-tsm: a folder whose entries behave as Documentation/ABI/testing/configfs-tsm says.

Attributes are real files. Where the kernel does something when one is written or read it is a FIFO with a thread behind
it: what was written to `inblob` before somebody reads `outblob` is what the report is made of.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

INBLOB_BYTES = 64


class Entry:
    """One report: the attributes, and the kernel's side of them."""

    def __init__(self, folder: Path, tree: TsmTree) -> None:
        self.folder = folder
        self.inblob = b""
        self.generation = 0
        self._tree = tree
        (folder / "provider").write_text(f"{tree.provider}\n")
        self.bump(0)
        for name in ("inblob", "outblob", *(("auxblob",) if tree.provider == "sev_guest" else ())):
            os.mkfifo(folder / name)
        self._written = os.open(folder / "inblob", os.O_RDONLY | os.O_NONBLOCK)  # open, so that no writer waits
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def bump(self, by: int = 1) -> None:
        self.generation += by
        temporary = self.folder / ".generation"
        temporary.write_text(f"{self.generation}\n")
        temporary.rename(self.folder / "generation")

    def write(self, inblob: bytes) -> None:
        """What the kernel does when somebody has written."""
        self.inblob = inblob
        self.bump()

    def _serve(self) -> None:
        try:
            with (self.folder / "outblob").open("wb", buffering=0) as outblob:  # as soon as somebody reads it
                self._take()
                self._tree.written(self)
                outblob.write(self._tree.report(self.inblob))
            if self._tree.provider == "sev_guest":
                (self.folder / "auxblob").write_bytes(b"a table of certificates")
        except OSError:
            return  # the entry is gone

    def _take(self) -> None:
        while True:
            try:
                written = os.read(self._written, INBLOB_BYTES)
            except BlockingIOError:
                return
            if not written:
                return
            self.write(written)

    def remove(self) -> None:
        """As rmdir does in configfs: the attributes go with the entry. A thread that still waits is let go."""
        while self._thread.is_alive():
            for name in ("outblob", "auxblob"):
                with contextlib.suppress(OSError):
                    os.close(os.open(self.folder / name, os.O_RDONLY | os.O_NONBLOCK))
            self._thread.join(0.01)
        shutil.rmtree(self.folder)
        os.close(self._written)


class TsmTree:
    """The folder, and what its kernel does."""

    def __init__(self, root: Path, provider: str = "tdx_guest") -> None:
        self.root = root
        self.provider = provider
        self.entries: dict[Path, Entry] = {}
        self.made = 0
        self.written: Callable[[Entry], None] = lambda _: None  # called between the write and the report
        self.report: Callable[[bytes], bytes] = lambda inblob: b"a report of " + inblob


@contextmanager
def tsm_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str = "tdx_guest") -> Iterator[TsmTree]:
    """A tree whose entries have their attributes as soon as they are made, which no ordinary file system gives."""
    tree = TsmTree(tmp_path / "report", provider)
    tree.root.mkdir()
    mkdir, rmdir = os.mkdir, os.rmdir

    def making(path: Any, mode: int = 0o777, *arguments: Any, **options: Any) -> None:
        mkdir(path, mode, *arguments, **options)
        if Path(path).parent == tree.root:
            tree.made += 1
            tree.entries[Path(path)] = Entry(Path(path), tree)

    def removing(path: Any, *arguments: Any, **options: Any) -> None:
        entry = tree.entries.pop(Path(path), None)
        if entry is not None:
            entry.remove()
        else:
            rmdir(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", making)
        patched.setattr(os, "rmdir", removing)
        yield tree
    assert tree.entries == {}, "an entry was left behind"
