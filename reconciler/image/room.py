"""Ends a build that takes the last space of the disk: guests and the ledger write to it, too.

What an archive unpacks to, or what a registry, a flake or a package brings, is known only when it is there.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Coroutine
from pathlib import Path

from reconciler.errors import BuildUnavailable

LOOK_SECONDS = 0.1
FULL_BYTES = 256 * 1024
"""Less is left of a disk that a builder filled: it fails before it takes the last block."""
FULL_WORDS = re.compile(r"No space left|[Dd]isk quota exceeded|exceeds free space")
"""Of builders that take back what they wrote before they end, so that the disk is not full any more."""
SHARE_LEFT = 2
"""A build that began above the reserve may take half of it: it needs more space meanwhile than in the end."""


async def while_there_is_room(
    work: Coroutine[object, object, None], folder: Path, reserve_bytes: int
) -> None:
    """Do the work, and end it once less than half of a reserve is free where `folder` is.

    Raises BuildUnavailable, of kind `disk-full` also where the work says otherwise, and as the work.
    """
    least_bytes = reserve_bytes // SHARE_LEFT
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if not task.done() and shutil.disk_usage(folder).free < least_bytes:
                raise BuildUnavailable(
                    f"it left less than {least_bytes >> 20} MiB of the disk free, and was ended",
                    kind="disk-full",
                    hint="free some space, or lower policy.disk_reserve_mib; it is tried again",
                )
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    try:
        await task
    except BuildUnavailable as error:
        # Looked at while what it wrote is still there.
        if shutil.disk_usage(folder).free < FULL_BYTES or FULL_WORDS.search(str(error)):
            raise BuildUnavailable(
                str(error), kind="disk-full", hint="free some space; it is tried again"
            ) from error
        raise
