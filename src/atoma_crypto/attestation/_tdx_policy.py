"""Which TDX machines one accepts."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Final

REGISTER_BYTES: Final = 48  # SHA-384

# Intel's words for the state of a platform, without "Revoked", which no policy accepts.
STATUSES: Final = frozenset(
    (
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    )
)


@dataclass(frozen=True, slots=True)
class TdxMeasurement:
    """One machine that is accepted, by its registers: each 48 bytes, as bytes or hex. None: not looked at.

    `mr_td` has to be there. The host chooses some of the others, and software in the machine extends `rt_mr0` to
    `rt_mr3`: firmware that is somebody else's gives them whatever values it likes.

    `mr_td` measures the firmware that the machine began with, `rt_mr0` its configuration, `rt_mr1` and `rt_mr2` what
    was booted (kernel, command line, initrd), `rt_mr3` what runs in it, where the image extends it; `mr_config_id`,
    `mr_owner` and `mr_owner_config` are values that the host gave at the start, `mr_seam` the TDX module's measurement.
    ValueError: `mr_td` is not given, or one is not 48 bytes.
    """

    mr_td: bytes | str | None = None
    rt_mr0: bytes | str | None = None
    rt_mr1: bytes | str | None = None
    rt_mr2: bytes | str | None = None
    rt_mr3: bytes | str | None = None
    mr_config_id: bytes | str | None = None
    mr_owner: bytes | str | None = None
    mr_owner_config: bytes | str | None = None
    mr_seam: bytes | str | None = None

    def __post_init__(self) -> None:
        for register in fields(self):
            value = getattr(self, register.name)
            if isinstance(value, str):
                try:
                    value = bytes.fromhex(value)
                except ValueError:
                    raise ValueError(f"{register.name} is not hex") from None
            if value is not None and len(value) != REGISTER_BYTES:
                raise ValueError(f"{register.name} must be {REGISTER_BYTES} bytes, not {len(value)}")
            object.__setattr__(self, register.name, value)
        if self.mr_td is None:
            raise ValueError(
                "a measurement names mr_td, without which the others prove nothing; to accept any machine, use "
                "TdxPolicy.any_measurement()"
            )

    def registers(self) -> dict[str, bytes]:
        """Those that are looked at."""
        values = {register.name: getattr(self, register.name) for register in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


REGISTERS: Final = tuple(register.name for register in fields(TdxMeasurement))


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """What a `TdxVerifier` accepts.

    `measurements`: the machine must be one of these, in all registers that it names. `statuses`: what Intel may say of
    the platform's state; `advisories`: Intel's security advisories that may apply to it (by default none).
    `min_evaluation`: Intel's number of the TCB evaluation that the collateral must have at least, so that older
    collateral which is still valid is not taken. Debug machines are never accepted.
    ValueError: no measurement, an unknown status.
    """

    measurements: Iterable[TdxMeasurement]
    statuses: Iterable[str] = ("UpToDate",)
    advisories: Iterable[str] = ()
    min_evaluation: int = 0
    _any: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        measurements = tuple(self.measurements)
        if not all(isinstance(one, TdxMeasurement) for one in measurements):
            raise TypeError("measurements must be TdxMeasurements")
        if not measurements and not self._any:
            raise ValueError("no measurement is given: to accept any machine, use TdxPolicy.any_measurement()")
        if isinstance(self.statuses, str) or isinstance(self.advisories, str):
            raise TypeError("statuses and advisories are lists")
        statuses = frozenset(self.statuses)
        if not statuses or not statuses <= STATUSES:
            raise ValueError(f"statuses are one or more of {', '.join(sorted(STATUSES))}")
        object.__setattr__(self, "measurements", measurements)
        object.__setattr__(self, "statuses", statuses)
        object.__setattr__(self, "advisories", frozenset(self.advisories))

    @classmethod
    def any_measurement(
        cls, *, statuses: Iterable[str] = ("UpToDate",), advisories: Iterable[str] = (), min_evaluation: int = 0
    ) -> "TdxPolicy":
        """Accepts whatever runs in the machine: that proves that the key is in some TDX machine, not in whose."""
        return cls((), statuses, advisories, min_evaluation, True)
