"""The daemon's handle on its fetching child: asked one thing at a time, killed when it is late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.source.failures import failure
from reconciler.source.request import MOST_LINE, Answer, Task, line_of

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
"""Of our environment; the rest, secrets of systemd among it, is none of the child's business."""
REAP_SECONDS = 5.0


class FetchChild:
    """One process for many fetches: a fresh interpreter would cost more than a look."""

    def __init__(self, repository_mib: int, seconds: float) -> None:
        self._arguments = (str(repository_mib), str(seconds))
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def ask(self, task: Task) -> Answer:
        """Raises SourceError; past the task's deadline the child is killed."""
        try:
            async with asyncio.timeout(task.deadline):
                answer = await self._exchange(task)
        except TimeoutError:
            await self.close()
            raise failure("timeout", f"no answer within {task.deadline:g} s") from None
        except BaseException:
            await self.close()  # half an exchange is no state to go on from
            raise
        if answer.kind:
            raise SourceError(answer.message, kind=answer.kind, hint=answer.hint)
        return answer

    async def _exchange(self, task: Task) -> Answer:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the child was started without pipes")
        line = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError):
            process.stdin.write(line_of(task))
            await process.stdin.drain()
            line = await process.stdout.readline()
        try:
            return Answer.of(line)
        except (ValueError, TypeError):
            code = await process.wait() if not line else process.returncode
            raise failure(
                "limit", f"the fetch ended without an answer (exit {code})",
                "it may have passed its memory limit",
            ) from None  # fmt: skip

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reconciler.source.fetcher", *self._arguments,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment,
            start_new_session=True, limit=MOST_LINE, cwd=package_root(),
        )  # fmt: skip

    async def close(self) -> None:
        """Kill the child with all that it started, and reap it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await process.communicate()


def package_root() -> Path:
    """Where `reconciler` is imported from, so that the child finds the same one."""
    return Path(__file__).resolve().parents[2]
