"""Where each commit of a graph is drawn: lanes from left to right, and the lines between rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.model.source_state import CommitSummary

MOST_LANES = 8
"""Lanes beyond it are drawn on the last: a graph is to be seen, not proved."""


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One commit: its lane, and lines as lanes at the top and at the bottom of its row."""

    lane: int
    above: tuple[tuple[int, int], ...]
    """From a lane at the row's top to one at its middle."""
    below: tuple[tuple[int, int], ...]
    """From a lane at the row's middle to one at its bottom."""


def lanes(commits: Sequence[CommitSummary]) -> list[LaneRow]:
    """For commits in order, children before parents."""
    known = {commit.revision for commit in commits}
    open_: list[str | None] = []
    """By lane: the commit that it leads to."""
    rows = []
    for commit in commits:
        mine = [lane for lane, name in enumerate(open_) if name == commit.revision]
        lane = mine[0] if mine else _free(open_)
        above = [(i, lane if i in mine else i) for i, name in enumerate(open_) if name is not None]
        for i in mine:
            open_[i] = None
        passing = [i for i, name in enumerate(open_) if name is not None]
        below = [(i, i) for i in passing]
        below += [
            (lane, _way_to(open_, lane, parent)) for parent in commit.parents if parent in known
        ]
        rows.append(LaneRow(_bound(lane), _bounded(above), _bounded(below)))
    return rows


def _free(open_: list[str | None]) -> int:
    for lane, name in enumerate(open_):
        if name is None:
            return lane
    open_.append(None)
    return len(open_) - 1


def _way_to(open_: list[str | None], lane: int, parent: str) -> int:
    """The first parent stays in the commit's lane; others take a lane that already leads to them."""
    if open_[lane] is None:
        to = lane
    elif parent in open_:
        to = open_.index(parent)
    else:
        to = _free(open_)
    open_[to] = parent
    return to


def _bound(lane: int) -> int:
    return min(lane, MOST_LANES - 1)


def _bounded(lines: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys((_bound(a), _bound(b)) for a, b in lines))
