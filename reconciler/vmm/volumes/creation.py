"""Volumes: raw files that are created and formatted once, and never shrunk, formatted again or removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import DriverError
from reconciler.vmm.programs import run

# -m 0: a data disk needs no blocks that only root may fill.
# meta_bg: descriptors of groups lie with their groups, so that no table has to move when it grows, and
# the size has no bound but the blocks'. A resize inode would reserve room for 1024 times its first size.
MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "meta_bg,^resize_inode")
SMALL_MIB = 8
"""Below it a journal fits only with blocks of 1 KiB, which reach as far as some 256 GiB."""
# A new file is one hole: zeros need not be written, neither now (4 GB for 200 GiB) nor by the
# guest's kernel later. e2fsprogs before 1.47 does not know the word, and takes the second form.
MKFS_OPTIONS = ("lazy_itable_init=0,assume_storage_prezeroed=1", "lazy_itable_init=1,nodiscard")
MKFS_DEADLINE = 60.0
"""Seconds; 1 GiB takes 30 ms, as only the metadata is written into the hole."""
MIB = 1024 * 1024


async def create(path: Path, size_mib: int, fs_type: str) -> None:
    """Make the volume whole or not at all; one that exists is left as it is.

    Raises DriverError.
    """
    if await asyncio.to_thread(path.exists):
        return
    if fs_type != "ext4":
        raise DriverError(f"{path.name}: cannot format {fs_type}", kind="volume")
    temporary: Path | None = None
    try:
        temporary = await asyncio.to_thread(blank, path, size_mib)
        await _format(temporary, "1024" if size_mib < SMALL_MIB else "4096")
        await asyncio.to_thread(publish, temporary, path)
    except OSError as error:
        raise DriverError(
            f"{path.name}: {error.strerror or error}",
            kind="volume",
            hint="look for space and permissions in the state directory",
        ) from error
    finally:
        if temporary is not None:
            await asyncio.to_thread(discard, temporary)


def command(path: Path, size_mib: int) -> str:
    """How a person makes an empty one."""
    return f"truncate -s {size_mib}M {path} && mkfs.ext4 {path}"


async def refuse_lost(path: Path, begin: str) -> None:
    """Raises DriverError when a volume with data is not there: another disk is not mounted, or it was removed.

    begin: the command that makes an empty one.
    """
    try:
        there = await asyncio.to_thread(path.exists)
    except OSError as error:
        raise DriverError(f"{path}: {error.strerror or error}", kind="volume") from error
    if not there:
        raise DriverError(
            f"volume {path} is gone, and the last good generation had it: an empty one is not begun in its"
            " place",
            kind="volume",
            hint=f"mount or restore it, and it starts by itself; or to begin with an empty one: {begin}",
        )


def blank(path: Path, size_mib: int) -> Path:
    """A new file beside `path`, one hole of this size. Blocks; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        os.ftruncate(descriptor, size_mib * MIB)
    finally:
        os.close(descriptor)
    return Path(name)


async def _format(path: Path, block: str) -> None:
    said = ""
    for options in MKFS_OPTIONS:
        command = (*MKFS, "-b", block, "-E", options, "--", str(path))
        status, said = await run(command, MKFS_DEADLINE)
        if status == 0:
            return
    raise DriverError(f"mkfs.ext4 failed: {said}", kind="volume")


def publish(temporary: Path, path: Path) -> None:
    """Durable before it has its name; link() rather than rename(): it cannot replace a volume."""
    sync(temporary)
    with contextlib.suppress(FileExistsError):  # another start was faster; its volume is kept
        os.link(temporary, path)
    sync(path.parent)


def discard(temporary: Path) -> None:
    """Blocks; raises OSError."""
    temporary.unlink(missing_ok=True)
