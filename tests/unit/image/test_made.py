"""Builds that do not repeat themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.cli.doctor_checks import check_images
from reconciler.clock import SystemClock
from reconciler.image.build_site import MAGICS, BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.registry import InputKinds
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.source.git.clients import TreeExporter

pytestmark = pytest.mark.shows(row=46)

WEB = LayerSpec.of(TreeSource("a" * 40, "./web"), "erofs")
OTHER = LayerSpec.of(TreeSource("b" * 40, "./other"), "erofs")


class Dice:
    """A layer input that gives what it was told to, whatever the source."""

    content = b"1"

    async def build(self, _: TreeSource, site: BuildSite) -> None:
        offset, magic = MAGICS[site.format]
        site.image.write_bytes(bytes(offset) + magic + self.content)

    @property
    def inputs(self) -> InputKinds:
        return {"tree": LayerInput(self.build, seconds=10.0)}


@pytest.fixture
def dice() -> Dice:
    return Dice()


@pytest.fixture
async def store(tmp_path: Path, dice: Dice) -> AsyncIterator[ImageStore]:
    store = ImageStore(tmp_path, SystemClock(), inputs=dice.inputs)
    await store.open()
    yield store
    await store.close()


async def again(store: ImageStore, spec: LayerSpec = WEB) -> str:
    """Somebody takes the image away, and it is made anew."""
    store.layer_path(spec.key).unlink(missing_ok=True)
    await store.look()
    return (await store.build_layer(spec, TreeExporter(Path("/nowhere")))).differs


async def test_an_image_that_comes_out_the_same_is_nothing_to_tell(
    store: ImageStore, tmp_path: Path
) -> None:
    assert [await again(store) for _ in range(3)] == ["", "", ""]
    assert check_images(tmp_path).result == "ok"


async def test_an_image_that_comes_out_different_is_told_each_time(
    store: ImageStore, dice: Dice, tmp_path: Path
) -> None:
    assert await again(store) == ""
    dice.content = b"2"
    assert (await again(store)).startswith("tree ./web: the same inputs gave other bytes")
    assert await again(store) == ""
    dice.content = b"3"
    assert "other bytes" in await again(store)
    found = check_images(tmp_path)
    assert found.result == "warning"
    assert "tree ./web (2 times)" in found.detail


async def test_what_was_given_is_remembered_over_a_restart(
    store: ImageStore, dice: Dice, tmp_path: Path
) -> None:
    await again(store)
    await store.close()
    dice.content = b"2"
    next_one = ImageStore(tmp_path, SystemClock(), inputs=dice.inputs)
    await next_one.open()
    assert "other bytes" in await again(next_one)
    await next_one.close()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"title": "x", "sha256": "y"}'])
async def test_a_note_that_cannot_be_read_is_as_none(
    store: ImageStore, dice: Dice, tmp_path: Path, damage: bytes
) -> None:
    await again(store)
    dice.content = b"2"
    (tmp_path / f"layers/{WEB.key}.made").write_bytes(damage)
    assert await again(store) == ""
    assert check_images(tmp_path).result == "ok"


async def test_notes_of_what_is_collected_go_with_it(store: ImageStore, tmp_path: Path) -> None:
    await again(store)
    await again(store, OTHER)
    await store.collect(frozenset({WEB.key}))
    assert [path.name for path in (tmp_path / "layers").glob("*.made")] == [f"{WEB.key}.made"]
