"""Takes in what happened since the last pass: guests and operations that ended, and reboots."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from reconciler.model.actions import SHORT_KEY, ForgetGuest
from reconciler.model.event import FAILED, Severity
from reconciler.model.image import BuiltImage
from reconciler.model.lifecycle import Backoff, Finished
from reconciler.model.names import InstanceId, Revision, VMName
from reconciler.model.observed import Exit, Guest, Outcome
from reconciler.model.policy import (
    BY_THE_FRONT,
    CRASH_BACKOFF,
    HANDOVER_BACKOFF,
    LOOKUP_BACKOFF,
    TROUBLE_BACKOFF,
    doubling,
)
from reconciler.model.record import BuildTrouble, Evidence, Generation, VMRecord
from reconciler.model.trouble import IMAGE, LOOK_UP, TroubleKey
from reconciler.planning import context
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.intake import start_trouble
from reconciler.planning.verdicts import judgement

SNAPSHOT_TRIES = 3
OCCUPIED = "occupied"
_GROWING = ("create", "start")
"""Operations that may find that a volume cannot have its size: better the first than the second."""
_PROMPT = ("open-ports", "hand-over", "lead")
"""Operations of milliseconds, which clients may be waiting for."""


def absorb_outcomes(plan: PlanBuilder) -> None:
    """Record failed operations with a pause, and forget the failure after a success."""
    for outcome in plan.observed.outcomes:
        key = TroubleKey.of(outcome.kind, outcome.subject)
        if outcome.error is None:
            plan.clear_trouble(key)
            if outcome.kind in ("start", "start-beside"):
                # A start makes the folder too.
                plan.clear_trouble(TroubleKey("create", outcome.subject))
            elif isinstance(outcome.result, BuiltImage) and outcome.result.differs:
                plan.event("image-differs", outcome.result.differs, severity="warning")
            elif isinstance(outcome.result, BuiltImage) and outcome.result.versions:
                plan.event("image-refreshed", outcome.result.versions)
            continue
        vm = plan.vms.get(VMName(outcome.subject))
        if vm is not None and start_trouble.absorb_start(plan, vm, outcome):
            continue
        former = plan.trouble(key)
        attempts = (former.attempts if former else 0) + 1
        # Each try of a snapshot stops a guest that serves: a few are enough.
        costly = outcome.kind == "snapshot" and attempts >= SNAPSHOT_TRIES
        definitive = not outcome.transient or costly or _stays(plan, outcome)
        if outcome.error_kind == "disk-full" and attempts == 1:
            plan.disk_full = True
        backoff = HANDOVER_BACKOFF if outcome.kind in _PROMPT else TROUBLE_BACKOFF
        backoff = LOOKUP_BACKOFF if outcome.kind == "look-up" else backoff
        plan.troubles[key] = BuildTrouble(
            key=str(key),
            title=BY_THE_FRONT if outcome.error_kind == "front" else outcome.kind,
            attempts=attempts,
            error=outcome.error,
            definitive=definitive,
            retry=plan.deadline(doubling(backoff, attempts)),
        )
        plan.event(
            FAILED[outcome.kind], f"{outcome.kind} {_name(key)}: {outcome.error}",
            vm,
            "error" if definitive else "warning",
            revision=_named_by(plan, outcome.subject) if key.kind == IMAGE else None,
        )  # fmt: skip


def _name(key: TroubleKey) -> str:
    return key.subject if key.kind == LOOK_UP else key.subject[:SHORT_KEY]


def _named_by(plan: PlanBuilder, key: str) -> Revision | None:
    """The revision for which an image is built: that of the VMs that need it and have not proven it."""
    for vm in plan.vms.values():
        spec, good = vm.spec, vm.record.last_good
        if spec is None or key not in spec.image_keys:
            continue
        if good is None or key not in good.spec.image_keys:
            return plan.origin(vm)
    return None


def absorb_growth(plan: PlanBuilder) -> None:
    """Condemn a generation whose volume cannot grow: it never ran, and the one before serves without that."""
    for outcome in plan.observed.outcomes:
        vm = plan.vms.get(VMName(outcome.subject))
        if outcome.kind not in _GROWING or outcome.error_kind != "growth" or vm is None:
            continue
        record = vm.record
        begun = record.generation(record.start.generation) if record.start else None
        if outcome.kind == "create":  # the guest that serves is kept
            begun = record.generations[-1] if record.generations else None
        if begun is None or begun.verdict != "trial" or record.last_good is None:
            continue
        if outcome.kind == "start":
            vm.record = replace(record, start=None)
        plan.clear_trouble(TroubleKey.of(outcome.kind, outcome.subject))
        judgement.condemn(plan, vm, begun, outcome.error or "", Evidence("volumes"))


def _stays(plan: PlanBuilder, outcome: Outcome) -> bool:
    """Whether a move was refused because its target exists: nothing moved, and the VM stays here."""
    vm = plan.vms.get(VMName(outcome.subject))
    if outcome.kind != "move" or outcome.error_kind != OCCUPIED or vm is None:
        return False
    vm.record = replace(vm.record, moving=None)
    return True


def absorb_exits(plan: PlanBuilder, vm: VMContext) -> None:
    """Record the ends of guests, which may then be forgotten."""
    if vm.busy:
        return
    for guest in plan.observed.guests.get(vm.name, ()):
        if guest.alive:
            continue
        _absorb_exit(plan, vm, guest)
        plan.do(vm, ForgetGuest(vm.name, guest.instance, "its end is in the record"))
        vm.acted = False  # forgetting is in the way of nothing
    _absorb_vanished(vm)


def _absorb_exit(plan: PlanBuilder, vm: VMContext, guest: Guest) -> None:
    record = vm.record
    if record.stop is not None and record.stop.instance == guest.instance:
        vm.record = _without(replace(record, stop=None), guest.instance)
        return
    if record.candidate is not None and record.candidate.instance == guest.instance:
        _candidate_ended(plan, vm, guest)
        return
    if record.start is None or record.start.instance != guest.instance:
        return
    if record.start.deadline.boot_id != plan.now.boot_id:
        return  # the host went down, not the guest: no verdict and no crash follows from that
    vm.record = replace(record, start=None, restart=None)
    generation = record.generation(guest.generation)
    if generation is None:
        return
    why = f"the guest ended: {guest.process.exit}"
    if _by_the_host(guest) and (generation.verdict == "trial" or not guest.health.ever_passed):
        start_trouble.start_failed(plan, vm, generation, str(guest.process.exit))
    elif generation.verdict == "trial":
        judgement.condemn(plan, vm, generation, why, _evidence(guest))
    elif record.rollback is not None:
        judgement.quarantine(plan, vm, f"rolling back failed: {why}")
    elif _stays_down(generation, record, guest):
        _finished(plan, vm, generation, why)
    else:
        crashed(plan, vm, why)


def _stays_down(generation: Generation, record: VMRecord, guest: Guest) -> bool:
    """Whether its restart policy keeps it from being started again."""
    end = guest.process.exit
    said = record.start.said if record.start is not None else guest.said
    match generation.spec.restart.policy:
        case "always":
            return False
        case "on-failure":
            ended_badly = end is None or end.status != 0 or end.panicked or end.reported
            return not (ended_badly or said.ended)
        case "never":
            return True


def _finished(plan: PlanBuilder, vm: VMContext, generation: Generation, why: str) -> None:
    policy = generation.spec.restart.policy
    finished = Finished(generation.number, why, plan.now.boot_id, plan.now.wall)
    vm.record = replace(vm.record, finished=finished, backoff=None)
    words = f"{vm.name}: {why}; restart.policy is {policy}: it stays down"
    severity: Severity = "info" if policy == "on-failure" else "warning"
    plan.event("guest-finished", words, vm, severity, generation.number)


def _kind_of(end: Exit | None) -> Literal["reported", "panicked", "exited"]:
    if end is not None and end.reported:
        return "reported"
    return "panicked" if end is not None and end.panicked else "exited"


def _candidate_ended(plan: PlanBuilder, vm: VMContext, guest: Guest) -> None:
    """Condemn the generation of a candidate that ended; it never served, so the serving guest is unaffected."""
    record, candidate = vm.record, vm.record.candidate
    generation = record.generation(guest.generation)
    lost = candidate is not None and candidate.deadline.boot_id != plan.now.boot_id
    if generation is not None and _by_the_host(guest) and not lost:
        start_trouble.start_failed(plan, vm, generation, str(guest.process.exit), beside=True)
    elif generation is not None and generation.verdict != "condemned" and not lost:
        judgement.failed(
            plan, vm, generation, f"the guest ended: {guest.process.exit}", _evidence(guest)
        )
    vm.record = replace(vm.record, candidate=None)


def _by_the_host(guest: Guest) -> bool:
    end = guest.process.exit
    return end is not None and bool(end.host_fault)


def _evidence(guest: Guest) -> Evidence:
    end = guest.process.exit
    return Evidence(
        kind=_kind_of(end),
        probe=guest.health.detail,
        exit=str(end),
        console=end.console if end else (),
    )


def _without(record: VMRecord, instance: InstanceId) -> VMRecord:
    """The record without the start of a guest that was stopped."""
    if record.candidate is not None and record.candidate.instance == instance:
        return replace(record, candidate=None)
    if record.start is not None and record.start.instance != instance:
        return record
    return replace(record, start=None, restart=None)


def _absorb_vanished(vm: VMContext) -> None:
    """Remove a start or stop whose process is gone: it was never spawned, or ended with a reboot."""
    record = vm.record
    if record.candidate is not None and vm.candidate is None:
        vm.record = record = replace(record, candidate=None)
    if record.stop is None or vm.leaving is not None:
        return
    if vm.guest is None or record.stop.instance != vm.guest.instance:
        vm.record = _without(replace(record, stop=None), record.stop.instance)


def crashed(plan: PlanBuilder, vm: VMContext, why: str, *, ill: bool = False) -> None:
    """Record a crash of a committed guest; it is started again after a growing pause."""
    former, now = vm.record.backoff, plan.now.wall
    crashes = (former.crashes if former else 0) + 1
    since = (former.since_wall or now) if former else now
    running = vm.record.generation(vm.running) if vm.running is not None else None
    good = running or vm.record.last_good
    given = good.spec.restart.backoff if good is not None else None
    pause = doubling(CRASH_BACKOFF, crashes) if crashes > 1 else 0.0
    pause = pause if given is None else given
    backoff = Backoff(crashes, plan.deadline(pause), why, ill, since)
    vm.record = context.count_restart(replace(vm.record, backoff=backoff), "crash", now, why)
    plan.event("guest-crashed", f"{vm.name}: {why}", vm, "warning", vm.running)


def note_illness(plan: PlanBuilder, vm: VMContext) -> None:
    """Count a stop for an update as a crash if the committed guest had to be restarted anyway.

    No gate delayed the update because the guest was broken. Without the count nothing would show that once
    it is stopped, and closed gates would bring back the former generation, only to be stopped again.
    """
    running = vm.record.generation(vm.running) if vm.running is not None else None
    if vm.unhealthy and running is not None and running.verdict == "committed":
        crashed(plan, vm, vm.unhealthy, ill=True)
