"""Reads commits from the bare mirror, object by object. Files are never checked out."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from reconciler.errors import SourceError
from reconciler.git_objects import (
    LINK,
    PROGRAM,
    SUBMODULE,
    TREE,
    UNKNOWN,
    MalformedObject,
    commit_of,
    entries_of,
)
from reconciler.model.names import Revision
from reconciler.source.git import tree_objects
from reconciler.source.git.tree_objects import (
    ENTRY_KINDS,
    FolderEntries,
    Listing,
    forbidden,
    refused_entry,
    too_much,
)
from reconciler.source.manifests.ignore_file import (
    IGNORE_FILE,
    MOST_BYTES as MOST_IGNORE_BYTES,
    Ignored,
    is_hidden,
)
from reconciler.source.manifests.revision_files import FileRefused, Kind, ManifestFile, Oddity

REVISION = re.compile(r"[0-9a-f]{40}")
MOST_DEPTH = 64
"""Depth of nested folders."""
MOST_ENTRIES = 1_000_000
"""Entries of a revision below the folder of manifests, and of a layer."""
MOST_LINK_BYTES = 4096
MOST_TREE_BYTES = 64 * 1024 * 1024
REMEMBERED = 100_000
"""Folders whose completeness is cached."""
KINDS: dict[bytes, Kind] = {TREE: "folder", LINK: "link", PROGRAM: "program"}
SPARE_ENTRIES = 10_000
"""The cache may hold twice the entries of the newest revision, and so many more."""


class Incomplete(Exception):
    """The mirror lacks an object, or holds a damaged one."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """The number of manifest files of a revision, and the bytes of each."""

    files: int
    file_bytes: int


class Mirror:
    """A bare mirror, with a cache by object id that outlives each time it is opened."""

    def __init__(self, path: Path, folder: str, limits: ReadLimits) -> None:
        self.path = path
        self.limits = limits
        self.folder = posixpath.normpath(folder).strip("/") if folder.strip("./") else ""
        self.listings: dict[bytes, Listing] = {}
        self.entries = 0
        """Number of entries in all cached listings."""
        self.ignored: tuple[bytes, Ignored] | None = None
        """The newest ignore file, with the id of its content."""
        self.complete: set[bytes] = set()
        """Ids of trees that are known to be complete, with everything below them."""

    def forget(self, used: dict[bytes, Listing]) -> None:
        """Drop listings of older revisions once the cache is large.

        Each commit to a folder of a thousand files adds another listing of a thousand entries.
        """
        present = sum(listing.entries for listing in used.values())
        if self.entries > 2 * present + SPARE_ENTRIES:
            self.listings, self.entries = dict(used), present

    @contextmanager
    def open(self, revision: Revision) -> Iterator[Commit]:
        """Open one commit. Raises SourceError: missing, corrupt or limit.

        The repository is opened each time, because libgit2 never closes pack files of an open one.
        """
        repository = None
        if not self.path.exists():
            raise _no_commit(revision)
        try:
            repository = pygit2.Repository(str(self.path))
            yield Commit(self, repository, revision)
        except (pygit2.GitError, Incomplete) as error:
            raise SourceError(
                f"the mirror cannot be read: {str(error)[:200]}", kind="corrupt",
                hint="the daemon sets it aside and clones it again at the next fetch",
            ) from error  # fmt: skip
        finally:
            if repository is not None:
                repository.free()


class Commit:
    """A revision as RevisionFiles: its manifest files, refused entries, and folders by path."""

    def __init__(self, mirror: Mirror, repository: pygit2.Repository, revision: Revision) -> None:
        self._mirror = mirror
        self._repository = repository
        self.revision = revision
        self._root = self._root_of(revision)
        self.files: list[ManifestFile] = []
        self.hidden: list[ManifestFile] = []
        self.oddities: list[Oddity] = []
        self._trees: dict[str, str] = {}
        self._folders: dict[bytes, dict[str, bytes]] = {}
        self._entries = FolderEntries(self._raw_tree)
        self._used: dict[bytes, Listing] = {}
        self._walk()
        mirror.forget(self._used)

    def _root_of(self, revision: Revision) -> bytes:
        oid = pygit2.Oid(hex=revision) if REVISION.fullmatch(revision) else None
        if oid is None or not self._repository.odb.exists(oid):
            raise _no_commit(revision)
        kind, raw = self._read(oid.raw)
        if kind != ObjectType.COMMIT:
            raise _no_commit(revision)
        try:
            return bytes.fromhex(commit_of(raw).tree)
        except MalformedObject:
            raise _no_commit(revision) from None

    def read(self, file: ManifestFile) -> bytes:
        """The content of a manifest file. Raises FileRefused."""
        most = self._mirror.limits.file_bytes
        if self._size(file.blob) > most:
            raise FileRefused(
                f"is larger than {most // 1024} KiB", "split it, or raise source.max_file_kib"
            )
        try:
            return self._blob(file.blob)
        except MalformedObject as error:
            raise FileRefused(str(error), "commit it again as a file: see `git fsck`") from None

    def tree(self, path: str) -> str:
        """The id of the folder's tree, verified to be complete. Raises FileRefused."""
        known = self._trees.get(path)
        if known is None:
            known = self._trees[path] = self._tree(path)
        return known

    def entry(self, path: str) -> Kind | None:
        """The kind of entry at a path, without following links; None if there is none."""
        try:
            found = self._find(path)
        except MalformedObject:
            return None
        if found is None:
            return None
        return KINDS.get(found[0], "file")

    def link(self, path: str) -> str:
        """The target of the link at a path; empty if it cannot be read."""
        try:
            found = self._find(path)
            short = found and found[0] == LINK and self._size(found[1]) <= MOST_LINK_BYTES
            return self._blob(found[1]).decode("utf-8", "replace") if found and short else ""
        except MalformedObject:
            return ""

    def _tree(self, path: str) -> str:
        try:
            found = self._find(path)
            if found is None:
                raise FileRefused(
                    f"{path or '.'} does not exist in the repository", "commit the folder"
                )
            mode, oid = found
            if mode != TREE:
                raise FileRefused(
                    f"{path} is {ENTRY_KINDS.get(mode, 'a file')}", "name a folder of files"
                )
            self._check_complete(oid, path)
        except MalformedObject:
            message, hint = tree_objects.UNREADABLE
            raise FileRefused(f"{path or '.'} {message}", hint) from None
        return oid.hex()

    # Objects

    def _size(self, oid: bytes) -> int:
        try:
            _, size = self._repository.odb.read_header(pygit2.Oid(raw=oid))
        except ValueError as error:  # raised for a damaged pack with unknown object kinds
            raise Incomplete(str(error)) from error
        return size

    def _read(self, oid: bytes) -> tuple[int, bytes]:
        try:
            return self._repository.read(pygit2.Oid(raw=oid))
        except ValueError as error:
            raise Incomplete(str(error)) from error

    def _blob(self, oid: bytes) -> bytes:
        kind, content = self._read(oid)
        if kind != ObjectType.BLOB:
            raise MalformedObject("is listed as a file but is not one")
        return content

    def _raw_tree(self, oid: bytes) -> bytes:
        if self._size(oid) > MOST_TREE_BYTES:
            raise too_much(f"a folder has more than {MOST_TREE_BYTES >> 20} MiB of names")
        kind, content = self._read(oid)
        if kind != ObjectType.TREE:
            raise MalformedObject("is listed as a folder but is not one")
        return content

    def _listing(self, oid: bytes) -> Listing:
        mirror = self._mirror
        found = mirror.listings.get(oid)
        if found is None:
            found = mirror.listings[oid] = tree_objects.listing_of(self._raw_tree(oid))
            mirror.entries += found.entries
        self._used[oid] = found
        return found

    # Walking

    def _find(self, path: str) -> tuple[bytes, bytes] | None:
        """Mode and id of the entry at a path; None if there is none. Links are not followed."""
        mode, oid = TREE, self._root
        for part in path.split("/") if path else ():
            if mode != TREE:
                return None
            if oid not in self._folders:
                self._folders[oid] = dict(self._listing(oid).folders)
            if part in self._folders[oid]:
                oid = self._folders[oid][part]
                continue
            found = self._entries.find(oid, part.encode())
            if found is None:
                return None
            mode, oid = found
        return mode, oid

    def _ignored(self) -> Ignored:
        """The patterns of the repository's ignore file; none if it has no valid one."""
        path = posixpath.join(self._mirror.folder, IGNORE_FILE)
        found = self._find(path)
        if found is None:
            return Ignored()
        mode, oid = found
        if mode in (TREE, LINK, SUBMODULE, UNKNOWN):
            self.oddities.append(Oddity(path, "is not a regular file", "let it be one"))
            return Ignored()
        known = self._mirror.ignored
        if known is None or known[0] != oid:
            large = self._size(oid) > MOST_IGNORE_BYTES
            content = b" " * (MOST_IGNORE_BYTES + 1) if large else self._blob(oid)
            known = self._mirror.ignored = (oid, Ignored(content))
        self.oddities.extend(known[1].oddities(path))
        return known[1]

    def _walk(self) -> None:
        try:
            found = self._find(self._mirror.folder)
        except MalformedObject:
            self.oddities.append(Oddity(self._mirror.folder or ".", *tree_objects.UNREADABLE))
            return
        if found is None:
            return  # no manifests: an empty desired state; the planner refuses to remove all VMs for it
        mode, oid = found
        if mode != TREE:
            self.oddities.append(
                Oddity(self._mirror.folder, "is not a folder", "correct source.path")
            )
            return
        try:
            ignored = self._ignored()
        except MalformedObject:
            ignored = Ignored()  # the folder cannot be read; the walk below reports it
        entries = 0
        stack = [("", oid, 0, False)]
        while stack:
            below, oid, depth, hidden = stack.pop()
            folder = posixpath.join(self._mirror.folder, below).rstrip("/")
            if depth > MOST_DEPTH:
                raise too_much(f"more than {MOST_DEPTH} folders in folders")
            try:
                listing = self._listing(oid)
            except MalformedObject:
                self.oddities.append(Oddity(folder or ".", *tree_objects.UNREADABLE))
                continue
            prefix = below + "/" if below else ""
            for name, tree in listing.folders:
                if not ignored.folder(prefix + name):
                    stack.append((prefix + name, tree, depth + 1, hidden or is_hidden(name)))
            self._take(listing, prefix, ignored, hidden=hidden)
            entries += listing.entries
            if entries > MOST_ENTRIES:
                raise too_much(f"more than {MOST_ENTRIES} entries")
            if len(self.files) > self._mirror.limits.files:
                raise too_much(f"more than {self._mirror.limits.files} files of manifests")
        self.files.sort(key=lambda file: file.path)

    def _take(self, listing: Listing, below: str, ignored: Ignored, *, hidden: bool) -> None:
        """Collect manifests and refused entries of the folder at `below`, relative to the manifests' folder."""
        prefix = posixpath.join(self._mirror.folder, below)
        for name, blob in listing.files:
            if hidden or is_hidden(name):
                if len(self.hidden) < self._mirror.limits.files:
                    self.hidden.append(ManifestFile(prefix + name, blob))
            elif not ignored.file(below + name):
                self.files.append(ManifestFile(prefix + name, blob))
        if hidden:
            return
        for name, message, hint in listing.odd:
            if not ignored.file(below + name) and (not is_hidden(name) or forbidden(name)):
                self.oddities.append(Oddity(prefix + name, message, hint))
        for name, blob in listing.links:
            if not is_hidden(name) and not ignored.file(below + name):
                self._judge_link(prefix + name, blob)

    def _judge_link(self, path: str, blob: bytes) -> None:
        """Refuse a link to a folder or out of the repository: it may hide manifests. Links to files are fine."""
        target = b"/"
        try:
            if self._size(blob) <= MOST_LINK_BYTES:
                target = self._blob(blob)
            text = target.decode("utf-8", "replace")
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
            outside = joined.startswith(("/", "../")) or joined == ".."
            found = None if outside else self._find("" if joined == "." else joined)
        except MalformedObject:
            outside, found = True, None  # its target cannot be read, so it may be a folder
        if outside or (found is not None and found[0] == TREE):
            self.oddities.append(
                Oddity(path, "is a symbolic link, which is never followed", "move the folder here")
            )

    def _check_complete(self, root: bytes, path: str) -> None:
        """Raise if a layer lacks an object (Incomplete) or has a submodule (FileRefused). Trees are walked once."""
        complete, odb = self._mirror.complete, self._repository.odb
        if root in complete:
            return
        walked, entries = set[bytes](), 0
        stack = [(root, 0)]
        while stack:
            oid, depth = stack.pop()
            if oid in complete or oid in walked:
                continue
            if depth > MOST_DEPTH:
                raise FileRefused(
                    f"{path} has more than {MOST_DEPTH} folders in folders", "flatten it"
                )
            for mode, name, inner in entries_of(self._raw_tree(oid)):
                entries += 1
                # The commit of a submodule is in another repository, so its files can never be complete here.
                if mode in (SUBMODULE, UNKNOWN):
                    raise refused_entry(path, mode, name)
                if mode == TREE:
                    stack.append((inner, depth + 1))
                elif not odb.exists(pygit2.Oid(raw=inner)):
                    raise Incomplete(f"{inner.hex()} is missing")
            if entries > MOST_ENTRIES:
                raise FileRefused(f"{path} has more than {MOST_ENTRIES} entries", "split it")
            walked.add(oid)
        if len(complete) > REMEMBERED:
            complete.clear()
        complete |= walked


def _no_commit(revision: str) -> SourceError:
    return SourceError(
        f"the mirror has no commit {revision[:40]}",
        kind="missing",
        hint="it may have left the repository's history",
    )
