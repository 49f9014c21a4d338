"""What people and scripts may ask of a running engine; the listeners in `control` speak only to this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.explain.image_advice import Advice
from reconciler.model.build_progress import BuildStatus
from reconciler.model.event import Event
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.plan import FieldChange, Plan
from reconciler.model.record import VMRecord
from reconciler.model.request import Request
from reconciler.model.revision_result import Conclusion, RevisionRecord, VMResult
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import HostStatus, ProbeStatus
from reconciler.model.store_status import ImageCheck, ImageUses, StoreReport


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """How a `reconcile` went: the result of a revision, or of the VMs that were asked about.

    A refused revision has `failed`. See `model.result` for the other words.
    """

    result: Conclusion
    revision: str | None
    why: str
    vms: tuple[VMResult, ...] = ()
    """VMs that it changed and that are not converged, the worst first; a bounded number."""
    changed: int = 0
    healthy: int = 0
    """How many of the changed ones run what is desired and were seen healthy."""
    beside: tuple[str, ...] = ()
    """Trouble that this revision did not cause, each with the one that did."""


class EngineAPI(Protocol):
    def status(self) -> HostStatus: ...

    def builds(self, vm: VMName) -> tuple[BuildStatus, ...]:
        """What is fetched and built for a VM now; the status has all builds."""
        ...

    async def plan(self, ref: str | None) -> Plan:
        """What would happen now, or if `ref` (branch, tag or commit) were the revision.

        Raises SourceError, ManifestErrors, or RequestRefused before the first pass.
        """
        ...

    async def request(self, request: Request, by: str = "") -> str:
        """Carry a person's request into the record; answers what was done, in words.

        `by` says in the event where it was asked, if not at the control socket.
        Raises RequestRefused with what to do instead, or LedgerUnwritable.
        """
        ...

    async def reconcile(
        self, *, wait: bool, timeout: float, subject: str | None = None
    ) -> ReconcileReport:
        """Fetch and act now; with `wait`, until what the revision changed ended, or `timeout` seconds passed.

        `subject`: judge this VM or group instead, whatever changed it.
        Raises SourceError, ManifestErrors, LedgerUnwritable, or RequestRefused for an unknown subject.
        """
        ...

    def vm_record(self, vm: VMName) -> VMRecord:
        """Raises RequestRefused for an unknown VM, naming the nearest ones."""
        ...

    def difference(
        self, vm: VMName, a: GenerationNumber, b: GenerationNumber
    ) -> tuple[FieldChange, ...]:
        """What changed from generation `a` to `b`. Raises RequestRefused."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]: ...

    async def latest_events(self, limit: int) -> list[Event]:
        """The newest, oldest first."""
        ...

    async def wait_event(self, after: int, timeout: float) -> None:
        """Returns when there is an event newer than `after`, or after `timeout` seconds."""
        ...

    def console(self, vm: VMName, *, beside: bool = False) -> Path:
        """The console log of the guest that serves (an older part is beside it as `console.log.1`).

        `beside`: of the other one, a candidate that lives or whoever was there last.
        """
        ...

    def probes(self, vm: VMName) -> tuple[ProbeStatus, ...]:
        """The newest answers of its checks, oldest first; empty after a restart of the daemon."""
        ...

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        """The newest commits that lead to these, children first. Raises SourceError."""
        ...

    def results(self) -> tuple[RevisionRecord, ...]:
        """The newest revisions with what became of them, the newest last; a bounded number."""
        ...

    def images(self, vm: VMName | None = None) -> StoreReport:
        """What is in the store, and what is missing; or of both what the desired state of a VM names.

        Raises RequestRefused before the first pass, and for a VM that is not declared.
        """
        ...

    def advice(self, vm: VMName) -> tuple[Advice, ...]:
        """What the images of a VM say, and its manifest does not; nothing before they are in the store."""
        ...

    def image_uses(self, name: str) -> ImageUses:
        """What names an image, by its key, first digits of it, or title. Raises RequestRefused."""
        ...

    def check_images(self, name: str | None) -> AsyncGenerator[ImageCheck, None]:
        """Read one image again, with all its parts, or every image; how far it is and how each ended.

        Ends when it is closed. Raises RequestRefused at once for an image that is not known.
        """
        ...

    def live(self) -> bool:
        """Whether every part of the daemon has ticked lately."""
        ...

    def unready(self) -> str:
        """Why it is not ready, in words: state is not loaded yet, or cannot be written. Empty: it is."""
        ...
