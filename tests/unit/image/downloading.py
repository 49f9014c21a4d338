"""What tests of downloads share: a file, where it comes to, and servers that say something else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.image.downloads import Downloads, Wanted
from tests.unit.image.stranger import Answer, Asked, Stranger

CONTENT = random.Random(1).randbytes(300_000)  # noqa: S311  # the same in each run
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MOST = 1_000_000
FIRST = 100_000
"""Bytes that came before, where a download goes on."""


@dataclass
class Place:
    """Where downloads go, and what is there."""

    folder: Path

    @property
    def partial(self) -> Path:
        return self.folder / "downloads/one.partial"

    @property
    def target(self) -> Path:
        return self.folder / "image"

    def began(self, content: bytes) -> None:
        self.partial.parent.mkdir(exist_ok=True)
        self.partial.write_bytes(content)

    def downloads(self, stranger: Stranger, *, stall: float = 20.0, reserve: int = 0) -> Downloads:
        allowed = [stranger.pattern]
        return Downloads(self.partial.parent, SystemClock(), allowed, reserve, stall)

    def is_empty(self) -> bool:
        return not self.target.exists() and not self.partial.exists()


def wanted(stranger: Stranger, size: int = 0) -> Wanted:
    return Wanted("one", stranger.url(), SHA256, size, MOST)


def always(answer: Answer) -> Callable[[Stranger], Answer]:
    return lambda _stranger: answer


def saying(*pieces: bytes) -> Callable[[Stranger], Answer]:
    """The same bytes, whatever is asked."""
    return always(lambda _asked: iter(pieces))


def hanging(*pieces: bytes) -> Callable[[Stranger], Answer]:
    """These bytes, and then neither more nor an end."""

    def made(stranger: Stranger) -> Answer:
        def answer(_asked: Asked) -> Iterator[bytes]:
            yield from pieces
            stranger.ended.wait()

        return answer

    return made
