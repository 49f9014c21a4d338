"""Follows what guests announce on their consoles, in bounded reads as the logs grow.

    reconciler-up: INSTANCE                      its application was started
    reconciler-handed-over: INSTANCE             our initrd started an init that is not ours
    reconciler-ended: INSTANCE NAME status N     a part of its application ended
    device-mapper: verity: ... is corrupted      its kernel read a block that is not what was built

A line counts for the instance that it names. A guest that could not learn its instance writes `-`,
which counts after the line that marks its start. What its kernel says names none, and counts unless it
was printed before that line.
"""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.host import layout
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced
from reconciler.safe_text import clean_console_line
from reconciler.supervisor import console
from reconciler.supervisor.console import MOST_LINE_CHARACTERS, MOST_LINES
from reconciler.untrusted_file import open_file

MOST_BYTES = 256 * 1024
"""Bytes that one call reads of a console; the next calls read the rest."""
MOST_BEHIND = 4 * 1024 * 1024
"""Unread bytes beyond which older ones are skipped: a guest that floods its console loses announcements."""
MOST_LINE_BYTES = 1024
MOST_ENDED_CHARACTERS = 80

_UP, _HANDED_OVER, _ENDED = "up", "handed-over", "ended"
# Anywhere in a line: the kernel appends its messages to a line that a program did not finish.
_LINE = re.compile(
    rf"reconciler-({_UP}|{_HANDED_OVER}|{_ENDED}): ([-a-z0-9]{{1,200}})(?: ([ -~]*[!-~]))?"
)


@dataclass(slots=True)
class Listener:
    """Follows one guest's console. `said` holds the announcements so far."""

    folder: Path
    instance: str
    said: Announced = NOTHING_ANNOUNCED
    _offset: int | None = None
    _rest: bytes = b""
    _marked: bool = False
    _looked: bool = False
    _own: bool = False
    """Whether what comes is of this guest, and not of one before it."""
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))

    def listen(self, now: float) -> bool:
        """Read new lines, at boot-clock time `now`. Returns whether anything was announced.

        Blocks for some milliseconds.
        """
        before = self.said
        try:
            descriptor = open_file(layout.console(self.folder), os.O_RDONLY)
        except OSError:
            return False
        try:
            self._read(descriptor, os.fstat(descriptor).st_size, now)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return self.said != before

    def _read(self, descriptor: int, size: int, now: float) -> None:
        if self._offset is None or size - self._offset > MOST_BEHIND:
            self._offset, self._rest = max(0, size - MOST_BYTES), b""
        elif size < self._offset:  # the log was truncated to bound it
            self._offset, self._rest = 0, b""
        if size == self._offset:
            return
        new = os.pread(descriptor, MOST_BYTES, self._offset)
        # The log of a guest begins with its mark, and loses its oldest lines first.
        first, self._looked = not self._looked, True
        self._own |= first and console.marker(self.instance).encode() not in new
        self._offset += len(new)
        *lines, rest = (self._rest + new).split(b"\n")
        self._rest = rest[-MOST_LINE_BYTES:]
        for raw in lines:
            line = clean_console_line(raw[:MOST_LINE_BYTES])
            # The end of a long line is parsed: a program may have written an unfinished progress bar before it.
            long = len(raw) > MOST_LINE_BYTES
            self._parse(clean_console_line(raw[-MOST_LINE_BYTES:]) if long else line, now)
            if line:
                self._recent.append(line[:MOST_LINE_CHARACTERS])

    def _parse(self, line: str, now: float) -> None:
        if line.startswith(console.marker(self.instance)):
            self._marked = self._own = True
        if self._own and self.said.damaged is None and console.DAMAGED.search(line):
            self.said = replace(self.said, damaged=now)
        found = _LINE.search(line)
        if found is None:
            return
        what, instance, words = found.groups(default="")
        if instance != self.instance and not (instance == "-" and self._marked):
            return
        if what == _UP and self.said.up is None:
            self.said = replace(self.said, up=now)
        elif what == _HANDED_OVER and self.said.handed_over is None:
            self.said = replace(self.said, handed_over=now)
        elif what == _ENDED and not self.said.ended:
            ended = words[:MOST_ENDED_CHARACTERS].rstrip()
            lines = (*self._recent, line[:MOST_LINE_CHARACTERS])
            self.said = replace(
                self.said, ended=ended or "status unknown", console=lines[-MOST_LINES:]
            )


def listen_all(listeners: list[Listener], now: float) -> bool:
    """Read new lines of each console. Returns whether any guest announced something."""
    heard = [
        listener.listen(now) for listener in listeners
    ]  # a list: `any` alone would stop at the first
    return any(heard)
