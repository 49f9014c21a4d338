"""Takes a guest's lock at a high number and becomes its VMM: `locked_exec.py LOCK STATUS PROGRAM ARG...`.

For programs that use low descriptors as if they were free, as a runner's `exec 3<>/dev/tap5` does: flock(1)
holds the lock at the first free one, where it would be overwritten, and the guest would run unlocked.
Imports only the standard library. STATUS is its exit status if another process holds the lock.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import NoReturn

HIGH = 900
"""The lowest number to use: bash uses 10 and up for itself, and 255; the usual limit is 1024."""


def high(descriptor: int) -> int:
    """Move a descriptor to a high number, with close-on-exec; the low one is closed. Raises OSError."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    finally:
        os.close(descriptor)


def main(lock: str, status: str, *command: str) -> int:
    try:
        become(lock, command)
    except BlockingIOError:
        return int(status)


def become(lock: str, command: tuple[str, ...]) -> NoReturn:
    """Take the lock and execute the command. Raises BlockingIOError if the lock is held, and OSError."""
    descriptor = high(os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.fcntl(descriptor, fcntl.F_SETFD, 0)  # inherited from here on
    os.execv(command[0], command)  # noqa: S606 - it becomes the VMM


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
