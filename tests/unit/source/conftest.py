"""What tests of the source share: a repository, and sources that are closed when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.source.git.source import GitSource
from tests.unit.source.repositories import Repository, source_of

MakeSource = Callable[..., GitSource]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


@pytest.fixture
async def make_source(tmp_path: Path, repository: Repository) -> AsyncIterator[MakeSource]:
    made: list[GitSource] = []

    def make(url: object = None, **config: Any) -> GitSource:
        made.append(source_of(url or repository.path, tmp_path / "state", **config))
        return made[-1]

    yield make
    for source in made:
        await source.close()
