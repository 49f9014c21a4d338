"""Kernel bundles and base layers kept from run to run: only the first one fetches and unpacks them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import get_args

from reconciler.host import layout
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layers import LayerSpec

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "images-"


def cache_folder() -> Path:
    """Where they are kept.

    A bundle's key names what it was made of and not how, so the recipes' own text is in the folder's
    name: a changed recipe takes effect at once.
    """
    recipes = hashlib.sha256()
    for path in sorted((ROOT / "reconciler" / "image").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            recipes.update(path.read_bytes())
    return ROOT / ".cache" / f"{PREFIX}{recipes.hexdigest()[:12]}"


def bases() -> set[str]:
    """Keys of the layers that do not come from a repository: equal in every run."""
    return {LayerSpec.of(BusyboxSource(), kind).key for kind in get_args(StoreFormat)}


def seed(state: Path) -> bool:
    """Put what is kept into a new state directory; whether there was any."""
    kept = cache_folder()
    if not kept.is_dir():
        return False
    state.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kept, state, dirs_exist_ok=True)
    return True


def save(state: Path) -> None:
    """Keep what a state directory holds, all or nothing; the first to do so wins."""
    kept = cache_folder()
    found = [entry for entry in layout.images(state, "kernels").glob("[!.]*") if entry.is_dir()]
    if kept.is_dir() or not found:
        return
    found += [entry for entry in layout.images(state, "layers").glob("*") if entry.name in bases()]
    kept.parent.mkdir(exist_ok=True)
    whole = Path(tempfile.mkdtemp(prefix=f"{kept.name}.", dir=kept.parent))
    try:
        for entry in found:
            shutil.copytree(entry, whole / "images" / entry.relative_to(state))
        with suppress(OSError):  # another process was quicker
            (whole / "images").rename(kept)
        for old in kept.parent.glob(f"{PREFIX}*"):
            if old != kept and not old.suffix:  # with one it is being made
                shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
