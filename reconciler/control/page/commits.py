"""The newest commits as a graph, each with what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from reconciler.control.page.frame import Pieces
from reconciler.control.page.lanes import LaneRow, lanes
from reconciler.control.page.rendering import BAD, BUSY, CALM, GOOD, join, macro
from reconciler.control.page.stories import Story
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import RevisionStatus

TEMPLATE = "commits.html"
STEP = 14
"""Units between two lanes; the style sheet leaves as much room, by the number of lanes."""
MIDDLE = 27
"""Of the height of a row: where its dot is, beside the subject of a short row."""
MOST_NAMED = 5
"""VMs of one verdict; the rest is counted."""
LEGEND = (
    ("applied", GOOD, "every VM that it changed ran it and was healthy"),
    ("desired", BUSY, "what the host should run now"),
    ("refused", BAD, "read, and not accepted"),
    ("rolled back", BAD, "a VM failed with it and went back"),
)
ENDED = {
    "unchanged": ("changes no VM", CALM),
    "rolled-back": ("rolled back", BAD),
    "rollback-failed": ("rollback failed", BAD),
    "failed": ("failed", BAD),
    "superseded": ("overtaken", CALM),
}
"""Badges of results; one that converged is `applied`."""
CAUSED = ("rolled-back", "rollback-failed", "failed")


@dataclass(frozen=True, slots=True)
class Past:
    """The newest commits, children before parents."""

    commits: tuple[CommitSummary, ...] = ()
    error: str = ""
    """Why there are none."""


@dataclass(frozen=True, slots=True)
class GraphRow:
    """A commit's row of the graph: SVG paths in a box of `width` by 100 units."""

    width: int
    lines: str
    dot: str
    kind: str


def commits_page(past: Past, stories: Mapping[str, Story], revision: RevisionStatus) -> Pieces:
    """The newest commits, each as a part of its own."""
    rows = lanes(past.commits)
    deep = 1 + max((row.lane for row in rows), default=0)
    items = {}
    for commit, row in zip(past.commits, rows, strict=True):
        story = stories.get(commit.revision, Story())
        items[f"commit-{commit.revision}"] = _commit(commit, row, deep, story, revision)
    parts = {"now": macro(TEMPLATE, "now", past, LEGEND), **items}
    graph = [macro(TEMPLATE, "graph", list(items.values()))] if items else []
    return Pieces("Commits - microVMs", tuple(parts), parts, join([parts["now"], *graph]))


def _commit(
    commit: CommitSummary, row: LaneRow, deep: int, story: Story, revision: RevisionStatus
) -> Markup:
    drawing = _drawing(row, STEP * deep, "merge" if len(commit.parents) > 1 else "dot")
    verdicts = _verdicts(commit.revision, story, revision)
    caused = story.result in CAUSED and not story.failed
    return macro(TEMPLATE, "commit", commit, drawing, deep, verdicts, story, caused, MOST_NAMED)


def _drawing(row: LaneRow, width: int, kind: str) -> GraphRow:
    def x(lane: int) -> int:
        return lane * STEP + STEP // 2

    lines = [f"M{x(top)} 0L{x(middle)} {MIDDLE}" for top, middle in row.above]
    lines += [
        f"M{x(middle)} {MIDDLE}C{x(middle)} 60 {x(bottom)} 60 {x(bottom)} 100"
        for middle, bottom in row.below
    ]
    return GraphRow(width, "".join(lines), f"M{x(row.lane)} {MIDDLE}h0", kind)


def _verdicts(name: str, story: Story, revision: RevisionStatus) -> list[tuple[str, str]]:
    """Words with their look."""
    found = []
    if story.refused:
        found.append(("refused", BAD))
    if name == revision.observed:
        found.append(("desired", BUSY if revision.applied != name else GOOD))
    if story.applied or story.result == "converged":
        found.append(("applied", GOOD))
    if story.result is not None and story.result in ENDED:
        found.append(ENDED[story.result])
    elif story.back:
        found.append(("rolled back", BAD))
    elif story.failed:
        found.append(("failed", BAD))
    elif story.trial:
        found.append(("on trial", BUSY))
    if story.accepted and not found:
        found.append(("overtaken", CALM))
    if not found and not story.accepted and not story.committed:
        found.append(("not applied by itself", CALM))
    return found
