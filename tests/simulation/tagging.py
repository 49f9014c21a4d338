"""Images that VMs name by a tag: pushed well and badly, by others than who pushes commits, and registries that go."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from reconciler.errors import RequestRefused
from reconciler.model.desired import VMSpec
from reconciler.model.image_tags import digests_of
from reconciler.model.layer_kinds.oci_layer import OciSource, Resolve
from reconciler.model.layers import LayerSpec
from reconciler.model.names import Digest
from reconciler.model.request import ResolveTags
from tests.simulation.fates import BAD_CONTENT, register
from tests.world import World

REPOSITORY = "registry.example.org/acme/app"
TAG = "1"
REFERENCE = f"{REPOSITORY}:{TAG}"
BY_TAG: dict[str, Resolve] = {
    "web-a": "daily",
    "web-b": "daily",
    "web-c": "commit",
    "job": "manual",
}
DAY = 86_400.0
Survive = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
"""Does something in which the daemon may die, and then is started again."""


class Tagging:
    """In half of all lives some VMs have such an image below their own content."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self.world = world
        self._draw = draw
        self._used = draw.random() < 0.5
        self._pushes = 0
        self.pushed: set[str] = set()
        self.push("good")

    def of(self, spec: VMSpec) -> VMSpec:
        """The same VM, with the image if it is one that has it."""
        resolve = BY_TAG.get(spec.name)
        if resolve is None or not self._used:
            return spec
        return with_image(spec, resolve)

    async def chapter(self, survive: Survive) -> None:
        """Something that happens to the registry, or is asked about it."""
        if not self._used:
            return
        match self._draw.randrange(6):
            case 0 | 1:
                self.push("good")
            case 2:
                self.push(self._draw.choice(BAD_CONTENT))
            case 3:
                self.world.tags.away ^= {REFERENCE}
            case 4:
                self.world.tags.slow = self._draw.choice((0.0, 0.5, 20.0))
            case _:
                with contextlib.suppress(RequestRefused):
                    await survive(lambda: self.world.ask(ResolveTags(REFERENCE)))
        if self._draw.random() < 0.3:
            self.world.clock.advance(DAY)

    async def end(self) -> None:
        """Registries are back, and asked at once."""
        self.world.tags.away, self.world.tags.slow = set(), 0.0
        with contextlib.suppress(RequestRefused):
            await self.world.ask(ResolveTags())

    def wrong(self) -> str:
        """Whether a generation has an image that is unknown, or that was never pushed; empty: none has."""
        for vm in self.world.ledger.record().vms.values():
            for generation in vm.generations:
                for tag, digest in digests_of(generation.spec):
                    if digest not in self.pushed:
                        return (
                            f"generation {generation.number} of {vm.name} has {tag} as {digest!r}"
                        )
        return ""

    def push(self, kind: str) -> str:
        """Another image by the tag, and what becomes of its guests; returns its digest."""
        self._pushes += 1
        if self._draw.random() < 0.15:
            self._pushes = 1  # an older image is pushed again
        digest = self.world.tags.push(REFERENCE, f"{kind}{self._pushes}")
        self.pushed.add(digest)
        register(LayerSpec.of(OciSource("linux/amd64", REPOSITORY, digest)).key, kind)
        return digest


def with_image(spec: VMSpec, resolve: Resolve) -> VMSpec:
    """The same VM, with an image that is named by the tag below its own content."""
    image = LayerSpec.of(OciSource("linux/amd64", REPOSITORY, tag=TAG, resolve=resolve))
    spec = replace(spec, layers=(image, *spec.layers))
    return replace(spec, digest=Digest(spec.compute_digest()))


def wanted_of(spec: VMSpec, pushed: set[str]) -> set[str]:
    """The digests that a VM may have been desired with, by all that its tag ever meant."""
    tagged = [layer.source for layer in spec.layers if isinstance(layer.source, OciSource)]
    found = {str(spec.digest)}
    for source in tagged if tagged and tagged[0].tag else ():
        for digest in pushed:
            layer = LayerSpec.of(replace(source, digest=digest))
            meant = replace(spec, layers=(layer, *spec.layers[1:]))
            found.add(str(meant.compute_digest()))
    return found
