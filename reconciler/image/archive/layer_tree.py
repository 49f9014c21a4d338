"""What a layer's tar means: one folder tree, with the marks that hide what lower layers have.

The last entry of a name wins, as in tar. OCI's marks become those of overlayfs: `.wh.NAME` a character device
0/0, `.wh..wh..opq` an attribute of its folder. All is decided here, in memory, before a byte is packed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.image.archive.headers import TarEntry, shown
from reconciler.image.archive.stream import MOST_BYTES, BadArchiveError

WHITEOUT = b".wh."
META = b".wh..wh."
OPAQUE_MARK = b".wh..wh..opq"
OVERLAY = b"trusted.overlay."
OPAQUE = (b"trusted.overlay.opaque", b"y")
KEPT_XATTRS = (b"user.", b"trusted.", b"security.")
"""Those that squashfs can hold. Access lists (`system.`) are lost, as in most containers."""
PAIR_BYTES = 128
"""What an attribute, or a part of a sparse file, takes beside its text."""
MAJORS, MINORS = 1 << 12, 1 << 20
"""Numbers of devices in squashfs."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How large a tree may be: what its table takes of memory, and what a guest's kernel can look up."""

    entries: int = 1_000_000
    """Folders that are only implied among them. The largest images of language runtimes have 200,000."""
    text_bytes: int = 256 << 20
    """Of all names, targets, attributes and parts of sparse files together, which are held in memory."""
    depth: int = 256
    """PATH_MAX allows 2,048 of one letter, and tools recurse."""
    owners: int = 1 << 16
    """Different numbers of users and groups, as squashfs has room for."""
    content_bytes: int = MOST_BYTES
    """Of files as they are seen: holes are packed too, and a guest may read them."""


IMPLIED = TarEntry(b"", "folder", 0o755, 0, 0, 0)
"""A folder that the archive has no entry for: it depends on nothing but that."""
HIDDEN = TarEntry(b"", "char", 0, 0, 0, 0)
"""The whiteout of overlayfs."""
MOST_NAME, MOST_TARGET = 255, 4095
"""Bytes, as in Linux."""
NO_COMPONENTS = frozenset((b"", b"."))


class LayerTree:
    """Entries are added in the archive's order; `settle` then ends it."""

    def __init__(self, limits: ArchiveLimits | None = None) -> None:
        self._limits = limits or ArchiveLimits()
        self.root: TarEntry = IMPLIED
        self.paths: dict[bytes, TarEntry] = {}
        """What each path is in the end; hard links share their entry. Folders that are implied are `IMPLIED`."""
        self.hidden: set[bytes] = set()
        """Whiteouts."""
        self.opaque: set[bytes] = set()
        """Folders that show nothing of lower layers."""
        self.content_bytes = 0
        self._filled: set[bytes] = set()
        """Folders in which there is something."""
        self._owners: set[int] = {0}
        self._entries = 0
        self._text_bytes = 0
        self._last_folder = b""

    def add(self, entry: TarEntry) -> None:
        """Raises BadArchiveError, which names the entry."""
        self._count(_held(entry), entry.name)
        components = self._components(entry.name, entry.name)
        if WHITEOUT in entry.name and self._is_mark(entry, components):
            return
        self.content_bytes += entry.size
        if self.content_bytes > self._limits.content_bytes:
            most = self._limits.content_bytes >> 20
            raise BadArchiveError(f"{shown(entry.name)}: the files have more than {most} MiB")
        if not components:
            self._set_root(entry)
            return
        self._enter(components, self._checked(entry))

    def settle(self) -> None:
        """Apply the marks, which may stand before or after what they mark."""
        for path in sorted(self.hidden):
            there = self.paths.get(path)
            if there is None:
                self.paths[path] = HIDDEN
                continue
            # A whiteout hides what is below this layer, and never what is in it.
            self.hidden.discard(path)
            if there.kind == "folder":
                self.opaque.add(path)
        for path in sorted(self.opaque):
            folder = self.paths[path]
            xattrs = tuple(sorted({*folder.xattrs, OPAQUE}))
            self.paths[path] = replace(folder, xattrs=xattrs)

    def _components(self, raw: bytes, name: bytes) -> list[bytes]:
        """The path of `raw`, which the entry `name` has; absolute ones begin at the root, as for all readers."""
        components = [part for part in raw.split(b"/") if part not in NO_COMPONENTS]
        if b".." in components:
            raise BadArchiveError(f"{shown(name)}: a path with `..`: {shown(raw)}")
        if len(components) > self._limits.depth:
            raise BadArchiveError(
                f"{shown(name)}: folders are nested more than {self._limits.depth} deep"
            )
        if b"\0" in raw or any(len(part) > MOST_NAME for part in components):
            raise BadArchiveError(f"{shown(name)}: not a name that Linux could hold")
        return components

    def _is_mark(self, entry: TarEntry, components: list[bytes]) -> bool:
        """Take a mark of OCI, by its name alone, as all readers do."""
        for at, part in enumerate(components):
            if not part.startswith(WHITEOUT):
                continue
            folder = b"/".join(components[:at])
            if part.startswith(META) and part != OPAQUE_MARK:
                return True  # aufs kept notes of its own under such names
            if at != len(components) - 1:
                raise BadArchiveError(f"{shown(entry.name)}: lies below a whiteout")
            hides = part.removeprefix(WHITEOUT)
            if part == OPAQUE_MARK:
                if not folder:
                    raise BadArchiveError(
                        f"{shown(entry.name)}: hides all lower layers; squash the image into one layer"
                    )
                self._folder(folder, entry.name)
                self.opaque.add(folder)
                return True
            if hides in (b"", b".", b".."):
                raise BadArchiveError(
                    f"{shown(entry.name)}: a whiteout of a folder's own name, or of /"
                )
            path = b"/".join((*components[:at], hides))
            self._folder(folder, entry.name)
            self.hidden.add(path)
            return True
        return False

    def _set_root(self, entry: TarEntry) -> None:
        if entry.kind != "folder":
            raise BadArchiveError(f"{shown(entry.name)}: the root is no folder")
        if OPAQUE in entry.xattrs:
            raise BadArchiveError(
                "the root is opaque: it hides all lower layers; squash the image into one layer"
            )
        self.root = self._checked(replace(entry, xattrs=()))

    def _checked(self, entry: TarEntry) -> TarEntry:
        if not {entry.uid, entry.gid} <= self._owners:
            self._owners.update((entry.uid, entry.gid))
            if len(self._owners) > self._limits.owners:
                raise BadArchiveError(
                    f"{shown(entry.name)}: more than {self._limits.owners} different owners"
                )
        if entry.kind in ("char", "block"):
            major, minor = entry.device
            if not (0 <= major < MAJORS and 0 <= minor < MINORS):
                raise BadArchiveError(
                    f"{shown(entry.name)}: a device {major}:{minor}, which squashfs cannot hold"
                )
        if entry.kind == "symlink" and not (
            0 < len(entry.target) <= MOST_TARGET and b"\0" not in entry.target
        ):
            raise BadArchiveError(f"{shown(entry.name)}: a symlink to nowhere")
        if entry.xattrs:
            kept = tuple(
                (key, value)
                for key, value in entry.xattrs
                if key.startswith(KEPT_XATTRS)
                and (not key.startswith(OVERLAY) or (key, value) == OPAQUE)
            )
            return replace(entry, xattrs=kept)
        return entry

    def _enter(self, components: list[bytes], entry: TarEntry) -> None:
        path = b"/".join(components)
        if len(components) > 1:
            self._folder(path[: -len(components[-1]) - 1], entry.name)
        if entry.kind == "link":
            entry = self._linked(path, entry)
        if entry.kind != "folder" and path in self._filled:
            raise BadArchiveError(f"{shown(entry.name)}: is a folder with entries, and then none")
        self.paths[path] = entry

    def _linked(self, path: bytes, entry: TarEntry) -> TarEntry:
        target = b"/".join(self._components(entry.target, entry.name))
        found = self.paths.get(target)
        if found is None:
            raise BadArchiveError(
                f"{shown(entry.name)}: a hard link to {shown(target)}, which no earlier entry of the same layer is"
            )
        if found.kind == "folder" or target == path:
            raise BadArchiveError(
                f"{shown(entry.name)}: a hard link to a folder or to itself: {shown(target)}"
            )
        return found

    def _folder(self, path: bytes, name: bytes) -> None:
        """See to it that all of `path` is folders, with what is not listed implied."""
        if path == self._last_folder or not path:
            return
        here = path
        missing = []
        while here and (there := self.paths.get(here)) is None:
            missing.append(here)
            here = here.rpartition(b"/")[0]
        if here and there is not None and there.kind != "folder":
            what = "a symlink" if there.kind == "symlink" else "no folder"
            raise BadArchiveError(
                f"{shown(name)}: its path leads through {shown(here)}, which is {what} of the same layer"
            )
        for folder in reversed(missing):
            self._count(len(folder), name)
            self.paths[folder] = IMPLIED
            self._filled.add(folder.rpartition(b"/")[0])
        self._filled.add(path)
        self._last_folder = path

    def _count(self, text_bytes: int, name: bytes) -> None:
        self._entries += 1
        self._text_bytes += text_bytes
        if self._entries > self._limits.entries:
            raise BadArchiveError(f"{shown(name)}: more than {self._limits.entries} entries")
        if self._text_bytes > self._limits.text_bytes:
            most = self._limits.text_bytes >> 20
            raise BadArchiveError(f"{shown(name)}: names and attributes have more than {most} MiB")


def _held(entry: TarEntry) -> int:
    """The bytes that an entry takes beside what every entry does."""
    values = sum(len(key) + len(value) + PAIR_BYTES for key, value in entry.xattrs)
    return len(entry.name) + len(entry.target) + values + PAIR_BYTES * len(entry.parts or ())


def tree_of(entries: Iterable[TarEntry], limits: ArchiveLimits | None = None) -> LayerTree:
    """The tree that all entries of an archive make. Raises BadArchiveError."""
    tree = LayerTree(limits)
    for entry in entries:
        tree.add(entry)
    tree.settle()
    return tree
