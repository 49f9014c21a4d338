"""Why nothing is done yet: the kinds of waits, and what is known of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.model.names import GroupName, VMName

WaitKind = Literal[
    "budget", "dependency", "hold", "suspended", "blocked", "broken", "image", "build", "backoff", "busy",
    "port", "memory", "disk", "conflict", "quarantine", "prune", "kept", "starting", "soak", "probe",
    "rollback", "pinned", "window", "approval", "breaker", "repair", "rename", "moved-from", "network", "checks",
    "burst", "crash-loop", "readiness", "ended", "lookup",
]  # fmt: skip

EndedBy = Literal["person", "other VM", "trial", "guest", "host"]
"""What ends a wait:

person    neither time nor work of the controller does
other VM  another VM becomes healthy, or gives up its name; that VM may itself wait for a person
trial     the deadlines of a trial, soon, even where a person is waited for elsewhere
guest     perhaps the guest by itself, never the controller: it lacks something outside of this host
host      time, work under way, or a resource of the host that is looked at again
"""

Expected = Literal["to move", "to stay", "as it was"]
"""What a rollout may expect of a member that waits so, while its group's progress deadline runs:

to move    it is on its way itself, whatever else is waited for
to stay    it does nothing until a person, the clock, the host or another VM does; the deadline stands still
as it was  the wait says nothing about it
"""


@dataclass(frozen=True, slots=True)
class WaitTraits:
    """What holds for every wait of one kind."""

    ended_by: EndedBy
    advice: str
    """For the person who reads it first; `{vm}` and `{group}` stand for names."""
    passed_over: bool = False
    """A rollout goes past a member that waits so, until a person acts."""
    failure_rank: int | None = None
    """Something failed: such waits are shown first, the lowest rank first of all."""
    expected: Expected = "to stay"
    host_lacks: bool = False
    """The host lacks what a new generation needs, so that the one before may serve meanwhile."""


WAITS: Mapping[WaitKind, WaitTraits] = {
    "budget": WaitTraits(
        "other VM",
        "ends by itself when a VM named is healthy again; if that one is stuck, mend it",
    ),
    "dependency": WaitTraits(
        "other VM",
        "ends by itself when the VM named is healthy at its desired generation",
    ),
    "hold": WaitTraits(
        "person",
        "waits for you: push a fix, or `reconciler retry` the VM that failed",
        passed_over=True,
        failure_rank=4,
    ),
    "suspended": WaitTraits(
        "person",
        "waits for you: `reconciler resume`, with the name of what is suspended; or its time is over",
        passed_over=True,
    ),
    "blocked": WaitTraits(
        "person",
        "waits for you: push a fix, or `reconciler retry {vm}` if the cause lay elsewhere",
        passed_over=True,
        failure_rank=2,
    ),
    "broken": WaitTraits(
        "person",
        "waits for you: push a fix, or `reconciler retry {vm}` if the cause lay elsewhere",
        passed_over=True,
        failure_rank=3,
    ),
    "image": WaitTraits(
        "host",
        "ends by itself when it is there; no guest is stopped before that",
    ),
    "build": WaitTraits(
        "host",
        "ends by itself: it is tried again after a pause",
        failure_rank=7,
    ),
    "backoff": WaitTraits(
        "host",
        "ends by itself: it is started again after a pause; `reconciler logs {vm}` has the cause",
        expected="as it was",
    ),
    "busy": WaitTraits(
        "host",
        "ends by itself: each step has a deadline",
        expected="to move",
    ),
    "port": WaitTraits(
        "host",
        "looked at every 5 s: end what has it (`ss -anp` names it), or push another port",
        host_lacks=True,
    ),
    "memory": WaitTraits(
        "host",
        "looked at every 5 s: free memory of the host, or push a smaller spec.memory",
        host_lacks=True,
    ),
    "disk": WaitTraits(
        "host",
        "looked at every 5 s: free space under the daemon's state_dir",
        host_lacks=True,
    ),
    "conflict": WaitTraits(
        "person",
        "waits for you: look at the process named; it is never ended for you",
        passed_over=True,
        failure_rank=5,
    ),
    "quarantine": WaitTraits(
        "person",
        "waits for you: push a fix, `reconciler retry {vm}`, or `reconciler rollback {vm} --to N`",
        passed_over=True,
        failure_rank=1,
    ),
    "prune": WaitTraits(
        "person",
        "waits for you: it runs on until what is named allows its removal",
        expected="as it was",
    ),
    "kept": WaitTraits(
        "person",
        "waits for you: it runs on; `reconciler remove {vm}` removes it alone, source.prune all that leave",
        expected="as it was",
    ),
    "starting": WaitTraits(
        "trial",
        "ends by itself: its checks pass, or at the deadline it goes back to the last good one",
        expected="to move",
    ),
    "soak": WaitTraits(
        "trial",
        "ends by itself: it stays healthy for so long, or goes back to the last good one",
    ),
    "probe": WaitTraits(
        "host",
        "ends by itself when its checks can be asked; nothing is concluded meanwhile",
    ),
    "rollback": WaitTraits(
        "host",
        "ends by itself: the last good generation is healthy, or it waits for a person (quarantine)",
        expected="to move",
    ),
    "pinned": WaitTraits(
        "person",
        "waits for you: `reconciler resume {vm}`, or push a change",
        passed_over=True,
    ),
    "window": WaitTraits(
        "host",
        "ends by itself when a window opens; what is down is mended all the same",
    ),
    "approval": WaitTraits(
        "person",
        "waits for you: `reconciler promote {group}`",
    ),
    "breaker": WaitTraits(
        "host",
        "ends by itself within the hour: many changes failed, so look at the host",
    ),
    "repair": WaitTraits(
        "host",
        "ends by itself, one VM after the other: many fail at once, so look at the host",
    ),
    "rename": WaitTraits(
        "other VM",
        "ends by itself when its images are ready and its turn has come",
    ),
    "moved-from": WaitTraits(
        "person",
        "waits for you: push the name that the VM really had, or remove metadata.movedFrom",
        passed_over=True,
        failure_rank=6,
    ),
    "network": WaitTraits(
        "host",
        "looked at every 5 s: mend what is named; nothing is stopped meanwhile",
        host_lacks=True,
    ),
    "checks": WaitTraits(
        "trial",
        "ends by itself: changed checks replace the present ones, or are refused; no guest is stopped",
    ),
    "burst": WaitTraits(
        "host",
        "ends by itself within 30 s; the guest is not stopped for what is overtaken already",
        expected="as it was",
    ),
    "crash-loop": WaitTraits(
        "host",
        "ends by itself when it has been steady for a minute; `reconciler logs {vm}` has the cause",
        expected="as it was",
    ),
    "readiness": WaitTraits(
        "guest",
        "ends by itself when its checks pass: see what the guest lacks; `purpose: liveness` restarts it",
    ),
    "lookup": WaitTraits(
        "host",
        "ends by itself when the registry answers; what runs is left as it is",
        failure_rank=8,
    ),
    "ended": WaitTraits(
        "person",
        "waits for you: `reconciler restart {vm}`, or a push; a boot of the host starts it, too",
        passed_over=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Wait:
    """A reason for not acting. `until` is a boot-clock moment in seconds, where time alone can end it."""

    kind: WaitKind
    subject: VMName | GroupName
    why: str
    until: float | None = None

    @property
    def traits(self) -> WaitTraits:
        return WAITS[self.kind]


def traits_of(kind: str) -> WaitTraits | None:
    """None for a kind that only a newer version knows."""
    return next((traits for known, traits in WAITS.items() if known == kind), None)


def most_serious_first(waits: Iterable[Wait]) -> list[Wait]:
    """Failures by their rank, then the others in the order given."""
    return sorted(waits, key=lambda wait: wait.traits.failure_rank or len(WAITS))


def kinds_ended_by(*enders: EndedBy) -> frozenset[WaitKind]:
    return frozenset(kind for kind, traits in WAITS.items() if traits.ended_by in enders)
