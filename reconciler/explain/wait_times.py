"""Since when a VM waits, and until when, as wall times."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.desired import VMSpec
from reconciler.model.names import GroupName
from reconciler.model.observed import Guest, Operation
from reconciler.model.record import Hold, Record, VMRecord
from reconciler.model.status import WaitStatus
from reconciler.model.waits import Wait
from reconciler.now import Now


@dataclass(frozen=True, slots=True)
class Waiter:
    """A VM that waits, with everything that says since when."""

    vm: VMRecord
    spec: VMSpec | None
    guest: Guest | None
    operation: Operation | None


def wait_status(wait: Wait, waiter: Waiter, record: Record, now: Now) -> WaitStatus:
    """A wait with its wall times.

    In whole seconds: the clocks drift against each other, and the status would seem to change.
    """
    since = _since(wait, waiter, record, now)
    until = None if wait.until is None else now.wall + wait.until - now.boot
    return WaitStatus(
        wait.kind,
        wait.why,
        None if since is None else float(round(since)),
        None if until is None else float(round(until)),
    )


def _since(wait: Wait, waiter: Waiter, record: Record, now: Now) -> float | None:
    """Unix time since when it waits; None if nothing in the record says so."""
    vm = waiter.vm
    match wait.kind:
        case "suspended":
            return _suspended_since(waiter, record)
        case "quarantine":
            return vm.quarantine.since_wall if vm.quarantine else None
        case "pinned":
            return vm.pin.since_wall if vm.pin else None
        case "blocked":
            return _blocked_since(vm, waiter.spec) if waiter.spec else None
        case "hold":
            hold = _hold(waiter, record)
            return hold.since_wall if hold else None
        case "rollback":
            bad = vm.generation(vm.rollback.bad) if vm.rollback else None
            return bad.verdict_wall if bad else None
        case "readiness":
            return vm.unready.since_wall if vm.unready else None
        case "busy":
            return _wall(waiter.operation.since_boot, now) if waiter.operation else None
        case "starting" | "soak" | "probe" if _unproven(waiter):
            return _wall(waiter.guest.process.started_boot, now) if waiter.guest else None
        case _:
            return None


def _blocked_since(vm: VMRecord, spec: VMSpec) -> float | None:
    block = vm.block_of(spec) or next((b for b in vm.blocked_checks if not b.withdrawn), None)
    return block.last_wall if block is not None else None


def _suspended_since(waiter: Waiter, record: Record) -> float | None:
    group = record.groups.get(_group(waiter))
    for suspension in (waiter.vm.suspended, group.suspended if group else None, record.suspended):
        if suspension is not None:
            return suspension.since_wall
    return None


def _hold(waiter: Waiter, record: Record) -> Hold | None:
    group = record.groups.get(_group(waiter))
    return group.hold if group else None


def _group(waiter: Waiter) -> GroupName:
    return waiter.spec.group if waiter.spec else waiter.vm.group


def _unproven(waiter: Waiter) -> bool:
    """Whether the VM's own guest is being judged, and not a canary before it."""
    if waiter.guest is None:
        return False
    generation = waiter.vm.generation(waiter.guest.generation)
    on_trial = generation is not None and generation.verdict == "trial"
    beside = waiter.vm.candidate
    on_trial = on_trial or (beside is not None and beside.instance == waiter.guest.instance)
    return on_trial or waiter.vm.rollback is not None


def _wall(boot: float, now: Now) -> float:
    return now.wall - (now.boot - boot)
