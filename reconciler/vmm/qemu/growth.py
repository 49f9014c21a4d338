"""A volume that is larger than before: its file and file system grow while no guest has it.

    smaller than wanted? -- no --> left as it is, also when it is larger: nothing is made smaller
        | yes
    e2fsck mends what a power cut left --> marked --> the file grows --> resize2fs --> unmarked

The mark tells the next start of a growth that was cut short; it is then checked and finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import DriverError
from reconciler.vmm.qemu.programs import run

MIB = 1024 * 1024
LOCK = "lock"
"""Beside the folder of the volumes; a VMM holds it for life."""
MAGIC_AT, MAGIC = 1024 + 56, b"\x53\xef"
CHECK_DEADLINE, RESIZE_DEADLINE = 600.0, 300.0
"""Seconds; a check of 1 TiB that is mostly empty takes some ten."""
MENDED = 3
"""Bits of e2fsck's status that say: it found something, and mended it."""
# The guest wrote what these read: bounded in time and memory, and no core of it is kept.
LIMITED = ("prlimit", "--as=8589934592", "--cpu=900", "--core=0", "--")


async def grow(path: Path, size_mib: int) -> None:
    """Give a volume that exists at least this size. Raises DriverError of kind `growth`."""
    try:
        if not await asyncio.to_thread(_wanted, path, size_mib * MIB):
            return
        with _alone(path):
            await _grow(path, size_mib * MIB)
    except OSError as error:
        raise _failed(path, error.strerror or str(error), "look at the state directory") from error


def _wanted(path: Path, size: int) -> bool:
    """Whether it is too small, or was left in the middle; what is no ext4 is somebody else's matter."""
    try:
        with path.open("rb") as file:
            file.seek(MAGIC_AT)
            ours = file.read(len(MAGIC)) == MAGIC
        return ours and (path.stat().st_size < size or _mark(path).exists())
    except FileNotFoundError:
        return False


async def _grow(path: Path, size: int) -> None:
    status, said = await run((*LIMITED, "e2fsck", "-f", "-p", "--", str(path)), CHECK_DEADLINE)
    if status & ~MENDED:
        command = f"e2fsck -f {path}"
        raise _failed(path, f"e2fsck: status {status}: {said}", f"run `{command}` while it is down")
    await asyncio.to_thread(_stretch, path, size)
    status, said = await run((*LIMITED, "resize2fs", "--", str(path)), RESIZE_DEADLINE)
    if status:
        raise _failed(path, f"resize2fs: status {status}: {said}", "it is tried again")
    await asyncio.to_thread(_done, path)


def _stretch(path: Path, size: int) -> None:
    mark = _mark(path)
    mark.touch()
    sync(mark.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, max(size, os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _done(path: Path) -> None:
    sync(path)
    _mark(path).unlink(missing_ok=True)
    sync(path.parent)


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.growing")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody may have it open as a guest: a file system is never resized under one."""
    try:
        descriptor = os.open(path.parent.parent / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # no guest ever ran on it
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        hint = "find the process with `fuser lock`; it is not ours to kill"
        raise DriverError(
            f"{path.name}: a process holds its VM's lock", kind="conflict", hint=hint
        ) from error
    finally:
        os.close(descriptor)


def _failed(path: Path, why: str, hint: str) -> DriverError:
    return DriverError(f"{path.name} could not be grown: {why}", kind="growth", hint=hint)
