"""The kinds of layer inputs, and what builds each. README.md in this folder says how to add one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.content_store import within
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import BuildSite, has_magic
from reconciler.image.inputs.busybox import build_busybox
from reconciler.image.inputs.tree import build_tree
from reconciler.model.layers import LayerSpec

HEAD_BYTES = 2048


@dataclass(frozen=True, slots=True)
class LayerInput:
    """How one kind of layer is made."""

    build: Callable[[Any, BuildSite], Awaitable[None]]
    """Leaves the image of its source, of the class that it is registered for, in the site.

    Raises BuildFailed when this source can never become a layer, and BuildUnavailable when it cannot be
    made now. What it starts ends when it is cancelled.
    """
    seconds: float
    """Wall clock for all of it."""


InputKinds = Mapping[str, LayerInput]
"""By the kind of the layer's source."""

INPUTS: InputKinds = {
    "tree": LayerInput(build_tree, seconds=180.0),
    "busybox": LayerInput(build_busybox, seconds=3600.0),  # it may have to wait for mirrors
}


async def build_layer(spec: LayerSpec, site: BuildSite, kinds: InputKinds = INPUTS) -> None:
    """Make `spec` in `site`. Raises BuildFailed or BuildUnavailable."""
    made_by = kinds[spec.source.kind]
    async with within(made_by.seconds, spec.title):
        await made_by.build(spec.source, site)
    if not await asyncio.to_thread(_is_image, spec.format, site.image):
        raise BuildUnavailable(f"{spec.title}: the builder made no {spec.format} image")


def _is_image(store_format: str, image: Path) -> bool:
    with image.open("rb") as file:
        return has_magic(store_format, file.read(HEAD_BYTES))
