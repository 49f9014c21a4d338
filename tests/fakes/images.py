"""A store of images in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from reconciler.content_store import ContentStore
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.model.build_progress import BuildProgress
from reconciler.model.image import BuiltImage, KernelSpec, StoredImage, StoredKind
from reconciler.model.image_contents import LayerContents
from reconciler.model.layers import LayerSpec
from reconciler.model.names import (
    KernelKey,
    LayerKey,
)
from reconciler.model.store_status import ImageCheck
from tests.fakes.faults import Fault, Faults


class FakeImages:
    """A store in memory. Keys in `bad` cannot be built; keys in `flaky` fail once."""

    def __init__(self, faults: Faults) -> None:  # noqa: PLR0915 - one line for each thing that tests set
        self.faults = faults
        self._layers: set[LayerKey] = set()
        self._kernels: set[KernelKey] = set()
        self.mute = False
        """Kernel bundles are of a version whose init says nothing."""
        self.composed: Callable[[LayerKey], tuple[LayerKey, ...]] = lambda _key: ()
        """The parts of a layer that is composed of several images."""
        self._parts: dict[LayerKey, tuple[LayerKey, ...]] = {}
        self.contents: dict[str, LayerContents] = {}
        """What builds note of composed layers."""
        self.hashed: set[str] = set()
        """Layers whose images end in a tree of hashes."""
        self.lost: set[str] = set()
        self.bad: set[str] = set()
        self.flaky: set[str] = set()
        self.slow: Callable[[str], float] = lambda _key: 0.0
        """Seconds that the build of a key takes."""
        self.under_way: list[str] = []
        self.far: Callable[[str], tuple[int, int]] = lambda _key: (0, 0)
        """How many bytes of a build there are, and of how many; 0: unknown."""
        self._begun: dict[str, float] = {}
        self._progress: Mapping[str, BuildProgress] = {}
        self.cancelled: list[str] = []
        self.built: list[str] = []
        self.collected: list[str] = []
        self.on_removal: Callable[[frozenset[str]], None] = lambda _keys: None
        """Called with what a collection removes, in the moment before it is gone."""
        self.size: Callable[[str], int] = lambda _key: 1024 * 1024
        """Bytes of an image."""
        self.rotten: set[str] = set()
        """Images whose bytes changed on the disk, as a reading will find."""
        self.broken: dict[str, str] = {}
        self._made: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._checked: dict[str, float] = {}
        self._named: frozenset[str] = frozenset()
        self._stored: Mapping[str, StoredImage] = {}

    def layers(self) -> frozenset[LayerKey]:
        whole = (key for key, parts in self._parts.items() if self._layers.issuperset(parts))
        return frozenset(self._layers).union(whole)

    def parts(self) -> dict[LayerKey, tuple[LayerKey, ...]]:
        return dict(self._parts)

    def hash_trees(self) -> dict[LayerKey, str]:
        return {key: f"2:{'0' * 64}" for key in self._layers if key in self.hashed}

    def stored(self) -> Mapping[str, StoredImage]:
        kinds: tuple[tuple[StoredKind, Collection[str]], ...] = (
            ("layer", self._layers), ("composed", self._parts), ("kernel", self._kernels),
            ("layer", self.broken),
        )  # fmt: skip
        found = {
            key: StoredImage(
                key, kind, f"image {key[:6]}", 0 if kind == "composed" else self.size(key),
                self._made.get(key, 0.0), 0.0 if key in self._named else self._used.get(key, 0.0),
                self._checked.get(key, 0.0), self.broken.get(key, ""), self.contents.get(key),
            )
            for kind, keys in kinds
            for key in sorted(keys)
        }  # fmt: skip
        if found != self._stored:
            self._stored = found
        return self._stored

    def used(self, keys: frozenset[str]) -> None:
        self._used.update(dict.fromkeys(self._named | keys, self.faults.clock.now().wall))
        self._named = keys

    async def read_again(
        self, key: str, *, bytes_per_second: float, progress: Callable[[int], None]
    ) -> ImageCheck:
        image = self.stored()[key]
        progress(image.size_bytes)
        if key not in self.rotten:
            self._checked[key] = self.faults.clock.now().wall
            return ImageCheck(key, image.title, image.size_bytes, image.size_bytes, "sound")
        self.rotten.discard(key)
        self._layers.discard(LayerKey(key))
        self._kernels.discard(KernelKey(key))
        self.broken[key] = "image has another sha256"
        size = image.size_bytes
        return ImageCheck(key, image.title, size, size, "rotten", self.broken[key])

    def kernels(self) -> frozenset[KernelKey]:
        return frozenset(self._kernels)

    def announcing(self) -> frozenset[KernelKey]:
        return frozenset() if self.mute else frozenset(self._kernels)

    def lose(self, key: str) -> None:
        """Somebody removes it from the disk; the store does not know before it looks."""
        self.lost.add(key)

    def on_disk(self) -> frozenset[str]:
        images = frozenset[str](self._layers | self._kernels) - self.lost
        known = {key: parts for key, parts in self._parts.items() if key not in self.lost}
        return images.union(key for key, parts in known.items() if images.issuperset(parts))

    async def look(self, keys: frozenset[str] | None = None) -> frozenset[str]:
        gone = frozenset(self.lost if keys is None else self.lost & keys)
        self._layers -= gone
        self._kernels -= gone
        self._parts = {key: parts for key, parts in self._parts.items() if key not in gone}
        self.lost -= gone
        return gone

    async def build_layer(self, spec: LayerSpec, content: ContentStore) -> BuiltImage:
        fault = await self._take_time(spec.key)
        image = self._build(spec.key)
        if parts := self.composed(spec.key):
            self._parts[spec.key] = parts
        self._layers.update(parts or (spec.key,))
        self.lost.difference_update(parts)
        for part in parts:
            self.broken.pop(part, None)
        self.faults.after("build", fault)
        return image

    async def build_kernel(self, spec: KernelSpec, content: ContentStore) -> BuiltImage:
        fault = await self._take_time(spec.key)
        image = self._build(spec.key)
        self._kernels.add(spec.key)
        self.faults.after("build", fault)
        return image

    def progress(self) -> Mapping[str, BuildProgress]:
        found = {
            key: BuildProgress(f"image {key[:6]}", "packing", *self.far(key), self._begun[key])
            for key in self.under_way
        }
        if found != self._progress:
            self._progress = found
        return self._progress

    async def _take_time(self, key: str) -> Fault | None:
        self.under_way.append(key)
        self._begun[key] = self.faults.clock.now().boot
        try:
            fault = await self.faults.before("build")
            if (seconds := self.slow(key)) > 0:
                await self.faults.clock.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        finally:
            self.under_way.remove(key)
        return fault

    def _build(self, key: str) -> BuiltImage:
        if key in self.bad:
            raise BuildFailed("the tree holds a submodule")
        if key in self.flaky:
            self.flaky.discard(key)
            raise BuildUnavailable("no space left")
        self.lost.discard(key)
        self.broken.pop(key, None)
        self.built.append(key)
        self._made[key] = self.faults.clock.now().wall
        return BuiltImage(key, 1, "0" * 64, 0.0)

    async def collect(self, pinned: frozenset[str]) -> int:
        fault = await self.faults.before("collect")
        named = pinned | self._named
        parts = self._parts
        stay = named.union(*(parts[LayerKey(key)] for key in parts.keys() & named))
        gone = frozenset[str](self._layers | self._kernels) - stay
        self.on_removal(gone | (self._parts.keys() - stay))
        self._parts = {key: parts for key, parts in self._parts.items() if key in stay}
        self._layers -= gone
        self._kernels -= gone
        self.broken = {key: why for key, why in self.broken.items() if key in stay}
        self.collected += sorted(gone)
        self.faults.after("collect", fault)
        return len(gone)
