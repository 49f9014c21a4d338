"""Digests of files of the host that a manifest or the policy names by path."""

from __future__ import annotations

import hashlib
import os

from reconciler.source.manifests.revision_files import FileRefused

CHUNK = 1024 * 1024

State = tuple[int, int, int, int, int]


class FileDigests:
    """Digests by path; a file is read again only if its inode, size or times changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[State, str]] = {}

    def of(self, path: str, descriptor: int) -> str:
        """The sha256 of an open file as it is now, in hex; `descriptor` is at its beginning.

        What is appended meanwhile counts the next time. Raises FileRefused.
        """
        found = os.fstat(descriptor)
        # With the change time, which no program can set: builds give every file one fixed time.
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(path)
        if known is None or known[0] != state:
            try:
                known = self._known[path] = (state, _digest(descriptor, found.st_size))
            except OSError as error:
                raise FileRefused(
                    f"{path[:80]} cannot be read: {error.strerror}", "see `journalctl -k`"
                ) from error
        return known[1]


def _digest(descriptor: int, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (chunk := os.read(descriptor, min(CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()
