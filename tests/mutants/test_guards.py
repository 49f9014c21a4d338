"""A mutant whose guard was moved or rewritten proves nothing: told by the fast tests, not by a long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.beside import BESIDE
from tests.mutants.change_guards import MUTANTS as CHANGES
from tests.mutants.guards import MUTANTS as GUARDS, Mutant
from tests.mutants.nix_guards import MUTANTS as NIX
from tests.mutants.page_guards import MUTANTS as PAGE
from tests.mutants.tap_guards import MUTANTS as TAPS

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = (*GUARDS, *CHANGES, *BESIDE, *PAGE, *NIX, *TAPS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_each_guard_stands_once_where_it_is_said_to_be(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.guard) == 1
    assert [path for path in mutant.tests if not (ROOT / path).exists()] == []


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
