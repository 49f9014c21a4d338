"""What every store of images does, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.engine.ports import Images
from reconciler.image.store import ImageStore
from reconciler.model.image import LayerSpec, TreeSource
from tests.fakes import FakeClock, FakeImages, Faults
from tests.unit.image.trees import Repository


@dataclass
class Store:
    images: Images
    repository: Repository
    lose: Callable[[str], object]
    """Somebody removes an image, and tells nobody."""

    def layer(self, content: str = "1") -> LayerSpec:
        return LayerSpec.of(TreeSource(self.repository.tree({"file": content}), "./app"), "erofs")

    async def built(self, content: str = "1") -> LayerSpec:
        spec = self.layer(content)
        await self.images.build_layer(spec, self.repository.path)
        return spec


@pytest.fixture(params=["fake", "real"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    repository = Repository(tmp_path / "repository.git")
    if request.param == "fake":
        fake = FakeImages(Faults(FakeClock()))
        yield Store(fake, repository, fake.lose)
        return
    real = ImageStore(tmp_path / "state", SystemClock())
    await real.open()
    yield Store(real, repository, lambda key: (tmp_path / "state/layers" / key / "image").unlink())
    await real.close()


async def test_what_was_built_is_there_until_it_is_collected(store: Store) -> None:
    kept, loose = await store.built("kept"), await store.built("loose")
    assert await store.images.look() == frozenset()
    assert store.images.layers() == {kept.key, loose.key}
    assert await store.images.collect(frozenset({kept.key})) > 0
    assert store.images.layers() == {kept.key}
    assert await store.images.look() == frozenset()


async def test_a_look_finds_what_was_taken_away_once_and_it_is_built_again(store: Store) -> None:
    taken, kept = await store.built("taken"), await store.built("kept")
    store.lose(taken.key)
    assert await store.images.look() == {taken.key}
    assert store.images.layers() == {kept.key}
    assert await store.images.look() == frozenset()
    again = await store.images.build_layer(taken, store.repository.path)
    assert again.key == taken.key
    assert store.images.layers() == {taken.key, kept.key}
    assert await store.images.look() == frozenset()


async def test_a_look_for_some_leaves_the_others_alone(store: Store) -> None:
    one, other = await store.built("one"), await store.built("other")
    store.lose(one.key)
    store.lose(other.key)
    assert await store.images.look(frozenset()) == frozenset()
    assert await store.images.look(frozenset({one.key, "0" * 64})) == {one.key}
    assert store.images.layers() == {other.key}


async def test_a_build_finds_what_was_taken_away_though_nobody_looked(store: Store) -> None:
    spec = await store.built()
    store.lose(spec.key)
    await store.images.build_layer(spec, store.repository.path)
    assert await store.images.look() == frozenset()
    assert store.images.layers() == {spec.key}
