"""A verifier from a TOML file (docs/attestation.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from atoma_crypto._errors import InvalidKeyError
from atoma_crypto._keys import PublicKey
from atoma_crypto.attestation._combined import AllOf, AnyOf
from atoma_crypto.attestation._nvidia import NvidiaGpuVerifier
from atoma_crypto.attestation._policies import PinnedKeys
from atoma_crypto.attestation._snp import SnpMeasurement, SnpPolicy, SnpTcb, SnpVerifier
from atoma_crypto.attestation._tdx import TdxVerifier
from atoma_crypto.attestation._tdx_policy import REGISTERS, TdxMeasurement, TdxPolicy
from atoma_crypto.attestation._values import Verifier

_TCB: Final = tuple(each.name for each in fields(SnpTcb))


class PolicyFileError(ValueError):
    """The file is no policy. The message says where and why."""


def load_policy(path: str | Path, *, fetch_collateral: Callable[[bytes], bytes] | None = None) -> Verifier:
    """The verifier that a TOML file describes; `fetch_collateral` is as `TdxVerifier` takes it.

    Roots that the file names are read from beside it. PolicyFileError: not TOML, an unknown name, or a value that
    makes no sense; OSError: a file cannot be read; ImportError: the policy needs an extra that is not installed.
    """
    path = Path(path)
    try:
        return _Reader(path.parent, fetch_collateral).policy(_parsed(path))
    except PolicyFileError as error:
        problem = str(error)
    except (ValueError, TypeError) as error:  # a verifier refuses what it was given
        problem = str(error)
    raise PolicyFileError(f"{path}: {problem}")


def _parsed(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):  # pragma: no cover - coverage is taken on one Python, of whichever it is
        import tomllib  # noqa: PLC0415 - as the other one
    else:  # pragma: no cover - Python 3.10 has none of its own
        import tomli as tomllib  # noqa: PLC0415 - of an extra
    content = path.read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"not TOML: {error}") from None


class _Table:
    """A table of the file. What has not been taken out of it at the end is not known here, and an error."""

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, dict):
            raise PolicyFileError(f"{name}: a table is needed")
        self._name = name
        self._values: dict[str, Any] = dict(values)

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        if key not in self._values:
            return default
        value = self._values.pop(key)
        if type(value) is not kind:
            raise PolicyFileError(f"{self.where(key)}: {kind.__name__} is needed")
        return value

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        values = self.take(key, list, list(default))
        if not all(type(value) is str for value in values):
            raise PolicyFileError(f"{self.where(key)}: a list of strings is needed")
        return tuple(values)

    def tables(self, key: str) -> list[_Table]:
        return [_Table(f"{self.where(key)}[{i}]", one) for i, one in enumerate(self.take(key, list, []))]

    def where(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def end(self) -> None:
        if self._values:
            raise PolicyFileError(f"unknown: {', '.join(self.where(key) for key in sorted(self._values))}")


class _Reader:
    def __init__(self, folder: Path, fetch_collateral: Callable[[bytes], bytes] | None) -> None:
        self._folder = folder
        self._fetch = fetch_collateral

    def policy(self, values: Mapping[str, Any]) -> Verifier:
        kinds: Final = {"tdx": self._tdx, "snp": self._snp, "nvidia": self._nvidia, "pinned": self._pinned}
        whole = _Table("", values)
        require = whole.take("require", str)
        if require not in (None, "all", "any"):
            raise PolicyFileError('require: "all" or "any"')
        verifiers: list[Verifier] = []
        for name, make in kinds.items():
            part = whole.take(name, dict)
            if part is not None:
                table = _Table(name, part)
                verifiers.append(make(table))
                table.end()
        whole.end()
        if not verifiers:
            raise PolicyFileError(f"one or more of the tables {', '.join(kinds)} is needed")
        if len(verifiers) == 1:
            return verifiers[0]
        if require is None:
            raise PolicyFileError('with several tables, require = "all" or require = "any" is needed')
        return AllOf(*verifiers) if require == "all" else AnyOf(*verifiers)

    def _root(self, table: _Table) -> bytes | None:
        name = table.take("root", str)
        return None if name is None else (self._folder / name).read_bytes()

    def _tdx(self, table: _Table) -> Verifier:
        accept_any = table.take("any_measurement", bool, False)
        measurements = [self._measurement(one) for one in table.tables("measurements")]
        if accept_any and measurements:
            raise PolicyFileError("tdx: measurements, or any_measurement, not both")
        options: dict[str, Any] = {
            "statuses": table.strings("statuses", ("UpToDate",)),
            "advisories": table.strings("advisories", ()),
            "min_evaluation": table.take("min_evaluation", int, 0),
        }
        policy = TdxPolicy.any_measurement(**options) if accept_any else TdxPolicy(measurements, **options)
        return TdxVerifier(policy, fetch_collateral=self._fetch, root=self._root(table))

    @staticmethod
    def _measurement(table: _Table) -> TdxMeasurement:
        registers = {name: table.take(name, str) for name in REGISTERS}
        table.end()
        return TdxMeasurement(**registers)

    def _snp(self, table: _Table) -> Verifier:
        accept_any = table.take("any_measurement", bool, False)
        measurements = []
        for one in table.tables("measurements"):
            measurements.append(SnpMeasurement(one.take("measurement", str, ""), one.take("host_data", str)))
            one.end()
        if accept_any and measurements:
            raise PolicyFileError("snp: measurements, or any_measurement, not both")
        least = table.take("min_tcb", dict)
        if least is None:
            raise PolicyFileError("snp.min_tcb: a table is needed: AMD signs no list of what is up to date")
        versions = _Table("snp.min_tcb", least)
        min_tcb = SnpTcb(**{name: versions.take(name, int, 0) for name in _TCB})
        versions.end()
        max_vmpl = table.take("max_vmpl", int, 0)
        if accept_any:
            policy = SnpPolicy.any_measurement(min_tcb, max_vmpl=max_vmpl)
        else:
            policy = SnpPolicy(measurements, min_tcb, max_vmpl)
        return SnpVerifier(policy, root=self._root(table))

    def _nvidia(self, table: _Table) -> Verifier:
        nonce = table.take("contract_nonce", str)  # TOML's integers have a sign bit: the nonce would not fit
        if nonce is None or not (nonce.isascii() and nonce.isdigit()):
            raise PolicyFileError("nvidia.contract_nonce: the number as a string is needed")
        return NvidiaGpuVerifier(int(nonce), device_slot=table.take("device_slot", int, 300), root=self._root(table))

    @staticmethod
    def _pinned(table: _Table) -> Verifier:
        keys = []
        for one in table.tables("keys"):
            suite, text = one.take("suite", str, "X25519"), one.take("public_key", str, "")
            one.end()
            try:
                keys.append(PublicKey.from_base64(text, suite))
            except InvalidKeyError as error:
                raise PolicyFileError(f"{one.where('public_key')}: {error}") from None
        return PinnedKeys(keys)
