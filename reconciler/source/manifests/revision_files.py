"""What resolving asks of a revision, whether it is a commit or a plain folder on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from reconciler.model.names import Revision

Kind = Literal["folder", "link", "file"]


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that may hold manifests; equal blobs hold equal bytes."""

    path: str
    """From the root of the repository."""
    blob: bytes


@dataclass(frozen=True, slots=True)
class Oddity:
    """An entry that is refused, unless it lies in a layer's folder."""

    path: str
    message: str
    hint: str
    line: int = 1


class FileRefused(Exception):
    """A file or folder that cannot be used; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class RevisionFiles(Protocol):
    @property
    def revision(self) -> Revision: ...

    @property
    def files(self) -> Sequence[ManifestFile]: ...

    @property
    def hidden(self) -> Sequence[ManifestFile]:
        """Files of YAML that are not read, for a part of their path begins with a dot."""
        ...

    @property
    def oddities(self) -> Sequence[Oddity]: ...

    def read(self, file: ManifestFile) -> bytes:
        """Raises FileRefused when the file is too large, SourceError when it cannot be read."""
        ...

    def tree(self, path: str) -> str:
        """The id of a folder's content. Raises FileRefused."""
        ...

    def entry(self, path: str) -> Kind | None:
        """What stands at a path that is reached without following links; None: nothing."""
        ...
