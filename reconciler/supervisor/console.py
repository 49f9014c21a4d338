"""A guest's console log: bounded by copying and truncating, and read after the guest ended."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import layout
from reconciler.model.guest_reports import ConsoleText
from reconciler.safe_text import clean
from reconciler.untrusted_file import appending, open_file, reading, replacing

MOST_BYTES = 4 * 1024 * 1024
"""Limit of each file; there are two, `console.log` and `console.log.1`."""

TAIL_BYTES = 16 * 1024
MOST_PRINTED = 256 * 1024
"""Of one guest, that a health check reads."""
MOST_LINES = 20
MOST_VMM_LINES = 5
MOST_LINE_CHARACTERS = 200

_CUTTING = threading.Lock()

# The kernel's own line, with its timestamp first: the line of a service has none.
_PANIC = re.compile(r"^(?:\[[ \d.]+\] )?(?:<\d>)?Kernel panic - not syncing")
# A guest's own report before it ends, through the kernel's log or directly on the console.
_REPORT = re.compile(r"^(?:\[[ \d.]+\] )?(?:<\d>)?reconciler-failed: (.*\S)")
# Our init's reason before it gives up; the kernel panic that follows only ends the guest.
_INIT_FAILED = re.compile(r"^(?:\[[ \d.]+\] )?(?:<\d>)?reconciler-init: FAILED: (.*\S)")


# The kernel's line of dm-verity, anywhere in a line: it may follow what a program did not finish.
DAMAGED = re.compile(
    r"device-mapper: verity: \d{1,5}:\d{1,7}: (?:data|metadata) block \d{1,20} is corrupted"
)


@dataclass(frozen=True, slots=True)
class LastWords:
    """The end of the console of a guest that ended."""

    lines: tuple[str, ...]
    panicked: bool
    reported: str = ""
    """Why the guest failed, by its own report."""
    vmm: tuple[str, ...] = ()
    """The last lines of the VMM itself."""
    damaged: bool = False
    """Whether the kernel said that a block of a layer is not what was built."""


def announce(folder: Path, instance: str, generation: int) -> None:
    """Mark in the console log where a guest's output begins. Raises OSError.

    The copy of older output gets the mark too, which shows that all of it is an earlier guest's.
    """
    line = f"\n{marker(instance)} (generation {generation})\n".encode()
    copy = _copy_of(layout.console(folder))
    bound_file(str(copy), 2 * MOST_BYTES, copied=False)
    with _CUTTING:
        if os.path.lexists(copy):
            with appending(copy) as log:
                log.write(line)
        with appending(layout.console(folder)) as log:
            log.write(line)


def last_words(folder: Path, instance: str) -> LastWords:
    """The last lines of one guest, cleaned; empty if the log cannot be read."""
    text = _tail(layout.console(folder))
    begin = text.rfind(marker(instance))
    if begin >= 0:
        text = text[begin:].partition("\n")[2]
    lines = _clean(text)
    panicked = any(_PANIC.match(line) for line in lines)
    said = _clean(_tail(layout.vmm_log(folder)))[-MOST_VMM_LINES:]
    vmm = tuple(f"vmm: {line}" for line in said)
    reports = [found[1] for line in lines if (found := _REPORT.match(line))]
    failed = next((found for line in lines if (found := _INIT_FAILED.match(line))), None)
    shown = lines
    if panicked:
        # The stack trace after the panic is less useful than the lines before it.
        first = next(n for n, line in enumerate(lines) if _PANIC.match(line))
        shown = lines[: first + MOST_LINES // 2]
    last = shown[-(MOST_LINES - len(vmm)) :]
    if failed is not None:  # the reason first, wherever it was printed
        others = [line for line in last if line != failed.string]
        last = (failed.string, *others[1 - MOST_LINES + len(vmm) :])
        reports.append(f"init: {failed[1]}")
    damaged = any(DAMAGED.search(line) for line in lines)
    return LastWords((*last, *vmm), panicked, reports[-1] if reports else "", said, damaged)


def printed(folder: Path, instance: str) -> ConsoleText:
    """What one guest printed since it was started, its newest `MOST_PRINTED` bytes; blocks."""
    log = layout.console(folder)
    try:
        text, complete = _since_start(log, instance)
        if not complete:
            with contextlib.suppress(FileNotFoundError):
                older, _ = _since_start(_copy_of(log), instance)
                text = older + text
    except OSError as error:
        return ConsoleText(unreadable=f"{log.name}: {error.strerror}")
    return ConsoleText(text[-MOST_PRINTED:], cut=not complete)


def _since_start(log: Path, instance: str) -> tuple[str, bool]:
    """What follows the mark of a guest, and whether the mark is there.

    A log without it is all of this guest: its start marked the log, and truncating removes the oldest
    lines first.
    """
    text = _end_of(log, MOST_PRINTED)
    begin = text.rfind(marker(instance))
    return (text[begin:].partition("\n")[2], True) if begin >= 0 else (text, False)


def bound(folder: Path, most: int = MOST_BYTES) -> None:
    """Truncate each log of one guest that exceeds `most` bytes; lines written meanwhile may be lost.

    Renaming would not help: the VMM has the file open, and would keep appending to it.
    """
    for name in layout.LOGS:
        bound_file(f"{folder}/{name}", most)


def bound_file(path: str, most: int, *, copied: bool = True) -> bool:
    """Truncate a log beyond `most` bytes; returns whether it was. Raises OSError.

    `copied`: keep its newest bytes in a copy. A symbolic link is never followed.
    """
    try:
        # os.lstat of a string is faster than a Path: 1,000 guests are checked every other second
        found = os.lstat(path)
        if found.st_size <= most or not stat.S_ISREG(found.st_mode):
            return False
        with _CUTTING:
            _cut(Path(path), most if copied else 0)
    except FileNotFoundError:
        return False
    return True


def bound_all(folders: Iterable[Path], most: int = MOST_BYTES) -> list[str]:
    """Bound the logs of many guests. Returns problems as texts, so that one bad disk does not affect the rest."""
    problems = []
    for folder in folders:
        try:
            bound(folder, most)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
    return problems


def _cut(path: Path, most: int) -> None:
    """Empty a log after copying its last `most` bytes."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = open_file(path, os.O_RDWR)
    try:
        if most:
            with replacing(temporary) as copy:
                at = max(0, os.fstat(descriptor).st_size - most)
                while most and (chunk := os.pread(descriptor, min(most, 1 << 20), at)):
                    copy.write(chunk)
                    at, most = at + len(chunk), most - len(chunk)
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        temporary.replace(_copy_of(path))


def _copy_of(log: Path) -> Path:
    """Where a log's older part is copied to before the log is truncated."""
    return log.with_name(f"{log.name}.1")


def _tail(path: Path) -> str:
    """Empty if it cannot be read."""
    try:
        return _end_of(path, TAIL_BYTES)
    except OSError:
        return ""


def _end_of(path: Path, most: int) -> str:
    """The newest `most` bytes as text. Raises OSError."""
    with reading(path) as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - most))
        return log.read(most).decode("utf-8", "replace")


def _clean(text: str) -> tuple[str, ...]:
    """Lines made safe for terminals and logs, because a guest's output is untrusted."""
    lines = (clean(line).expandtabs(4).rstrip() for line in re.split(r"[\r\n]+", text))
    return tuple(line[:MOST_LINE_CHARACTERS] for line in lines if line)


def marker(instance: str) -> str:
    """The beginning of the line that marks where a guest's output starts."""
    return f"[reconciler] start of instance {instance}"
