"""An image is the same, bit for bit, wherever, whenever and by whom its folder was laid out and packed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.image.build_site import COMPRESS_FROM_BYTES, mkfs_argv

DAY = 86_400
NAMES = ("a", "B", "deep/er/file", "deep/Ünïcode", "empty/x", "z")

pytestmark = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None or shutil.which("mksquashfs") is None,
    reason="mkfs.erofs or mksquashfs is missing",
)


def laid_out(root: Path, *, later: bool) -> Path:
    """The same files; `later`: in another order, on another day, and of another owner where it can be."""
    root.mkdir(parents=True)
    for name in reversed(NAMES) if later else NAMES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 3000)
        path.chmod(0o755 if name == "z" else 0o644)
    (root / "link").symlink_to("/etc/passwd")
    for number, path in enumerate(sorted(root.rglob("*"))):
        if path.is_dir():
            path.chmod(0o755)
        moment = 1_700_000_000 + number + (400 * DAY if later else 0)
        os.utime(path, (moment, moment), follow_symlinks=False)
        if later and os.geteuid() == 0:
            os.lchown(path, 1000 + number, 50)
    root.chmod(0o755)
    return root


def packed(folder: Path, store_format: str, content_bytes: int, *, later: bool) -> str:
    image = folder.with_suffix(".image")
    argv = mkfs_argv(store_format, str(image), str(folder), content_bytes)
    env = (
        {"TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": "/nonexistent"}
        if later
        else {"LC_ALL": "C.UTF-8"}
    )
    subprocess.run(
        argv, check=True, timeout=60, capture_output=True, cwd="/" if later else folder,
        umask=0o077 if later else 0o022, env={"PATH": os.environ["PATH"], **env},
    )  # fmt: skip
    return hashlib.sha256(image.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("store_format", "content_bytes"),
    [("erofs", 0), ("erofs", COMPRESS_FROM_BYTES), ("squashfs", 0)],
    ids=["erofs", "erofs-lz4", "squashfs"],
)
def test_one_content_is_one_image_on_any_day_in_any_place(
    tmp_path: Path, store_format: str, content_bytes: int
) -> None:
    first = laid_out(tmp_path / "one/content", later=False)
    other = laid_out(tmp_path / "another place/at another depth/files", later=True)
    assert packed(first, store_format, content_bytes, later=False) == packed(
        other, store_format, content_bytes, later=True
    )


def test_a_changed_byte_or_mode_is_another_image(tmp_path: Path) -> None:
    folder = laid_out(tmp_path / "content", later=False)
    seen = {packed(folder, "erofs", 0, later=False)}
    (folder / "a").chmod(0o600)
    seen.add(packed(folder, "erofs", 0, later=False))
    (folder / "a").write_bytes(b"b")
    seen.add(packed(folder, "erofs", 0, later=False))
    assert len(seen) == 3
