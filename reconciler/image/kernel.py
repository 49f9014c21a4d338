"""Kernel bundles: a kernel and an initrd that carry out the boot contract of `guest/initrd/init`."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image.debian_packages import Debian, Package
from reconciler.image.initrd import initrd
from reconciler.image.inputs.busybox import GUEST, fetch_busybox
from reconciler.image.modules import ModuleTree, read_recipe
from reconciler.image.progress_board import Progress
from reconciler.image.verity import HOME, fetch_loader
from reconciler.image.vmlinux import unpack_kernel
from reconciler.model.image import DebianKernel, PathKernel

"""The files of a bundle. `vmlinuz` holds the unpacked kernel where the host can unpack it."""
MOST_FILE_BYTES = 1 << 30
RECIPE = "modules"
"""In `guest/initrd`; the initrd has a folder of that name."""
ANNOUNCEMENT = b"reconciler-handed-over: "
"""In the text of our init since it tells who says that a guest is up."""


async def build_bundle(
    source: DebianKernel | PathKernel, debian: Debian, workspace: Path, progress: Progress
) -> None:
    """Make `workspace/vmlinuz` and `workspace/initrd`. Raises BuildFailed or BuildUnavailable."""
    match source:
        case DebianKernel():
            await _build_debian(source, debian, workspace, progress)
        case PathKernel():
            progress.begin("copying", workspace)
            await asyncio.to_thread(
                _copy, source.kernel, source.kernel_sha256, workspace / layout.KERNEL
            )
            await asyncio.to_thread(
                _copy, source.initrd, source.initrd_sha256, workspace / layout.INITRD
            )


async def _build_debian(
    source: DebianKernel, debian: Debian, workspace: Path, progress: Progress
) -> None:
    packages = await debian.kernel_packages(Package(source.package, source.version))
    unpacked = workspace / "packages"
    await debian.unpack(packages, unpacked, progress)
    busybox = await fetch_busybox(debian, workspace / "busybox")
    more = await fetch_loader(debian, workspace / "loader") if source.verity else {}
    progress.begin("packing", workspace / layout.KERNEL, workspace / layout.INITRD)
    if not await asyncio.to_thread(_assemble, workspace, unpacked, busybox, more):
        raise BuildUnavailable(
            f"{source.package}: not one kernel in {' '.join(map(str, packages))}",
            hint="set [kernels.debian] package to a kernel package, such as linux-image-cloud-amd64",
        )


def announces(initrd: Path) -> bool:
    """Whether this initrd holds our init in the form that says, or has it said, when a guest is up.

    A bundle is named by its inputs, so one that an older version made may be in the store for years.
    """
    try:
        with (
            initrd.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            return text.find(ANNOUNCEMENT) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _assemble(workspace: Path, unpacked: Path, busybox: Path, more: Mapping[str, bytes]) -> bool:
    kernels = sorted((unpacked / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        return False
    bzimage = kernels[0].read_bytes()
    scratch = workspace / "scratch"
    scratch.mkdir()
    (workspace / layout.KERNEL).write_bytes(unpack_kernel(bzimage, scratch) or bzimage)
    files = _initrd_files()
    recipe = read_recipe(files.pop(RECIPE).decode("ascii"))
    if more:
        files |= more
    else:
        recipe = [rule for rule in recipe if rule.when != HOME]
    tree = ModuleTree(unpacked, scratch)
    archive = initrd(files, busybox.read_bytes(), tree.pick(recipe), tree.release)
    (workspace / layout.INITRD).write_bytes(archive)
    return True


def _initrd_files() -> dict[str, bytes]:
    """The files of `guest/initrd`, by path."""
    home = GUEST / "initrd"
    found = sorted(path for path in home.rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


def _copy(path: str, sha256: str, target: Path) -> None:
    """Copy a file of the host, if it still is the one that was looked at."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_FILE_BYTES:
                raise BuildFailed(f"{path}: not a file of at most {MOST_FILE_BYTES >> 20} MiB")
            with target.open("wb") as copy:
                shutil.copyfileobj(file, copy)
    except OSError as error:
        raise BuildUnavailable(f"{path}: {error.strerror}", hint="put the file back") from error
    with target.open("rb") as copy:
        if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
            raise BuildUnavailable(
                f"{path}: has changed since the manifest was read",
                kind="changed-file",
                hint="run `reconciler reconcile`: it reads the file anew",
            )
