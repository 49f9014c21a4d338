"""What the linter judges a plan by: its inputs, and the record as the plan will leave it."""

from __future__ import annotations

from typing import assert_never

from reconciler.model.change import PutVM
from reconciler.model.desired import DesiredState
from reconciler.model.names import InstanceId, VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import Plan
from reconciler.model.record import Record, VMRecord
from reconciler.now import Now
from reconciler.planning import guest_health


class PlanFacts:
    """The inputs of a plan, and the record as the plan will leave it."""

    def __init__(
        self, plan: Plan, desired: DesiredState | None, observed: Observed, record: Record, now: Now
    ) -> None:
        self.plan, self.desired, self.observed = plan, desired, observed
        self.record, self.now = record, now
        self.after: dict[VMName, VMRecord] = {
            c.vm.name: c.vm for c in plan.changes if isinstance(c, PutVM)
        }

    def serves(self, vm: VMName) -> bool:
        """Whether it is alive, healthy and committed, judged from the inputs alone."""
        record = self.record.vms.get(vm)
        guest = self.living(vm)
        if record is None or guest is None:
            return False
        # A verdict given in this very plan counts: it is durable before the first action.
        after = self.after.get(vm, record)
        generation = after.generation(guest.generation)
        return (
            after.rollback is None
            and generation is not None
            and generation.verdict == "committed"
            and (record.stop is None or record.stop.instance != guest.instance)
            and not self._disturbed(vm, record)
            and guest_health.judge(guest, generation.spec.health, self.now) == "healthy"
        )

    def _disturbed(self, vm: VMName, record: VMRecord) -> bool:
        """Whether an operation concerns the guest that serves, and not another one of the VM."""
        operation = self.observed.busy.get(vm)
        if operation is None:
            return False
        match operation.disturbs:
            case "nothing" | "unless handed over":
                return False
            case "one guest":
                return record.stop is None
            case "vm":
                return True
            case _:
                assert_never(operation.disturbs)

    def living(self, vm: VMName) -> Guest | None:
        """The serving guest."""
        living = [g for g in self.observed.guests.get(vm, ()) if g.alive]
        for record in (self.after.get(vm), self.record.vms.get(vm)):
            if record is not None and record.start is not None:
                named = [g for g in living if g.instance == record.start.instance]
                if named:
                    return named[0]
        return living[0] if living else None

    def begun(self, vm: VMName, instance: InstanceId) -> bool:
        """Whether an earlier plan decided this stop, which is continued."""
        record = self.record.vms.get(vm)
        stop = record.stop if record else None
        return stop is not None and stop.instance == instance
