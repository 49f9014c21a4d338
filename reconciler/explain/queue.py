"""The queue of a rollout: the members that move now, those that wait in their order, and those on hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from reconciler.model.desired import DesiredState
from reconciler.model.names import GroupName, VMName
from reconciler.model.status import VMStatus
from reconciler.model.waits import traits_of


@dataclass(frozen=True, slots=True)
class GroupQueue:
    """The members of a group that are not synced, by what they do."""

    moving: tuple[VMName, ...]
    """Moving to their desired generation, or rolling back from it."""
    line: tuple[VMName, ...]
    """Waiting, the next one first."""
    held: tuple[VMName, ...]


def group_queue(
    group: GroupName, members: Sequence[VMStatus], desired: DesiredState | None
) -> GroupQueue:
    """The queue after the last pass. `line` is the order in which the planner will change members."""
    moving, held, waiting = list[VMName](), list[VMName](), list[VMStatus]()
    for vm in members:
        if vm.sync in ("synced", "unknown"):
            continue
        if _moves(vm):
            moving.append(vm.name)
        elif any(_passed_over(wait.kind) for wait in vm.waits):
            held.append(vm.name)
        else:
            waiting.append(vm)
    return GroupQueue(tuple(moving), tuple(_line(group, waiting, desired)), tuple(held))


def _passed_over(kind: str) -> bool:
    traits = traits_of(kind)
    return traits is not None and traits.passed_over


def _moves(vm: VMStatus) -> bool:
    """Whether a guest starts or stops, or the newest generation or changed checks are on trial."""
    if vm.candidate is not None or vm.state in ("starting", "stopping"):
        return True
    if any(wait.kind in ("rollback", "checks") for wait in vm.waits):
        return True
    running, good = vm.generation.running, vm.generation.last_good
    return vm.sync == "out-of-sync" and running not in (None, good) and (
        running == vm.generation.desired
    )  # fmt: skip


def _line(
    group: GroupName, waiting: Sequence[VMStatus], desired: DesiredState | None
) -> list[VMName]:
    """The waiting members in the planner's order: unhealthy ones, canaries, then by name; `after` is respected."""
    canary = frozenset(desired.group(group).canary) if desired is not None else frozenset[VMName]()
    names = {vm.name for vm in waiting}
    ahead = {name: (_first(name, canary, desired) & names) - {name} for name in sorted(names)}
    behind: dict[VMName, list[VMName]] = defaultdict(list)
    for name, others in ahead.items():
        for other in others:
            behind[other].append(name)
    rank = {vm.name: (vm.healthy, vm.name not in canary, vm.name) for vm in waiting}
    free = [rank[name] for name, others in ahead.items() if not others]
    heapify(free)
    missing = {name: len(others) for name, others in ahead.items()}
    line: list[VMName] = []
    while free:
        name = heappop(free)[2]
        line.append(name)
        for other in behind[name]:
            missing[other] -= 1
            if not missing[other]:
                heappush(free, rank[other])
    return line


def _first(
    name: VMName, canary: Collection[VMName], desired: DesiredState | None
) -> frozenset[VMName]:
    """VMs that must be done before this one."""
    spec = desired.vms.get(name) if desired is not None else None
    after = frozenset(spec.update.after) if spec is not None else frozenset[VMName]()
    return after if name in canary else after | frozenset(canary)
