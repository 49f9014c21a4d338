"""One build at a time for each key: who asks meanwhile waits for the same one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.model.image import BuiltImage


@dataclass(slots=True)
class _Build:
    task: asyncio.Task[BuiltImage]
    waiting: int = 0


class SharedBuilds:
    """Builds in flight by key; a build that nobody waits for any more is cancelled."""

    def __init__(self, most_at_once: int) -> None:
        self._slots = asyncio.Semaphore(most_at_once)
        self._builds: dict[str, _Build] = {}

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._builds)

    async def run(
        self, key: str, make: Callable[[], Awaitable[BuiltImage]], *, within: bool = False
    ) -> BuiltImage:
        """The result of the build of `key`: of the one that runs, or of a new one.

        `within`: another build waits for it, and lends it its place among those that run at once. It is
        made of what that build was given, so its failure counts for that one alone: who waited too makes it
        of its own.
        """
        while (build := self._builds.get(key)) is not None:
            try:
                return await self._wait(key, build)
            except (BuildFailed, BuildUnavailable):
                if not within:
                    raise
        build = _Build(asyncio.create_task(self._make(key, make, within=within)))
        self._builds[key] = build
        return await self._wait(key, build)

    async def _wait(self, key: str, build: _Build) -> BuiltImage:
        build.waiting += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiting -= 1
            if build.waiting == 0 and not build.task.done():
                await self._cancel(key, build)

    async def close(self) -> None:
        """Cancel all builds."""
        for key, build in list(self._builds.items()):
            await self._cancel(key, build)

    async def _make(
        self, key: str, make: Callable[[], Awaitable[BuiltImage]], *, within: bool
    ) -> BuiltImage:
        try:
            async with contextlib.nullcontext() if within else self._slots:
                return await make()
        finally:
            # Unless a newer build took its place after this one was cancelled.
            current = self._builds.get(key)
            if current is not None and current.task is asyncio.current_task():
                del self._builds[key]

    async def _cancel(self, key: str, build: _Build) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]
        build.task.cancel()
        await asyncio.wait({build.task})
        if not build.task.cancelled():
            build.task.exception()  # looked at: it failed in the moment it was cancelled
