"""How far builds are, seen from beside them: of strangers' servers, real skopeo, and programs that write."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.config import ScriptConfig
from reconciler.image.build_site import BuildSite, Sources
from reconciler.image.layer_input import LayerInput
from reconciler.image.progress_board import ProgressBoard, bytes_in
from reconciler.image.registry import INPUTS
from reconciler.image.store import NOTHING_ELSE, ImageStore
from reconciler.image_references import parse_reference
from reconciler.image_registries import RegistryConfig
from reconciler.model.build_progress import BuildProgress
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey
from tests.eventually import eventually
from tests.registry.images import program
from tests.unit.image.downloading import CONTENT, FIRST, SHA256, hanging
from tests.unit.image.oci.hostile import hostile_registry, stalled
from tests.unit.image.stranger import head, serving
from tests.unit.image.trees import Repository


@dataclass
class Watched:
    """A store in which one layer is being built."""

    store: ImageStore
    content: Repository
    builds: list[asyncio.Task[object]] = field(default_factory=list)

    def begin(self, spec: LayerSpec) -> None:
        build = self.store.build_layer(spec, self.content.content)
        self.builds.append(asyncio.create_task(build))

    def far(self) -> tuple[str, int, int]:
        """What the only build does, and the bytes of it."""
        (one,) = self.store.progress().values() or [BuildProgress("", "", 0, 0, 0.0)]
        return one.doing, one.done_bytes, one.total_bytes

    async def end(self) -> None:
        for build in self.builds:
            build.cancel()
            with suppress(asyncio.CancelledError):
                await build


@asynccontextmanager
async def watched(
    folder: Path, sources: Sources = NOTHING_ELSE, **inputs: LayerInput
) -> AsyncIterator[Watched]:
    store = ImageStore(
        folder / "state", SystemClock(), sources=sources, inputs={**INPUTS, **inputs}
    )
    await store.open()
    found = Watched(store, Repository(folder / "repository.git"))
    try:
        yield found
        await found.end()
        assert store.progress() == {}
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("length", "total"), [({"Content_Length": len(CONTENT)}, len(CONTENT)), ({}, 0)]
)
async def test_a_download_shows_its_bytes_and_of_how_many_where_the_server_says_it(
    tmp_path: Path, length: dict[str, int], total: int
) -> None:
    with serving(hanging(head("200 OK", **length), CONTENT[:FIRST])) as stranger:
        async with watched(tmp_path, Sources(image_urls=(stranger.pattern,))) as one:
            one.begin(LayerSpec.of(ImageSource(SHA256, url=stranger.url())))
            await eventually(lambda: one.far() == ("fetching", FIRST, total))


async def test_a_download_that_goes_on_shows_what_came_before_too(tmp_path: Path) -> None:
    partial = tmp_path / f"state/downloads/image-{SHA256}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:FIRST])
    span = f"bytes {FIRST}-{len(CONTENT) - 1}/{len(CONTENT)}"
    more = CONTENT[FIRST : 2 * FIRST]
    answer = head("206 Part", Content_Range=span, Content_Length=len(CONTENT) - FIRST)
    with serving(hanging(answer, more)) as stranger:
        async with watched(tmp_path, Sources(image_urls=(stranger.pattern,))) as one:
            one.begin(LayerSpec.of(ImageSource(SHA256, url=stranger.url())))
            await eventually(lambda: one.far() == ("fetching", 2 * FIRST, len(CONTENT)))


async def test_a_pull_shows_the_bytes_that_came_of_those_that_the_manifest_declares(
    tmp_path: Path,
) -> None:
    program("skopeo")
    with hostile_registry({"layer": stalled}) as registry:
        settings = RegistryConfig(name=registry.host, insecure=True)
        named = parse_reference(registry.reference)
        assert named is not None
        spec = LayerSpec.of(OciSource("linux/amd64", named.repository, named.digest))
        half, whole = len(registry.layer) // 2, len(registry.layer)
        async with watched(tmp_path, Sources(registries=(settings,))) as one:
            one.begin(spec)
            await eventually(lambda: one.far()[0] == "asking the registry")
            # Skopeo writes what it has read in pieces of its own.
            await eventually(lambda: one.far()[1] > half // 2, 30)
            doing, done, total = one.far()
            assert (doing, total) == ("fetching", whole)
            assert done <= half


async def test_of_a_program_that_writes_only_the_bytes_so_far_are_known(tmp_path: Path) -> None:
    text = '#!/bin/sh\nhead -c 100000 /dev/urandom >"$OUT/a"\nexec sleep 600\n'
    path = tmp_path / "make"
    path.write_text(text)
    path.chmod(0o755)
    source = ScriptSource("make", program=hashlib.sha256(text.encode()).hexdigest())
    sources = Sources(scripts={"make": ScriptConfig(path=str(path))})
    async with watched(tmp_path, sources) as one:
        one.begin(LayerSpec.of(source, "squashfs"))
        await eventually(lambda: one.far() == ("running make", 100_000, 0))


async def test_a_composed_layer_is_as_far_as_the_part_that_it_waits_for_and_parts_are_no_builds(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def make(part: BuildSite) -> None:
        await asyncio.to_thread(part.image.write_bytes, b"x" * 5000)
        part.progress.begin("packing", part.image)
        await gate.wait()

    async def build(_: TreeSource, site: BuildSite) -> None:
        await site.part(LayerKey("e" * 64), "layer 5f70bf18a086", make)

    async with watched(tmp_path, tree=LayerInput(build, seconds=60.0, composed=True)) as one:
        for folder, tree in (("./a", "0" * 40), ("./b", "1" * 40)):
            one.begin(LayerSpec.of(TreeSource(tree, folder)))

        def far() -> set[tuple[str, str, int]]:
            seen = one.store.progress().values()
            return {(each.title, each.doing, each.done_bytes) for each in seen}

        # Both wait for the same part, which is made once.
        at = "packing layer 5f70bf18a086"
        await eventually(lambda: far() == {("tree ./a", at, 5000), ("tree ./b", at, 5000)})


async def test_while_nothing_changes_the_answer_is_the_same_object(tmp_path: Path) -> None:
    with serving(hanging(head("200 OK"), CONTENT[:FIRST])) as stranger:
        async with watched(tmp_path, Sources(image_urls=(stranger.pattern,))) as one:
            one.begin(LayerSpec.of(ImageSource(SHA256, url=stranger.url())))
            await eventually(lambda: one.far()[1] == FIRST)
            assert one.store.progress() is one.store.progress()


async def test_a_step_counts_from_its_own_beginning_and_what_was_there_is_left_aside(
    tmp_path: Path,
) -> None:
    kept, work = tmp_path / "kept", tmp_path / "work"
    for folder in (kept, work):
        folder.mkdir()
        (folder / "former").write_bytes(b"x" * 7000)
    board = ProgressBoard(SystemClock())
    with board.of("a" * 64, "one") as progress:
        progress.begin("installing", work, grown=(kept,))

        def done() -> int:
            return next(iter(board.seen().values())).done_bytes

        await eventually(lambda: done() == 7000)
        (kept / "new").write_bytes(b"x" * 500)
        await eventually(lambda: done() == 7500)
        progress.begin("packing")
        assert done() == 0
    assert board.seen() == {}


def test_holes_are_no_bytes_and_links_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (folder / "text").write_bytes(b"x" * 100)
    (tmp_path / "other").write_bytes(b"x" * 9000)
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    assert bytes_in(folder, tmp_path / "gone") == 100
