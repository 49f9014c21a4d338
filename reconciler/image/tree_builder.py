"""The daemon's side of `tree` builds: one builder always stands ready, and each is used once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image.child_processes import Child, Ended
from reconciler.image.inputs.tree import BAD_INPUT, FOLDER, TreeLimits
from reconciler.model.image import StoreFormat, TreeSource

BUILD_SECONDS = 180.0
"""Wall clock for one layer of the largest size on a slow disk."""
# -P: nothing is imported from the working directory.
ARGV = (sys.executable, "-P", "-m", "reconciler.image.inputs.tree")
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What a builder sees of the daemon's environment, which may hold secrets."""


class TreeBuilder:
    """Makes images of git trees in sandboxed children."""

    def __init__(self, limits: TreeLimits | None = None, seconds: float = BUILD_SECONDS) -> None:
        self._limits = limits or TreeLimits()
        self._seconds = seconds
        self._spare: Child | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._closed = False

    async def ready(self) -> None:
        """Have a builder wait for the next request. Raises BuildUnavailable."""
        if self._spare is None or not self._spare.alive:
            self._spare = None
            spare = await self._start()
            if self._closed or self._spare is not None:
                await spare.end()
            else:
                self._spare = spare

    async def build(
        self, source: TreeSource, store_format: StoreFormat, repository: Path, workspace: Path
    ) -> None:
        """Make `workspace/image`. Raises BuildFailed or BuildUnavailable; cancelling kills the child."""
        await self._ask(source, store_format, repository, workspace)

    async def stage(self, source: TreeSource, repository: Path, workspace: Path) -> Path:
        """Write the tree into a folder of the workspace, the same to the last mtime each time; returns it."""
        await self._ask(source, FOLDER, repository, workspace)
        return workspace / "content"

    async def _ask(
        self, source: TreeSource, wanted: str, repository: Path, workspace: Path
    ) -> None:
        request = {
            "repository": str(repository),
            "tree": source.tree,
            "format": wanted,
            "folder": str(workspace / "content"),
            "image": str(workspace / layout.IMAGE),
            "limits": asdict(self._limits),
        }
        child, self._spare = self._spare, None
        try:
            if child is None or not child.alive:
                child = await self._start()
            ended = await child.finish(self._seconds, json.dumps(request).encode() + b"\n")
        finally:
            self._renew()
        _judge(ended, source)

    async def close(self) -> None:
        """End the waiting builder."""
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal
        if self._spare is not None:
            await self._spare.end()
            self._spare = None

    def _renew(self) -> None:
        if not self._closed and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_quietly())

    async def _renew_quietly(self) -> None:
        # A host that cannot start one now says so at the next build, which tries again.
        with contextlib.suppress(BuildUnavailable):
            await self.ready()

    @staticmethod
    async def _start() -> Child:
        env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return await Child.start(ARGV, env=env, takes_input=True)


def _judge(ended: Ended, source: TreeSource) -> None:
    title = f"tree {source.path}"
    if ended.status == BAD_INPUT:
        raise BuildFailed(f"{title}: {ended.tail}", hint="mend the folder and push")
    if ended.status < 0:
        # Its own limits or the host's: a signal is no verdict on the input.
        raise BuildUnavailable(
            f"{title}: the builder was ended by signal {-ended.status}: {ended.tail}", kind="limit"
        )
    if ended.status != 0:
        raise BuildUnavailable(f"{title}: {ended.tail or f'status {ended.status}'}")
