"""What tests of images share: a repository, and a store on a disk of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from tests.unit.image.trees import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    store = ImageStore(tmp_path / "state", SystemClock())
    await store.open()
    yield store
    await store.close()
