"""How far builds are, by what they have written: looked at on the disk now and then, whatever writes it.

A step of a build names the files and folders that grow in it. Nothing is counted where bytes are moved, and
nothing is asked of a program, so progress costs a build nothing, and a program that says nothing has some.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from reconciler.clock import Clock
from reconciler.model.build_progress import BuildProgress

LOOK_SECONDS = 0.5
"""Between two looks."""
SHARE = 50.0
"""A look at many files is followed by a pause of so many times what it took."""
BLOCK_BYTES = 512


class Progress:
    """What one build says of itself. Not for threads."""

    def __init__(
        self, title: str = "", since_boot: float = 0.0, wake: asyncio.Event | None = None
    ) -> None:
        """`wake` has it looked at soon; without, it is not."""
        self.title = title
        self.since_boot = since_boot
        self._wake = wake
        self.doing, self.total, self.done = "", 0, 0
        self.part = ""
        """The key of the part that it waits for."""
        self._written: tuple[Path, ...] = ()
        self._grown: tuple[Path, ...] = ()
        self._base: int | None = None

    def begin(
        self, doing: str, *written: Path, total: int = 0, grown: tuple[Path, ...] = ()
    ) -> None:
        """From now on this is done, and these files and folders are what it has written.

        total: how many bytes there will be; 0: unknown. grown: of these counts only what is added.
        """
        self.doing, self.total, self.done = doing, total, 0
        self._written, self._grown, self._base = written, grown, None
        if self._wake is not None:
            self._wake.set()

    def expect(self, total: int) -> None:
        """It became known how many bytes there will be."""
        self.total = total

    @contextlib.contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Until this ends, the build of a part is what is being done."""
        self.part = part
        try:
            yield
        finally:
            self.part = ""

    def look(self) -> tuple[object, int, int]:
        """The step that was looked at, the bytes of it, and those in `grown`. Blocks."""
        step = self._written
        return step, bytes_in(*step), bytes_in(*self._grown)

    def learn(self, step: object, written: int, grown: int) -> None:
        """Take up a look, unless another step has begun meanwhile."""
        if step is self._written:
            self._base = grown if self._base is None else min(self._base, grown)
            self.done = written + grown - self._base


class ProgressBoard:
    """The builds that run, by key, and how far they were at the last look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, Progress] = {}
        self._parts: set[str] = set()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._seen: Mapping[str, BuildProgress] = {}

    def of(self, key: str, title: str, *, part: bool = False) -> AbstractContextManager[Progress]:
        """A build of this key runs until this ends; `part`: within the build of another one."""
        return self._entered(key, title, part=part)

    @contextlib.contextmanager
    def _entered(self, key: str, title: str, *, part: bool) -> Iterator[Progress]:
        mine = Progress(title, self._clock.now().boot, self._wake)
        self._running[key] = mine
        if part:
            self._parts.add(key)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield mine
        finally:
            if self._running.get(key) is mine:
                del self._running[key]
                self._parts.discard(key)
            if not self._running:
                self._looking.cancel()
                self._looking = None

    def seen(self) -> Mapping[str, BuildProgress]:
        """The builds that no other build asked for; the same object while nothing changed."""
        found = {key: self._of(one) for key, one in self._running.items() if key not in self._parts}
        if found != self._seen:
            self._seen = found
        return self._seen

    def _of(self, one: Progress) -> BuildProgress:
        inner = self._running.get(one.part)
        at = one if inner is None else inner
        same = inner is None or at.title == one.title
        doing = at.doing if same else f"{at.doing} {at.title}".strip()
        # A file that is still written may be larger than was declared: that is no news for people.
        done = min(at.done, at.total) if at.total else at.done
        return BuildProgress(one.title, doing, done, at.total, one.since_boot)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            began = loop.time()
            for one in list(self._running.values()):
                one.learn(*await asyncio.to_thread(one.look))
            took = loop.time() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(LOOK_SECONDS, SHARE * took)):
                    await self._wake.wait()


def bytes_in(*places: Path) -> int:
    """The bytes of files and of all files below folders, holes left aside. Follows no link."""
    return sum(_bytes_of(os.fspath(place)) for place in places)


def _bytes_of(place: str) -> int:
    total, left = 0, [place]
    while left:
        at = left.pop()
        # Gone meanwhile, or another user's: what a builder's own users write need not be seen.
        with contextlib.suppress(OSError):
            found = os.lstat(at)
            if stat.S_ISREG(found.st_mode):
                total += min(found.st_size, found.st_blocks * BLOCK_BYTES)
            elif stat.S_ISDIR(found.st_mode):
                left += (entry.path for entry in os.scandir(at))
    return total
