"""The store of the benchmarks of images, and how work on it is timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler.image.store import ImageStore
from reconciler.model.layers import LayerSource, LayerSpec
from tests.unit.image.trees import Repository


@dataclass(frozen=True, slots=True)
class Bench:
    store: ImageStore
    repository: Repository
    folder: Path
    files: int

    async def layer(self, source: LayerSource) -> float:
        """Seconds to make it, or to find that it is there."""
        began = time.perf_counter()
        await self.store.build_layer(LayerSpec.of(source), self.repository.content)
        return time.perf_counter() - began


async def timed_run(*argv: str) -> float:
    async def run() -> None:
        child = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        if await child.wait():
            raise RuntimeError(f"{argv[0]} failed")

    return await timed(run)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began
