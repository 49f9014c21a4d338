"""The layer input `tree`: a folder of the repository, as its source exports it."""

from __future__ import annotations

from reconciler.content_store import named
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.model.layer_kinds.tree_layer import TreeSource


async def build_tree(source: TreeSource, site: BuildSite) -> None:
    with named(source.title):
        size = await site.content.export(source.tree, site.folder)
        await site.make_image(size)


INPUT = LayerInput(build_tree, seconds=180.0)
