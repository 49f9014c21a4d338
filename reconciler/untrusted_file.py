"""Files that a guest's VMM may have replaced: no link is followed, nothing waits, and only a plain file will do.

A VMM that was taken over may put a link, a pipe or a device where a file of its guest was. Followed, the
daemon would read, fill or cut whatever the link names, with its own rights.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a plain file. Raises OSError, also where something else has its name."""
    descriptor = os.open(path, flags | SAFE, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is not a plain file", str(path))


def reading(path: Path) -> BinaryIO:
    """For the content from its beginning. Raises OSError."""
    return os.fdopen(open_file(path, os.O_RDONLY), "rb")


def appending(path: Path) -> BinaryIO:
    """Made if it is not there. What is not a plain file goes: a start does not fail for it. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return os.fdopen(open_file(path, flags), "ab")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise
    path.unlink(missing_ok=True)
    return os.fdopen(open_file(path, flags | os.O_EXCL), "ab")


def replacing(path: Path) -> BinaryIO:
    """A file that was not there before, for writing; what had its name goes. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
