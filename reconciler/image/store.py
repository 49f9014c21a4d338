"""The store of layers and kernel bundles: built once for each key, whole or absent, and collected."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from reconciler.children.spare import ConfinedPrograms
from reconciler.clock import Clock
from reconciler.content_store import ContentStore
from reconciler.errors import BuildUnavailable, ImageError
from reconciler.host import layout
from reconciler.image.build_site import BuildSite, BuildTools
from reconciler.image.debian_packages import Debian
from reconciler.image.image_directory import ImageDirectory
from reconciler.image.kernel import announces, build_bundle
from reconciler.image.nix_build import NixRunners
from reconciler.image.registry import INPUTS, InputKinds, build_layer
from reconciler.image.single_flight import SharedBuilds
from reconciler.model.image import BuiltImage, KernelSpec, NixRunner
from reconciler.model.layers import LayerSpec
from reconciler.model.names import KernelKey, LayerKey

log = logging.getLogger(__name__)

HEAD_BYTES = 2048
NO_RESERVE = 0
FULL_BYTES = 256 * 1024
"""Less is left of a disk that a builder filled: it fails before it takes the last block."""
FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")
Make = Callable[[Path], Awaitable[None]]


class ImageStore:
    """What is built under `state_dir`: `layers/KEY/image`, `kernels/KEY/{vmlinuz,initrd}`, `runners/KEY`.

    A runner of Nix is to everybody else a kernel bundle: that which is booted.

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
        inputs: InputKinds = INPUTS,
    ) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._disk_reserve_bytes = disk_reserve_bytes
        self._tools = BuildTools(ConfinedPrograms(), debian or Debian())
        self._inputs = inputs
        self._layer_shelf = ImageDirectory(layout.images(state_dir, "layers"), (layout.IMAGE,))
        kernels = layout.images(state_dir, "kernels")
        self._kernel_shelf = ImageDirectory(kernels, (layout.KERNEL, layout.INITRD))
        self._nix = NixRunners(layout.images(state_dir, "runners"))
        self._layers: dict[str, BuiltImage] = {}
        self._kernels: dict[str, BuiltImage] = {}
        self._runners: dict[str, BuiltImage] = {}
        self._announcing: set[str] = set()
        self._suspects: set[str] = set()
        """Images that were found gone or changed: what is left of them is verified before it is used."""
        self._builds = SharedBuilds(builds_at_once)

    async def open(self) -> None:
        """Find what is there, and have a builder ready. Raises ImageError."""
        try:
            self._layers = await asyncio.to_thread(self._layer_shelf.scan)
            self._kernels = await asyncio.to_thread(self._kernel_shelf.scan)
            self._runners = await asyncio.to_thread(self._nix.scan)
            for key in self._kernels:
                await self._listen_for(key)
        except OSError as error:
            raise ImageError(
                f"{self._state_dir}: {error.strerror}", hint="check owner, mode and disk"
            ) from error
        await self._tools.programs.ready()

    async def close(self) -> None:
        """End all builders; what they were making is not kept."""
        await self._builds.close()
        await self._tools.programs.close()

    def layers(self) -> frozenset[LayerKey]:
        return frozenset(map(LayerKey, self._layers))

    def kernels(self) -> frozenset[KernelKey]:
        return frozenset(map(KernelKey, (*self._kernels, *self._runners)))

    def announcing(self) -> frozenset[KernelKey]:
        """Kernel bundles whose initrd sees to it that a guest says when it is up."""
        return frozenset(KernelKey(key) for key in self._kernels if key in self._announcing)

    def layer_path(self, key: LayerKey) -> Path:
        return layout.layer_image(self._state_dir, key)

    def kernel_paths(self, key: KernelKey) -> tuple[Path, Path]:
        return layout.kernel_files(self._state_dir, key)

    async def build_layer(self, spec: LayerSpec, content: ContentStore) -> BuiltImage:
        """Make a layer, or verify that it is there. Raises BuildFailed or BuildUnavailable."""

        async def make(workspace: Path) -> None:
            site = BuildSite(spec.format, workspace, content, self._tools)
            await build_layer(spec, site, self._inputs)

        return await self._build(spec.key, spec.title, self._layer_shelf, self._layers, make)

    async def build_kernel(self, spec: KernelSpec, content: ContentStore) -> BuiltImage:
        """Make a kernel bundle or runner, or verify that it is there.

        Raises BuildFailed or BuildUnavailable.
        """
        if isinstance(spec.source, NixRunner):
            return await self._builds.run(
                spec.key, functools.partial(self._build_runner, spec, spec.source, content)
            )
        make = functools.partial(build_bundle, spec.source, self._tools.debian)
        built = await self._build(spec.key, spec.title, self._kernel_shelf, self._kernels, make)
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
        for shelf, present in self._shelves():
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

    def _shelves(self) -> tuple[tuple[ImageDirectory | NixRunners, dict[str, BuiltImage]], ...]:
        return (
            (self._layer_shelf, self._layers),
            (self._kernel_shelf, self._kernels),
            (self._nix, self._runners),
        )

    async def collect(self, pinned: frozenset[str]) -> int:
        """Remove what no pin names and nobody builds; returns the bytes freed. Raises ImageError."""
        freed = 0
        for shelf, present in self._shelves():
            for key in sorted(present.keys() - pinned - self._builds.keys):
                # Gone from memory first: a build of this key that begins now makes it anew.
                if present.pop(key, None) is not None:
                    try:
                        freed += await _to_the_end(functools.partial(shelf.remove, key))
                    except OSError as error:
                        raise ImageError(f"{key}: not removed: {error.strerror}") from error
            await asyncio.to_thread(shelf.forget, pinned | present.keys() | self._builds.keys)
        return freed

    async def _build(
        self,
        key: str,
        title: str,
        shelf: ImageDirectory,
        present: dict[str, BuiltImage],
        make: Make,
    ) -> BuiltImage:
        async def build() -> BuiltImage:
            try:
                if key in present or key in self._suspects:
                    found = await _to_the_end(functools.partial(shelf.verify, key))
                    self._suspects.discard(key)
                    if found is not None:
                        present[key] = found
                        return found
                    present.pop(key, None)
                self._check_space()
                built = await self._make(key, title, shelf, make)
            except OSError as error:
                raise _no_disk(title, error) from error
            present[key] = built
            return built

        return await self._builds.run(key, build)

    async def _make(self, key: str, title: str, shelf: ImageDirectory, make: Make) -> BuiltImage:
        begin = self._clock.now().boot
        with shelf.workspace(key) as workspace:
            try:
                await make(workspace)
            except BuildUnavailable as error:
                # Looked at while what it wrote is still there.
                if shutil.disk_usage(workspace).free < FULL_BYTES:
                    raise BuildUnavailable(
                        str(error), kind="disk-full", hint="free some space; it is tried again"
                    ) from error
                raise
            seconds = self._clock.now().boot - begin
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
