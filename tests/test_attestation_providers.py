"""A node's side: reports of a stand-in for configfs-tsm, with other writers in between, and evidence out of files."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from atoma_crypto.attestation import Evidence, StaticEvidence, Together, TsmProvider, report_data
from atoma_crypto.keyring import KeyOffer
from helpers import node_key
from tsm_tree import Entry, TsmTree, tsm_tree

BINDING: Final = report_data(KeyOffer("v1", node_key().public_key, 3600.0))
RIVAL: Final = bytes([7]) * 64


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TsmTree]:
    with tsm_tree(tmp_path, monkeypatch) as made:
        yield made


def test_a_report(tree: TsmTree) -> None:
    assert TsmProvider(tree.root).evidence(BINDING) == Evidence("tdx", b"a report of " + BINDING)
    assert tree.made == 1


def test_collateral_goes_along_as_it_is_in_its_file(tree: TsmTree, tmp_path: Path) -> None:
    file = tmp_path / "collateral.json"
    provider = TsmProvider(tree.root, collateral=file)
    for content in (b"{}", b'{"newer":1}'):
        file.write_bytes(content)
        assert provider.evidence(BINDING).collateral == content
    file.unlink()
    with pytest.raises(FileNotFoundError):
        provider.evidence(BINDING)


def test_amd_brings_its_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tsm_tree(tmp_path, monkeypatch, "sev_guest") as tree:
        found = TsmProvider(tree.root).evidence(BINDING)
    assert found == Evidence("snp", b"a report of " + BINDING, b"a table of certificates")


def test_a_provider_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        tsm_tree(tmp_path, monkeypatch, "arm_cca_guest") as tree,
        pytest.raises(OSError, match="arm_cca_guest") as caught,
    ):
        TsmProvider(tree.root).evidence(BINDING)
    assert caught.value.errno == errno.ENOTSUP


def test_a_second_writer_is_noticed(tree: TsmTree) -> None:
    """It wrote after us: the report is its own. And before us: ours, but the count says that somebody was there."""
    for order in (lambda entry: entry.write(RIVAL), lambda entry: (entry.write(RIVAL), entry.write(BINDING))):
        tree.made = 0
        tree.written = lambda entry, order=order: order(entry) if tree.made < 3 else None  # type: ignore[misc]
        assert TsmProvider(tree.root).evidence(BINDING).data == b"a report of " + BINDING
        assert tree.made == 3


def test_a_second_writer_that_does_not_go_away(tree: TsmTree) -> None:
    tree.written = lambda entry: entry.write(RIVAL)
    with pytest.raises(OSError, match="other writers") as caught:
        TsmProvider(tree.root).evidence(BINDING)
    assert caught.value.errno == errno.EBUSY
    assert tree.made == 5


def test_a_write_that_the_kernel_did_not_take(tree: TsmTree) -> None:
    """Of an attribute that is written when it is closed, the writer does not hear: the count stays as it is."""

    def lost(entry: Entry) -> None:
        if tree.made < 2:
            entry.bump(-1)

    tree.written = lost
    TsmProvider(tree.root).evidence(BINDING)
    assert tree.made == 2


def test_a_report_of_other_bytes_is_not_taken(tree: TsmTree) -> None:
    """Whatever the count says."""
    tree.report = lambda _: b"a report of " + RIVAL
    with pytest.raises(OSError, match="other writers"):
        TsmProvider(tree.root).evidence(BINDING)


def test_racing_writers_in_threads(tree: TsmTree) -> None:
    """Several ask at once, while another thread writes to every entry that it sees: nobody gets another's report."""
    over = threading.Event()
    wrote = 0

    def rival() -> None:
        nonlocal wrote
        while not over.is_set():
            for entry in list(tree.entries.values()):
                try:
                    descriptor = os.open(entry.folder / "inblob", os.O_WRONLY | os.O_NONBLOCK)
                except OSError:
                    continue
                try:
                    wrote += os.write(descriptor, RIVAL)
                except OSError:
                    pass
                finally:
                    os.close(descriptor)
            over.wait(0.001)

    bindings = [bytes([number]) * 64 for number in range(20, 60)]
    provider = TsmProvider(tree.root)

    def ask(binding: bytes) -> bytes | None:
        try:
            return provider.evidence(binding).data
        except OSError as error:
            return b"" if error.errno == errno.EBUSY else None

    thread = threading.Thread(target=rival)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(ask, bindings))
    finally:
        over.set()
        thread.join()
    assert wrote
    assert any(found)
    for binding, report in zip(bindings, found, strict=True):
        assert report in (b"", b"a report of " + binding)


def test_the_kernel_says_that_it_is_busy(tree: TsmTree, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes
    for code in (errno.EBUSY, errno.EWOULDBLOCK):
        tree.made = 0

        def reading(path: Path, code: int = code) -> bytes:
            if path.name == "outblob" and tree.made < 2:
                raise OSError(code, os.strerror(code))
            return read_bytes(path)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", reading)
            TsmProvider(tree.root).evidence(BINDING)
        assert tree.made == 2


def test_other_errors_are_told(tree: TsmTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        TsmProvider(tmp_path / "nothing").evidence(BINDING)

    def failing(path: Path) -> bytes:
        raise OSError(errno.EIO, "no luck", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match="no luck"):
            TsmProvider(tree.root).evidence(BINDING)
    assert tree.made == 1


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_bindings_have_64_bytes(tree: TsmTree, size: int) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        TsmProvider(tree.root).evidence(bytes(size))
    assert tree.made == 0


def test_static_evidence(tmp_path: Path) -> None:
    assert StaticEvidence(b"quote", kind="tdx", collateral=b"{}").evidence(BINDING) == Evidence("tdx", b"quote", b"{}")
    file = tmp_path / "quote"
    provider = StaticEvidence(str(file), kind="tdx", collateral=file)
    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert provider.evidence(BINDING) == Evidence("tdx", content, content)


def test_together(tree: TsmTree) -> None:
    gpus = StaticEvidence(b"gpus", kind="nvidia")
    both = Together(TsmProvider(tree.root), gpus).evidence(BINDING)
    assert [part.kind for part in both.parts] == ["tdx", "nvidia"]
    assert Together(gpus).evidence(BINDING) == gpus.evidence(BINDING)
    assert len(Together(Together(gpus, gpus), gpus).evidence(BINDING).parts) == 3
    for nothing in (Together, Evidence.together):
        with pytest.raises(ValueError, match="one"):
            nothing()
