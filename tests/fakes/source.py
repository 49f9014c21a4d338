"""A repository of states, and a host, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.erofs.image_writer import create
from reconciler.erofs.recipe import ErofsRecipe
from reconciler.errors import BuildUnavailable, RevisionRefused
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.machine import HostPort, overlap
from reconciler.model.names import (
    Revision,
)
from reconciler.model.observed import HostFacts
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import SourceStatus

STATUS = SourceStatus("main", "fake:", None, 0)


class FakeSource:
    """A repository of states on one line of commits.

    `push` continues it, `rewrite` puts a state in the place of all; `fails` makes looking fail.
    """

    def __init__(self) -> None:
        self.states: dict[Revision, DesiredState] = {}
        self.head: DesiredState | None = None
        self.line: tuple[Revision, ...] = ()
        """The revisions that the head continues, itself the last."""
        self._lines: dict[Revision, tuple[Revision, ...]] = {}
        self.fails: Exception | None = None
        self.lost: set[str] = set()
        """Contents that cannot be had now."""
        self._given: Revision | None = None

    def push(self, state: DesiredState) -> None:
        self.states[state.revision] = state
        self.head = state
        self.line = self._lines[state.revision] = (*self.line, state.revision)

    def rewrite(self, state: DesiredState) -> None:
        """As a forced push does: a new commit, or one of before."""
        self.line = self._lines.get(state.revision, ())[:-1]
        self.push(state)

    async def export(self, content: str, folder: Path) -> int:
        """Every content is one file, which holds its id."""
        if content in self.lost:
            raise BuildUnavailable(f"{content} is not there")
        folder.mkdir()
        return (folder / "id").write_text(content)

    async def export_image(self, content: str, image: Path, recipe: ErofsRecipe) -> int:
        """An image of that one file."""
        if content in self.lost:
            raise BuildUnavailable(f"{content} is not there")
        writer = create(image, bytes.fromhex(recipe.uuid.replace("-", "")), None)
        writer.file(b"id", content.encode(), program=False)
        writer.finish()
        return len(content)

    async def fetch(self, lineage: Lineage = ANY) -> Fetched:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        if self.head is None or self.head.revision == self._given:
            return Fetched(None, changed=False, revision=self._given)
        self._judge(self.head.revision, lineage)
        self._given = self.head.revision
        return Fetched(self.head, changed=True, revision=self.head.revision)

    def _judge(self, head: Revision, lineage: Lineage) -> None:
        if lineage.rewritten in self.line:
            return
        for former in lineage.revisions:
            if former not in self.line:
                what = f"commit {head[:8]} is refused: the branch does not continue {former[:8]}"
                raise RevisionRefused(what, kind="ancestry", revision=head, hint="accept it")

    async def load(self, revision: Revision) -> DesiredState:
        self._given = revision
        return self.states[revision]

    async def preview(self, ref: str) -> DesiredState:
        return self.states[Revision(ref)]

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        known = [tip for tip in tips if tip in self.states]
        return tuple(CommitSummary(Revision(tip), (), "a change", 0.0) for tip in known)[:most]

    def next_delay(self, failures: int) -> float:
        return 60.0

    def longest_look(self) -> float:
        return 300.0

    def watch(self, callback: Callable[[], None]) -> None:
        pass

    def status(self) -> SourceStatus:
        return STATUS


class FakeHost:
    def __init__(self, guests_ports: Callable[[], frozenset[HostPort]] = frozenset) -> None:
        self.guests_ports = guests_ports
        """Where guests listen, beside who else does by `value`."""
        self.value = HostFacts(
            memory_available_mib=1_000_000, disk_free_mib=1_000_000, tsc_khz=2_000_000
        )

        self.bound: frozenset[HostPort] = frozenset()
        """Ports that somebody has without listening, as an outgoing connection does."""

    async def facts(self, wanted: frozenset[HostPort] = frozenset()) -> HostFacts:
        for _ in range(5):  # as a thread would: others get on meanwhile
            await asyncio.sleep(0)
        there = self.value.listening | self.guests_ports()
        taken = self.bound | there
        refused = {w: "taken" for w in wanted if any(overlap(w, one) for one in taken)}
        return replace(self.value, listening=there, refused={**self.value.refused, **refused})
