"""What a VMM left behind that is gone: helpers that carry its marks, and may hold its VM's lock."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from reconciler.supervisor import lock, procfs

LOOKS, LOOK_EVERY = 200, 0.005
"""How often, and after how many seconds, the lock is looked at again after who held it was killed."""


def end(folder: Path, instance: str) -> int:
    """Kill the helpers of a guest that is gone; how many. Blocks; raises OSError.

    Only what carries the marks of exactly this guest: it is ours, and no guest any more.
    """
    killed = 0
    for marked in procfs.marked_processes():
        ours = marked.environ.get(procfs.FOLDER) == str(folder)
        if not ours or marked.environ[procfs.INSTANCE] != instance:
            continue
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(marked.pid)
            try:
                if procfs.markers_of(marked.pid).get(procfs.INSTANCE) == instance:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed += 1
            finally:
                os.close(pidfd)
    return killed


def freed(folder: Path) -> bool:
    """Whether nobody holds the lock, in a moment at the latest. Blocks; raises OSError."""
    for _ in range(LOOKS):
        if lock.is_free(folder):
            return True
        time.sleep(LOOK_EVERY)
    return False
