"""Plans and records as the answers that people and scripts read."""

from __future__ import annotations

from reconciler.control.reports import (
    BlockedBrief,
    GenerationBrief,
    HistoryAnswer,
    PlanAnswer,
    PlannedEvent,
    RefusedBrief,
    Step,
    VMAnswer,
    Waiting,
    WhyAnswer,
)
from reconciler.explain.image_advice import Advice
from reconciler.model.actions import Action
from reconciler.model.build_progress import BuildStatus
from reconciler.model.change import AddEvent
from reconciler.model.check_trial import BlockedChecks
from reconciler.model.event import Event
from reconciler.model.names import GroupName
from reconciler.model.plan import Plan
from reconciler.model.record import Blocked, Suspension, VMRecord
from reconciler.model.status import GroupStatus, HostStatus, VMStatus
from reconciler.model.waits import Wait
from reconciler.now import Now


def plan_answer(plan: Plan, now: Now, status: HostStatus, *, preview: bool = False) -> PlanAnswer:
    """`preview`: of a revision that was just read, so that what the source says is known."""
    differences = {vm: changes for vm, changes in sorted(plan.differences.items()) if changes}
    return PlanAnswer(
        changed=not plan.idle or bool(differences) or any(_under_way(wait) for wait in plan.waits),
        actions=tuple(step(action) for action in plan.actions),
        waits=tuple(waiting(wait, now) for wait in plan.waits),
        differences=differences,
        events=tuple(_planned(c.event) for c in plan.changes if isinstance(c, AddEvent)),
        wake_in=_seconds_until(plan.wake_at, now),
        vms=len(status.vms),
        healthy=sum(vm.healthy for vm in status.vms),
        unseen="" if preview else _unseen(status),
    )


def _unseen(status: HostStatus) -> str:
    for source in status.sources:
        if source.error:
            return f"source {source.name} cannot be read: {source.error}"
    rejected = status.revision.rejected
    return f"revision {rejected[:8]} is refused; see `reconciler status`" if rejected else ""


def step(action: Action) -> Step:
    """One action of a plan."""
    return Step(action.kind, action.title, action.why, action.number)


def _planned(event: Event) -> PlannedEvent:
    return PlannedEvent(event.kind, event.vm or event.group or "", event.message)


def _under_way(wait: Wait) -> bool:
    """Time or work of ours will end it, and then something is done."""
    return wait.traits.ended_by != "person"


def waiting(wait: Wait, now: Now) -> Waiting:
    """One wait of a plan, in seconds from `now`."""
    return Waiting(wait.kind, wait.subject, wait.why, _seconds_until(wait.until, now))


def _seconds_until(moment: float | None, now: Now) -> float | None:
    return None if moment is None else round(max(0.0, moment - now.boot), 3)


def history_answer(record: VMRecord) -> HistoryAnswer:
    """Everything remembered of one VM."""
    return HistoryAnswer(
        vm=record.name,
        group=record.group,
        generations=tuple(
            GenerationBrief(
                number=generation.number,
                verdict=generation.verdict,
                revision=generation.revision,
                digest=generation.digest,
                created_wall=generation.created_wall,
                verdict_wall=generation.verdict_wall,
                reason=generation.reason,
                evidence=generation.evidence,
            )
            for generation in reversed(record.generations)
        ),
        blocked=tuple(_condemned(record, blocked) for blocked in record.blocked),
        pinned=record.pin.generation if record.pin else None,
        quarantine=record.quarantine.reason if record.quarantine else "",
        suspended=_suspension(record.suspended),
        refused_checks=tuple(_refused(block) for block in record.blocked_checks),
    )


def _refused(block: BlockedChecks) -> RefusedBrief:
    return RefusedBrief(
        revision=block.revision,
        reason=block.reason,
        attempts=block.attempts,
        last_wall=block.last_wall,
        first_wall=block.first_wall,
        withdrawn=block.withdrawn,
    )


def _condemned(record: VMRecord, blocked: Blocked) -> BlockedBrief:
    generation = record.generation(blocked.generation)
    return BlockedBrief(
        digest=blocked.digest,
        generation=blocked.generation,
        reason=blocked.reason,
        attempts=blocked.attempts,
        last_wall=blocked.last_wall,
        first_wall=blocked.first_wall,
        evidence=generation.evidence if generation else None,
        revision=blocked.revision or (generation.revision if generation else None),
    )


def why_answer(
    fleet: HostStatus,
    vm: VMStatus,
    record: VMRecord | None,
    advice: tuple[Advice, ...] = (),
    builds: tuple[BuildStatus, ...] = (),
) -> WhyAnswer:
    """Why one VM is as it is; `record` is None before anything was done for it."""
    blocked = sorted(
        record.blocked if record else (), key=lambda b: (b.digest != vm.digest, -b.last_wall)
    )
    return WhyAnswer(
        revision=fleet.revision,
        vm=vm,
        condemned=tuple(_condemned(record, b) for b in blocked) if record else (),
        groups=_own_groups(fleet, vm),
        suspended=fleet.suspended,
        sources=fleet.sources,
        alerts=fleet.alerts,
        advice=advice,
        builds=builds,
    )


def _suspension(suspension: Suspension | None) -> str:
    return (suspension.reason or "by request") if suspension else ""


def vm_answer(
    fleet: HostStatus, vm: VMStatus, record: VMRecord | None, builds: tuple[BuildStatus, ...] = ()
) -> VMAnswer:
    """One VM with its group and history; `record` is None before anything was done for it."""
    return VMAnswer(
        revision=fleet.revision,
        vms=(vm,),
        groups=_own_groups(fleet, vm),
        suspended=fleet.suspended,
        sources=fleet.sources,
        alerts=fleet.alerts,
        builds=builds,
        history=history_answer(record) if record else None,
    )


def _own_groups(fleet: HostStatus, vm: VMStatus) -> tuple[GroupStatus, ...]:
    own = GroupName(f"~{vm.name}")
    return tuple(group for group in fleet.groups if group.name in (vm.group, own))
