"""What a path leads to in a stack of layers, as overlayfs will show it, as far as git and manifests know it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from reconciler.source.manifests.revision_files import Kind, RevisionFiles

MOST_LINKS = 40
"""Symbolic links that Linux follows on the way to one file."""


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """What a layer has at a path; `target` is that of a link."""

    kind: Kind
    target: str = ""


class LayerFiles(Protocol):
    """The files of a layer that are known before it is built."""

    @property
    def complete(self) -> bool:
        """Whether it has nothing but what `at` returns."""
        ...

    def at(self, path: str) -> LayerEntry | None:
        """The entry at a path relative to its root, whose parents are folders."""
        ...


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """A layer whose files are listed here: those on which a guest's start depends."""

    entries: Mapping[str, LayerEntry]
    complete: bool

    def at(self, path: str) -> LayerEntry | None:
        return self.entries.get(path)


@dataclass(frozen=True, slots=True)
class TreeFiles:
    """A folder of the repository as a layer."""

    complete: ClassVar[bool] = True
    folder: str
    """Relative to the repository's root."""
    files: RevisionFiles
    modes_known: bool = True
    """Whether the modes of git are those of the layer; else any file may be a program."""

    def at(self, path: str) -> LayerEntry | None:
        whole = posixpath.join(self.folder, path)
        kind = self.files.entry(whole)
        if kind is None:
            return None
        if kind == "file" and not self.modes_known:
            kind = "program"
        return LayerEntry(kind, self.files.link(whole) if kind == "link" else "")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the stack shows at a path."""

    state: Literal["there", "missing", "unknown"]
    """unknown: a layer may have something there that is not known before it is built."""
    entry: LayerEntry = LayerEntry("file")
    layer: int = -1
    path: str = ""
    """Without links: where the entry is."""


MISSING, UNKNOWN = Shown("missing"), Shown("unknown")


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers, bottom first."""

    layers: Sequence[LayerFiles]

    def entry(self, path: str) -> Shown:
        """What is at a path, relative to the root; the last part is not followed if it is a link."""
        return self._walk(path, follow_last=False)

    def leads_to(self, path: str) -> Shown:
        """What a path leads to in the end. A link that leads nowhere, or in a circle, is missing."""
        return self._walk(path, follow_last=True)

    def _walk(self, path: str, *, follow_last: bool) -> Shown:
        for _ in range(MOST_LINKS):
            found, rest = self._step(path)
            if found.state != "there" or found.entry.kind != "link" or not (rest or follow_last):
                return MISSING if rest and found.state == "there" else found
            base = posixpath.dirname(found.path)
            path = posixpath.join("/", base, found.entry.target, rest)
            # `..` is taken off the text: what it leads through are folders that were walked already.
            path = posixpath.normpath(path).lstrip("/")
            if not path or path == ".":
                return Shown("there", LayerEntry("folder"))
        return MISSING

    def _step(self, path: str) -> tuple[Shown, str]:
        """The first entry on a path that is no folder, or the last one, and what of the path is left."""
        parts = path.split("/")
        layers = list(reversed(range(len(self.layers))))
        shown = MISSING
        for depth in range(1, len(parts) + 1):
            shown, layers = self._here("/".join(parts[:depth]), layers)
            if shown.state != "there" or shown.entry.kind != "folder":
                return shown, "/".join(parts[depth:])
        return shown, ""

    def _here(self, path: str, layers: Sequence[int]) -> tuple[Shown, list[int]]:
        """The uppermost entry at a path, and the layers whose folders are one there."""
        shown, merged = MISSING, list[int]()
        for number in layers:
            layer = self.layers[number]
            entry = layer.at(path)
            if entry is None and layer.complete:
                continue
            if entry is None:
                if shown is MISSING:
                    return UNKNOWN, []
                merged.append(number)
                continue
            if shown is MISSING:
                shown = Shown("there", entry, number, path)
            if entry.kind != "folder":
                break  # what is below it is hidden
            merged.append(number)
        return shown, merged
