"""Law 3, held against every plan: how many VMs of a group may be down or repaired at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reconciler.model.actions import VMOperation
from reconciler.model.names import GroupName, VMName
from reconciler.model.plan import Violation
from reconciler.planning.lint.facts import PlanFacts


def broken_by(facts: PlanFacts) -> Iterator[Violation]:
    """Violations of law 3 by this plan."""
    if facts.desired is None:
        return
    heirs = {_called(facts, name): spec for name, spec in facts.desired.vms.items()}
    touched, ill = Counter[GroupName](), Counter[GroupName]()
    operations = (a for a in facts.plan.actions if isinstance(a, VMOperation))
    for vm in (a.vm for a in operations if a.kind == "stop"):
        spec = facts.desired.vms.get(vm) or heirs.get(vm)
        stop = facts.after[vm].stop if vm in facts.after else None
        if spec is None or stop is None:
            continue
        if stop.cause == "update" and _may_serve(facts, vm):
            touched[spec.rollout_group] += 1
        elif stop.cause == "unhealthy" and not facts.begun(vm, stop.instance):
            ill[spec.rollout_group] += 1
    for group, count in ill.items():
        if count > (limit := facts.desired.group(group).max_unavailable):
            yield Violation(3, group, f"{count} repairs at once: maxUnavailable is {limit}")
    for group, count in touched.items():
        members = [s.name for s in facts.desired.vms.values() if s.rollout_group == group]
        down = sum(not _may_serve(facts, _called(facts, name)) for name in members)
        limit = facts.desired.group(group).max_unavailable
        if down + count > max(limit, down):
            yield Violation(3, group, f"{down} down and {count} more: maxUnavailable is {limit}")


def _may_serve(facts: PlanFacts, vm: VMName) -> bool:
    """Whether a VM may be serving: a guest that was not checked yet is not known to be down."""
    guest = facts.living(vm)
    if guest is None or guest.health.rounds > 0:
        return facts.serves(vm)
    record = facts.record.vms.get(vm)
    generation = record.generation(guest.generation) if record else None
    return (
        record is not None
        and generation is not None
        and generation.verdict == "committed"
        and record.rollback is None
        and (record.stop is None or record.stop.instance != guest.instance)
    )


def _called(facts: PlanFacts, name: VMName) -> VMName:
    """The VM that has, or will have, this desired name."""
    spec = facts.desired.vms.get(name) if facts.desired else None
    if spec is None or name in facts.record.vms:
        return name
    if spec.moved_from is not None and spec.moved_from in facts.record.vms:
        return spec.moved_from
    return next((r.name for r in facts.record.vms.values() if r.formerly == name), name)
