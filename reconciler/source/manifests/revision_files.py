"""The interface between resolving and a revision's files, in a commit or a folder on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from reconciler.model.names import Revision

Kind = Literal["folder", "link", "file", "program"]
"""A program is a file that may be executed."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that may hold manifests. Equal `blob` means equal content."""

    path: str
    """Relative to the repository's root."""
    blob: bytes


@dataclass(frozen=True, slots=True)
class Oddity:
    """An entry that is refused unless it is in a layer's folder."""

    path: str
    message: str
    hint: str
    line: int = 1


class FileRefused(Exception):
    """A file or folder that cannot be used; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class RevisionFiles(Protocol):
    """The files of one revision, without those that are ignored."""

    @property
    def revision(self) -> Revision:
        """The commit; empty for a folder on disk."""
        ...

    @property
    def files(self) -> Sequence[ManifestFile]:
        """Files that may hold manifests, sorted by path."""
        ...

    @property
    def hidden(self) -> Sequence[ManifestFile]:
        """YAML files that are not read because a part of their path begins with a dot."""
        ...

    @property
    def oddities(self) -> Sequence[Oddity]:
        """Entries that are refused unless they are in a layer's folder."""
        ...

    def read(self, file: ManifestFile) -> bytes:
        """A file's content. Raises FileRefused if it is too large, SourceError if it cannot be read."""
        ...

    def tree(self, path: str) -> str:
        """The id of a folder's content, 40 hex digits. Raises FileRefused."""
        ...

    def entry(self, path: str) -> Kind | None:
        """The kind of entry at a path, without following links; None if there is none."""
        ...

    def link(self, path: str) -> str:
        """The target of the link at a path; empty if it cannot be read."""
        ...
