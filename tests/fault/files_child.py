"""A download and a script on a disk that is too small for them. Says what it saw.

Called as `python -m tests.fault.files_child FOLDER` in mount and user namespaces of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.config import ScriptConfig
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layers import LayerSource, LayerSpec
from tests.fault.image_child import MIB, say, small_disk
from tests.unit.image.stranger import head, serving
from tests.unit.image.trees import Repository

LARGE = b"hsqs" + bytes(20 * MIB)
FILL = '#!/bin/sh\ncat /dev/zero >"$OUT/zeros" || true\n'


async def story(folder: Path) -> None:
    program = folder / "fill"
    program.write_text(FILL)
    program.chmod(0o755)
    repository = Repository(folder / "repository.git")
    # Without a length, so that nothing is known before the disk is full.
    with serving(lambda _stranger: lambda _asked: iter([head("200 OK"), LARGE])) as server:
        sources = Sources(
            image_urls=(server.pattern,), scripts={"fill": ScriptConfig(path=str(program))}
        )
        store = ImageStore(folder / "state", SystemClock(), sources=sources)
        await store.open()
        wanted: tuple[LayerSource, ...] = (
            ImageSource(hashlib.sha256(LARGE).hexdigest(), url=server.url()),
            ScriptSource("fill", program=hashlib.sha256(FILL.encode()).hexdigest()),
        )
        for source in wanted:
            try:
                await store.build_layer(LayerSpec.of(source), repository.content)
            except BuildUnavailable as error:
                say(error.kind)
        left = (folder / "state").rglob("*")
        say(sum(path.stat().st_size for path in left if path.is_file()) < MIB)
        say(len(store.layers()))
        await store.close()


if __name__ == "__main__":
    small_disk(Path(sys.argv[1]) / "state")
    asyncio.run(story(Path(sys.argv[1])))
