"""What a layer's tar says of folders: kept beside its image, so that layers can be composed later.

A folder that a layer only implies has other values in a lower layer, and overlayfs shows the upper one's. The
image of a layer depends on its own tar alone, so what is right for a stack of them is said here, and a top layer
carries it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.errors import BuildFailed
from reconciler.image.archive.headers import TarEntry
from reconciler.image.archive.layer_tree import OPAQUE, LayerTree

WHITEOUT_DEVICE = (0, 0)
MOST_IMPLIED = 100_000
"""Folders of all layers together that have no entry. Tools that list none have some ten thousand."""
MOST_IMPLIED_CHARACTERS = 16 << 20
"""Of their paths: each stands for all folders above it, too."""


@dataclass(frozen=True, slots=True)
class TarContents:
    """What a tar that became an image had in it."""

    digest: str
    """`sha256:` and the hex of the tar without its compression: OCI's diff_id."""
    entries: int
    content_bytes: int
    """Of its files, holes included."""


@dataclass(frozen=True, slots=True)
class FolderValues:
    """What a folder has beside its entries."""

    mode: int
    uid: int
    gid: int
    mtime: int


def lines_of(tree: LayerTree) -> Iterator[str]:
    """A JSON list for the root, each folder, symlink and mark: what it is, its path, its values."""
    yield _line("folder" if tree.root.name else "implied", b"", *_values(tree.root))
    for path in sorted(tree.paths):
        entry = tree.paths[path]
        if entry.kind == "folder":
            yield _line("folder" if entry.name else "implied", path, *_values(entry))
        elif entry.kind == "symlink":
            yield _line("symlink", path)
        if OPAQUE in entry.xattrs or (entry.kind == "char" and entry.device == WHITEOUT_DEVICE):
            yield _line("hidden", path)


def _line(what: str, path: bytes, *values: int) -> str:
    return json.dumps([what, path.decode("utf-8", "surrogateescape"), *values]) + "\n"


def _values(entry: TarEntry) -> tuple[int, ...]:
    return (entry.mode, entry.uid, entry.gid, entry.mtime)


@dataclass(slots=True)
class _Layer:
    folders: dict[str, FolderValues] = field(default_factory=dict)
    implied: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)
    """Whiteouts and opaque folders: lower layers are not seen at or below them."""
    symlinks: set[str] = field(default_factory=set)


def implied_folders(layers: Sequence[Path]) -> dict[str, FolderValues]:
    """The folders that a stack shows as implied ones, with the values that they have further down.

    `layers` are the contents of each, bottom first. Raises BuildFailed when a layer's path leads through a symlink
    of a lower layer: overlayfs would show a folder in its place; and for too many folders. Raises OSError. Blocking.
    """
    wanted = _wanted(layers)
    around = wanted | {above for path in wanted for above in _upwards(path)}
    stack = [_layer(contents, around) for contents in layers]
    found = {}
    for path in sorted(wanted):
        values = _look(path, stack[::-1])
        if values is not None:
            found[path] = values
    return found


def _wanted(layers: Sequence[Path]) -> set[str]:
    wanted: set[str] = set()
    characters = 0
    for contents in layers:
        for what, path, *_ in _read(contents):
            if what == "implied" and path not in wanted:
                wanted.add(path)
                characters += len(path)
                if len(wanted) > MOST_IMPLIED or characters > MOST_IMPLIED_CHARACTERS:
                    raise BuildFailed(
                        f"its layers have files in more than {len(wanted) - 1} folders that they do not list",
                        hint="squash the image into one layer, or let its layers list their folders",
                    )
    return wanted


def _look(path: str, downwards: Iterable[_Layer]) -> FolderValues | None:
    implied = False
    for layer in downwards:
        if path in layer.symlinks and implied:
            raise BuildFailed(
                f"{path}: a layer has files below it, and it is a symlink of a lower layer",
                hint="squash the image into one layer, or let the layer name the folder that is meant",
            )
        if path in layer.folders or path in layer.symlinks:
            return layer.folders.get(path) if implied else None
        implied = implied or path in layer.implied
        if not layer.ends.isdisjoint(_upwards(path)):
            return None
    return None


def _layer(contents: Path, around: set[str]) -> _Layer:
    layer = _Layer()
    for what, path, *values in _read(contents):
        if path not in around:
            continue
        if what == "symlink":
            layer.symlinks.add(path)
        elif what == "implied":
            layer.implied.add(path)
        elif what == "hidden":
            layer.ends.add(path)
        else:
            layer.folders[path] = FolderValues(*values)
    return layer


def _read(contents: Path) -> Iterator[list[Any]]:
    with contents.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _upwards(path: str) -> Iterator[str]:
    """A path and all folders above it, without the root."""
    while path:
        yield path
        path = path.rpartition("/")[0]
