"""The table of endpoints, and what a lock for a request must hold."""

from __future__ import annotations

import pytest

from atoma_crypto.adapters._routes import BY_CONFIDENTIAL, BY_PLAINTEXT, ENDPOINTS, compute_units

CHAT = BY_PLAINTEXT["/v1/chat/completions"]
IMAGES = BY_PLAINTEXT["/v1/images/generations"]
EMBEDDINGS = BY_PLAINTEXT["/v1/embeddings"]


def test_each_path_leads_to_its_pair() -> None:
    for endpoint in ENDPOINTS:
        assert BY_PLAINTEXT[endpoint.plaintext] is BY_CONFIDENTIAL[endpoint.confidential] is endpoint
        assert endpoint.confidential == endpoint.plaintext.replace("/v1/", "/v1/confidential/")


@pytest.mark.parametrize(
    ("body", "units"),
    [
        ({}, None),
        ({"max_tokens": 64}, 64),
        ({"max_tokens": None}, None),
        ({"max_tokens": 64, "max_completion_tokens": 9000}, 9000),
        ({"max_tokens": "64"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 2**64}, None),
    ],
)
def test_units_of_text(body: dict[str, object], units: int | None) -> None:
    assert compute_units(CHAT, body) == units
    assert compute_units(EMBEDDINGS, body) is None


@pytest.mark.parametrize(
    ("body", "pixels"),
    [
        ({}, 1024 * 1024),
        ({"size": "256x512"}, 256 * 512),
        ({"size": "256x512", "n": 3}, 3 * 256 * 512),
        ({"size": "auto", "n": 2}, 2 * 1024 * 1024),
        ({"size": 5}, 1024 * 1024),
    ],
)
def test_units_of_images(body: dict[str, object], pixels: int) -> None:
    assert compute_units(IMAGES, body) == pixels
