"""A child of the daemon that answers over pipes, and holds nothing that matters: it may be killed at any time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from reconciler.source.git.protocol import MOST_LINE

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
"""Of our environment; the rest, secrets of systemd among it, is none of the child's business."""
REAP_SECONDS = 5.0


class ChildProcess:
    """One process for many questions: a fresh interpreter would cost more than most of them."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._arguments = arguments
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _pipes(self) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """To and from the process, which is started if there is none."""
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the child was started without pipes")
        return process.stdin, process.stdout

    async def _exit_code(self) -> int | None:
        """Of a process whose output has ended."""
        return await self._process.wait() if self._process is not None else None

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, *self._arguments,
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
