"""Which generation a VM should run, and which one it may fall back on meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.model.desired import VMSpec
from reconciler.model.health import NEVER_ASKED
from reconciler.model.names import GenerationNumber
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, Hold, VMRecord
from reconciler.model.waits import WaitKind
from reconciler.planning import diff, guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.preflight import tag_lookups
from reconciler.planning.verdicts import holds


@dataclass(frozen=True, slots=True)
class Target:
    """The generation that a VM should run.

    `generation` is None with a `spec` if it must still be created. `why` says why the desired digest is not
    the target, if so. Both None: leave the VM as it is.
    """

    generation: Generation | None = None
    spec: VMSpec | None = None
    kind: WaitKind | None = None
    why: str = ""
    looked_up: bool = False
    """It is the target only until it is known what a tag means."""

    @property
    def wanted(self) -> VMSpec | None:
        """The spec of the target, created or not."""
        return self.generation.spec if self.generation else self.spec


def choose(plan: PlanBuilder, vm: VMContext) -> Target:
    """The target by rules in this order: a pin, a rollback, then the desired state."""
    record, spec = vm.record, vm.spec
    if record.quarantine is not None:
        return Target(kind="quarantine", why=record.quarantine.reason)
    if record.rollback is not None:
        back = record.generation(record.rollback.target)
        return Target(back, kind="rollback", why=f"going back: {record.rollback.reason}")
    if record.pin is not None and (pinned := record.generation(record.pin.generation)):
        return Target(
            pinned, kind="pinned", why=f"kept at generation {pinned.number} until a new digest or `resume`"
        )  # fmt: skip
    good = record.last_good
    if spec is None:
        return Target(good)
    hold = holds.hold_of(plan, vm)
    if hold is not None and (back := _sent_back(hold, record)) is not None:
        why = f"group {spec.group} goes back: {hold.words}"
        return Target(back, kind="hold", why=why)
    if good is not None and good.digest == spec.digest:
        return Target(good)
    if (refused := _refused(record, good, spec)) is not None:
        return refused
    if hold is not None and (vm.name, spec.digest) in hold.held:
        why = f"group {spec.group} is held: {hold.words}"
        return Target(good, kind="hold", why=why)
    return _fresh(plan, vm, spec)


def _fresh(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> Target:
    """The generation on trial, or one that must still be created, once it is known what its tags mean."""
    generations = vm.record.generations
    newest = generations[-1] if generations else None
    if newest is not None and newest.verdict == "trial" and newest.digest == spec.digest:
        return Target(newest)
    if (awaited := tag_lookups.awaited(plan, spec)) is not None:
        return Target(_as_it_is(vm, newest), kind=awaited.kind, why=awaited.why, looked_up=True)
    return Target(spec=spec)


def _as_it_is(vm: VMContext, newest: Generation | None) -> Generation | None:
    """What runs, on trial or not; nothing is begun or ended before it is known what is desired."""
    living = {guest.generation for guest in (vm.guest, vm.candidate) if guest is not None}
    if newest is not None and newest.verdict == "trial" and newest.number in living:
        return newest
    running = vm.record.generation(vm.running) if vm.running is not None else None
    return running or vm.record.last_good


def _refused(record: VMRecord, good: Generation | None, spec: VMSpec) -> Target | None:
    """Why the desired spec cannot be a target: condemned, or a volume would shrink."""
    if (block := record.block_of(spec)) is not None:
        why = f"generation {block.generation} failed: {block.reason}; push a fix or `retry`"
        return Target(good, kind="blocked", why=why)
    if good is not None and (shrunken := _shrunken(good.spec, spec)):
        return Target(good, kind="broken", why=shrunken)
    return None


def _shrunken(now: VMSpec, wanted: VMSpec) -> str:
    """Which volume would have to shrink, as a text; empty if none."""
    sizes = {volume.name: volume.size_mib for volume in now.volumes}
    for volume in wanted.volumes:
        if volume.size_mib < (size := sizes.get(volume.name, 0)):
            return (
                f"spec.volumes: {volume.name} has {size}MiB and should have {volume.size_mib}MiB: a"
                " volume is never made smaller; give it its size back, or a new one another name"
            )
    return ""


def _sent_back(hold: Hold, record: VMRecord) -> Generation | None:
    for name, number in hold.back:
        if name == record.name:
            return record.generation(number)
    return None


def lift_outdated(vm: VMContext) -> None:
    """End quarantine and pin on a new digest; end a quarantine caused by checks on other checks."""
    spec, record = vm.spec, vm.record
    if spec is None:
        return
    if record.quarantine is not None and _ends_quarantine(record, spec):
        vm.record = record = replace(record, quarantine=None)
    if record.pin is not None and record.pin.digest != spec.digest:
        vm.record = replace(record, pin=None)


def _ends_quarantine(record: VMRecord, spec: VMSpec) -> bool:
    """Whether what is desired now was not tried yet: a new digest, or other checks."""
    if record.quarantine is not None and record.quarantine.digest != spec.digest:
        return True
    refused = any(block.digest == spec.digest for block in record.blocked)
    return refused and record.block_of(spec) is None


def take_in_place(plan: PlanBuilder, vm: VMContext) -> None:
    """Apply fields that need no restart to the newest generation of the digest."""
    spec, record = vm.spec, vm.record
    if spec is None:
        return
    if record.group != spec.group:
        vm.record = record = replace(record, group=spec.group)
    for generation in reversed(record.generations):
        if generation.digest == spec.digest and generation.verdict != "condemned":
            if generation.spec is not spec and generation.spec != spec:
                _take(plan, vm, generation, spec)
            return


def _take(plan: PlanBuilder, vm: VMContext, generation: Generation, spec: VMSpec) -> None:
    """The generation with all in-place fields but the checks, which are tried first: see `try_checks`."""
    present = generation.spec.health
    if present != spec.health and not _takes_checks(plan, vm, generation):
        spec = replace(spec, health=present)
    if generation.spec == spec:
        return
    taken = present != spec.health and plan.desired is not None
    if taken:
        # What it is judged by from now on is of who changed that, and so is the verdict.
        revision = plan.origin(vm) or generation.revision
        generation = replace(generation, revision=revision)
    _replace_spec(plan, vm, generation, spec)
    if taken:
        _start_checks_over(plan, vm, generation.number, spec)


def _takes_checks(plan: PlanBuilder, vm: VMContext, generation: Generation) -> bool:
    """Whether it is on trial and not healthy, so that the newer commit's checks apply at once."""
    if generation.verdict != "trial":
        return False
    guest = _guest_of(vm, generation.number)
    if guest is None:
        return True
    present = generation.spec.health
    unasked = guest_health.asks_guest(present) and not guest.health.rounds
    if guest.instance == vm.record.pending_transfer or unasked:
        return False  # it passed, and takes over; or may have passed before this daemon began
    return guest_health.judge(guest, present, plan.now) != "healthy"


def _guest_of(vm: VMContext, number: GenerationNumber) -> Guest | None:
    return next((g for g in (vm.guest, vm.candidate) if g and g.generation == number), None)


def _start_checks_over(
    plan: PlanBuilder, vm: VMContext, number: GenerationNumber, spec: VMSpec
) -> None:
    """Restart the trial: answers to the former checks do not count, nor does their time."""
    record, deadline = vm.record, plan.deadline(spec.health.startup_deadline)
    guest, candidate = vm.guest, vm.candidate
    if guest is not None and guest.generation == number:
        vm.guest = guest = replace(guest, health=NEVER_ASKED)
        vm.health = guest_health.assess(guest, spec.health, record, plan.now)
        if record.start is not None and record.start.instance == guest.instance:
            vm.record = replace(record, start=replace(record.start, deadline=deadline))
    elif candidate is not None and candidate.generation == number and record.candidate is not None:
        vm.candidate = replace(candidate, health=NEVER_ASKED)
        vm.record = replace(record, candidate=replace(record.candidate, deadline=deadline))


def _replace_spec(plan: PlanBuilder, vm: VMContext, generation: Generation, spec: VMSpec) -> None:
    changed = diff.differences(generation.spec, spec)
    vm.record = vm.record.with_generation(replace(generation, spec=spec))
    words = ", ".join(str(change) for change in changed) or "nothing visible"
    plan.event("changed-in-place", f"{vm.name}: {words}", vm)


def fallback(record: VMRecord, target: Target) -> Generation | None:
    """The generation that may run while the target is not ready."""
    good = record.last_good
    return None if good is None or good is target.generation else good
