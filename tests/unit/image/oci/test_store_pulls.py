"""The store and a registry: what a later image shares with an earlier one is never fetched again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.image_references import parse_reference
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSpec
from reconciler.source.git.clients import TreeExporter
from tests.registry.images import Layout, program, write_layer
from tests.registry.serving import Registry, serving_registry

START = {"config.entrypoint": ["/bin/app"]}
NOWHERE = TreeExporter(Path("/nowhere"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serving_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
async def store(tmp_path: Path, registry: Registry) -> AsyncIterator[ImageStore]:
    program("mksquashfs")
    sources = Sources(registries=(registry.settings(),))
    store = ImageStore(tmp_path / "state", SystemClock(), sources=sources)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def spec_of(reference: str) -> LayerSpec:
    named = parse_reference(reference)
    assert named is not None
    return LayerSpec.of(OciSource("linux/amd64", named.repository, named.digest))


async def test_a_later_image_fetches_only_what_is_new_in_it(
    store: ImageStore, registry: Registry, layout: Layout, tmp_path: Path
) -> None:
    base = write_layer(tmp_path / "base.tar", {"bin/": "", "bin/app": "an application"})
    empty = write_layer(tmp_path / "empty.tar", {})
    empty.write_bytes(bytes(1024))
    pushed = []
    for number, text in enumerate(("one", "two")):
        top = write_layer(tmp_path / f"{text}.tar", {"etc/": "", "etc/motd": text})
        layout.add(text, base, empty, top, settings=START)
        pushed.append(spec_of(registry.push(layout, text, "acme/app")))
        await store.build_layer(pushed[number], NOWHERE)
    layers = [layout.manifest(layout.digest(text))["layers"] for text in ("one", "two")]
    asked = [one.path for one in registry.served()]
    times = {
        layer["digest"]: sum(layer["digest"] in path for path in asked)
        for one in layers
        for layer in one
    }
    first, nothing, last = (layer["digest"] for layer in layers[1])
    assert (times[first], times[nothing], times[last]) == (1, 0, 1)


async def test_an_image_that_is_there_is_not_asked_for_at_all(
    store: ImageStore, registry: Registry, layout: Layout, tmp_path: Path
) -> None:
    base = write_layer(tmp_path / "base.tar", {"bin/": "", "bin/app": "an application"})
    layout.add("one", base, settings=START)
    spec = spec_of(registry.push(layout, "one", "acme/app"))
    await store.build_layer(spec, NOWHERE)
    before = len(registry.served())
    await store.build_layer(spec, NOWHERE)
    assert len(registry.served()) == before


async def test_a_layer_that_was_collected_is_fetched_again(
    store: ImageStore, registry: Registry, layout: Layout, tmp_path: Path
) -> None:
    base = write_layer(tmp_path / "base.tar", {"bin/": "", "bin/app": "an application"})
    layout.add("one", base, settings=START)
    spec = spec_of(registry.push(layout, "one", "acme/app"))
    await store.build_layer(spec, NOWHERE)
    await store.collect(frozenset())
    before = len(registry.served())
    built = await store.build_layer(spec, NOWHERE)
    assert built.size_bytes > 0
    assert registry.blob_bytes(before) > 0
