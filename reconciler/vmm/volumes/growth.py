"""A volume that is larger than before: its file and file system grow while no guest has it.

    smaller than wanted? -- no --> left as it is, also when it is larger: nothing is made smaller
        | yes
    e2fsck mends what a power cut left --> tried on a copy of the metadata --> marked --> the file grows
        --> resize2fs, which keeps what it overwrites --> unmarked

resize2fs cannot do everything, and what it cannot do it finds out after it has begun to write: tables that
have no room to move (some volumes of 2 to 6 MiB), more groups than their descriptors can be. So it works
on a sparse copy of the metadata first, once before a guest is stopped for it, and once more when the volume
is at rest. A resize that fails or is interrupted is undone, so the next start finds the volume as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.model.host_fault import host_fault
from reconciler.untrusted_file import reading
from reconciler.vmm.programs import run

MIB = 1024 * 1024
SUPERBLOCK, SUPERBLOCK_BYTES = 1024, 1024
CHECK_DEADLINE, RESIZE_DEADLINE = 600.0, 300.0
"""Seconds; a check of 1 TiB that is mostly empty takes some ten."""
MENDED = 3
"""Bits of e2fsck's status that say: it found something, and mended it."""
# The guest wrote what these read: bounded in time and memory, and no core of it is kept.
LIMITED = ("prlimit", "--as=8589934592", "--cpu=900", "--core=0", "--")
TOO_FAR = "give it a size that it can grow to, or a new volume another name"


async def grow(path: Path, size_mib: int) -> None:
    """Give a volume that exists at least this size.

    Raises DriverError, of kind `growth` if this file system cannot have it, and of kind `volume` if the
    host was in the way. The volume is then as it was.
    """
    try:
        if await asyncio.to_thread(_is_at_rest, path, size_mib * MIB):
            return
        with alone(path):
            await _undo(path)
            if await asyncio.to_thread(_wanted, path, size_mib * MIB):
                await _grow(path, size_mib * MIB)
    except OSError as error:
        raise _hindered(path, error.strerror or str(error)) from error


async def can_grow(path: Path, size_mib: int) -> None:
    """See whether it could, while a guest has it, by its metadata as they are at this moment.

    Raises DriverError, of kind `growth` if not. Some faults show only at the resize itself.
    """
    if not await asyncio.to_thread(_wanted, path, size_mib * MIB):
        return
    async with _copied(path) as copy:
        # A guest writes meanwhile: what is torn in the copy is mended there, or nothing is concluded.
        status, _ = await run((*LIMITED, "e2fsck", "-f", "-y", "--", str(copy)), CHECK_DEADLINE)
        if not status & ~MENDED:
            await _tried(path, copy, size_mib * MIB)


def _is_at_rest(path: Path, size: int) -> bool:
    return not _mark(path).exists() and not _wanted(path, size)


def _wanted(path: Path, size: int) -> bool:
    """Whether it is too small; a volume that is not ext4 is left alone."""
    return filesystem_bytes(path) > 0 and path.stat().st_size < size


def filesystem_bytes(path: Path) -> int:
    """The size of an ext file system by its superblock; 0 where there is none."""
    try:
        with reading(path) as file:
            file.seek(SUPERBLOCK)
            block = file.read(SUPERBLOCK_BYTES)
    except FileNotFoundError:
        return 0
    if len(block) < SUPERBLOCK_BYTES or block[56:58] != b"\x53\xef":
        return 0
    low, high, shift = (int.from_bytes(block[at : at + 4], "little") for at in (4, 0x150, 24))
    wide = int.from_bytes(block[0x60:0x64], "little") & 0x80  # the feature 64bit
    return (low | (high << 32 if wide else 0)) * (1024 << min(shift, 6))


async def _grow(path: Path, size: int) -> None:
    status, said = await run((*LIMITED, "e2fsck", "-f", "-p", "--", str(path)), CHECK_DEADLINE)
    if status & ~MENDED:
        command = f"e2fsck -f {path}"
        raise _failed(path, f"e2fsck: status {status}: {said}", f"run `{command}` while it is down")
    async with _copied(path) as copy:
        await _tried(path, copy, size)
    await asyncio.to_thread(_stretch, path, size)
    undo = ("-z", str(_undo_file(path)))
    status, said = await run((*LIMITED, "resize2fs", *undo, "--", str(path)), RESIZE_DEADLINE)
    if status:
        await _undo(path)
        raise _hindered(path, f"resize2fs: status {status}: {said}")
    await asyncio.to_thread(_done, path)


@contextlib.asynccontextmanager
async def _copied(path: Path) -> AsyncIterator[Path]:
    """All metadata and no data of a file system, in a sparse file beside it."""
    copy = path.with_name(f".{path.name}.metadata")
    try:
        await asyncio.to_thread(copy.unlink, missing_ok=True)
        command = (*LIMITED, "e2image", "-r", "--", str(path), str(copy))
        status, said = await run(command, CHECK_DEADLINE)
        if status:
            raise _hindered(path, f"e2image: status {status}: {said}")
        yield copy
    finally:
        await asyncio.to_thread(copy.unlink, missing_ok=True)


async def _tried(path: Path, copy: Path, size: int) -> None:
    """Let the copy grow. Raises DriverError."""
    await asyncio.to_thread(os.truncate, copy, size)
    status, said = await run((*LIMITED, "resize2fs", "--", str(copy)), RESIZE_DEADLINE)
    said = said.replace(str(copy), path.name)
    if status < 0 or (status and host_fault(said.splitlines())):
        raise _hindered(path, f"resize2fs: status {status}: {said}")
    if status:
        now = filesystem_bytes(path) // MIB
        why = f"from {now}MiB to {size // MIB}MiB is further than its file system can: {said}"
        raise _failed(path, why, TOO_FAR)


async def _undo(path: Path) -> None:
    """Put back what a growth overwrote that did not come to its end."""
    if not await asyncio.to_thread(_mark(path).exists):
        return
    undo = _undo_file(path)
    if await asyncio.to_thread(undo.exists):
        # It refuses a file in which nothing was kept yet: then nothing was overwritten.
        await run((*LIMITED, "e2undo", "-f", "--", str(undo), str(path)), RESIZE_DEADLINE)
    status, said = await run((*LIMITED, "e2fsck", "-f", "-p", "--", str(path)), CHECK_DEADLINE)
    if status & ~MENDED:
        command = f"e2fsck -f {path}"
        raise _failed(path, f"e2fsck: status {status}: {said}", f"run `{command}` while it is down")
    await asyncio.to_thread(os.truncate, path, filesystem_bytes(path))
    await asyncio.to_thread(_done, path)


def _stretch(path: Path, size: int) -> None:
    mark = _mark(path)
    _undo_file(path).unlink(missing_ok=True)
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
    _undo_file(path).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.growing")


def _undo_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.undo")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep guests from opening it: a file system is never resized under a guest."""
    try:
        descriptor = os.open(
            layout.lock(layout.home_of_volume(path)), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
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


def _hindered(path: Path, why: str) -> DriverError:
    hint = "look for space and errors at the state directory; it is tried again"
    return DriverError(f"{path.name} could not be grown: {why}", kind="volume", hint=hint)


def _failed(path: Path, why: str, hint: str) -> DriverError:
    return DriverError(f"{path.name} could not be grown: {why}", kind="growth", hint=hint)
