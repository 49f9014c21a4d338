"""Whether a group may be touched at this moment of wall time, and when that changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

from reconciler.model.desired import UpdateWindow
from reconciler.now import in_utc

MOST_STARTS = 64
"""Starts of one window that are looked at around a moment; more often than this is always open."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether a group may be changed at a moment, and why not."""

    open: bool
    why: str = ""
    until_wall: float | None = None
    """When it opens, as far as an allowing window says so; unix seconds."""


def opening(windows: tuple[UpdateWindow, ...], wall: float) -> Opening:
    """Whether these windows are open at this second; cached, as every VM of a group asks."""
    return _opening(windows, int(wall))


@lru_cache(maxsize=256)
def _opening(windows: tuple[UpdateWindow, ...], wall: int) -> Opening:
    """Whether windows are open. Deny wins over allow; if any allows, other times are closed (Argo CD's rule).

    A start that the clock skips in spring happens after the gap, and one in the repeated hour of autumn
    happens once: cron's rules, in each window's own time zone.
    """
    for window in windows:
        if not window.allow and (end := _end_of(window, wall)) is not None:
            return Opening(open=False, why=f"denied by window {_name(window)}", until_wall=end)
    allowing = [window for window in windows if window.allow]
    if not allowing or any(_end_of(window, wall) is not None for window in allowing):
        return Opening(open=True)
    names = ", ".join(_name(window) for window in allowing)
    opens = min(next(_starts(window, wall)).timestamp() for window in allowing)
    return Opening(open=False, why=f"outside of window {names}", until_wall=opens)


def _end_of(window: UpdateWindow, wall: float) -> float | None:
    """When the stretch that covers this moment ends; None if none covers it."""
    end = None
    for count, start in enumerate(_starts(window, wall - window.duration)):
        if start.timestamp() > wall or count > MOST_STARTS:
            break
        if start.timestamp() + window.duration > wall:
            end = start.timestamp() + window.duration
    return end


def _starts(window: UpdateWindow, after: float) -> Iterator[datetime]:
    moment = in_utc(after).astimezone(_zone(window.time_zone))
    return CronSim(window.cron, moment - timedelta(seconds=1))


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """A time zone, cached because it is read from the system's files."""
    return ZoneInfo(name)


def _name(window: UpdateWindow) -> str:
    return f"{window.cron!r} {window.time_zone}"
