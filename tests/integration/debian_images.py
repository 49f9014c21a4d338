"""Layers of Debian packages, kept from run to run: the first one downloads and installs for minutes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.host import layout
from reconciler.image.composed import read_composition
from reconciler.image.debian_roots.host_archives import NoArchive, pockets
from reconciler.image.debian_roots.root_request import RootRequest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("debian_roots", "archive", "inputs")
PREFIX = "debian-"
MIRROR_SECONDS = 10.0
KINDS: tuple[layout.ImageKind, ...] = ("composed", "layers")


def cache_folder() -> Path:
    """Named by the recipes, as the other images that are kept (`demo/images.py`)."""
    recipes = hashlib.sha256()
    for name in RECIPES:
        for path in sorted((ROOT / "reconciler/image" / name).rglob("*.py")):
            recipes.update(path.read_bytes())
    return ROOT / ".cache" / f"{PREFIX}{recipes.hexdigest()[:12]}"


def skip_without_them() -> None:
    """Skip a test where nothing is kept and nothing can be made."""
    if cache_folder().is_dir():
        return
    for program in ("mmdebstrap", "unsquashfs", "mksquashfs"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: ./dev test installs it")
    asked = RootRequest(
        archive_id="0" * 64, suite="bookworm", components=["main"], packages=[], seconds=1.0
    )
    try:
        first = pockets(asked)[0]
        with urllib.request.urlopen(  # noqa: S310 - of this host's own apt
            f"{first.uri}/dists/{first.release}/InRelease", timeout=MIRROR_SECONDS
        ):
            pass
    except (NoArchive, urllib.error.URLError, TimeoutError) as error:
        pytest.skip(f"the mirror of this host's apt is out of reach: {error}")


def seed(state: Path) -> None:
    """Link what is kept into a state directory: the same inodes, so nothing is digested again."""
    with suppress(FileNotFoundError):
        shutil.copytree(cache_folder(), state, copy_function=_linked, dirs_exist_ok=True)


def save(state: Path) -> None:
    """Keep the composed layers of a state directory, with their parts."""
    kept = cache_folder()
    composed = [one for one in layout.images(state, "composed").glob("[!.]*") if one.is_dir()]
    if not composed:
        return
    kept.mkdir(parents=True, exist_ok=True)
    for entry in composed:
        for part in parts_of(entry):
            _link(layout.images(state, "layers") / part, layout.images(kept, "layers") / part)
        _link(entry, layout.images(kept, "composed") / entry.name)
    for old in kept.parent.glob(f"{PREFIX}*"):
        if old != kept:
            shutil.rmtree(old, ignore_errors=True)


def parts_of(entry: Path) -> list[str]:

    return read_composition(entry / layout.PARTS).parts


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _link(source: Path, target: Path) -> None:
    """All or nothing; the first to do so wins."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        shutil.copytree(source, whole / target.name, copy_function=_linked)
        with suppress(OSError):
            (whole / target.name).rename(target)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
