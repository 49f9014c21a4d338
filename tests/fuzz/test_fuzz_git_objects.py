"""A sample of the fuzzed inputs, so that the fuzzers themselves cannot rot."""

from __future__ import annotations

import pytest

from tests.fuzz import git_objects

pytestmark = pytest.mark.shows(fault=105)


def test_a_sample_of_strangers_bytes_is_read_or_refused() -> None:
    assert git_objects.main(4_000, seed=0) == 0
