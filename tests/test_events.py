"""The values that sessions give and take."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

import atoma_crypto as ac
from helpers import SessionPair


def test_need_data_is_one_value() -> None:
    assert repr(ac.NEED_DATA) == "NEED_DATA"
    assert copy.deepcopy(ac.NEED_DATA) is ac.NEED_DATA
    assert pickle.loads(pickle.dumps(ac.NEED_DATA)) is ac.NEED_DATA  # noqa: S301 - our own


def test_a_chunk_does_not_show_its_plaintext() -> None:
    chunk = ac.Chunk(b"a secret", 3, {"n": 1})
    assert repr(chunk) == f"{chunk}" == "Chunk(<8 bytes>, index=3, usage={'n': 1})"
    assert (chunk.plaintext, chunk.index, chunk.usage) == (b"a secret", 3, {"n": 1})


def test_a_request_does_not_show_its_body() -> None:
    request = SessionPair().request
    assert b'"stream":true' in request.body
    assert 'stream":true' not in repr(request)
    assert repr(request) == (
        "Request(model='m', stack_small_id=42, num_compute_units=None, stream=True, endpoint=None, protocol='v1')"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.model = "other"  # type: ignore[misc] # that is what is tested


def test_the_end_is_frozen() -> None:
    end = ac.EndOfStream(2, None)
    assert repr(end) == "EndOfStream(chunk_count=2, usage=None)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        end.chunk_count = 3  # type: ignore[misc] # that is what is tested


def test_limits_as_the_contract_says() -> None:
    assert ac.Limits() == ac.Limits(32 << 20, 64 << 20, 2 << 20, 64 << 10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ac.Limits().max_line_bytes = 1  # type: ignore[misc] # that is what is tested


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ac.Limits)])
def test_limits_have_limits(name: str) -> None:
    for good in (64, 1 << 40):
        assert getattr(ac.Limits(**{name: good}), name) == good
    for bad in (63, 0, -1, (1 << 40) + 1):
        with pytest.raises(ValueError, match=f"{name} must be 64 to 2\\^40 bytes, not {bad}"):
            ac.Limits(**{name: bad})
    for wrong in (1000.0, True, "1000", None):
        with pytest.raises(TypeError, match=f"{name} must be int"):
            ac.Limits(**{name: wrong})  # type: ignore[arg-type] # that is what is tested
