"""A sample of what `./dev fuzz` tries by the million."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.__main__ import TARGETS, target_of
from tests.fuzz.mutations import inputs

pytestmark = pytest.mark.shows(fault=123)

SAMPLE = 400


@pytest.fixture
def logs() -> Iterator[None]:
    """The faces listen to the root logger alone while they are tried."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_strangers_send_brings_an_error_of_ours(name: str) -> None:
    with target_of(name) as (target, seeds, words):
        for data in seeds:
            target(data)
        for data in inputs(random.Random(7), seeds, words, SAMPLE):  # noqa: S311
            target(data)


def test_the_same_seed_is_the_same_inputs() -> None:
    once, again = (list(inputs(random.Random(5), [b"a: 1", b"b"], ["x"], 50)) for _ in range(2))  # noqa: S311
    assert once == again
    assert len(set(once)) > 20
