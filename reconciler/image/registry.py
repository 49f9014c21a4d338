"""The layer inputs by kind: each is the module of `inputs/` that has the kind's name. README.md says how to add one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from reconciler.content_store import within
from reconciler.errors import BuildUnavailable
from reconciler.image import inputs
from reconciler.image.build_site import BuildSite, MakePart, has_magic
from reconciler.image.layer_input import LayerInput
from reconciler.image.verity import append_tree
from reconciler.model.layers import LAYER_KINDS, LayerSpec

HEAD_BYTES = 40_000
SEED = "seed"
"""The kind that no manifest's layer names: it comes with a disk that firmware boots."""

InputKinds = Mapping[str, LayerInput]
"""By the kind of the layer's source."""


def _input(kind: str) -> LayerInput:
    made_by: LayerInput = import_module(f"{inputs.__name__}.{kind}").INPUT
    return made_by


INPUTS: InputKinds = {kind: _input(kind) for kind in (*LAYER_KINDS, SEED)}


async def build_layer(spec: LayerSpec, site: BuildSite, kinds: InputKinds = INPUTS) -> None:
    """Make `spec` in `site`. Raises BuildFailed or BuildUnavailable."""
    made_by = kinds[spec.source.kind]
    async with within(made_by.seconds, spec.title):
        await made_by.build(spec.source, site)
    if made_by.composed:
        return  # its parts have been finished
    if not made_by.ready:
        await _check_image(spec.title, site)
    await _finish(site)


async def build_part(title: str, make: MakePart, site: BuildSite) -> None:
    """Make a part of a composed layer in `site`. Raises BuildFailed or BuildUnavailable."""
    await make(site)
    await _check_image(title, site)
    await _finish(site)


async def _finish(site: BuildSite) -> None:
    if site.verity:
        await append_tree(site.image, site.tools.programs)


async def _check_image(title: str, site: BuildSite) -> None:
    """Raises BuildUnavailable unless a builder left an image of the site's format."""
    if not await asyncio.to_thread(_is_image, site.format, site.image):
        raise BuildUnavailable(f"{title}: the builder made no {site.format} image")


def _is_image(store_format: str, image: Path) -> bool:
    with image.open("rb") as file:
        return has_magic(store_format, file.read(HEAD_BYTES))
