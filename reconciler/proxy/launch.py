"""The proxy as a plain process, for daemons without systemd; it outlives them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from reconciler.errors import ProxyError
from reconciler.host import layout

KEPT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "LANG", "LC_ALL")
"""What of our environment it needs to find the same code."""


class Starter:
    """Starts it in a session of its own; its lock makes sure that only one runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    async def __call__(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        if self._child is not None:
            self._child.poll()  # the one before is gone: collect it
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with layout.proxy_log(self._folder).open("wb") as out:
                self._child = subprocess.Popen(
                    (sys.executable, "-m", "reconciler", "front", "--folder", str(self._folder)),
                    cwd="/",
                    env={key: os.environ[key] for key in KEPT if key in os.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
        except OSError as error:
            raise ProxyError(
                f"the proxy cannot be started: {error.strerror or error}",
                hint="is there space in the state directory?",
            ) from error

    def close(self) -> None:
        """It lives on, so Python must not complain that it was not waited for."""
        if self._child is not None and self._child.poll() is None:
            self._child.returncode = 0
