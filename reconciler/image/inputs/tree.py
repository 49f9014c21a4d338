"""The layer input `tree`: a folder of the repository, as its source exports it, and to whom it belongs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from reconciler.content_store import named
from reconciler.erofs.recipe import ErofsRecipe
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import COMPRESS_FROM_BYTES, FIXED_UUID, BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.owned_tree import BAD_INPUT, rules_to_json
from reconciler.model.layer_kinds.tree_layer import TreeSource

KEEPER = ".keep"
"""Git has no empty folders: an empty file of this name stands for what is not in a folder."""
OWNED = "reconciler.image.owned_tree"
SECONDS = 180.0


async def build_tree(source: TreeSource, site: BuildSite) -> None:
    with named(source.title):
        if site.format == "erofs" and not source.owners:
            site.progress.begin("packing", site.image)
            recipe = ErofsRecipe(FIXED_UUID, COMPRESS_FROM_BYTES, without=KEEPER)
            await site.content.export_image(source.tree, site.image, recipe)
            return
        site.progress.begin("copying from the repository", site.folder)
        size = await site.content.export(source.tree, site.folder)
        await asyncio.to_thread(drop_keepers, site.folder)
        if source.owners:
            await _make_owned(source, site)
        else:
            await site.make_image(size)


async def _make_owned(source: TreeSource, site: BuildSite) -> None:
    """Owners exist in a tar only: no folder of this host may have them."""
    rules, tar = site.workspace / "owners.json", site.workspace / "owned.tar"
    await asyncio.to_thread(rules.write_text, rules_to_json(source.owners), "utf-8")
    argv = (sys.executable, "-P", "-m", OWNED, str(site.folder), str(rules), str(tar))
    ended = await site.tools.programs.run(argv, seconds=SECONDS)
    if ended.status == BAD_INPUT:
        raise BuildFailed(ended.tail, hint="correct `owners` in the manifest, and push")
    if ended.status != 0:
        raise BuildUnavailable(ended.tail or f"status {ended.status}")
    await site.make_image_of_tar(tar)


def drop_keepers(folder: Path) -> None:
    """Remove the empty files that keep folders in git. Blocks; follows no link."""
    for place, _, names, descriptor in os.fwalk(folder, follow_symlinks=False):
        del place
        if KEEPER in names and _is_empty_file(descriptor):
            os.unlink(KEEPER, dir_fd=descriptor)


def _is_empty_file(folder: int) -> bool:
    found = os.stat(KEEPER, dir_fd=folder, follow_symlinks=False)
    return found.st_size == 0


INPUT = LayerInput(build_tree, seconds=3 * SECONDS)
