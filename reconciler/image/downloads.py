"""Downloads of files that are named by their sha256: resumed, bounded, and believed only when it is theirs.

    STATE/downloads/NAME.partial    what has come so far

A partial file outlives a failed build and the daemon, so that the next try goes on where it ended. It
is removed when it is complete, refuted, old, or one of too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args
from weakref import WeakValueDictionary

from reconciler.children.program import Child, Ended
from reconciler.clock import Clock
from reconciler.errors import BuildFailed, BuildUnavailable, GuestErrorKind
from reconciler.image.download_worker import DownloadAnswer, DownloadRequest
from reconciler.image.progress_board import Progress
from reconciler.safe_text import clean

SUFFIX = ".partial"
MODULE = "reconciler.image.download_worker"
STALL_SECONDS = 30.0
MOST_SECONDS = 1800.0
"""Wall clock for one try, which holds a place among the builds: the next one goes on."""
LAST_SECONDS = 30.0
"""For the child to say how it ended."""
STALE_SECONDS = 7 * 86_400.0
MOST_PARTIALS = 8
MOST_DIGITS = 18
MOST_PARTIAL_BYTES = 16 << 30
"""Of all partial files together."""
PASSED_ON = (
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
"""What a download sees of the daemon's environment: the ways to servers, and what to trust there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file, and where it is."""

    name: str
    """Of its partial file: downloads of one name take turns."""
    url: str
    sha256: str
    size: int
    """Bytes; 0: not known."""
    most_bytes: int


class Downloads:
    """The partial files of one store, below `folder`; `allowed` are patterns of URLs."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        allowed: Sequence[str] = (),
        reserve_bytes: int = 0,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._allowed = tuple(allowed)
        self._reserve_bytes = reserve_bytes
        self._stall_seconds = stall_seconds
        self._active: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A layer and a disk may be the same file: two who append to one part would spoil it."""

    async def fetch(self, wanted: Wanted, target: Path, progress: Progress | None = None) -> None:
        """Leave the file at `target`, which is on the same disk. Raises BuildFailed or BuildUnavailable.

        Cancelling it ends the child, and keeps what has come.
        """
        progress = progress or Progress()
        turn = self._turns.setdefault(wanted.name, asyncio.Lock())
        self._active[wanted.name] += 1
        try:
            async with turn:
                await self._fetch(wanted, target, progress)
        finally:
            self._active[wanted.name] -= 1
            self._active += Counter()  # without those that have ended

    async def _fetch(self, wanted: Wanted, target: Path, progress: Progress) -> None:
        await asyncio.to_thread(self.sweep)
        partial = self._folder / f"{wanted.name}{SUFFIX}"
        resumed = _size(partial) > 0
        await self._complete(wanted, partial, progress)
        right = await _has_digest(partial, wanted.sha256)
        if resumed and not right:
            # What came before may be of another file, or of the server's file before it changed.
            partial.unlink()
            await self._complete(wanted, partial, progress)
            right = await _has_digest(partial, wanted.sha256)
        if not right:
            partial.unlink()
            raise BuildFailed(
                "what the server sent has another sha256 than the manifest says",
                hint="correct sha256 in the manifest; or put the right file there, and `retry` the VM",
            )
        partial.rename(target)

    def sweep(self) -> None:
        """Remove partial files that are old, or too many or too large together. Blocks; raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = self._clock.now().wall - STALE_SECONDS
        kept = used = 0
        for changed, size, path in sorted(self._partials(), reverse=True):
            kept, used = kept + 1, used + size
            if changed < oldest or kept > MOST_PARTIALS or used > MOST_PARTIAL_BYTES:
                path.unlink(missing_ok=True)

    async def tidy(self) -> None:
        """Sweep if that is possible now: it can wait for the next time."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.sweep)

    def _partials(self) -> Iterator[tuple[float, int, Path]]:
        """When it was last written, its bytes and its path, of each that no download has."""
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.name.removesuffix(SUFFIX) not in self._active:
                with contextlib.suppress(FileNotFoundError):
                    state = path.lstat()
                    yield state.st_mtime, state.st_size, path

    async def _complete(self, wanted: Wanted, partial: Path, progress: Progress) -> None:
        """Append what is missing. Raises BuildUnavailable."""
        progress.begin("fetching", partial, total=wanted.size)
        if wanted.size and _size(partial) == wanted.size:
            return
        request = DownloadRequest(
            url=wanted.url,
            partial=str(partial),
            most_bytes=wanted.size or wanted.most_bytes,
            size=wanted.size,
            allowed=self._allowed,
            reserve_bytes=self._reserve_bytes,
            stall_seconds=self._stall_seconds,
            most_seconds=MOST_SECONDS,
        )
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        child = await Child.start((sys.executable, "-P", "-m", MODULE), env=env, takes_input=True)
        ended = await child.finish(
            MOST_SECONDS + LAST_SECONDS,
            json.dumps(asdict(request)).encode() + b"\n",
            heard=lambda said: _expect(said, progress),
        )
        answer = _answer(ended)
        if answer.kind in ("disk-full", "limit"):
            # It cannot be completed as things are, and guests need the space.
            _drop(partial)
        if answer.kind:
            raise BuildUnavailable(
                clean(answer.message), kind=_kind(answer.kind), hint=clean(answer.hint)
            )


def _answer(ended: Ended) -> DownloadAnswer:
    """What the child said in its last line, or how it ended without a word."""
    try:
        if ended.status == 0:
            return DownloadAnswer(**json.loads(ended.output.splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        pass
    how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
    return DownloadAnswer("host", f"the download ended by {how}: {ended.tail}")


def _expect(said: bytes, progress: Progress) -> None:
    """Take up the number of bytes that the child heard of; its other lines are none."""
    for line in said.splitlines():
        if line.isdigit() and len(line) <= MOST_DIGITS:
            progress.expect(int(line))


def _kind(word: str) -> GuestErrorKind:
    known: GuestErrorKind
    for known in get_args(GuestErrorKind):
        if known == word:
            return known
    return "network"


def _drop(path: Path) -> None:
    path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


async def _has_digest(path: Path, sha256: str) -> bool:
    def digested() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return await asyncio.to_thread(digested) == sha256
