"""The order in which VMs may change, and how many may be down at once."""

from __future__ import annotations

from collections import Counter

from reconciler.model.names import GroupName, VMName
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.rollout.repair_budget import Repairs


def in_order(plan: PlanBuilder) -> list[VMContext]:
    """VMs in the order in which they may ask for the budget.

    Broken ones first, since repairing them takes no budget: without a guest, then the least often repaired,
    so that hopeless ones take no other's turn. Then canaries, then by name.
    """
    canaries: set[VMName] = set()
    if plan.desired is not None:
        for group in plan.desired.groups.values():
            canaries.update(group.canary)

    def turn(vm: VMContext) -> tuple[bool, bool, int, bool, str]:
        backoff = vm.record.backoff
        repaired = 0 if vm.available or backoff is None else backoff.crashes
        here, last = vm.guest is not None, vm.desired_name not in canaries
        return vm.available, here, repaired, last, vm.name

    return sorted(plan.vms.values(), key=turn)


class Budget:
    """How many serving VMs of each group may still be taken down in this pass.

    All members that do not serve count, whatever the cause (law 3). Repairing one of those costs
    nothing: a broken VM must not block its own fix.
    """

    def __init__(self, plan: PlanBuilder) -> None:
        self._plan = plan
        self.repairs = Repairs(plan)
        self._left: dict[GroupName, int] = {}
        self._down: dict[GroupName, list[VMName]] = {}
        self._loops: Counter[GroupName] = Counter()
        """Members that count as down for nothing but their crash loop."""
        for vm in plan.vms.values():
            if vm.spec is None:
                continue
            group = vm.group
            if group not in self._left:
                limit = plan.desired.group(group).max_unavailable if plan.desired else 1
                self._left[group], self._down[group] = limit, []
            if not vm.available:
                self._left[group] -= 1
                self._down[group].append(vm.name)
                self._loops[group] += vm.serving

    def take(self, vm: VMContext) -> bool:
        """Request to take this VM down; a refusal becomes a wait."""
        if vm.down or vm.spec is None:
            return True
        group = vm.group
        if vm.looping and vm.serving:
            # It counts as down already, as all in a crash loop do; who serves all the same is bounded, too.
            if self._left[group] + self._loops[group] > 0:
                self._loops[group] -= 1
                return True
        elif self._left[group] > 0:
            self._left[group] -= 1
            self._down[group].append(vm.name)
            return True
        down = ", ".join(sorted(self._down[group])[:5]) or "no member"
        self._plan.wait("budget", vm.name, f"maxUnavailable of group {group} is used up by {down}")
        return False
