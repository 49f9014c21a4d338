"""A guest's own way of ending it, run as a child of ours: bounded in time, and never waited for longer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import SupervisorError
from reconciler.supervisor.spawn import DEFAULT_PATH

VOLUMES = "volumes"
"""In which a runner's sockets are."""


async def press(pid: int, folder: Path, button: Sequence[str], seconds: float) -> None:
    """Run it until it ends, or for `seconds`. Raises SupervisorError if it fails.

    One that waits for the guest is ended meanwhile: it has told it, and is run again.
    """
    # MAINPID: as systemd names it to an ExecStop=.
    env = {"PATH": os.environ.get("PATH", DEFAULT_PATH), "LC_ALL": "C", "MAINPID": str(pid)}
    try:
        child = await asyncio.create_subprocess_exec(
            *button,
            cwd=folder / VOLUMES,
            env=env,
            stdin=asyncio.subprocess.PIPE,  # held open: microvm.nix's waits only as long as it is
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SupervisorError(f"{button[0]}: {error.strerror}", kind="spawn") from error
    try:
        async with asyncio.timeout(seconds):
            status = await child.wait()
    except TimeoutError:
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # also what it left behind
        await child.wait()
    if status != 0:
        raise SupervisorError(f"{button[0]}: status {status}")
