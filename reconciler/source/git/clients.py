"""The daemon's handles on the children of a git source: one that fetches, and one for each tree exported."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from pathlib import Path

from reconciler.children.program import Ended
from reconciler.children.spare import SpareChild
from reconciler.erofs.recipe import ErofsRecipe
from reconciler.errors import BuildFailed, BuildUnavailable, SourceError, source_error_kind
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.export_worker import BAD_INPUT, NO_LZ4, TreeLimits
from reconciler.source.git.protocol import Task, WorkerAnswer, line_of
from reconciler.source.worker_process import ChildProcess

EXPORT_SECONDS = 180.0
"""Wall clock for a tree of the largest size on a slow disk."""


class FetchChild(ChildProcess):
    """The fetch worker, limited to a repository size in MiB and a time for each network operation in seconds."""

    def __init__(self, repository_mib: int, seconds: float) -> None:
        super().__init__("reconciler.source.git.fetch_worker", str(repository_mib), str(seconds))

    async def ask(self, task: Task) -> WorkerAnswer:
        """Send a task and wait for its answer. Raises SourceError.

        Past the task's deadline (seconds) the worker is killed; the next task starts another.
        """
        try:
            async with asyncio.timeout(task.deadline):
                answer = await self._exchange(task)
        except TimeoutError:
            await self.close()
            raise failure("timeout", f"no answer within {task.deadline:g} s") from None
        except BaseException:
            await self.close()  # the answer to this task would be taken for that to the next
            raise
        if answer.kind:
            raise SourceError(answer.message, kind=source_error_kind(answer.kind), hint=answer.hint)
        return answer

    async def _exchange(self, task: Task) -> WorkerAnswer:
        to_child, from_child = await self._pipes()
        line = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError):
            to_child.write(line_of(task))
            await to_child.drain()
            line = await from_child.readline()
        try:
            return WorkerAnswer.of(line)
        except (ValueError, TypeError):
            code = None if line else await self._exit_code()
            raise failure(
                "limit", f"the fetch ended without an answer (exit {code})",
                "it may have passed its memory limit",
            ) from None  # fmt: skip


class TreeExporter:
    """Exports the trees of one bare repository. `close` it when done."""

    def __init__(
        self, mirror: Path, limits: TreeLimits | None = None, seconds: float = EXPORT_SECONDS
    ) -> None:
        self._mirror = mirror
        self._limits = limits or TreeLimits()
        self._seconds = seconds
        self._spare = SpareChild("reconciler.source.git.export_worker")

    async def ready(self) -> None:
        """From now on have a child wait for the next tree. Raises BuildUnavailable."""
        await self._spare.ready()

    async def export(self, content: str, folder: Path) -> int:
        """As `ContentStore.export`; the id is a tree's, in hex."""
        return await self._ask(content, folder, None)

    async def export_image(self, content: str, image: Path, recipe: ErofsRecipe) -> int:
        """As `ContentStore.export_image`."""
        return await self._ask(content, image, recipe)

    async def _ask(self, tree: str, target: Path, recipe: ErofsRecipe | None) -> int:
        request = {
            "repository": str(self._mirror),
            "tree": tree,
            "target": str(target),
            "limits": asdict(self._limits),
            "recipe": None if recipe is None else asdict(recipe),
        }
        return _size(await self._spare.ask(request, self._seconds))

    async def close(self) -> None:
        """End the waiting child."""
        await self._spare.close()


def _size(ended: Ended) -> int:
    if ended.status == BAD_INPUT:
        raise BuildFailed(ended.tail, hint="mend the folder and push")
    if ended.status == NO_LZ4:
        raise BuildUnavailable(
            ended.tail, kind="missing-program",
            hint="install liblz4 (Debian: liblz4-1), or write `store.format: squashfs`",
        )  # fmt: skip
    if ended.status < 0:
        # Its own bounds or the host's: a signal is no verdict on the input.
        raise BuildUnavailable(
            f"the builder was ended by signal {-ended.status}: {ended.tail}", kind="limit"
        )
    if ended.status != 0:
        raise BuildUnavailable(ended.tail or f"status {ended.status}")
    return int(ended.output)
