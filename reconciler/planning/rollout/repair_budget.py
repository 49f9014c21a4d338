"""How many living but unhealthy guests may be restarted at once.

Such a guest may still serve something, and the host or the prober may be at fault: then all fail at once,
and restarting all at once would make it worse. A guest that is gone does not serve, and needs no
permission to be started again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

from reconciler.model.names import GroupName
from reconciler.planning.context import PlanBuilder, VMContext

TOGETHER = 60.0
"""Seconds within which guests that turn unhealthy are thought to have one cause."""
TOO_MANY = 3
"""VMs below which that is no more than chance."""


class Repairs:
    """Limits repairs for each group and the host. One at a time is always allowed."""

    def __init__(self, plan: PlanBuilder) -> None:
        self._plan = plan
        self._under_way: Counter[GroupName] | None = None
        self._out: Counter[GroupName] = Counter()
        self._suspicion = ""

    def take(self, vm: VMContext) -> bool:
        """Request to restart this unhealthy guest; a refusal becomes a wait.

        To be called after all VMs without a guest, because the starts of those count.
        """
        under_way = self._look()
        total, group = under_way.total(), vm.group
        limit = 1 if self._suspicion else self._plan.policy.max_repairs
        if total >= limit:
            why = self._suspicion or (
                f"{total} unhealthy guests are being started again (policy.max_concurrent_repairs)"
            )
            self._plan.wait("repair", vm.name, why)
            return False
        budget = self._plan.desired.group(group).max_unavailable if self._plan.desired else 1
        if under_way[group] and self._out[group] >= budget:
            why = (
                f"its checks fail, and {self._out[group]} of group {group} do not serve at all:"
                f" maxUnavailable is {budget}"
            )
            self._plan.wait("repair", vm.name, why)
            return False
        under_way[group] += 1
        self._out[group] += 1
        return True

    def _look(self) -> Counter[GroupName]:
        if self._under_way is None:
            self._under_way = Counter()
            for vm in self._plan.vms.values():
                if _under_way(vm):
                    self._under_way[vm.group] += 1
                if not vm.available and not _ill(vm):
                    self._out[vm.group] += 1
            self._suspicion = _suspicion(self._plan)
        return self._under_way


def _ill(vm: VMContext) -> bool:
    """Whether it lives, must be restarted, and nothing is being done about it yet."""
    guest, record = vm.guest, vm.record
    if guest is None or not vm.unhealthy or vm.busy:
        return False
    running = record.generation(guest.generation)
    committed = running is not None and running.verdict == "committed"
    return committed and record.stop is None and record.rollback is None


def _under_way(vm: VMContext) -> bool:
    """Whether it is being stopped as unhealthy, or was restarted and is not healthy yet."""
    record, backoff = vm.record, vm.record.backoff
    if backoff is None or not backoff.ill or record.quarantine is not None:
        return False
    if vm.guest is None:
        return vm.busy or vm.acted
    if record.stop is not None:
        return record.stop.cause == "unhealthy"
    again = record.start is not None and record.start.purpose == "restart"
    return again and vm.judgement == "starting"


def _suspicion(plan: PlanBuilder) -> str:
    """Why the host is suspected, as a text; empty if it is not."""
    proven = [s for s in plan.vms.values() if s.record.last_good is not None]
    turned = sorted(
        since
        for s in proven
        if _ill(s) and s.guest is not None
        and (since := s.guest.health.liveness.failing_since) is not None
    )  # fmt: skip
    together = max(
        (bisect_right(turned, start + TOGETHER) - before for before, start in enumerate(turned)),
        default=0,
    )
    weak = sum(_repaired_in_vain(s) for s in proven)
    ill = together + weak
    if ill < TOO_MANY or 2 * ill <= len(proven):
        return ""
    already = f" or are not well after a restart ({weak})" if weak else ""
    return (
        f"{ill} of {len(proven)} VMs failed their checks within {TOGETHER:g}s{already}:"
        " the host is suspect, and repairs go one at a time"
    )


def _repaired_in_vain(vm: VMContext) -> bool:
    """Whether its first restart has not helped yet; after more restarts the cause is its own."""
    backoff = vm.record.backoff
    return backoff is not None and backoff.ill and backoff.crashes == 1 and not (
        vm.judgement == "healthy" or _ill(vm)
    )  # fmt: skip
