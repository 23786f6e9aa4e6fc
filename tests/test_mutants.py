"""The lists of mutants fit the core: `make mutants` takes hours, and would say so only then."""

from __future__ import annotations

import pytest

from mutants.mutants_c import Mutant, mutated, read_lists


def test_every_mutant_of_the_core_can_be_made() -> None:
    assert len(read_lists()) >= 60


@pytest.mark.parametrize("old", ["nothing of the core", "return"])
def test_one_that_does_not_fit_is_an_error(old: str) -> None:
    with pytest.raises(SystemExit, match="the old text stands"):
        mutated(Mutant("name", "here", "ac_util.c", [old], ["return 0;"]))
