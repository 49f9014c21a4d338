"""Warns about what the files of a tree have on disk and git does not carry: a commit would lose it in silence.

A commit knows nothing of it any more, so only `validate` of a folder can see it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from reconciler.model.layer_kinds.tree_layer import Owners
from reconciler.model.layers import LayerSource
from reconciler.model.names import VMName
from reconciler.source.manifests.convert import LAYERS
from reconciler.source.manifests.error_messages import dotted
from reconciler.source.manifests.warnings import ManifestWarning

MOST_ENTRIES = 100_000
GIT = ".git"
SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
READABLE = 0o044
CAPABILITIES = "security.capability"

EMPTY = "is an empty folder, which git does not carry: put an empty file `.keep` into it"
NO_FILE = "is a device, pipe or socket, which git does not carry: let the guest make it"
SPECIAL = (
    "has a setuid, setgid or sticky bit, which git does not carry: name it in `owners` with a mode"
)
PRIVATE = "may not be read by others, and would be in the guest: name it in `owners` with a mode"
ABLE = "has file capabilities, which git does not carry: set them in the guest"

LayerFolder = tuple[VMName, int, LayerSource, str]
"""A VM, the index of one of its layers, its source, and its folder relative to the root."""


def losses(root: Path, layers: Iterable[LayerFolder]) -> Iterator[ManifestWarning]:
    """One warning for each kind of loss of each tree, with the first path. Blocks; raises nothing."""
    seen = set[tuple[str, object]]()
    for vm, index, source, folder in layers:
        if source.kind != "tree" or (folder, source.owners) in seen:
            continue
        seen.add((folder, source.owners))
        found: dict[str, list[str]] = {}
        for path, loss in _of_tree(root / folder, Owners(source.owners)):
            found.setdefault(loss, []).append(path)
        for loss, paths in sorted(found.items()):
            others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            shown = ascii(paths[0])[1:-1]
            yield ManifestWarning(
                vm, dotted((*LAYERS, index, "tree")), f"{source.path}: {shown}{others} {loss}"
            )


def _of_tree(folder: Path, owners: Owners) -> Iterator[tuple[str, str]]:
    begin = len(os.fspath(folder))
    for entry in islice(_entries(folder), MOST_ENTRIES):
        inside = entry.path[begin:]
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            mode = entry.stat(follow_symlinks=False).st_mode
            loss = _loss(entry, mode, owners.of(inside, is_folder=is_folder).mode)
        except OSError:
            continue  # not to be looked at, which is no loss
        if loss:
            yield inside[1:], loss


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder but git's own; no link is followed."""
    try:
        with os.scandir(folder) as found:
            below = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in below:
        if entry.name != GIT:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def _loss(entry: os.DirEntry[str], mode: int, given: int | None) -> str:
    """What git would lose of an entry, whose mode in the layer may be given; empty: nothing."""
    if stat.S_ISLNK(mode):
        return ""
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return NO_FILE
    if given is None and mode & SPECIAL_BITS:
        return SPECIAL
    if given is None and mode & READABLE != READABLE:
        return PRIVATE
    if stat.S_ISDIR(mode):
        with os.scandir(entry.path) as found:
            return "" if any(found) else EMPTY
    return ABLE if _has_capabilities(entry.path) else ""


def _has_capabilities(path: str) -> bool:
    try:
        return bool(os.getxattr(path, CAPABILITIES, follow_symlinks=False))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
