"""What became of a revision: judged by the VMs that it changed, and told with the true cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reconciler.model.names import Revision, VMName

Conclusion = Literal[
    "converged", "unchanged", "working", "waiting", "rolled-back", "rollback-failed", "failed", "superseded",
]  # fmt: skip
"""converged: all that it changed runs and was seen healthy. unchanged: it changed no VM. waiting: a
person, or a VM that a person must mend first, is waited for. superseded: newer revisions took over
each VM that it had changed."""
FINAL: frozenset[Conclusion] = frozenset(
    ("converged", "unchanged", "rolled-back", "rollback-failed", "failed", "superseded")
)
"""What stays so unless a person, or another revision, does something."""


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision that was desired, and what is remembered of it.

    A VM belongs to the newest revision that changed what is desired of it, so that all these
    records together name each VM once.
    """

    revision: Revision
    accepted_wall: float
    vms: tuple[VMName, ...] = ()
    """VMs of which it said what is desired last: those that newer ones changed are not its own any more."""
    removed: tuple[VMName, ...] = ()
    """VMs that it left out, likewise."""
    changed: int = 0
    """How many it changed or left out when it came."""
    result: Conclusion = "working"
    """Final, or `working`."""
    why: str = ""
    blamed: tuple[VMName, ...] = ()
    """VMs that failed or went back, the one that `why` names first; a bounded number."""
    ended_wall: float | None = None


def owners(revisions: Iterable[RevisionRecord]) -> dict[VMName, Revision]:
    """By VM the revision that changed last what is desired of it; those that are done are absent."""
    return {name: one.revision for one in revisions for name in (*one.vms, *one.removed)}


@dataclass(frozen=True, slots=True)
class VMResult:
    """How one VM fares with what is desired of it."""

    vm: VMName
    result: Conclusion
    why: str = ""
    revision: Revision | None = None
    """The one that caused it, where it is not the one that is judged."""


@dataclass(frozen=True, slots=True)
class RevisionResult:
    """How a revision fares at this moment."""

    revision: Revision | None
    result: Conclusion
    why: str = ""
    vms: tuple[VMResult, ...] = ()
    """Of the VMs that it changed, those that are not converged, the worst first; a bounded number."""
    changed: int = 0
    """How many VMs it changed and no newer one has changed since."""
    healthy: int = 0
    """How many of those run what it says and were seen healthy."""
    ended: bool = False
    """Nothing that it changed moves by itself any more."""
    beside: tuple[str, ...] = ()
    """Trouble of other VMs, in words, each with the revision that caused it. Not part of the result."""
