"""Layers that mmdebstrap made: their packages are known by version, and compared with each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.explain.layer_changes import with_contents
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layers import LayerSpec
from reconciler.planning.diff import differences
from tests.integration import debian_images
from tests.unit.image.trees import Repository
from tests.world import vm

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(1500)]

EDITOR = LayerSpec.of(DebianSource("bookworm", ("ed",)))
OTHER = LayerSpec.of(DebianSource("bookworm", ("bc",)))
NOT_MADE = LayerSpec.of(DebianSource("bookworm", ("nano",)))
BASE = LayerSpec.of(DebianSource("bookworm"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    debian_images.skip_without_them()
    state = tmp_path / "state"
    debian_images.seed(state)
    opened = ImageStore(state, SystemClock())
    await opened.open()
    yield opened
    await opened.close()
    debian_images.save(state)


def inside(store: ImageStore, old: LayerSpec, new: LayerSpec) -> list[str]:
    before, after = (replace(vm("web"), layers=(layer,)) for layer in (old, new))
    (change,) = with_contents(differences(before, after), store.inventory.stored())
    # Of each line what it says of which package, without the version of the day.
    return [" ".join(line.split()[:2]) for line in change.inside]


def packages(store: ImageStore, layer: LayerSpec) -> Mapping[str, str]:
    contents = store.inventory.stored()[layer.key].contents
    assert contents is not None
    return contents.packages


async def test_packages_of_layers_are_known_also_of_a_base_that_another_layer_had_made(
    store: ImageStore, tmp_path: Path
) -> None:
    nothing: Any = Repository(tmp_path / "repository.git").content
    await store.build_layer(EDITOR, nothing)
    assert inside(store, EDITOR, NOT_MADE) == ["packages: known"]
    await store.build_layer(OTHER, nothing)
    assert inside(store, EDITOR, OTHER) == ["+ bc", "- ed", "+ libreadline8", "+ readline-common"]
    await store.build_layer(BASE, nothing)
    assert inside(store, BASE, EDITOR) == ["+ ed"]
    assert {"systemd-sysv", "dbus", "libc6"} <= packages(store, BASE).keys()
    assert packages(store, EDITOR).keys() - packages(store, BASE).keys() == {"ed"}
