"""What holds of every registry that says what a tag means: the fake's, and Debian's as skopeo asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.engine.interfaces import ImageTags
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.oci.tag_lookup import RegistryTags
from reconciler.image.store import ImageStore
from reconciler.model.image_tags import Tag
from tests.fakes import FakeClock, FakeTags, Faults
from tests.registry.images import Layout, write_layer
from tests.registry.serving import serving_registry

Push = Callable[[str, str], str]
"""Has a tag mean an image with this content; returns its digest."""


class Registries:
    def __init__(self, tags: ImageTags, push: Push, host: str) -> None:
        self.tags = tags
        self.push = push
        self.host = host

    async def look_up(self, tag: str) -> str:
        return await self.tags.look_up(Tag(f"{self.host}/acme/app", tag, "commit"))


@asynccontextmanager
async def fake(_folder: Path) -> AsyncIterator[Registries]:
    tags = FakeTags(Faults(FakeClock()))
    host = "registry.example.org"
    yield Registries(tags, lambda tag, text: tags.push(f"{host}/acme/app:{tag}", text), host)


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Registries]:
    with serving_registry(folder / "registry") as registry:
        made = 0

        def push(tag: str, text: str) -> str:
            nonlocal made
            made += 1
            layout = Layout(folder / f"layout-{made}")
            tar = write_layer(folder / f"{made}.tar", {"etc/": "", "etc/motd": text})
            layout.add(tag, tar, settings={"created": "2026-01-01T00:00:00Z"})
            return registry.push(layout, tag, "acme/app").rpartition("@")[2]

        store = ImageStore(
            folder / "state", SystemClock(), sources=Sources(registries=(registry.settings(),))
        )
        await store.open()
        try:
            yield Registries(RegistryTags(folder / "lookups", store.tools), push, registry.host)
        finally:
            await store.close()


@pytest.fixture(params=[fake, real], ids=["fake", "registry"])
async def registries(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registries]:
    async with request.param(tmp_path) as found:
        yield found


async def test_a_tag_means_what_was_pushed_to_it_last(registries: Registries) -> None:
    first = registries.push("1", "one")
    assert await registries.look_up("1") == first
    second = registries.push("1", "two")
    assert first != second
    assert await registries.look_up("1") == second


async def test_tags_of_one_repository_mean_images_of_their_own(registries: Registries) -> None:
    pushed = [registries.push(tag, tag) for tag in ("1", "2")]
    assert await asyncio.gather(*map(registries.look_up, ("1", "2"))) == pushed


async def test_a_tag_that_was_never_pushed_is_missing(registries: Registries) -> None:
    registries.push("1", "one")
    with pytest.raises(BuildUnavailable, match="the registry does not have it") as refused:
        await registries.look_up("2")
    assert refused.value.kind == "missing"
