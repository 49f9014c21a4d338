"""Trees of hashes at the end of images, with which a guest compares each block that it reads (dm-verity)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildUnavailable
from reconciler.host import layout
from reconciler.image.debian_packages import Debian, Package
from reconciler.image.image_directory import ImageDirectory
from reconciler.model.names import LayerKey

BLOCK = 4096
LEAST_BLOCKS = 2
"""The tree of a single block has no level, and veritysetup makes none."""
SECONDS = 300.0
FIXED_UUID = "7265636f-6e63-4c69-8572-000000000002"
ROOT_HASH = re.compile(rb"^Root hash:\s*([0-9a-f]{64})\s*$", re.MULTILINE)
LOADER = Package("dmsetup")
HOME = "verity"
"""The folder of the initrd with the program that loads tables of the device mapper, and its libraries."""


class HashTrees:
    """The trees in a store, as the files beside the images say; each file is read once."""

    def __init__(self, shelf: ImageDirectory) -> None:
        self._shelf = shelf
        # By the digest of the file: an image that is made again may have another tree.
        self._read: dict[str, str] = {}

    def of(self, keys: Iterable[str]) -> dict[LayerKey, str]:
        """`BLOCKS:ROOT` of those layers that have one."""
        found = {}
        for key in keys:
            if (mark := self._shelf.marks(key).get(layout.HASH_TREE)) is None:
                continue
            # One that is gone is missed at the next look at the images.
            with contextlib.suppress(OSError):
                if mark.sha256 not in self._read:
                    path = self._shelf.path(key, layout.HASH_TREE)
                    self._read[mark.sha256] = path.read_text(encoding="ascii")
                found[LayerKey(key)] = self._read[mark.sha256]
        return found


async def append_tree(image: Path, programs: ConfinedPrograms) -> None:
    """Append its tree to an image, and leave `BLOCKS:ROOT` beside it. Raises BuildUnavailable."""
    blocks = await asyncio.to_thread(_whole_blocks, image)
    argv = (
        "veritysetup", "format", "--salt=-", f"--uuid={FIXED_UUID}",
        f"--hash-offset={blocks * BLOCK}", f"--data-blocks={blocks}", str(image), str(image),
    )  # fmt: skip
    ended = await programs.run(argv, seconds=SECONDS)
    found = ROOT_HASH.search(ended.output)
    if ended.status != 0 or found is None:
        raise BuildUnavailable(
            f"veritysetup: {ended.tail or f'status {ended.status}'}",
            hint="is cryptsetup-bin installed? `reconciler doctor` looks",
        )
    text = f"{blocks}:{found[1].decode()}"
    beside = image.with_name(layout.HASH_TREE)
    await asyncio.to_thread(beside.write_text, text, encoding="ascii")


def _whole_blocks(image: Path) -> int:
    """Fill the last block of an image; returns how many it has."""
    blocks = max(-(-image.stat().st_size // BLOCK), LEAST_BLOCKS)
    os.truncate(image, blocks * BLOCK)
    return blocks


async def fetch_loader(debian: Debian, scratch: Path) -> dict[str, bytes]:
    """The distribution's dmsetup with its libraries, as files of an initrd. Raises BuildUnavailable."""
    packages = await debian.with_dependencies(LOADER)
    await debian.unpack(packages, scratch)
    return await asyncio.to_thread(_needed, scratch)


def _needed(scratch: Path) -> dict[str, bytes]:
    program = next(iter(sorted(scratch.rglob("sbin/dmsetup"))), None)
    libraries = {path.name: path for path in sorted(scratch.rglob("*.so*")) if path.is_file()}
    if program is None:
        raise BuildUnavailable(f"the package {LOADER} has no dmsetup")
    wanted, files = ["ld-linux-x86-64.so.2"], {f"{HOME}/dmsetup": program.read_bytes()}
    wanted += _names_in(files[f"{HOME}/dmsetup"], libraries)
    for name in wanted:
        if f"{HOME}/lib/{name}" not in files:
            content = files[f"{HOME}/lib/{name}"] = libraries[name].read_bytes()
            wanted += _names_in(content, libraries)
    return files


def _names_in(content: bytes, libraries: dict[str, Path]) -> list[str]:
    """The libraries that an ELF file may need: names that stand whole among its strings."""
    return [name for name in libraries if b"\0" + name.encode() + b"\0" in content]
