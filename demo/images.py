"""Kernel bundles kept from run to run, so that only the first one fetches and unpacks a kernel."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where they are kept.

    A bundle's key names what it was made of and not how, so the recipes' own text is in the folder's
    name: whoever changes a recipe sees its effect at once.
    """
    recipes = hashlib.sha256()
    for path in sorted((ROOT / "reconciler" / "image").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            recipes.update(path.read_bytes())
    return ROOT / ".cache" / f"kernels-{recipes.hexdigest()[:12]}"


def seed(state: Path) -> bool:
    """Put what is kept into a new state directory; whether there was any."""
    kept = cache_folder()
    if not kept.is_dir():
        return False
    state.mkdir(parents=True, exist_ok=True)
    shutil.copytree(kept, state / "kernels", symlinks=True, dirs_exist_ok=True)
    return True


def save(state: Path) -> None:
    """Keep what a state directory holds, all or nothing; the first to do so wins."""
    made, kept = state / "kernels", cache_folder()
    if kept.is_dir() or not made.is_dir() or not any(made.iterdir()):
        return
    kept.parent.mkdir(exist_ok=True)
    whole = Path(tempfile.mkdtemp(prefix=f"{kept.name}.", dir=kept.parent))
    try:
        shutil.copytree(made, whole / "kernels", symlinks=True)
        with suppress(OSError):  # somebody else was quicker
            os.rename(whole / "kernels", kept)  # noqa: PTH104 - Path.rename says no more
        for old in kept.parent.glob("kernels-*"):
            if old.is_dir() and old not in (kept, whole):
                shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
