"""A store on a small disk of its own: fills it, collects, and builds again. Says what it saw.

Called as `python -m tests.fault.image_child FOLDER` in mount and user namespaces of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from tests.unit.image.trees import Repository

MIB = 1024 * 1024


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")


def small_disk(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", folder], check=True)


async def story(folder: Path) -> None:
    state = folder / "state"
    repository = Repository(folder / "repository.git")

    def layer() -> LayerSpec:
        tree = repository.tree({"noise": os.urandom(4 * MIB)})
        return LayerSpec.of(TreeSource(tree, "./noise"), "erofs")

    store = ImageStore(state, SystemClock())
    await store.open()
    pinned, loose, new = layer(), layer(), layer()
    await store.build_layer(pinned, repository.content)
    await store.build_layer(loose, repository.content)
    try:
        await store.build_layer(new, repository.content)
    except BuildUnavailable as error:
        say(error.kind)
    say(sorted(entry.name for entry in (state / "layers").iterdir() if entry.name[0] == "."))
    await store.collect(frozenset({pinned.key, new.key}))
    await store.build_layer(new, repository.content)
    say(store.layers() == {pinned.key, new.key})
    await store.close()


if __name__ == "__main__":
    small_disk(Path(sys.argv[1]) / "state")
    asyncio.run(story(Path(sys.argv[1])))
