"""Ready images for tests, made by the programs that people make them with."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def folder_with(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def make(kind: str, content: Path, image: Path) -> Path:
    """An image of a folder: erofs, squashfs or ext4."""
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    argv = {
        "erofs": ("mkfs.erofs", "--quiet", "--all-root", image, content),
        "squashfs": ("mksquashfs", content, image, "-all-root", "-quiet", "-no-progress"),
        "ext4": ("mke2fs", "-q", "-t", "ext4", "-d", content, image, "8M"),
        "ext2": ("mke2fs", "-q", "-t", "ext2", "-d", content, image, "8M"),
    }[kind]
    subprocess.run(argv, check=True, capture_output=True, timeout=60, env=env)
    return image


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
