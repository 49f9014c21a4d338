"""Opens files that others chose or replaced: without following links or blocking, and only plain files.

A compromised VMM may put a link, a pipe or a device in place of a file of its guest. If it followed the
link, the daemon would read, write or truncate the target with its own rights. A repository may name a
path that leads through a link out of the folders that the host's policy allows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Enough to go through: a folder may be closed to who would list it."""


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a plain file. Raises OSError, also if the path is anything else."""
    return _plain(os.open(path, flags | SAFE, mode), path)


def _plain(descriptor: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is not a plain file", str(path))


def reading(path: Path) -> BinaryIO:
    """Open for reading from the beginning. Raises OSError."""
    return os.fdopen(open_file(path, os.O_RDONLY), "rb")


def appending(path: Path) -> BinaryIO:
    """Open for appending; created if missing. Anything but a plain file is removed first. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return os.fdopen(open_file(path, flags), "ab")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise
    path.unlink(missing_ok=True)
    return os.fdopen(open_file(path, flags | os.O_EXCL), "ab")


def replacing(path: Path) -> BinaryIO:
    """Create a file for writing; whatever had its name is removed first. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def reading_beneath(path: Path) -> BinaryIO:
    """As `reading`, with no symbolic link followed in any part of an absolute path. Raises OSError."""
    return os.fdopen(_plain(open_beneath(str(path)), path), "rb")


def open_beneath(path: str) -> int:
    """A descriptor for reading, with no symbolic link followed in any part of an absolute path.

    What it is of, the caller has to look at. Raises OSError.
    """
    *folders, name = path.split("/")[1:]
    at = os.open("/", FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, FOLDER, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(name, os.O_RDONLY | SAFE, dir_fd=at)
    finally:
        os.close(at)
