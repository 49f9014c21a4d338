"""A build that writes without end, on a small disk of its own. Says how it ended, and whether others had room.

Called as `python -m tests.fault.reserve_child FOLDER` in mount and user namespaces of its own.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.registry import INPUTS
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from tests.fault.image_child import MIB, say, small_disk
from tests.unit.image.trees import Repository

RESERVE = 8 * MIB
PIECE = bytes(64 * 1024)


async def story(folder: Path) -> None:
    state, least = folder / "state", [RESERVE]

    async def build(_source: Any, site: BuildSite) -> None:
        with (site.workspace / "endless").open("wb") as file:
            while True:
                file.write(PIECE)
                least.append(shutil.disk_usage(state).free)
                await asyncio.sleep(0.01)

    store = ImageStore(
        state, SystemClock(), disk_reserve_bytes=RESERVE,
        inputs={**INPUTS, "tree": LayerInput(build, seconds=30.0)},
    )  # fmt: skip
    await store.open()
    content = Repository(folder / "repository.git").content
    try:
        await store.build_layer(LayerSpec.of(TreeSource("0" * 40, "./x"), "erofs"), content)
    except BuildUnavailable as error:
        say(error.kind)
    say(min(least) > RESERVE // 4)
    say(shutil.disk_usage(state).free > RESERVE)
    await store.close()


if __name__ == "__main__":
    small_disk(Path(sys.argv[1]) / "state")
    asyncio.run(story(Path(sys.argv[1])))
