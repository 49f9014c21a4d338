"""What every store of images does, whatever it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.engine.interfaces import Images
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from tests.contract.stubs import ENDLESS, LAYER_INPUTS, TextSource
from tests.eventually import eventually
from tests.fakes import FakeClock, FakeImages, Faults
from tests.unit.image.trees import TREE, Repository

pytestmark = pytest.mark.shows(row=47)


@dataclass
class Store:
    images: Images
    repository: Repository
    lose: Callable[[str], object]
    """Somebody removes an image, and tells nobody."""
    slow: Callable[[], LayerSpec]
    """A layer whose build takes its time."""
    made_of: Callable[[], list[str]]
    """Files of builds that are under way, or were left behind."""
    source: Callable[[str], Any]
    """Of a layer with this content."""

    def layer(self, content: str = "1") -> LayerSpec:
        return LayerSpec.of(self.source(content), "erofs")

    async def built(self, content: str = "1") -> LayerSpec:
        spec = self.layer(content)
        await self.images.build_layer(spec, self.repository.content)
        return spec


@pytest.fixture(params=["fake", "tree", "text"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Of layers in memory, of the repository's folders, and of an input that only tests have."""
    repository = Repository(tmp_path / "repository.git")

    def tree(content: str) -> TreeSource:
        return TreeSource(repository.tree({"file": content}), "./app")

    if request.param == "fake":
        fake = FakeImages(Faults(FakeClock()))
        large = LayerSpec.of(TreeSource("9" * 40, "./large"), "erofs")
        fake.slow = lambda key: 900.0 if key == large.key else 0.0
        yield Store(
            fake, repository, fake.lose, lambda: large, lambda: sorted(fake.under_way), tree
        )
        return
    layers = tmp_path / "state/layers"
    real = ImageStore(tmp_path / "state", SystemClock(), inputs=LAYER_INPUTS)
    await real.open()
    texts: Callable[[str], Any] = TextSource

    def slow() -> LayerSpec:
        if request.param == "text":
            return LayerSpec.of(texts(ENDLESS), "erofs")
        return LayerSpec.of(TreeSource(large_tree(repository), "./large"), "erofs")

    yield Store(
        real, repository, lambda key: (layers / key / "image").unlink(), slow,
        lambda: sorted(path.name for path in layers.glob(".new-*/*")),
        tree if request.param == "tree" else texts,
    )  # fmt: skip
    await real.close()


def large_tree(repository: Repository) -> str:
    """83,521 folders: seconds to stage."""
    tree = repository.tree({"a": "1"})
    for _ in range(4):
        tree = repository.raw_tree(*((TREE, b"%d" % n, tree) for n in range(17)))
    return tree


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
    again = await store.images.build_layer(taken, store.repository.content)
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
    await store.images.build_layer(spec, store.repository.content)
    assert await store.images.look() == frozenset()
    assert store.images.layers() == {spec.key}


async def test_a_cancelled_build_ends_at_once_leaves_nothing_and_can_be_made_again(
    store: Store,
) -> None:
    spec = store.slow()
    build = asyncio.create_task(store.images.build_layer(spec, store.repository.content))
    await eventually(store.made_of)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert store.made_of() == []
    assert store.images.layers() == frozenset()
    other = await store.built("other")
    assert store.images.layers() == {other.key}


async def test_a_build_for_which_another_waits_goes_on_when_one_is_cancelled(store: Store) -> None:
    spec = store.layer("shared")
    one, other = (
        asyncio.create_task(store.images.build_layer(spec, store.repository.content)) for _ in "ab"
    )
    await asyncio.sleep(0)
    one.cancel()
    await other
    assert spec.key in store.images.layers()


async def test_a_build_says_how_far_it_is_while_it_runs_and_nothing_before_and_after(
    store: Store,
) -> None:
    assert store.images.progress() == {}
    spec = store.slow()
    build = asyncio.create_task(store.images.build_layer(spec, store.repository.content))
    await eventually(lambda: store.images.progress().keys() == {spec.key})
    (seen,) = store.images.progress().values()
    assert seen.done_bytes <= (seen.total_bytes or seen.done_bytes)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert store.images.progress() == {}
    assert store.images.progress() is store.images.progress()
