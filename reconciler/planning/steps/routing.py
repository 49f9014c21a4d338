"""Where the proxy sends a VM's connections: to the serving guest, if there is one."""

from __future__ import annotations

from reconciler.model.actions import Lead
from reconciler.model.machine import Route, RouteTarget
from reconciler.model.observed import Guest, Observed
from reconciler.model.record import VMRecord
from reconciler.model.trouble import TroubleKey
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.preflight.blockers import LOOK_AGAIN
from reconciler.planning.steps import operations

CUT_OFF = "its guest is well, and the front does not lead its ports to it"


def wanted(vm: VMContext) -> RouteTarget | None:
    """Where connections should go. None: the proxy has nothing to do with this VM, or not yet."""
    start, guest = vm.record.start, vm.guest
    if guest is None or start is None or start.instance != guest.instance or not start.routes:
        return None
    return RouteTarget(guest.instance, start.routes)


def is_cut_off(record: VMRecord, guest: Guest, observed: Observed) -> bool:
    """Whether a guest that serves through the proxy gets no connections from it, though it is healthy."""
    start = record.start
    if start is None or start.instance != guest.instance or not start.routes:
        return False
    target = observed.front.get(record.name)
    return bool(observed.proxy_error) or target is None or target.instance != guest.instance


def is_current(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether the proxy sends them there, as far as it answered."""
    known = not plan.observed.proxy_error
    return known and plan.observed.front.get(vm.name) == wanted(vm)


def update(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Correct the proxy's routing. While the proxy does not answer, other steps continue."""
    want, guest, start = wanted(vm), vm.guest, vm.record.start
    if plan.observed.proxy_error:
        if want is not None:
            plan.wait("port", vm.name, plan.observed.proxy_error)
            plan.wake_at(plan.now.boot + LOOK_AGAIN)
        return StepResult.SKIP
    unknown = guest is not None and (start is None or start.instance != guest.instance)
    if (
        is_current(plan, vm)
        or unknown
        or _handing_over(vm)
        or operations.in_trouble(plan, vm, "lead")
    ):
        return StepResult.SKIP
    why = "no guest of it serves" if want is None else f"generation {vm.running} serves"
    return plan.do(vm, Lead(vm.name, want, f"its ports: {why}"))


def _handing_over(vm: VMContext) -> bool:
    """Whether connections may already go to its candidate."""
    pending_transfer = vm.record.pending_transfer
    return vm.candidate is not None and vm.candidate.instance == pending_transfer


def release_unknown(plan: PlanBuilder) -> None:
    """Release ports that the proxy holds for VMs that no longer exist."""
    for name in sorted(plan.observed.front.keys() - plan.vms.keys()):
        if name not in plan.observed.busy and plan.pausing(TroubleKey("lead", name)) is None:
            plan.actions.append(Lead(name, None, "its ports: there is no such VM"))


def routes_of(plan: PlanBuilder, guest: Guest) -> tuple[Route, ...] | None:
    """The routes of a guest that only the proxy knows."""
    target = plan.observed.front.get(guest.process.vm)
    return target.routes if target is not None and target.instance == guest.instance else None
