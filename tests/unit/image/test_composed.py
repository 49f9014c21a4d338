"""Layers that are composed of several images: each part is made once, shared, and kept as long as it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image.build_site import BuildSite
from reconciler.image.composed import MOST_PARTS, changed_versions
from reconciler.image.layer_input import LayerInput
from reconciler.image.layer_notes import LINEAGE
from reconciler.image.registry import INPUTS
from reconciler.image.store import ImageStore
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey, digest_of
from tests.eventually import eventually
from tests.unit.image.trees import Repository


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A layer with a part for each of its words."""

    words: tuple[str, ...]
    kind: Literal["words"] = "words"
    folders: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "words"

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {"kind": self.kind, "words": " ".join(self.words)}


def key_of(word: str) -> LayerKey:
    return LayerKey(digest_of({"word": word}))


@dataclass
class Bench:
    """A store with an input of several parts, and what that made."""

    state: Path
    content: Any
    made: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Once set, a part named `late` is made."""

    async def opened(self) -> ImageStore:
        words = LayerInput(self.build, seconds=30.0, composed=True)
        store = ImageStore(
            self.state, SystemClock(), builds_at_once=1, inputs={**INPUTS, "words": words}
        )
        await store.open()
        return store

    async def build(self, source: PackageSource, site: BuildSite) -> None:
        for word in source.words:

            async def make(part: BuildSite, word: str = word) -> None:
                if word == "late":
                    await self.closed.wait()
                if word == "bad":
                    raise BuildFailed("bad is never a part")
                self.made.append(word)
                part.folder.mkdir()
                (part.folder / word).write_text(word)
                (part.workspace / layout.CONTENTS).write_text(word)
                await part.make_image(len(word))

            await site.part(key_of(word), f"part {word}", make)
        site.compose(
            [key_of(word) for word in source.words], {"words": " ".join(source.words), **self.about}
        )

    async def layer(self, store: ImageStore, *words: str) -> LayerKey:
        spec = spec_of(*words)
        built = await store.build_layer(spec, self.content)
        assert (built.key, built.size_bytes > 0) == (spec.key, True)
        return spec.key


def spec_of(*words: str) -> LayerSpec:
    source: Any = PackageSource(words)
    return LayerSpec.of(source, "erofs")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state", Repository(tmp_path / "repository.git").content)


def image(bench: Bench, word: str) -> Path:
    return bench.state / "layers" / key_of(word) / "image"


async def test_a_part_of_two_layers_is_made_once(bench: Bench) -> None:
    store = await bench.opened()
    web, db = await bench.layer(store, "base", "web"), await bench.layer(store, "base", "db")
    assert bench.made == ["base", "web", "db"]
    assert store.parts() == {
        web: (key_of("base"), key_of("web")),
        db: (key_of("base"), key_of("db")),
    }
    assert store.layers() == {web, db, *map(key_of, ("base", "web", "db"))}
    await store.close()


async def test_a_layer_is_there_as_long_as_all_its_parts_are(bench: Bench) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    image(bench, "base").unlink()
    assert await store.look() == {key_of("base")}
    assert web not in store.layers()
    assert await bench.layer(store, "base", "web") == web
    assert bench.made == ["base", "web", "base"], "what is there is not made again"
    assert web in store.layers()
    await store.close()


async def test_a_part_that_was_touched_and_is_the_same_costs_no_build(bench: Bench) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    same = image(bench, "web").read_bytes()
    image(bench, "web").unlink()
    image(bench, "web").write_bytes(same)
    await store.look()
    assert web not in store.layers()
    await bench.layer(store, "base", "web")
    assert (bench.made, web in store.layers()) == (["base", "web"], True)
    await store.close()


async def test_parts_go_with_the_last_layer_that_has_them(bench: Bench) -> None:
    store = await bench.opened()
    web, db = await bench.layer(store, "base", "web"), await bench.layer(store, "base", "db")
    kept = frozenset({db, *store.parts()[db]})
    assert await store.collect(kept) > 0
    assert store.layers() == kept
    assert web not in store.parts()
    assert not image(bench, "web").exists()
    await store.collect(frozenset())
    assert store.layers() == frozenset()
    assert list((bench.state / "composed").iterdir()) == []
    await store.close()


async def test_a_part_is_not_collected_while_the_layer_is_being_composed(bench: Bench) -> None:
    store = await bench.opened()
    build = asyncio.create_task(bench.layer(store, "base", "late"))
    await eventually(lambda: key_of("base") in store.layers())
    await store.collect(frozenset())
    bench.closed.set()
    assert await build in store.layers()
    await store.close()


async def test_a_new_store_finds_what_an_earlier_one_composed(bench: Bench) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    parts = store.parts()
    await store.close()
    image(bench, "web").unlink()
    again = await bench.opened()
    assert web not in again.layers(), "one of its parts is gone"
    assert again.parts() == parts, "what it still has stays pinned"
    await bench.layer(again, "base", "web")
    assert (again.parts(), web in again.layers()) == (parts, True)
    await again.close()


async def test_parts_stay_of_a_layer_that_was_composed_after_the_collection_was_decided(
    bench: Bench,
) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    assert await store.collect(frozenset({web})) == 0
    assert web in store.layers()
    await store.close()


async def test_a_layer_that_lost_a_part_keeps_the_others_pinned(bench: Bench) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    image(bench, "web").unlink()
    await store.look()
    await store.collect(frozenset({web, *store.parts()[web]}))
    await bench.layer(store, "base", "web")
    assert bench.made == ["base", "web", "web"], "its base was there all the time"
    await store.close()


async def test_a_layer_whose_part_fails_is_not_there_and_its_other_parts_serve_others(
    bench: Bench,
) -> None:
    store = await bench.opened()
    with pytest.raises(BuildFailed, match="bad is never a part"):
        await bench.layer(store, "base", "bad")
    assert store.parts() == {}
    await bench.layer(store, "base", "web")
    assert bench.made == ["base", "web"]
    await store.close()


async def test_a_cancelled_layer_leaves_its_parts_and_can_be_composed_again(bench: Bench) -> None:
    store = await bench.opened()
    build = asyncio.create_task(bench.layer(store, "base", "late"))
    await eventually(lambda: key_of("base") in store.layers())
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert store.layers() == {key_of("base")}
    bench.closed.set()
    await bench.layer(store, "base", "late")
    assert bench.made == ["base", "late"]
    await store.close()


async def test_a_part_goes_on_by_another_layers_means_when_the_layer_that_began_it_is_not_needed(
    bench: Bench,
) -> None:
    """Its content is in the workspace of the layer that began it, and goes with that."""
    begun: list[str] = []

    async def build(source: PackageSource, site: BuildSite) -> None:
        blob = site.workspace / "blob"
        blob.write_text("content")

        async def make(part: BuildSite) -> None:
            begun.append(source.words[0])
            await bench.closed.wait()
            part.folder.mkdir()
            (part.folder / "content").write_text(blob.read_text())
            await part.make_image(1)

        await site.part(key_of("shared"), "shared", make)
        site.compose([key_of("shared")], {})

    words = LayerInput(build, seconds=30.0, composed=True)
    store = ImageStore(bench.state, SystemClock(), inputs={**INPUTS, "words": words})
    await store.open()
    first, second = (
        asyncio.create_task(store.build_layer(spec_of(word), bench.content))
        for word in ("first", "second")
    )
    await eventually(lambda: begun and len(store.progress()) == 2)
    first.cancel()
    await asyncio.wait({first})
    bench.closed.set()
    assert (await second).key == spec_of("second").key
    assert begun == ["first", "second"]
    await store.close()


async def test_more_parts_than_a_guest_has_disks_are_refused(bench: Bench) -> None:
    store = await bench.opened()
    with pytest.raises(BuildFailed, match=f"{MOST_PARTS + 1} images are more than {MOST_PARTS}"):
        await bench.layer(store, *["web"] * (MOST_PARTS + 1))
    await store.close()


async def test_an_entry_that_was_changed_on_disk_is_composed_anew(bench: Bench) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    entry = bench.state / "composed" / web / "parts.json"
    entry.chmod(0o644)
    entry.write_text("[]")
    assert await store.look() == {web}
    await bench.layer(store, "base", "web")
    assert (web in store.layers(), bench.made) == (True, ["base", "web"])
    await store.close()


async def test_a_layer_without_a_word_about_its_parts_is_not_believed(bench: Bench) -> None:
    async def silent(_source: Any, _site: BuildSite) -> None:
        return

    inputs = {**INPUTS, "words": LayerInput(silent, seconds=30.0, composed=True)}
    store = ImageStore(bench.state, SystemClock(), inputs=inputs)
    await store.open()
    with pytest.raises(BuildUnavailable):
        await store.build_layer(spec_of("base"), bench.content)
    await store.close()


async def test_what_a_part_says_of_its_contents_is_kept_and_missed_like_its_image(
    bench: Bench,
) -> None:
    store = await bench.opened()
    web = await bench.layer(store, "base", "web")
    contents = image(bench, "web").with_name(layout.CONTENTS)
    assert contents.read_text() == "web"
    contents.unlink()
    assert await store.look() == {key_of("web")}
    await bench.layer(store, "base", "web")
    assert (contents.read_text(), web in store.layers()) == ("web", True)
    await store.close()


def test_changed_versions_are_named_and_what_came_and_went() -> None:
    before = {"lineage": "x", "nginx": "1.22.1-9", "geoip": "2.1", "libc6": "2.36"}
    now = {"lineage": "x", "nginx": "1.22.1-10", "brotli": "1.0", "libc6": "2.36"}
    said = changed_versions(before, now)
    assert said == "+ brotli 1.0, - geoip 2.1, nginx 1.22.1-9 -> 1.22.1-10"
    assert changed_versions(now, now) == ""


def test_of_many_changed_versions_the_first_are_named_and_the_others_counted() -> None:
    said = changed_versions({}, {f"p{number:03}": "1" for number in range(1000)})
    assert said.startswith("+ p000 1, + p001 1")
    assert said.endswith("and 970 more")


async def test_a_refreshed_layer_says_what_it_has_other_versions_of(bench: Bench) -> None:
    store = await bench.opened()
    said = []
    for words, about in (
        (("base",), {LINEAGE: "a", "nginx": "1"}),
        (("base", "else"), {LINEAGE: "b", "nginx": "7"}),
        (("base", "new"), {LINEAGE: "a", "nginx": "2"}),
    ):
        bench.about = about
        said.append((await store.build_layer(spec_of(*words), bench.content)).versions)
    assert said == ["", "", "words: nginx 1 -> 2, words base -> base new"]
    await store.close()


async def test_what_a_build_noted_is_known_of_the_stored_layer_also_after_a_restart(
    bench: Bench,
) -> None:
    bench.about = {LINEAGE: "a", "nginx": "1.22.1-9"}
    store = await bench.opened()
    key = await bench.layer(store, "base")
    await store.close()
    again = await bench.opened()
    for opened in (store, again):
        noted = opened.inventory.stored()[key].contents
        assert noted is not None
        assert noted.packages == {"words": "base", "nginx": "1.22.1-9"}
        assert opened.inventory.stored()[key_of("base")].contents is None
    await again.close()
