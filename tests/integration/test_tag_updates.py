"""A VM whose image a real registry has by a tag: the real engine, store and skopeo, and guests of a fake VMM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.content_store import ContentStore
from reconciler.engine.reconcile_pass import Reconciler
from reconciler.image.build_site import Sources
from reconciler.image.oci.tag_lookup import RegistryTags
from reconciler.image.store import ImageStore
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.image import BuiltImage
from reconciler.model.image_tags import digests_of
from reconciler.model.layer_kinds.oci_layer import Oci
from reconciler.model.layers import LayerSpec
from reconciler.model.names import Digest, LayerKey, VMName
from tests.eventually import LOOK_EVERY
from tests.fakes import FakeImages, Faults
from tests.registry.images import Layout, program, write_layer
from tests.registry.serving import Registry, serving_registry
from tests.world import World, state, vm

pytestmark = pytest.mark.integration

WEB = VMName("web")
START = {"config.entrypoint": ["/bin/app"]}
SECONDS = 60.0


class LayersOfAStore(FakeImages):
    """Layers are made in earnest; the kernel is not."""

    def __init__(self, faults: Faults, store: ImageStore) -> None:
        super().__init__(faults)
        self._store = store

    def layers(self) -> frozenset[LayerKey]:
        return self._store.layers()

    def parts(self) -> dict[LayerKey, tuple[LayerKey, ...]]:
        return self._store.parts()

    async def build_layer(self, spec: LayerSpec, content: ContentStore) -> BuiltImage:
        return await self._store.build_layer(spec, content)


class Host:
    """A world whose registry is real, with a folder in which images are made for it."""

    def __init__(self, folder: Path, store: ImageStore, registry: Registry) -> None:
        self.store, self.registry = store, registry
        self._folder = folder
        self._pushed = 0
        self.world = world = World()
        world.images = images = LayersOfAStore(world.faults, store)
        world.adapters = replace(
            world.adapters, images=images, inventory=images,
            tags=RegistryTags(folder / "lookups", store.tools),
        )  # fmt: skip
        world.reconciler = Reconciler(world.adapters, world.policy, world.workers)
        self.base = write_layer(folder / "base.tar", {"bin/": "", "bin/app": "an application"})

    def push_image(self, text: str) -> str:
        """An image of the base and a layer with this text, by the tag `1`; returns its digest."""
        self._pushed += 1
        layout = Layout(self._folder / f"layout-{self._pushed}")
        top = write_layer(self._folder / f"{self._pushed}.tar", {"etc/": "", "etc/motd": text})
        layout.add("1", self.base, top, settings=START)
        return self.registry.push(layout, "1", "acme/app").rpartition("@")[2]

    def at(self, number: int, memory: int = 128) -> DesiredState:
        return state(self._web(memory), revision=f"{number:040x}")

    def _web(self, memory: int) -> VMSpec:
        written = Oci(image=f"{self.registry.host}/acme/app:1", resolve="commit")
        spec = replace(vm("web", memory=memory), layers=(LayerSpec.of(written.source()),))
        return replace(spec, digest=Digest(spec.compute_digest()))

    async def until_good(self, number: int) -> str:
        """Until generation `number` of the VM is good; returns the digest of its image."""

        def good() -> bool:
            record = self.world.durable.record().vms.get(WEB)
            return bool(record and record.last_good and record.last_good.number == number)

        await self._until(good)
        ((_, digest),) = digests_of(self.world.last_good("web").spec)
        return digest

    async def at_rest(self) -> None:
        def resting() -> bool:
            passed = self.world.reconciler.passed
            busy = self.world.workers.looking() or self.world.workers.outcomes()
            return passed is not None and passed.plan.idle and not busy

        await self.world.step()
        await self._until(resting)

    async def _until(self, predicate: Callable[[], bool]) -> None:
        """Passes meanwhile, as fast as the registry and the store answer."""
        loop = asyncio.get_running_loop()
        by = loop.time() + SECONDS
        while not predicate():
            assert loop.time() < by, self.world.status().waits
            await self.world.step()
            self.world.clock.advance(0.5)
            await asyncio.sleep(LOOK_EVERY)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[Registry, ExitStack]]:
    """A registry that a test may take away by closing the stack."""
    with ExitStack() as stack:
        yield stack.enter_context(serving_registry(tmp_path / "registry")), stack


@pytest.fixture
async def host(tmp_path: Path, serving: tuple[Registry, ExitStack]) -> AsyncIterator[Host]:
    program("mksquashfs")
    registry, _ = serving
    sources = Sources(registries=(registry.settings(),))
    store = ImageStore(tmp_path / "state", SystemClock(), sources=sources)
    await store.open()
    yield Host(tmp_path, store, registry)
    await store.close()


async def test_what_is_pushed_to_a_tag_is_rolled_out_by_the_next_commit(host: Host) -> None:
    first = host.push_image("one")
    await host.world.push(host.at(1))
    assert await host.until_good(1) == first
    second = host.push_image("two")
    await host.at_rest()
    assert host.world.hypervisor.running() == {WEB: 1}, "no commit, no change"
    await host.world.push(host.at(2))
    assert await host.until_good(2) == second
    (old, new) = (host.world.generation("web", n).spec.layers[0].key for n in (1, 2))
    shared = set(host.store.parts()[old]) & set(host.store.parts()[new])
    assert len(shared) >= 1, "the base is one image of the store for both"


async def test_a_registry_that_is_gone_changes_nothing_and_holds_up_nothing(
    host: Host, serving: tuple[Registry, ExitStack]
) -> None:
    digest = host.push_image("one")
    await host.world.push(host.at(1))
    await host.until_good(1)
    _, registry = serving
    registry.close()
    await host.world.push(host.at(2))
    await host.at_rest()
    assert host.world.hypervisor.starts["web"] == 1
    (failed,) = host.world.events("look-up-failed")[:1]
    assert "the registry cannot be reached" in failed
    await host.world.push(host.at(3, memory=256))
    assert await host.until_good(2) == digest
    assert host.world.last_good("web").spec.memory_mib == 256


async def test_a_registry_without_the_tag_holds_the_first_start_with_its_answer(host: Host) -> None:
    await host.world.push(host.at(1))
    await host.at_rest()
    assert "never looked up with success: the registry does not have it" in host.world.why("web")
    digest = host.push_image("one")
    host.world.clock.advance(60.0)
    assert await host.until_good(1) == digest
