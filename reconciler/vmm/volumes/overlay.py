"""What guests write to a disk that firmware boots: a qcow2 above an image of the store, made once, never shrunk.

It holds blocks, which mean something above its image alone; the planner gives each image a path of its own.
A guest sees the disk in it and not the file. But a VMM that was broken into has written the file: so what its
header says of other files is never followed, and one that keeps its data elsewhere is refused.
"""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

from reconciler.errors import DriverError
from reconciler.untrusted_file import reading
from reconciler.vmm.programs import run
from reconciler.vmm.volumes.creation import MIB, discard, publish
from reconciler.vmm.volumes.growth import alone

PROGRAM, PACKAGE = "qemu-img", "qemu-utils"
DEADLINE = 60.0
"""Seconds; only metadata is written."""
LIMITED = ("prlimit", "--as=8589934592", "--cpu=60", "--core=0", "--")
_HEADER = struct.Struct(">4sI16xQ40xQ")
"""Magic, version, bytes of the disk, incompatible features."""
MAGIC, VERSION = b"QFI\xfb", 3
DIRTY = 1
"""The one feature that an overlay has, and only while a guest writes or after its VMM was killed."""


async def create(path: Path, image: Path, size_mib: int) -> None:
    """Begin one above an image, as large as that at least; whole or not at all. One that exists is left as it is.

    Raises DriverError.
    """
    if await asyncio.to_thread(path.exists):
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(discard, temporary)
        size = max(size_mib * MIB, await asyncio.to_thread(disk_bytes, image))
        await _make(path, *_words(temporary, image), str(size))
        await asyncio.to_thread(temporary.chmod, 0o600)
        await asyncio.to_thread(publish, temporary, path)
    except OSError as error:
        raise _hindered(path, error.strerror or str(error)) from error
    finally:
        await asyncio.to_thread(discard, temporary)


async def grow(path: Path, image: Path, size_mib: int) -> None:
    """Give the disk at least this size; what a guest does with it is its own. Raises DriverError."""
    try:
        if await asyncio.to_thread(disk_bytes, path) >= size_mib * MIB:
            return
        with alone(path):
            given = {
                "driver": "qcow2",
                "file": {"driver": "file", "filename": str(path)},
                "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": str(image)}},
            }
            await _make(path, "resize", "-q", f"json:{json.dumps(given)}", f"{size_mib}M")
    except OSError as error:
        raise _hindered(path, error.strerror or str(error)) from error


def command(path: Path, image: Path) -> str:
    """How a person begins one."""
    return " ".join((PROGRAM, *_words(path, image)))


def _words(path: Path, image: Path) -> tuple[str, ...]:
    return ("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(path))


def disk_bytes(path: Path) -> int:
    """The size of the disk in a qcow2. Blocks; raises OSError, and DriverError for a file that is not read."""
    with reading(path) as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise _refused(path, "is cut off in its header")
    magic, version, size, features = _HEADER.unpack(head)
    if magic != MAGIC or version != VERSION:
        raise _refused(path, "is no qcow2 image of ours")
    if features & ~DIRTY:
        raise _refused(path, f"has features that ours have not ({features:#x})")
    return int(size)


async def _make(path: Path, *words: str) -> None:
    try:
        status, said = await run((*LIMITED, PROGRAM, *words), DEADLINE)
    except FileNotFoundError as error:
        raise _hindered(path, f"{error.filename} is not installed") from error
    if status:
        raise _hindered(path, f"{PROGRAM} {words[0]}: status {status}: {said}")


def _refused(path: Path, why: str) -> DriverError:
    hint = "restore it from a copy; or move it away, and the next start says how to begin with the image"
    return DriverError(f"{path} {why}", kind="volume", hint=hint)


def _hindered(path: Path, why: str) -> DriverError:
    hint = (
        f"look for space in the state directory, and for {PROGRAM} ({PACKAGE}); it is tried again"
    )
    return DriverError(f"{path.name} could not be made or grown: {why}", kind="volume", hint=hint)
