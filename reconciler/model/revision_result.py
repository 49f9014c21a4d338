"""The result of a revision, judged by the VMs that it changed, with the true cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reconciler.model.names import Revision, VMName

Conclusion = Literal[
    "converged", "unchanged", "working", "waiting", "rolled-back", "rollback-failed", "failed", "superseded",
]  # fmt: skip
"""converged: everything that it changed runs and was seen healthy. unchanged: it changed no VM. waiting: it
waits for a person, or for a VM that a person must fix first. superseded: newer revisions changed each of
its VMs again."""
FINAL: frozenset[Conclusion] = frozenset(
    ("converged", "unchanged", "rolled-back", "rollback-failed", "failed", "superseded")
)
"""Results that stay unless a person or another revision changes something."""


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision that was desired, and what is stored of it.

    A VM belongs to the newest revision that changed what is desired of it, so that all these
    records together name each VM once.
    """

    revision: Revision
    accepted_wall: float
    vms: tuple[VMName, ...] = ()
    """VMs that it changed and that no newer revision changed again."""
    removed: tuple[VMName, ...] = ()
    """VMs that it removed, likewise."""
    changed: int = 0
    """Number of VMs that it changed or removed when it arrived."""
    result: Conclusion = "working"
    """Final, or `working`."""
    why: str = ""
    blamed: tuple[VMName, ...] = ()
    """VMs that failed or went back, the one in `why` first; a bounded number."""
    ended_wall: float | None = None


def owners(revisions: Iterable[RevisionRecord]) -> dict[VMName, Revision]:
    """By VM, the revision that last changed it."""
    return {name: one.revision for one in revisions for name in (*one.vms, *one.removed)}


@dataclass(frozen=True, slots=True)
class VMResult:
    """The result for one VM."""

    vm: VMName
    result: Conclusion
    why: str = ""
    revision: Revision | None = None
    """The revision that caused it, if it is another than the judged one."""


@dataclass(frozen=True, slots=True)
class RevisionResult:
    """The result of a revision at this moment."""

    revision: Revision | None
    result: Conclusion
    why: str = ""
    vms: tuple[VMResult, ...] = ()
    """VMs that it changed and that have not converged, the worst first; a bounded number."""
    changed: int = 0
    """Number of VMs that it changed and no newer revision changed again."""
    healthy: int = 0
    """Number of those that run as it declares and were seen healthy."""
    ended: bool = False
    """Whether nothing that it changed will proceed by itself."""
    beside: tuple[str, ...] = ()
    """Texts about troubles of other VMs, with the revision that caused each; not part of the result."""
