"""Child processes of the daemon that answer over pipes. They hold no state that matters: killing one is always safe."""

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
"""Environment variables that the child inherits. All others stay here: systemd passes secrets in some."""
REAP_SECONDS = 5.0
"""How long `close` waits for a killed child; one that is stuck in the kernel must not block the daemon."""


class ChildProcess:
    """One process for many requests: starting an interpreter costs more than answering most of them.

    Subclasses exchange lines over `_pipes`; the first use starts the process, and so does the first
    use after it ended.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._arguments = arguments
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the newest process, which may have ended; None before the first."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """Whether a process was started and has not been seen to end."""
        return self._process is not None and self._process.returncode is None

    async def _pipes(self) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """Streams to and from the process; starts it if none runs. Raises OSError."""
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the child was started without pipes")
        return process.stdin, process.stdout

    async def _exit_code(self) -> int | None:
        """The status of a process that closed its output; None if none was started."""
        return await self._process.wait() if self._process is not None else None

    async def _start(self) -> Process:
        # A session of its own, so that `close` can kill the child together with whatever it started.
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, *self._arguments,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment,
            start_new_session=True, limit=MOST_LINE, cwd=package_root(),
        )  # fmt: skip

    async def close(self) -> None:
        """Kill the child and everything it started, and reap it."""
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
    """The folder from which `reconciler` is imported, so that the child imports the same code."""
    return Path(__file__).resolve().parents[2]
