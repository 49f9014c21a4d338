"""The volumes of VMs: made and grown for a start, copied by reflink where the filesystem can, put back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import DriverError
from reconciler.model.machine import BootDisk, Machine
from reconciler.untrusted_file import open_file
from reconciler.vmm.volumes import creation, growth, overlay

FICLONE = 0x40049409
"""ioctl of linux/fs.h: share all blocks of another file."""
CHUNK = 64 * 1024 * 1024


class VolumeFiles:
    """Satisfies the engine's interface `Volumes`. Every copy is whole or not there: temp, fsync, rename."""

    async def prepare(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        """See the port. `kept` are the paths of volumes that exist since a generation worked."""
        filesystems = {mount.serial: mount.fs_type for mount in machine.mounts}
        for disk in machine.volumes:
            size = sizes.get(disk.path)
            if size is None:
                raise DriverError(f"{machine.vm}: volume {disk.serial} has no size", kind="volume")
            if disk.path in kept:
                await creation.refuse_lost(Path(disk.path), creation.command(Path(disk.path), size))
            await creation.create(Path(disk.path), size, filesystems.get(disk.serial, "ext4"))
            await growth.grow(Path(disk.path), size)
        if machine.disk is not None and machine.disk.overlay:
            await self._prepare_overlay(machine.disk, sizes, kept)

    async def _prepare_overlay(
        self, disk: BootDisk, sizes: Mapping[str, int], kept: frozenset[str]
    ) -> None:
        path, image, size = Path(disk.overlay), Path(disk.path), sizes.get(disk.overlay, 0)
        if disk.overlay in kept:
            await creation.refuse_lost(path, overlay.command(path, image))
        await overlay.create(path, image, size)
        await overlay.grow(path, image, size)

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        """See the port. Nothing is changed."""
        for disk in machine.volumes:
            if (size := sizes.get(disk.path)) is not None:
                await growth.can_grow(Path(disk.path), size)

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        return await self._blocking(lambda: _copy_all(pairs))

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        await self._blocking(lambda: _put_back(pairs))

    async def drop(self, paths: Sequence[str]) -> None:
        def remove() -> str:
            for path in paths:
                Path(path).unlink(missing_ok=True)
            return ""

        await self._blocking(remove)

    async def _blocking(self, work: Callable[[], str]) -> str:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise DriverError(
                f"volumes could not be copied: {error.filename or ''} {error.strerror}".strip(),
                kind="volume",
                hint="look for space in the state directory",
            ) from error


def _put_back(pairs: Sequence[tuple[str, str]]) -> str:
    for snapshot, volume in pairs:
        if Path(volume).exists() and not Path(snapshot).exists():
            raise DriverError(
                f"snapshot {snapshot} is gone; its volume is left as it is",
                kind="volume",
                hint=f"put it back, or go on with the data as it is: cp {volume} {snapshot}",
            )
    return _copy_all(pairs)


def _copy_all(pairs: Sequence[tuple[str, str]]) -> str:
    methods = {
        _copy(Path(source), Path(target)) for source, target in pairs if Path(source).exists()
    }
    return "+".join(sorted(methods)) or "nothing"


def _copy(source: Path, target: Path) -> str:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    try:
        with _opened(source, os.O_RDONLY) as old, _opened(temporary, flags) as new:
            method = _fill(old, new)
            os.fsync(new)
        temporary.rename(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)
    return method


def _fill(old: int, new: int) -> str:
    try:
        fcntl.ioctl(new, FICLONE, old)
    except OSError as error:
        if error.errno not in (
            errno.EOPNOTSUPP,
            errno.ENOTTY,
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOSYS,
        ):
            raise
    else:
        return "reflink"
    size = os.fstat(old).st_size
    os.ftruncate(new, size)
    for start, end in _data(old, size):
        _copy_range(old, new, start, end)
    return "copy"


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Stretches that are not holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position


def _copy_range(old: int, new: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(old, new, min(CHUNK, end - start), start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            done = os.pwrite(new, os.pread(old, min(1 << 20, end - start), start), start)
        if done == 0:
            raise OSError(errno.EIO, "the volume became shorter while it was copied")
        start += done


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = open_file(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
