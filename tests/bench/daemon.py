"""A fresh process with the daemon's own wiring over pretended guests; its parent reads JSON lines.

Started as `python -m tests.bench.daemon FOLDER REPOSITORY BUILDS`; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from reconciler.model.event import Event
from tests.bench.rig import config_of, open_rig


def tell(**words: Any) -> None:
    sys.stdout.write(json.dumps({**words, "at": time.monotonic()}) + "\n")
    sys.stdout.flush()


def told(event: Event) -> None:
    if event.kind.startswith("revision-"):
        tell(event=event.kind, revision=event.revision, message=event.message)


async def main() -> None:
    folder, repository, builds = sys.argv[1:]
    logging.getLogger("reconciler").setLevel(logging.CRITICAL)
    config = config_of(Path(folder), Path(repository), int(builds))
    async with open_rig(config, faces=True) as rig:
        rig.ledger.subscribe(told)
        tell(event="ready", port=rig.http_port, token=rig.token, pid=os.getpid())
        await ended()


async def ended() -> None:
    """Until the parent closes its end, or is gone."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()
    loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    asyncio.run(main())
