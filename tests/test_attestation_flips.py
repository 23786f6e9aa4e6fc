"""A byte changed anywhere in evidence of our own makers: refused, or the same is found."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto.attestation import (
    AttestedKey,
    Evidence,
    NvidiaGpuVerifier,
    TdxPolicy,
    TdxVerifier,
    nvidia_nonce,
    report_data,
)
from atoma_crypto.keyring import KeyOffer
from attestation_pki import gpu_maker, maker
from certificates import HOUR, NOW
from helpers import node_key

OFFER: Final = KeyOffer("v2", node_key().public_key, HOUR, NOW + HOUR)
Judge = Callable[[bytes], AttestedKey]


def some_bytes(step: int) -> pytest.MarkDecorator:
    """Every `step`th byte; in the long run every byte, in four parts."""
    parts = [pytest.param((i, 4), marks=pytest.mark.long, id=f"every byte, {i + 1} of 4") for i in range(4)]
    return pytest.mark.parametrize("part", [pytest.param((0, step), id="some bytes"), *parts])


def flipped(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << (offset % 8)
    return bytes(changed)


def flip_all(data: bytes, judge: Judge, offsets: Iterable[int], signed: Callable[[int], bool]) -> None:
    """Nothing but AttestationError comes out; nothing at all where the byte is one that is signed."""
    good = judge(data)
    for offset in offsets:
        try:
            found = judge(flipped(data, offset))
        except ac.AttestationError:
            continue
        assert not signed(offset), f"byte {offset} is signed and does not count"
        assert found == good, f"byte {offset} changes what is found"


# Of a quote of version 4: header and report; length; signature and key; type and length; the quoting enclave's report,
# signature, 2 bytes of length and data. The certificates come after that.
TDX_LENGTHS: Final = {*range(632, 636), *range(764, 770)}
TDX_SIGNED_END: Final = 770 + 384 + 64 + 2 + 32


@some_bytes(29)
def test_tdx_quotes(part: tuple[int, int]) -> None:
    quote = maker().quote(report_data(OFFER))
    collateral = maker().collateral()
    verifier = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der)

    def judge(data: bytes) -> AttestedKey:
        return verifier.verify(Evidence("tdx", data, collateral), OFFER, now=NOW)

    flip_all(
        quote, judge, range(part[0], len(quote), part[1]), lambda at: at < TDX_SIGNED_END and at not in TDX_LENGTHS
    )


@some_bytes(83)
def test_tdx_collateral(part: tuple[int, int]) -> None:
    quote = maker().quote(report_data(OFFER))
    collateral = maker().collateral()
    verifier = TdxVerifier(TdxPolicy.any_measurement(), root=maker().root.der)

    def judge(data: bytes) -> AttestedKey:
        return verifier.verify(Evidence("tdx", quote, data), OFFER, now=NOW)

    inside = [collateral.index(f'"{name}": "'.encode()) for name in ("tcb_info", "qe_identity")]
    ends = [collateral.index(b'"}]}"', begin) for begin in inside]
    signed = {at for begin, end in zip(inside, ends, strict=True) for at in range(begin + 16, end)}
    assert signed
    flip_all(collateral, judge, range(part[0], len(collateral), part[1]), signed.__contains__)


def entry() -> dict[str, str]:
    return gpu_maker().device(nvidia_nonce(bytes(OFFER.public_key), contract_nonce=7))


def judge_entry(one: dict[str, Any]) -> AttestedKey:
    verifier = NvidiaGpuVerifier(7, root=gpu_maker().root.der)
    return verifier.verify(Evidence("nvidia", zlib.compress(json.dumps([one]).encode())), OFFER, now=NOW)


@some_bytes(7)
def test_nvidia_reports(part: tuple[int, int]) -> None:
    one = entry()

    def judge(report: bytes) -> AttestedKey:
        return judge_entry(one | {"evidence": base64.b64encode(report).decode()})

    report = base64.b64decode(one["evidence"])
    flip_all(report, judge, range(part[0], len(report), part[1]), lambda _: True)


@some_bytes(31)
def test_nvidia_certificates(part: tuple[int, int]) -> None:
    one = entry()

    def judge(pem: bytes) -> AttestedKey:
        return judge_entry(one | {"certificate": base64.b64encode(pem).decode()})

    pem = base64.b64decode(one["certificate"])
    flip_all(pem, judge, range(part[0], len(pem), part[1]), lambda _: False)


@some_bytes(31)
def test_packed_lists(part: tuple[int, int]) -> None:
    packed = zlib.compress(json.dumps([entry()]).encode())
    verifier = NvidiaGpuVerifier(7, root=gpu_maker().root.der)

    def judge(data: bytes) -> AttestedKey:
        return verifier.verify(Evidence("nvidia", data), OFFER, now=NOW)

    flip_all(packed, judge, range(part[0], len(packed), part[1]), lambda _: False)
