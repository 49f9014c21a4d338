"""The most memory that this process and its children had meanwhile, as a thread saw it every 10 ms."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.figures import Figure, median, spread_of

EVERY = 0.01
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


class Peak:
    """`own` and `children`: bytes of resident memory, of the children together; what they share counts for each."""

    def __init__(self) -> None:
        self.before = _resident(os.getpid())
        self.own = self.children = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            self.own = max(self.own, _resident(os.getpid()))
            self.children = max(self.children, sum(map(_resident, _below(os.getpid()))))


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in listed.read_text().split():
                yield int(child)
                yield from _below(int(child))


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def memory_figure(peaks: Sequence[Peak], files: int) -> Figure:
    builders = [peak.children / MIB for peak in peaks]
    grown = [(peak.own - peak.before) / MIB for peak in peaks]
    return Figure(
        "memory of the builders of a whole tree", median(builders), "MiB", 442.0,
        "the content of the tree", spread=spread_of(builders, "MiB"),
        note=f"all children together while {files:,} files are packed, mapped packs and what they share"
        " counted for each",
        details={"the daemon's own process grows by": spread_of(grown, "MiB")},
    )  # fmt: skip
