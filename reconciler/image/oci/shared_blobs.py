"""Blobs that several builds need at the same time: one of them fetches each, and the others get a link to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MOST_REMEMBERED = 1_000
"""Places of blobs; a build's folder goes with it, so most of them are gone."""


class SharedBlobs:
    """What builds of one store fetch, by digest. Not for threads."""

    def __init__(self) -> None:
        self._fetching: dict[str, list[tuple[Path, asyncio.Future[bool]]]] = {}
        self._fetched: dict[str, Path] = {}

    @contextlib.contextmanager
    def claim(
        self, digests: Iterable[str], folder: Path
    ) -> Iterator[tuple[list[str], dict[str, asyncio.Future[bool]]]]:
        """What the caller has to fetch into `folder` before this ends, and what others fetch meanwhile.

        A future of the latter says whether the blob then is in `folder`. A blob that is there at the end, and
        not empty, counts as whole.
        """
        mine: list[str] = []
        coming: dict[str, asyncio.Future[bool]] = {}
        for digest in digests:
            if digest in self._fetching:
                coming[digest] = asyncio.get_running_loop().create_future()
                self._fetching[digest].append((folder, coming[digest]))
            elif not self._linked(digest, folder):
                self._fetching[digest] = []
                mine.append(digest)
        try:
            yield mine, coming
        finally:
            for digest in mine:
                self._settle(digest, folder / name_of(digest))

    def _settle(self, digest: str, blob: Path) -> None:
        if blob.is_file() and blob.stat().st_size:
            self._fetched[digest] = blob
            for oldest in list(self._fetched)[:-MOST_REMEMBERED]:
                del self._fetched[oldest]
        for folder, future in self._fetching.pop(digest):
            if not future.done():  # a build that was cancelled waits no more
                future.set_result(self._linked(digest, folder))

    def _linked(self, digest: str, folder: Path) -> bool:
        """Link a blob that was fetched into a folder; False where it is gone."""
        blob = self._fetched.get(digest)
        if blob is None:
            return False
        new = folder / f".{name_of(digest)}"
        try:
            os.link(blob, new)
            # Over the empty file that kept skopeo from fetching it.
            new.replace(folder / name_of(digest))
        except OSError:
            del self._fetched[digest]
            return False
        return True


def name_of(digest: str) -> str:
    """The file of a blob, in a folder `sha256`."""
    return digest.removeprefix("sha256:")
