"""The status of all VMs, from the same inputs as the planner's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from reconciler.explain.convergence import revision_status
from reconciler.explain.queue import group_queue
from reconciler.explain.wait_times import Waiter, wait_status
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.names import GenerationNumber, GroupName, VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import Plan
from reconciler.model.record import Record, VMRecord
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    HostStatus,
    RestartStatus,
    RolloutState,
    SyncState,
    VMState,
    VMStatus,
)
from reconciler.model.waits import Wait, most_serious_first
from reconciler.now import Deadline, Now
from reconciler.planning.guest_health import (
    assess,
    has_other_checks,
    is_looping,
    refused_checks,
)
from reconciler.planning.guest_roles import assign_roles, disturbs
from reconciler.planning.steps.routing import CUT_OFF, is_cut_off

Known = dict[VMName, tuple[tuple[object, ...], VMStatus]]
"""A cache of statuses with their inputs: of a thousand VMs few change from pass to pass."""


def explain(
    desired: DesiredState | None, observed: Observed | None, record: Record, plan: Plan, now: Now,
    *, known: Known | None = None,
) -> HostStatus:  # fmt: skip
    """The host's status after the last pass. `known` is a cache that is updated."""
    waits: dict[str, list[Wait]] = defaultdict(list)
    for wait in plan.waits:
        waits[wait.subject].append(wait)
    specs = desired.vms if desired else {}
    names = sorted(record.vms.keys() | specs.keys())
    known = {} if known is None else known
    if len(known) > 2 * len(names):
        known.clear()
    vms = tuple(
        _recall(known, VMName(n), specs.get(VMName(n)), observed, record, waits.get(n, []), now)
        for n in names
    )
    return HostStatus(
        revision=revision_status(desired, observed, record, plan, now),
        vms=vms,
        groups=tuple(_groups(desired, record, vms, now)),
        suspended=record.suspended is not None,
        waits=tuple(f"{w.subject}: {w.why}" for w in plan.waits),
    )


def _recall(
    known: Known, name: VMName, spec: VMSpec | None, observed: Observed | None, record: Record,
    waits: list[Wait], now: Now,
) -> VMStatus:  # fmt: skip
    """The status of one VM, from the cache while its inputs are the same objects."""
    guests = observed.guests.get(name, ()) if observed else ()
    guest = guests[0] if guests else None
    if (
        waits
        or observed is None
        or len(guests) > 1
        or (guest is not None and not guest.health.rounds)
    ):
        # It may change with time alone, so it is not cached.
        return _vm(name, spec, observed, record, waits, now)
    origin = round(now.wall - now.boot)
    inputs = (
        record.vms.get(name), spec, guest, observed.busy.get(name), observed.front.get(name),
        observed.proxy_error,
    )  # fmt: skip
    former = known.get(name)
    if former is not None and former[0][-1] == origin and _are(former[0], inputs):
        return former[1]
    found = _vm(name, spec, observed, record, waits, now)
    known[name] = ((*inputs, origin), found)
    return found


def _are(former: tuple[object, ...], inputs: tuple[object, ...]) -> bool:
    return all(a is b for a, b in zip(former, inputs, strict=False))


def _vm(
    name: VMName, spec: VMSpec | None, observed: Observed | None, record: Record,
    waits: list[Wait], now: Now,
) -> VMStatus:  # fmt: skip
    vm = record.vms.get(name) or VMRecord(name, spec.group if spec else GroupName(""))
    found = assign_roles(vm, observed.guests.get(name, ()) if observed else ())
    guest = found.serving
    operation = observed.busy.get(name) if observed else None
    waiter = Waiter(vm, spec, found.candidate or guest, operation)
    waits = most_serious_first(waits)
    running = vm.generation(guest.generation) if guest else None
    judged_by = running.spec if running else spec
    health = assess(guest, judged_by.health, vm, now) if guest and judged_by else None
    healthy = health is not None and health.good
    cut_off = guest is not None and observed is not None and is_cut_off(vm, guest, observed)
    unasked = guest is not None and not healthy and _served_before(vm, guest, now)
    healthy = healthy and not cut_off
    desired_number = _desired_number(vm, spec)
    suspended = any(wait.kind == "suspended" for wait in waits)
    broken = any(wait.kind == "broken" for wait in waits)
    return VMStatus(
        name=name,
        group=vm.group,
        state=_state(vm, guest, observed, healthy=healthy, unasked=unasked),
        healthy=healthy,
        sync=_sync(vm, spec, guest, desired_number, suspended=suspended, broken=broken),
        generation=GenerationNumbers(
            guest.generation if guest else None,
            desired_number,
            vm.last_good.number if vm.last_good else None,
        ),
        pid=guest.process.pid if guest else None,
        why=_why(waits) or (CUT_OFF if cut_off else ""),
        digest=spec.digest if spec else None,
        instance=guest.instance if guest else None,
        started_wall=now.wall - (now.boot - guest.process.started_boot) if guest else None,
        probe=guest.health.detail if guest and guest.health.last else "",
        unasked=unasked,
        revision=running.revision if running else None,
        suspended=suspended,
        blocked=len(vm.blocked),
        restarts=vm.restarts,
        restarted=_restarted(vm),
        crashes=vm.backoff.crashes if vm.backoff else 0,
        alive=None if health is None or unasked else not health.why_restart,
        hypervisor=_hypervisor(vm, judged_by),
        ports=judged_by.host_ports if judged_by else (),
        taps=tuple(tap.name for tap in judged_by.taps) if judged_by else (),
        candidate=found.candidate.generation if found.candidate else None,
        waits=tuple(wait_status(wait, waiter, record, now) for wait in waits),
    )


def _hypervisor(vm: VMRecord, spec: VMSpec | None) -> str:
    """By the spec of the running or desired guest, else of the newest generation."""
    specs = (spec, *(generation.spec for generation in vm.generations[-1:]))
    return next((one.hypervisor for one in specs if one is not None), "")


def _restarted(vm: VMRecord) -> RestartStatus | None:
    newest = vm.restarted
    return RestartStatus(newest.wall, newest.reason, newest.why) if newest is not None else None


def _served_before(vm: VMRecord, guest: Guest, now: Now) -> bool:
    """Whether a guest that this daemon has not checked yet was proven in the time of an earlier one."""
    generation = vm.generation(guest.generation)
    if guest.health.rounds or generation is None or generation.verdict != "committed":
        return False
    if guest.passed:
        return True
    start = vm.start
    proved = start is not None and start.instance == guest.instance and start.purpose == "trial"
    age = now.boot - guest.process.started_boot
    return proved or age >= generation.spec.health.startup_deadline


def _desired_number(vm: VMRecord, spec: VMSpec | None) -> GenerationNumber | None:
    """The number that the desired digest has, or would get."""
    if spec is None:
        return None
    for generation in reversed(vm.generations):
        if generation.digest == spec.digest:
            return generation.number
    return vm.next_number


def _state(
    vm: VMRecord, guest: Guest | None, observed: Observed | None,
    *, healthy: bool, unasked: bool,
) -> VMState:  # fmt: skip
    if observed is None:
        return "unknown"
    operation = observed.busy.get(vm.name)
    if operation is not None and operation.kind == "stop" and not disturbs(operation, vm, guest):
        operation = None  # it concerns another guest than the serving one
    if operation is not None and operation.kind in ("start", "stop"):
        return "starting" if operation.kind == "start" else "stopping"
    if guest is None:
        failed = vm.quarantine is not None or (vm.blocked and vm.last_good is None)
        failed = failed or is_looping(vm)
        return "failed" if failed else "stopped"
    if vm.stop is not None and vm.stop.instance == guest.instance:
        return "stopping"
    if vm.quarantine is not None and not healthy:
        return "failed"
    if not healthy and not unasked and not guest.health.ever_passed:
        return "starting"
    return "running"


def _sync(
    vm: VMRecord, spec: VMSpec | None, guest: Guest | None, desired: GenerationNumber | None,
    *, suspended: bool, broken: bool,
) -> SyncState:  # fmt: skip
    if suspended:
        return "suspended"
    if spec is None:
        return "unknown" if not vm.removing else "out-of-sync"
    if broken or vm.quarantine is not None:
        return "blocked"
    good = vm.last_good
    if good is None or good.digest != spec.digest:
        return "blocked" if vm.block_of(spec) is not None else "out-of-sync"
    if has_other_checks(good, spec):
        return "blocked" if refused_checks(vm, spec) is not None else "out-of-sync"
    runs = guest is not None and guest.generation in (good.number, desired)
    return "synced" if runs else "out-of-sync"


def _why(waits: Iterable[Wait]) -> str:
    return "; ".join(dict.fromkeys(wait.why for wait in waits))


def _groups(
    desired: DesiredState | None, record: Record, vms: tuple[VMStatus, ...], now: Now
) -> Iterable[GroupStatus]:
    members: dict[GroupName, list[VMStatus]] = defaultdict(list)
    for vm in vms:
        if vm.group:
            members[vm.group].append(vm)
    for name in sorted(members):
        group, held = members[name], record.groups.get(name)
        pending = sum(vm.sync == "out-of-sync" for vm in group)
        hold = held.hold if held else None
        state: RolloutState = "running" if pending else "idle"
        if hold is not None:
            state = "held"
        elif held is not None and held.suspended is not None:
            state = "suspended"
        turn = group_queue(name, group, desired)
        yield GroupStatus(
            name=name,
            state=state,
            members=len(group),
            unavailable=sum(not vm.healthy and not vm.unasked for vm in group),
            max_unavailable=desired.group(name).max_unavailable if desired else 1,
            pending=pending,
            hold=hold.words if hold else "",
            moving=turn.moving,
            line=turn.line,
            held=turn.held,
            deadline_wall=_by_wall(held.progress if held else None, now),
        )


def _by_wall(deadline: Deadline | None, now: Now) -> float | None:
    """The wall time of a deadline in whole seconds, as in `wait_times.wait_status`."""
    if deadline is None or deadline.boot_id != now.boot_id:
        return None
    return float(round(now.wall + deadline.boot - now.boot))
