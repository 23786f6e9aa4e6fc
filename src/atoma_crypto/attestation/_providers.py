"""Where a node's evidence comes from."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final, Protocol

from atoma_crypto.attestation._values import Evidence

_TSM_KINDS: Final = {"tdx_guest": "tdx", "sev_guest": "snp"}
_BINDING_BYTES: Final = 64
_ATTEMPTS: Final = 5
# What the kernel says when somebody else has written to an entry, or its report is being made.
_RACED: Final = (errno.EBUSY, errno.EWOULDBLOCK)


class EvidenceProvider(Protocol):
    """What makes evidence on a node."""

    def evidence(self, binding: bytes) -> Evidence:
        """Evidence that speaks for the 64 bytes of `report_data`. OSError: the machine does not give it."""


class StaticEvidence:
    """The same evidence whatever is asked for: for a key that stays, and for evidence that another program makes.

    `data` is the evidence itself, or the path of the file that holds it, which is read each time; so is `collateral`.
    A client whose challenge it does not answer refuses it.
    """

    def __init__(self, data: bytes | str | Path, *, kind: str, collateral: bytes | str | Path = b"") -> None:
        self._data = data
        self._kind = kind
        self._collateral = collateral

    def evidence(self, binding: bytes) -> Evidence:  # noqa: ARG002 - it is what it is
        """As `EvidenceProvider.evidence`."""
        return Evidence(self._kind, _read(self._data), _read(self._collateral))


class Together:
    """The evidence of several providers at once, such as a CPU's and a GPU's."""

    def __init__(self, *providers: EvidenceProvider) -> None:
        if not providers:
            raise ValueError("Together takes one provider or more")
        self._providers = providers

    def evidence(self, binding: bytes) -> Evidence:
        """As `EvidenceProvider.evidence`."""
        return Evidence.together(*(one.evidence(binding) for one in self._providers))


class TsmProvider:
    """Evidence of the CPU that a Linux machine runs on, by configfs-tsm (Linux 6.7 and later; TDX and SEV-SNP).

    Each report has an entry of its own under `root`, which is removed afterwards. The kernel's count of writes to it
    (`generation`) tells whether somebody else has written there too; then another entry is tried, a few times.
    It needs the right to write there. `collateral` is sent along: TDX's JSON, which a node can renew in a file.
    """

    def __init__(
        self, root: str | Path = "/sys/kernel/config/tsm/report", *, collateral: bytes | str | Path = b""
    ) -> None:
        self._root = Path(root)
        self._collateral = collateral

    def evidence(self, binding: bytes) -> Evidence:
        """As `EvidenceProvider.evidence`. OSError with EBUSY: others wrote to each entry that was tried."""
        if len(binding) != _BINDING_BYTES:
            raise ValueError(f"a binding has {_BINDING_BYTES} bytes")
        for _ in range(_ATTEMPTS):
            found = self._once(binding)
            if found is not None:
                return found
        raise OSError(errno.EBUSY, "other writers were at each entry that was tried", str(self._root))

    def _once(self, binding: bytes) -> Evidence | None:
        """The evidence, or None if somebody else was at the entry."""
        entry = self._root / f"atoma-{os.getpid()}-{secrets.token_hex(8)}"
        os.mkdir(entry, 0o700)
        try:
            before = _number(entry / "generation")
            _write(entry / "inblob", binding)
            report = (entry / "outblob").read_bytes()
            provider = (entry / "provider").read_text(encoding="ascii").strip()
            table = (entry / "auxblob").read_bytes() if provider == "sev_guest" else b""
            after = _number(entry / "generation")
        except OSError as error:
            if error.errno in _RACED:
                return None
            raise
        finally:
            os.rmdir(entry)
        # One write is ours. The report has the bytes that it was made for in it: they are looked for as well.
        if after != before + 1 or binding not in report:
            return None
        if provider not in _TSM_KINDS:
            raise OSError(errno.ENOTSUP, f"the kernel's provider is {provider!r}, which is not known", str(self._root))
        return Evidence(_TSM_KINDS[provider], report, table or _read(self._collateral))


def _write(path: Path, content: bytes) -> None:
    """To an attribute, in one write: nothing is created, and it can only be written."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _read(source: bytes | str | Path) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
