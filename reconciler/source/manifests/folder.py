"""Reads manifests from a folder on disk, and judges them as a commit of it; needs no daemon and no git."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from reconciler.config import KernelsConfig, PolicyConfig, SourceConfig
from reconciler.errors import SourceError
from reconciler.model.desired import DesiredState
from reconciler.model.names import Revision
from reconciler.source.git.mirror import MOST_DEPTH
from reconciler.source.git.tree_objects import (
    GIT_NAMES,
    MANIFEST_SUFFIXES,
    colliding,
    printable,
    too_much,
)
from reconciler.source.manifests.ignore_file import (
    IGNORE_FILE,
    MOST_BYTES as MOST_IGNORE_BYTES,
    Ignored,
    is_hidden,
)
from reconciler.source.manifests.lost_in_git import LayerFolder, losses
from reconciler.source.manifests.resolve import Resolver
from reconciler.source.manifests.revision_files import FileRefused, Kind, ManifestFile, Oddity
from reconciler.source.manifests.warnings import ManifestWarning, of_ineffective, warnings

NO_REVISION = Revision("")
DEFAULTS = SourceConfig()
MOST_LISTED = 1_000
"""Problems that `validate` shows."""
Advise = Callable[[DesiredState, Path, Sequence[LayerFolder]], Iterable[ManifestWarning]]
"""Of the desired state, the root of the repository, and its layers that are folders of it."""


def no_advice(
    _desired: DesiredState, _root: Path, _layers: Sequence[LayerFolder]
) -> tuple[ManifestWarning, ...]:
    """For those who look at manifests alone."""
    return ()


def load_folder(
    path: Path,
    policy: PolicyConfig | None = None,
    kernels: KernelsConfig | None = None,
    source: SourceConfig = DEFAULTS,
    advise: Advise = no_advice,
) -> tuple[DesiredState, list[ManifestWarning]]:
    """The desired state of the manifests below a folder, or of one file, and what to warn about.

    Layers may be anywhere in the git work tree around the folder, as in a commit. Raises
    ManifestErrors with all problems, or SourceError if the folder cannot be read. `advise` may look into
    the folders of layers, and warn about more.
    """
    resolver = Resolver(policy or PolicyConfig(), kernels or KernelsConfig(), MOST_LISTED)
    most = (source.max_files, source.max_file_kib * 1024)
    alone = path.is_file()
    folder = Folder(path.parent, *most, only=path.name) if alone else Folder(path, *most)
    desired = resolver.resolve(folder, alone=alone)
    layers = list(resolver.layer_folders())
    lost = losses(folder.root, layers)
    more = advise(desired, folder.root, layers)
    return desired, [*warnings(desired), *of_ineffective(resolver.ineffective()), *lost, *more]


class Folder:
    """A folder as RevisionFiles."""

    revision = NO_REVISION

    def __init__(self, path: Path, most_files: int, most_bytes: int, only: str = "") -> None:
        """`only`: the name of the one file to read; empty: all files. Raises SourceError."""
        if not path.is_dir():
            fault = "is neither a folder nor a file" if path.exists() else "does not exist"
            hint = "name a folder of manifests, or one file"
            raise SourceError(f"{path} {fault}", kind="missing", hint=hint)
        self._below = Path(os.path.realpath(path))
        self.root = work_tree_of(self._below)
        self._most_files = most_files
        self._most_bytes = most_bytes
        self.files: list[ManifestFile] = []
        self.hidden: list[ManifestFile] = []
        self.oddities: list[Oddity] = []
        if only:
            shown = str((self._below / only).relative_to(self.root))
            self.files.append(ManifestFile(shown, os.fsencode(shown)))
            return
        try:
            self._ignored = self._ignore_file()
            self._walk(self._below, 0, hidden=False)
        except OSError as error:
            raise SourceError(
                f"{error.filename}: {error.strerror}", kind="missing", hint="check owner and mode"
            ) from error
        self.files.sort(key=lambda file: file.path)

    def read(self, file: ManifestFile) -> bytes:
        """The content of a manifest file. Raises FileRefused."""
        target = self.root / file.path
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                content = stream.read(self._most_bytes + 1)
        except OSError as error:
            raise FileRefused(
                f"cannot be read: {error.strerror}", "check owner and mode"
            ) from error
        if len(content) > self._most_bytes:
            raise FileRefused(
                f"is larger than {self._most_bytes // 1024} KiB",
                "split it, or raise source.max_file_kib",
            )
        return content

    def tree(self, path: str) -> str:
        """A stand-in for a tree id, derived from the path: only a commit has a real one. Raises FileRefused."""
        target = self.root
        for part in path.split("/") if path else ():
            target /= part
            if target.is_symlink():
                raise FileRefused(f"{path} is a symbolic link", "name a folder of files")
        if not target.exists():
            raise FileRefused(f"{path or '.'} does not exist", "create the folder")
        if not target.is_dir():
            raise FileRefused(f"{path} is a file", "name a folder of files")
        return hashlib.sha256(os.fsencode(target)).hexdigest()[:40]

    def entry(self, path: str) -> Kind | None:
        """The kind of entry at a path, without following links; None if there is none."""
        target = self.root / path
        if any(
            parent.is_symlink() for parent in target.parents if parent.is_relative_to(self.root)
        ):
            return None
        try:
            mode = target.lstat().st_mode
        except OSError:
            return None
        if stat.S_ISLNK(mode):
            return "link"
        if stat.S_ISDIR(mode):
            return "folder"
        return "program" if mode & stat.S_IXUSR else "file"

    def link(self, path: str) -> str:
        """The target of the link at a path; empty if it cannot be read."""
        try:
            return str((self.root / path).readlink())
        except OSError:
            return ""

    def _ignore_file(self) -> Ignored:
        """The patterns of the folder's ignore file; none if it has no valid one. Raises OSError."""
        path = self._below / IGNORE_FILE
        shown = str(path.relative_to(self.root))
        if not path.is_symlink() and not path.exists():
            return Ignored()
        if path.is_symlink() or not path.is_file():
            self.oddities.append(Oddity(shown, "is not a regular file", "let it be one"))
            return Ignored()
        with path.open("rb") as stream:
            found = Ignored(stream.read(MOST_IGNORE_BYTES + 1))
        self.oddities.extend(found.oddities(shown))
        return found

    def _walk(self, folder: Path, depth: int, *, hidden: bool) -> None:
        if depth > MOST_DEPTH:
            raise too_much(f"more than {MOST_DEPTH} folders in folders")
        names = []
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name in GIT_NAMES:
                    continue
                path = str(Path(entry.path).relative_to(self.root))
                is_folder = entry.is_dir(follow_symlinks=False)
                below = str(Path(entry.path).relative_to(self._below))
                if self._ignored.folder(below) if is_folder else self._ignored.file(below):
                    continue
                unseen = hidden or is_hidden(entry.name)
                if unseen:
                    self._hide(entry, path)
                elif self._take(entry, path):
                    names.append(entry.name)
                if is_folder and path.isprintable():
                    self._walk(Path(entry.path), depth + 1, hidden=unseen)
        prefix = Path(os.path.relpath(folder, self.root))
        self.oddities.extend(
            Oddity(str(prefix / name), message, hint) for name, message, hint in colliding(names)
        )

    def _hide(self, entry: os.DirEntry[str], path: str) -> None:
        """Note a hidden file that may hold a manifest, so that it can be refused."""
        is_manifest = entry.name.lower().endswith(MANIFEST_SUFFIXES)
        regular = entry.is_file(follow_symlinks=False) and path.isprintable()
        if is_manifest and regular and len(self.hidden) < self._most_files:
            self.hidden.append(ManifestFile(path, os.fsencode(path)))

    def _take(self, entry: os.DirEntry[str], path: str) -> bool:
        """Whether the entry is a manifest or a folder; entries that are refused are noted."""
        is_manifest = entry.name.lower().endswith(MANIFEST_SUFFIXES)
        if not entry.name.isprintable():
            self.oddities.append(
                Oddity(printable(path), "has control characters in its name", "rename it")
            )
        elif entry.is_symlink():
            if is_manifest or entry.is_dir():
                message = "is a symbolic link, which is never followed"
                self.oddities.append(Oddity(path, message, "copy what it names"))
        elif entry.is_dir():
            return True
        elif is_manifest and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            self.files.append(ManifestFile(path, os.fsencode(path)))
            if len(self.files) > self._most_files:
                raise too_much(f"more than {self._most_files} files of manifests")
            return True
        return False


def work_tree_of(path: Path) -> Path:
    """The git work tree around a folder, or the folder itself."""
    for candidate in (path, *path.parents):
        if (candidate / ".git").exists():
            return candidate
    return path
