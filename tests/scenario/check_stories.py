"""What stories of changed checks have in common."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.event import Event
from reconciler.model.names import GroupName, VMName
from reconciler.model.revision_result import Conclusion
from reconciler.model.status import VMStatus
from reconciler.planning.results.revision_results import entry_of, fleet_of, judge_revision
from tests.world import World, changed, state, vm

NAMES = ("a", "b", "c")
OTHER = "/other"


def group(**fields: object) -> GroupSpec:
    return replace(GroupSpec(GroupName("g")), **fields)  # type: ignore[arg-type]  # fields by name


def fleet(path: str, policy: GroupSpec | None = None, content: str = "v1") -> DesiredState:
    policy = policy or group(canary=(VMName("b"),))
    vms = [vm(n, content, group="g", min_healthy=4.0, path=path) for n in NAMES]
    return state(*vms, groups=(policy,))


def one(path: str, content: str = "v1", **health: object) -> DesiredState:
    return state(changed(vm("web", content, min_healthy=4.0, path=path), health=health))


def path_of(world: World, name: str) -> str:
    check = world.last_good(name).spec.health.checks[0]
    return str(getattr(check, "path", ""))


def status(world: World, name: str) -> VMStatus:
    return next(v for v in world.status().vms if v.name == name)


def untouched(world: World, *names: str) -> bool:
    """Each was started once, and never stopped."""
    return all(world.hypervisor.starts[n] == 1 and not world.hypervisor.stops[n] for n in names)


def result(world: World) -> Conclusion:
    """Of the desired revision, as `reconcile --wait` tells it."""
    passed = world.reconciler.passed
    assert passed is not None
    assert passed.desired is not None
    record, now = world.durable.record(), world.clock.now()
    fleet = fleet_of(passed.desired, passed.observed, record, passed.plan, now)
    return judge_revision(fleet, entry_of(record.source, passed.desired)).result


def newest(world: World, kind: str) -> Event:
    return next(e for e in reversed(world.ledger.history) if e.kind == kind)
