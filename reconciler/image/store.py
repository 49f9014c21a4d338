"""The store of layers and kernel bundles: built once for each key, whole or absent, and collected."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import shutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from reconciler.children.spare import ConfinedPrograms
from reconciler.clock import Clock
from reconciler.content_store import ContentStore
from reconciler.errors import BuildUnavailable, ImageError
from reconciler.host import layout
from reconciler.image.build_site import BuildTools, Sources
from reconciler.image.composed import ComposedLayers
from reconciler.image.counted_dict import CountedDict
from reconciler.image.debian_packages import Debian
from reconciler.image.debian_roots.builder_client import own_roots
from reconciler.image.disk import build_disk
from reconciler.image.downloads import Downloads
from reconciler.image.image_directory import ImageDirectory
from reconciler.image.inventory import ImagesOfKind, Inventory
from reconciler.image.kernel import announces, build_bundle
from reconciler.image.nix_build import NixRunners
from reconciler.image.nix_program import WITH_NIX, Nix
from reconciler.image.part_builds import PartBuilds
from reconciler.image.progress_board import Progress, ProgressBoard
from reconciler.image.registry import INPUTS, InputKinds, build_layer
from reconciler.image.room import while_there_is_room
from reconciler.image.single_flight import SharedBuilds
from reconciler.image.verity import HashTrees
from reconciler.model.build_progress import BuildProgress
from reconciler.model.image import BuiltImage, DiskImage, KernelSpec, NixRunner
from reconciler.model.layers import LayerSpec
from reconciler.model.names import KernelKey, LayerKey

log = logging.getLogger(__name__)

NO_RESERVE = 0
NOTHING_ELSE = Sources()
FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")
Make = Callable[[Path, Progress], Coroutine[Any, Any, None]]


class ImageStore:
    """What is built under `state_dir`: the kinds of images of `host/layout.py`.

    Runners of Nix and disks that firmware boots are to everybody else kernel bundles: that which is
    booted. A composed layer is a layer that is there when all of its parts are.

    `open` comes first and `close` last. Questions are answered from memory; disks are read in threads.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        *,
        builds_at_once: int = 2,
        disk_reserve_bytes: int = NO_RESERVE,
        debian: Debian | None = None,
        sources: Sources = NOTHING_ELSE,
        inputs: InputKinds = INPUTS,
    ) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._disk_reserve_bytes = disk_reserve_bytes
        own = debian or Debian(own_roots(layout.debian_builder(state_dir)))
        self._downloads = Downloads(
            layout.downloads(state_dir), clock, sources.image_urls, disk_reserve_bytes
        )
        nix = Nix(layout.images(state_dir, "runners") / ".home")
        self.tools = BuildTools(ConfinedPrograms(), own, self._downloads, nix, sources)
        self._inputs = inputs
        self._layer_shelf = ImageDirectory(
            layout.images(state_dir, "layers"), (layout.IMAGE,), layout.BESIDE_IMAGE
        )
        self._composed = ComposedLayers(state_dir)
        kernels = layout.images(state_dir, "kernels")
        self._kernel_shelf = ImageDirectory(kernels, (layout.KERNEL, layout.INITRD))
        self._disk_shelf = ImageDirectory(layout.images(state_dir, "disks"), (layout.IMAGE,))
        self._nix = NixRunners(layout.images(state_dir, "runners"), nix)
        self._layers: CountedDict[str, BuiltImage] = CountedDict()
        self._kernels: CountedDict[str, BuiltImage] = CountedDict()
        self._disks: CountedDict[str, BuiltImage] = CountedDict()
        self._runners: CountedDict[str, BuiltImage] = CountedDict()
        self._hash_trees = HashTrees(self._layer_shelf)
        self._announcing: set[str] = set()
        self._composing: list[PartBuilds] = []
        self._suspects: set[str] = set()
        """Images that were found gone or changed: what is left of them is verified before it is used."""
        self._builds = SharedBuilds(builds_at_once)
        self._board = ProgressBoard(clock)
        self.inventory = Inventory(state_dir, clock, self._shelves, self._composed.contents)

    async def open(self) -> None:
        """Find what is there, and have a builder ready. Raises ImageError."""
        await asyncio.to_thread(self.inventory.load)
        try:
            self._layers.update(await asyncio.to_thread(self._layer_shelf.scan))
            await asyncio.to_thread(self._composed.scan)
            self._kernels.update(await asyncio.to_thread(self._kernel_shelf.scan))
            self._disks.update(await asyncio.to_thread(self._disk_shelf.scan))
            self._runners.update(await asyncio.to_thread(self._nix.scan))
            await asyncio.to_thread(self._downloads.sweep)
            for key in self._kernels:
                await self._listen_for(key)
        except OSError as error:
            raise ImageError(
                f"{self._state_dir}: {error.strerror}", hint="check owner, mode and disk"
            ) from error
        await self.tools.programs.ready()

    async def close(self) -> None:
        """End all builders; what they were making is not kept."""
        await self._builds.close()
        await asyncio.to_thread(self.inventory.close)
        await self.tools.programs.close()

    def layers(self) -> frozenset[LayerKey]:
        return frozenset(map(LayerKey, self._layers)).union(self._composed.whole(self._layers))

    def parts(self) -> dict[LayerKey, tuple[LayerKey, ...]]:
        return self._composed.parts()

    def hash_trees(self) -> Mapping[LayerKey, str]:
        return self._hash_trees.of(self._layers)

    def kernels(self) -> frozenset[KernelKey]:
        return frozenset(map(KernelKey, (*self._kernels, *self._disks, *self._runners)))

    def announcing(self) -> frozenset[KernelKey]:
        """Kernel bundles whose initrd sees to it that a guest says when it is up."""
        return frozenset(KernelKey(key) for key in self._kernels if key in self._announcing)

    def has_part(self, key: LayerKey) -> bool:
        """As `layers`, without looking through all that is composed; an image may ask a hundred times."""
        return key in self._layers

    def layer_path(self, key: LayerKey) -> Path:
        return layout.layer_image(self._state_dir, key)

    def kernel_paths(self, key: KernelKey) -> tuple[Path, Path]:
        return layout.kernel_files(self._state_dir, key)

    async def build_layer(self, spec: LayerSpec, content: ContentStore) -> BuiltImage:
        """Make a layer, or verify that it is there. Raises BuildFailed or BuildUnavailable."""
        parts = PartBuilds(self, spec, content)

        async def make(workspace: Path, progress: Progress) -> None:
            await build_layer(spec, parts.site(workspace, progress), self._inputs)

        if not self._inputs[spec.source.kind].composed:
            return await self._build(spec.key, spec.title, self._layer_shelf, self._layers, make)
        self._composing.append(parts)
        try:
            return await self._builds.run(
                spec.key, functools.partial(self._compose, spec.key, spec.title, make)
            )
        finally:
            self._composing.remove(parts)

    async def _compose(self, key: str, title: str, make: Make) -> BuiltImage:
        composed = self._composed
        try:
            built = await self._whole(key)
            if built is None:
                self._check_space()
                built = await self._make(key, title, composed.shelf, make)
                await _to_the_end(functools.partial(composed.learn, key, built))
                if changes := composed.changes(key):
                    built = replace(built, versions=f"{title}: {changes}")
        except OSError as error:
            raise _no_disk(title, error) from error
        return composed.sized(key, built, self._layers)

    async def _whole(self, key: str) -> BuiltImage | None:
        """A composed layer that is there with all its parts, each verified if it was missed."""
        known, present = self._composed.composition(key), self._composed.present
        if known is None:
            return None
        verify = functools.partial(self._composed.shelf.verify, key)
        if (built := await _to_the_end(verify)) is None:
            del present[key]
            return None
        for part in known.parts:
            if not await self._found(part, self._layer_shelf, self._layers):
                return None
        return built

    def progress(self) -> Mapping[str, BuildProgress]:
        """How far the builds are, by key; the same object while nothing changed."""
        return self._board.seen()

    def kept(self) -> frozenset[str]:
        """What is being built, and the parts of it that stand already."""
        return self._builds.keys.union(*(parts.made for parts in self._composing))

    async def build_part(self, key: LayerKey, title: str, make: Make) -> BuiltImage:
        """Make one part of a layer that is being composed, or verify that it is there."""
        shelf, present = self._layer_shelf, self._layers
        joined = key in self._builds.keys
        try:
            return await self._build(key, title, shelf, present, make, within=True)
        except BuildUnavailable:
            if not joined:
                raise
        # What it was made of went with the layer that began it, and this one has its own.
        return await self._build(key, title, shelf, present, make, within=True)

    async def build_kernel(self, spec: KernelSpec, content: ContentStore) -> BuiltImage:
        """Make a kernel bundle, a disk or a runner, or verify that it is there.

        Raises BuildFailed or BuildUnavailable.
        """
        source = spec.source
        if isinstance(source, NixRunner):
            return await self._builds.run(
                spec.key, functools.partial(self._build_runner, spec, source, content)
            )
        if isinstance(source, DiskImage):

            async def make(workspace: Path, progress: Progress) -> None:
                await build_disk(spec.title, source, self.tools, workspace, progress)

            return await self._build(spec.key, spec.title, self._disk_shelf, self._disks, make)

        async def bundle(workspace: Path, progress: Progress) -> None:
            await build_bundle(source, self.tools.debian, workspace, progress)

        built = await self._build(spec.key, spec.title, self._kernel_shelf, self._kernels, bundle)
        await self._listen_for(spec.key)
        return built

    async def _listen_for(self, key: str) -> None:
        _, initrd = layout.kernel_files(self._state_dir, key)
        if await asyncio.to_thread(announces, initrd):
            self._announcing.add(key)

    async def _build_runner(
        self, spec: KernelSpec, source: NixRunner, content: ContentStore
    ) -> BuiltImage:
        begin = self._clock.now().boot
        self._check_space()
        try:
            with self._board.of(spec.key, spec.title) as progress:
                progress.begin(WITH_NIX)
                built = await self._nix.build(spec.key, spec.title, source, content)
        except OSError as error:
            raise _no_disk(spec.title, error) from error
        built = replace(built, seconds=self._clock.now().boot - begin)
        self._runners[spec.key] = built
        return built

    async def look(self, keys: frozenset[str] | None = None) -> frozenset[str]:
        """Look whether these images, or all, are still there as they were made; returns the others.

        Those count as missing from then on; a build verifies them by content, or makes them anew.
        """
        missing: set[str] = set()
        await self.inventory.keep()
        for _, shelf, present in self._shelves():
            known = present.keys() if keys is None else present.keys() & keys
            settled = frozenset(known - self._builds.keys)
            for key in await asyncio.to_thread(shelf.altered, settled) if settled else ():
                if key in present and key not in self._builds.keys:
                    del present[key]
                    self._suspects.add(key)
                    missing.add(key)
                    log.warning(
                        "an image is gone from the store, or was changed there: it is made again"
                        " if it is needed; guests run on",
                        extra={"fields": {"key": key}},
                    )
        return frozenset(missing)

    def _shelves(self) -> tuple[ImagesOfKind, ...]:
        return (
            ("layer", self._layer_shelf, self._layers),
            ("composed", self._composed.shelf, self._composed.present),
            ("kernel", self._kernel_shelf, self._kernels),
            ("disk", self._disk_shelf, self._disks),
            ("runner", self._nix, self._runners),
        )

    async def collect(self, pinned: frozenset[str]) -> int:
        """Remove what does not stay; returns the bytes freed. Raises ImageError."""
        freed = 0
        await self._downloads.tidy()
        for _, shelf, present in self._shelves():
            for key in sorted(present.keys() | shelf.broken.keys()):
                # Asked for each: builds begin and end meanwhile, and newer plans are made.
                if self._stays(key, pinned):
                    continue
                # Gone from memory first: a build of this key that begins now makes it anew.
                if present.pop(key, None) is not None or key in shelf.broken:
                    try:
                        freed += await _to_the_end(functools.partial(shelf.remove, key))
                    except OSError as error:
                        raise ImageError(f"{key}: not removed: {error.strerror}") from error
            kept = pinned | self.inventory.named | self.kept() | present.keys()
            await asyncio.to_thread(shelf.forget, kept)
        return freed

    def _stays(self, key: str, pinned: frozenset[str]) -> bool:
        """Whether a pin, the newest plan or a build names an image, or a layer of which it is a part."""
        named = self.inventory.named
        holders = (key, *self._composed.holders(key))
        return any(one in pinned or one in named for one in holders) or key in self.kept()

    async def _build(
        self,
        key: str,
        title: str,
        shelf: ImageDirectory,
        present: dict[str, BuiltImage],
        make: Make,
        *,
        within: bool = False,
    ) -> BuiltImage:
        async def build() -> BuiltImage:
            try:
                if await self._found(key, shelf, present):
                    return present[key]
                self._check_space()
                built = await self._make(key, title, shelf, make, part=within)
            except OSError as error:
                raise _no_disk(title, error) from error
            present[key] = built
            return built

        return await self._builds.run(key, build, within=within)

    async def _found(self, key: str, shelf: ImageDirectory, present: dict[str, BuiltImage]) -> bool:
        """Whether an image that is known, or was missed, is what was made."""
        if key not in present and key not in self._suspects and key not in shelf.broken:
            return False
        found = await _to_the_end(functools.partial(shelf.verify, key))
        self._suspects.discard(key)
        if found is None:
            present.pop(key, None)
            return False
        present[key] = found
        return True

    async def _make(
        self, key: str, title: str, shelf: ImageDirectory, make: Make, *, part: bool = False
    ) -> BuiltImage:
        begin = self._clock.now().boot
        with shelf.workspace(key) as workspace, self._board.of(key, title, part=part) as progress:
            work = make(workspace, progress)
            await while_there_is_room(work, workspace, self._disk_reserve_bytes)
            seconds = self._clock.now().boot - begin
            progress.begin("storing")
            return await _to_the_end(
                functools.partial(shelf.publish, key, workspace, title, seconds)
            )

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._state_dir).free
        if free < self._disk_reserve_bytes:
            raise BuildUnavailable(
                f"{self._state_dir}: {free >> 20} MiB are free, {self._disk_reserve_bytes >> 20} are kept",
                kind="disk-full",
                hint="free some space, or lower policy.disk_reserve_mib",
            )


def _no_disk(title: str, error: OSError) -> BuildUnavailable:
    return BuildUnavailable(
        f"{title}: {error.strerror or error}",
        kind="disk-full" if error.errno in FULL else "disk",
        hint="see `df` and the journal",
    )


async def _to_the_end(work: Callable[[], T]) -> T:
    """Run blocking work in a thread; a cancellation waits for it, so that nothing happens behind us."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
