"""The daemon's side of the fetch worker: sends one task at a time, and kills a worker that is late."""

from __future__ import annotations

import asyncio
import contextlib

from reconciler.errors import SourceError
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.protocol import Task, WorkerAnswer, line_of
from reconciler.source.worker_process import ChildProcess


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
            raise SourceError(answer.message, kind=answer.kind, hint=answer.hint)
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
