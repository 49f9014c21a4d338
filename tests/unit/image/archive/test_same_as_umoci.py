"""A stack of our images shows what umoci, which is not ours, unpacks of the same layers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.image.archive.contents import FolderValues, implied_folders
from reconciler.model.layer_kinds.described_source import StoreFormat
from tests.unit.image.archive.archives import (
    THEN,
    Item,
    device,
    file,
    folder,
    item,
    link,
    symlink,
    tar_of,
)
from tests.unit.image.archive.conftest import Pack, reads_tars

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners, and mounts"),
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is missing"),
]

LOWER = [
    folder("./", 0o755, mtime=THEN),
    folder("bin"),
    file("bin/su", "suid", mode=0o4755),
    file("bin/ping", "caps", mode=0o755, xattrs={"user.note": "1", "security.capability": "\x01\0\0\x02\0\x04" + "\0" * 14}),
    link("bin/ping6", "bin/ping"),
    symlink("bin/sh", "su"),
    folder("tmp", 0o1777, uid=65534, gid=4_000_000_000),
    device("null", 1, 3),
    device("sda", 8, 16, tarfile.BLKTYPE),
    item("pipe", tarfile.FIFOTYPE, mode=0o600, uid=7),
    folder("srv", 0o2750, uid=33, gid=33),
    file("srv/old", "old"),
    folder("srv/kept", 0o700),
    file("srv/kept/x", "x"),
    folder("opaque", 0o711, gid=5),
    file("opaque/hidden", "hidden"),
    folder("opaque/below"),
    file("swap-file", "a file first"),
    folder("swap-folder"),
    file("swap-folder/x", "x"),
    folder("again", 0o755),
    file("again/old", "old"),
    file("gone", "gone"),
    folder("gone-folder"),
    file("gone-folder/x", "x"),
    file("caf\udce9", "not UTF-8"),
    file("n" * 255, "long"),
    file("zeros", bytes(2_000_000)),
]  # fmt: skip
UPPER = [
    file("srv/.wh.old"),
    file("srv/kept/y", "y"),
    folder("opaque", 0o700),
    file("opaque/.wh..wh..opq"),
    file("opaque/new", "new"),
    folder("swap-file", 0o750),
    file("swap-file/x", "now a folder"),
    file("swap-folder", "now a file"),
    file(".wh.again"),
    folder("again", 0o500, uid=9),
    file("again/new", "new"),
    file(".wh.gone"),
    file(".wh.gone-folder"),
    file("tmp/x", "in a folder that is not listed"),
    file("bin/sh", "no link any more", mode=0o755),
    file("deep/er/est", "in folders that no layer lists"),
]


@contextlib.contextmanager
def stacked(images: list[Path], folder: Path) -> Iterator[Path]:
    """The images as overlayfs shows them, bottom first."""
    with contextlib.ExitStack() as mounts:
        lower = []
        for number, image in enumerate(images):
            place = folder / f"mount-{number}"
            place.mkdir()
            _run("mount", "-o", "ro,loop", image, place)
            mounts.callback(_run, "umount", place)
            lower.append(str(place))
        view = folder / "view"
        view.mkdir()
        _run(
            "mount", "-t", "overlay", "-o", f"ro,lowerdir={':'.join(lower[::-1])}", "overlay", view
        )
        mounts.callback(_run, "umount", view)
        yield view


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def seen(root: Path) -> dict[str, object]:
    """All that the image has to have, by path; the links of a file are one group."""
    found: dict[str, object] = {}
    inodes: dict[tuple[int, int], str] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in _xattrs(path)}
        time = None if stat.S_ISDIR(status.st_mode) else status.st_mtime
        group = (
            inodes.setdefault((status.st_dev, status.st_ino), name)
            if stat.S_ISREG(status.st_mode)
            else ""
        )
        found[name] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_rdev,
            content,
            xattrs,
            time,
            group,
        )
    return found


def _xattrs(path: Path) -> list[str]:
    with contextlib.suppress(OSError):  # a squashfs without any says that it has none
        return os.listxattr(path, follow_symlinks=False)
    return []


@pytest.mark.parametrize("store_format", ["squashfs", "erofs"])
async def test_a_stack_shows_what_umoci_unpacks(
    pack: Pack, tmp_path: Path, store_format: StoreFormat
) -> None:
    if store_format == "erofs" and not reads_tars():
        pytest.skip("mkfs.erofs is too old to read a tar")
    layout = f"{tmp_path}/layout"
    _run("umoci", "init", "--layout", layout)
    _run("umoci", "new", "--image", f"{layout}:t")
    sites = []
    for number, items in enumerate((LOWER, UPPER)):
        tar = tmp_path / f"layer-{number}.tar"
        tar.write_bytes(tar_of(*items))
        _run("umoci", "raw", "add-layer", "--image", f"{layout}:t", tar)
        sites.append(await pack(tar.read_bytes(), store_format))
    _run("umoci", "unpack", "--image", f"{layout}:t", tmp_path / "bundle")

    missing = implied_folders([site.contents for site in sites])
    above = tar_of(*(_folder(path, values) for path, values in missing.items()))
    sites.append(await pack(above, store_format))

    with stacked([site.image for site in sites], tmp_path) as view:
        ours, theirs = seen(view), seen(tmp_path / "bundle/rootfs")
    assert ours.keys() == theirs.keys()
    assert ours == theirs


def _folder(path: str, values: FolderValues) -> Item:
    return folder(path or "./", values.mode, uid=values.uid, gid=values.gid, mtime=values.mtime)
