"""Pulls to a disk of its own that is too small. Says what it saw.

Called as `python -m tests.fault.pull_child FOLDER` in mount and user namespaces of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.image_registries import RegistryConfig
from tests.unit.image.oci.hostile import hostile_registry
from tests.unit.image.oci.pulling import pulling

ROOM = "size=200k"
"""For what skopeo writes beside a layer, and for a part of the layer."""


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")


async def story(folder: Path, declared: int | None) -> None:
    async with pulling(folder) as puller:
        with hostile_registry({}, declared) as registry:
            settings = RegistryConfig(name=registry.host, insecure=True)
            try:
                await puller.pull(registry.reference, settings)
            except BuildUnavailable as error:
                say(error.kind)
            say(any(registry.layer_digest in path for path in registry.asked))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    # A layer that is as large as it says, and one that says less.
    for declared in (None, 1000):
        subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "none", place], check=True)
        asyncio.run(story(place, declared))
