"""The newest commits as a graph, each with what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler.control.page.badges import BAD, BUSY, CALM, GOOD, badge
from reconciler.control.page.fleet import vm_link
from reconciler.control.page.frame import Pieces
from reconciler.control.page.html import Html, h, join, moment, short
from reconciler.control.page.lanes import LaneRow, lanes
from reconciler.control.page.stories import Story
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import RevisionStatus

STEP = 14
"""Units between two lanes; the style sheet leaves as much room, by the number of lanes."""
MIDDLE = 27
"""Of the height of a row: where its dot is, beside the subject of a short row."""
MOST_NAMED = 5
"""VMs of one verdict; the rest is counted."""
LEGEND = (
    ("applied", GOOD, "every VM that it changed ran it and was healthy"),
    ("desired", BUSY, "what the host is to be now"),
    ("refused", BAD, "read, and not taken"),
    ("rolled back", BAD, "a VM failed with it, and went back"),
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
    commits: tuple[CommitSummary, ...] = ()
    error: str = ""
    """Why there are none."""


def commits_page(past: Past, stories: Mapping[str, Story], revision: RevisionStatus) -> Pieces:
    rows = lanes(past.commits)
    deep = 1 + max((row.lane for row in rows), default=0)
    drawn = zip(past.commits, rows, strict=True)
    items = {
        f"commit-{commit.revision}": _commit(
            commit, row, deep, stories.get(commit.revision, Story()), revision
        )
        for commit, row in drawn
    }
    parts = {"now": _now(past), **items}
    graph = h("ol", *items.values(), class_="commits") if items else None
    return Pieces("Commits - microVMs", tuple(parts), parts, join([parts["now"], graph]))


def _now(past: Past) -> Html:
    words = [
        h("li", badge(word, look), " ", h("span", why, class_="none")) for word, look, why in LEGEND
    ]
    told: Html
    if past.error:
        told = h("p", "The history cannot be read: ", past.error, class_="why bad")
    elif not past.commits:
        told = h("p", "No revision was read yet.", class_="empty")
    else:
        told = h("ul", *words, class_="legend")
    return h("section", h("h1", "Commits"), told, id="now", class_="now")


def _commit(
    commit: CommitSummary, row: LaneRow, deep: int, story: Story, revision: RevisionStatus
) -> Html:
    return h(
        "li",
        _lines(row, STEP * deep, len(commit.parents) > 1),
        h(
            "div",
            h("p", h("strong", commit.subject), class_="subject"),
            h("p", short(commit.revision), " ", moment(commit.author_wall), " ",
              join(_verdicts(commit.revision, story, revision), " "), class_="verdicts"),
            *_reasons(story),
        ),
        id=f"commit-{commit.revision}", class_=f"deep-{deep}",
    )  # fmt: skip


def _lines(row: LaneRow, width: int, merge: bool) -> Html:  # noqa: FBT001 - a drawing of two kinds
    """A row as tall as its words: lines stretch with it, and dots stay round."""

    def x(lane: int) -> int:
        return lane * STEP + STEP // 2

    lines = [f"M{x(top)} 0L{x(middle)} {MIDDLE}" for top, middle in row.above]
    lines += [
        f"M{x(middle)} {MIDDLE}C{x(middle)} 60 {x(bottom)} 60 {x(bottom)} 100"
        for middle, bottom in row.below
    ]
    return h(
        "svg",
        h("path", d="".join(lines), class_="line") if lines else None,
        h("path", d=f"M{x(row.lane)} {MIDDLE}h0", class_="merge" if merge else "dot"),
        viewBox=f"0 0 {width} 100", preserveAspectRatio="none", width=str(width),
        class_="lanes", aria_hidden="true",
    )  # fmt: skip


def _verdicts(name: str, story: Story, revision: RevisionStatus) -> list[Html]:
    told = []
    if story.refused:
        told.append(badge("refused", BAD))
    if name == revision.observed:
        told.append(badge("desired", BUSY if revision.applied != name else GOOD))
    if story.applied or story.result == "converged":
        told.append(badge("applied", GOOD))
    if story.result is not None and story.result in ENDED:
        told.append(badge(*ENDED[story.result]))
    elif story.back:
        told.append(badge("rolled back", BAD))
    elif story.failed:
        told.append(badge("failed", BAD))
    elif story.trial:
        told.append(badge("on trial", BUSY))
    if story.accepted and not told:
        told.append(badge("overtaken", CALM))
    if not told and not story.accepted and not story.committed:
        told.append(badge("not taken by itself", CALM))
    return told


def _reasons(story: Story) -> list[Html]:
    told = []
    if story.refused:
        told.append(h("p", story.refused, class_="why bad"))
    if story.result in CAUSED and not story.failed:
        told.append(h("p", story.why, class_="why bad"))
    if story.back:
        told.append(h("p", "Rolled back: ", _vms(story.back), class_="why"))
    for vm, why in sorted(story.failed.items())[:MOST_NAMED]:
        told.append(h("p", vm_link(vm), ": ", why.removeprefix(f"{vm}: "), class_="why bad"))
    if len(story.failed) > MOST_NAMED:
        more = f"and {len(story.failed) - MOST_NAMED} more failed"
        told.append(h("p", more, class_="why bad"))
    if story.committed:
        told.append(h("p", "Took it for good: ", _vms(story.committed), class_="none"))
    return told


def _vms(names: Collection[str]) -> Html:
    shown: Sequence[str] = sorted(names)[:MOST_NAMED]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return join([join([vm_link(name) for name in shown], ", "), more])
