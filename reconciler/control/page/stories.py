"""What became of each revision: applied, refused, rolled back, and on which VMs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.model.event import Event
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.record import VMRecord
from reconciler.model.revision_result import Conclusion, RevisionRecord
from reconciler.model.status import HostStatus

MOST_STORIES = 400
"""Revisions of which something is remembered; the oldest are forgotten first."""
MOST_REASON = 300


@dataclass
class Story:
    """What is known of one revision."""

    accepted: bool = False
    applied: bool = False
    refused: str = ""
    """Why."""
    failed: dict[str, str] = field(default_factory=dict)
    """VMs whose generation of it was condemned, or whose changed checks were refused, and why."""
    back: set[str] = field(default_factory=set)
    """VMs that run the generation before again."""
    committed: set[str] = field(default_factory=set)
    trial: set[str] = field(default_factory=set)
    result: Conclusion | None = None
    """As it was judged, by what it changed; None: nothing is remembered of it."""
    why: str = ""


class Stories:
    """Folded from events as they come, and completed by what is remembered of VMs."""

    def __init__(self) -> None:
        self._stories: dict[str, Story] = {}
        self._made: dict[tuple[VMName, GenerationNumber], str] = {}
        """The revision of a generation: a verdict may come when a newer one is desired."""
        self._bad: dict[VMName, str] = {}
        """The revision of the newest generation of a VM that was condemned."""

    def take(self, events: Iterable[Event]) -> None:
        """Add newer events, in their order."""
        for event in events:
            revision = self._revision(event)
            if revision is not None:
                _fold(self._story(revision), event)

    def _revision(self, event: Event) -> str | None:
        if event.vm is None or event.generation is None or event.kind.startswith("checks-"):
            return event.revision  # of the change of checks, and not of the generation that runs
        if (
            event.kind == "rolled-back"
        ):  # the event names the good generation, and is about the bad one
            return self._bad.get(event.vm, event.revision)
        key = (event.vm, event.generation)
        if event.kind == "generation-created" and event.revision:
            self._made[key] = event.revision
            while len(self._made) > MOST_STORIES * 10:
                del self._made[next(iter(self._made))]
        revision = self._made.get(key, event.revision)
        if event.kind == "generation-condemned" and revision is not None:
            self._bad[event.vm] = revision
        return revision

    def _story(self, revision: str) -> Story:
        found = self._stories.get(revision)
        if found is None:
            found = self._stories[revision] = Story()
            while len(self._stories) > MOST_STORIES:
                del self._stories[next(iter(self._stories))]
        return found

    def names(self, most: int) -> list[str]:
        """The newest revisions that events named."""
        return list(self._stories)[-most:]

    def by_revision(
        self, status: HostStatus, records: Iterable[VMRecord],
        results: Iterable[RevisionRecord] = (),
    ) -> dict[str, Story]:  # fmt: skip
        """What events said, how each revision was judged, and what VMs run and remember now."""
        found = {
            revision: Story(
                s.accepted, s.applied, s.refused, dict(s.failed), set(s.back), set(s.committed)
            )
            for revision, s in self._stories.items()
        }
        for record in records:
            for one in record.generations:
                story = found.setdefault(one.revision, Story())
                match one.verdict:
                    case "committed":
                        story.committed.add(one.vm)
                    case "condemned":
                        story.failed.setdefault(one.vm, one.reason[:MOST_REASON])
                    case "trial":
                        story.trial.add(one.vm)
        for ended in results:
            story = found.setdefault(ended.revision, Story())
            story.accepted, story.result, story.why = True, ended.result, ended.why[:MOST_REASON]
        revision = status.revision
        if revision.applied:
            found.setdefault(revision.applied, Story()).applied = True
        if revision.rejected:
            why = revision.problems[0] if revision.problems else "it was refused"
            found.setdefault(revision.rejected, Story()).refused = why[:MOST_REASON]
        return found


def _fold(story: Story, event: Event) -> None:
    match event.kind:
        case "revision-accepted":
            story.accepted, story.refused = True, ""
        case "revision-rejected":
            story.refused = event.message[:MOST_REASON]
        case "revision-applied":
            story.applied = True
        case "generation-committed" if event.vm:
            story.committed.add(event.vm)
        case "generation-condemned" | "checks-condemned" if event.vm:
            story.failed[event.vm] = event.message[:MOST_REASON]
        case "rolled-back" if event.vm:
            story.back.add(event.vm)
