"""What a policy has found out about who holds a key, in words: what is proven, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

Claims = Mapping[str, object]


@dataclass(slots=True)
class Proven:
    """Lines of text."""

    proven: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)


def explain(claims: Claims) -> Proven:
    """Say what the claims of an AttestedKey mean. No line is there twice."""
    found = Proven()
    _explain(claims, found)
    return Proven(list(dict.fromkeys(found.proven)), list(dict.fromkeys(found.not_proven)))


def _explain(claims: Claims, found: Proven) -> None:
    parts = claims.get("parts")
    if isinstance(parts, list):
        for part in parts:
            if isinstance(part, Mapping):
                _explain(part, found)
        return
    explainer = _EXPLAINERS.get(str(claims.get("policy")), _other)
    explainer(claims, found)
    not_checked = claims.get("not_checked")
    if isinstance(not_checked, list):
        found.not_proven += map(str, not_checked)


def _tdx(claims: Claims, found: Proven) -> None:
    found.proven += [
        f"an Intel CPU has signed {claims['binding']}, for a TDX machine that is not in debug mode",
        f"Intel says of its platform: {claims['tcb_status']}, advisories: {_listed(claims['advisories'])}, by "
        f"evaluation {claims['evaluation']}",
    ]
    measurements = claims["measurements"]
    shown = dict(measurements) if isinstance(measurements, Mapping) else {}
    shown = {name: value for name, value in shown.items() if set(str(value)) != {"0"}}
    found.proven += [f"{name} is {value}" for name, value in shown.items()]
    compared = claims["registers_checked"]
    compared = compared if isinstance(compared, list) else []
    _machine(claims, found, f"the policy lists a machine with this: {_listed(compared)}")
    others = [name for name in shown if name not in compared]
    if compared and others:
        found.not_proven.append(f"that this is as it should be, for the policy does not say: {_listed(others)}")


def _snp(claims: Claims, found: Proven) -> None:
    tcb = claims["tcb"]
    versions = ", ".join(f"{name} {value}" for name, value in tcb.items()) if isinstance(tcb, Mapping) else tcb
    found.proven += [
        f"an AMD {claims['product']} has signed {claims['binding']}, for an SNP guest that may not be debugged, at "
        f"level {claims['vmpl']}",
        f"its firmware is {versions}",
        f"the measurement is {claims['measurement']}",
    ]
    _machine(claims, found, "the policy lists this measurement")


def _machine(claims: Claims, found: Proven, listed: str) -> None:
    """What holds of every CPU."""
    if claims["measurements_checked"]:
        found.proven.append(listed)
        found.not_proven.append("what these measurements stand for: that is for whoever builds the image")
    else:
        found.not_proven.append("what runs in the machine: the policy accepts any measurement")
    if claims["fresh"] == "made for this challenge":
        found.proven.append("the evidence was made for this challenge")
    else:
        found.not_proven.append(f"that the evidence was made just now; how old it is: {claims['fresh']}")
    found.not_proven.append("which of the machines that pass this policy it is")


def _nvidia(claims: Claims, found: Proven) -> None:
    devices = claims["devices"]
    for device in devices if isinstance(devices, list) else []:
        found.proven.append(
            f"a device with NVIDIA's certificate {device['certificate']!r} has signed {claims['binding']}"
        )


def _pinned(_claims: Claims, found: Proven) -> None:
    found.proven.append("it is one of the keys that the policy names")
    found.not_proven.append("anything else about who holds it")


def _other(claims: Claims, found: Proven) -> None:
    found.proven += [f"{name}: {value}" for name, value in claims.items() if name != "not_checked"]


def _listed(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) and values else "none"


_EXPLAINERS: Final[Mapping[str, Callable[[Claims, Proven], None]]] = {
    "tdx": _tdx,
    "snp": _snp,
    "nvidia": _nvidia,
    "pinned": _pinned,
}
