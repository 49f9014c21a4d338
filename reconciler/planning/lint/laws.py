"""The plan's linter: checks every plan against the laws before it runs.

It shares no code with the planner beyond reading the same values. A violation is a bug of ours; the
engine then refuses the whole plan and raises an alert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import assert_never

from reconciler.model.actions import (
    Action,
    BuildKernel,
    BuildLayer,
    CancelBuild,
    Collect,
    CreateGeneration,
    DropGenerations,
    DropSnapshots,
    DropTaps,
    ForgetGuest,
    HandOver,
    Lead,
    LookUp,
    MoveVM,
    OpenPorts,
    PlugTaps,
    RemoveVM,
    RestoreVolumes,
    SnapshotVolumes,
    StartBeside,
    StartGuest,
    StopGuest,
    VMOperation,
)
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.names import VMName
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan, Violation
from reconciler.model.record import Generation, Record, VMRecord
from reconciler.now import Now
from reconciler.planning import guest_health
from reconciler.planning.lint import budget, changed_checks
from reconciler.planning.lint.facts import PlanFacts


def check(
    plan: Plan, desired: DesiredState | None, observed: Observed, record: Record, now: Now
) -> tuple[Violation, ...]:
    """All laws that this plan would break; empty for a sound plan."""
    facts = PlanFacts(plan, desired, observed, record, now)
    return *_Linter(facts).violations(), *budget.broken_by(facts), *changed_checks.broken_by(facts)


class _Linter:
    def __init__(self, facts: PlanFacts) -> None:
        self.facts = facts
        self.plan, self.desired, self.observed = facts.plan, facts.desired, facts.observed
        self.record, self.now, self.after = facts.record, facts.now, facts.after

    def violations(self) -> Iterator[Violation]:
        if not self.plan.actions:
            return
        yield from self._one_action_a_vm()
        for action in self.plan.actions:
            yield from self._broken_by(action)
        yield from self._begun_empty()

    def _broken_by(self, action: Action) -> Iterator[Violation]:
        match action:
            case StartGuest() | StartBeside():
                yield from self._start(action)
            case HandOver() | Lead():
                yield from self._led(action)
            case StopGuest():
                yield from self._stop(action)
            case SnapshotVolumes() | RestoreVolumes():
                yield from self._volumes(action)
            case MoveVM() | RemoveVM() | DropTaps():
                yield from self._taken_away(action)
            case CancelBuild() | Collect():
                yield from self._images_gone(action)
            case BuildLayer() | BuildKernel() | LookUp() | ForgetGuest():
                pass  # no guest and nothing that is needed can be lost by them
            case DropGenerations() | DropSnapshots():
                pass  # likewise
            case CreateGeneration() | OpenPorts() | PlugTaps():
                pass  # they add to what is there; `_one_action_a_vm` and `_begun_empty` are about them, too
            case _:
                assert_never(action)

    def _one_action_a_vm(self) -> Iterator[Violation]:
        counts = Counter(a.vm for a in self.plan.actions if isinstance(a, VMOperation))
        for vm, count in counts.items():
            if count > 1 or vm in self.observed.busy:
                yield Violation(1, vm, "more than one slow action at a time")

    def _start(self, action: StartGuest | StartBeside) -> Iterator[Violation]:
        vm, machine, record = action.vm, action.machine, self.after.get(action.vm)
        yield from self._company(action, record)
        if vm in self.observed.front and any(n.forwards for n in machine.networks):
            yield Violation(2, vm, "a guest is to have ports that the front still holds for it")
        meant = record.start if isinstance(action, StartGuest) and record else None
        beside = record.candidate if isinstance(action, StartBeside) and record else None
        intent = meant or beside
        if record is None or intent is None or intent.instance != machine.instance:
            yield Violation(4, vm, "a start without its durable intent")
            return
        generation = record.generation(machine.generation)
        if generation is None:
            yield Violation(4, vm, f"a start of generation {machine.generation}, which is unknown")
            return
        if generation.verdict == "condemned" or (
            generation.verdict == "trial" and record.block_of(generation.spec)
        ):
            yield Violation(5, vm, "a start of a condemned digest")
        if record.rollback is not None and (
            generation.verdict != "committed" or generation.number == record.rollback.bad
        ):
            yield Violation(6, vm, "a rollback to something that is not committed")
        yield from self._images(vm, generation.spec)

    def _company(
        self, action: StartGuest | StartBeside, record: VMRecord | None
    ) -> Iterator[Violation]:
        """Violations of the rule of two guests: different slots, one is a candidate, and at most one writes."""
        vm, machine = action.vm, action.machine
        living = [g for g in self.observed.guests.get(vm, ()) if g.alive]
        if not living:
            return
        trial = record.candidate if record is not None else None
        beside = trial is not None and trial.instance in (machine.instance, living[0].instance)
        if len(living) > 1 or not beside:
            yield Violation(1, vm, "a start while a guest of it lives")
        if machine.keeps_data or any(g.process.slot == machine.slot for g in living):
            yield Violation(1, vm, "a second guest that writes, or takes the other's place")

    def _volumes(self, action: SnapshotVolumes | RestoreVolumes) -> Iterator[Violation]:
        if self.facts.living(action.vm) is not None:
            yield Violation(1, action.vm, "its volumes are touched while its guest lives")
        if isinstance(action, SnapshotVolumes) and self._is_way_back(action.vm):
            yield Violation(6, action.vm, "a snapshot that is still the way back is replaced")

    def _is_way_back(self, vm: VMName) -> bool:
        """Whether a bad generation may have written since the VM's snapshot was taken."""
        record = self.record.vms.get(vm)
        snapshot = record.snapshot if record is not None else None
        restored = any(
            one.kind == "restore" and one.subject == vm and one.error is None
            for one in self.observed.outcomes
        )
        return snapshot is not None and (
            snapshot.state == "taken" or (snapshot.state == "restoring" and not restored)
        )

    def _led(self, action: HandOver | Lead) -> Iterator[Violation]:
        yield from self._lead(action) if isinstance(action, Lead) else self._hand_over(action)

    def _hand_over(self, action: HandOver) -> Iterator[Violation]:
        """Violations by a handover: only to a guest that passed its trial; one that began earlier may be finished."""
        vm, before, record = action.vm, self.record.vms.get(action.vm), self.after.get(action.vm)
        pending_transfer = (
            record.pending_transfer
            if record is not None
            else before.pending_transfer
            if before
            else None
        )
        if pending_transfer != action.target.instance:
            yield Violation(4, vm, "a handover without its durable intent")
        living = {g.instance: g for g in self.observed.guests.get(vm, ()) if g.alive}
        guest = living.get(action.target.instance)
        if guest is None:
            yield Violation(2, vm, "a handover to a guest that does not live")
        elif before is not None and before.pending_transfer is None:
            generation = (record or before).generation(guest.generation)
            if (
                generation is None
                or guest_health.judge(guest, generation.spec.health, self.now) != "healthy"
            ):
                yield Violation(2, vm, "a handover to a guest that is not healthy")
            elif generation.verdict == "condemned":
                yield Violation(5, vm, "a handover to a condemned generation")

    def _lead(self, action: Lead) -> Iterator[Violation]:
        """Violations by routing: only to the serving guest, by its own ports, and taken only from one that is gone."""
        vm, target = action.vm, action.target
        record = self.after.get(vm) or self.record.vms.get(vm)
        living = {g.instance for g in self.observed.guests.get(vm, ()) if g.alive}
        start = record.start if record is not None else None
        if target is None:
            if start is not None and start.instance in living and start.routes:
                yield Violation(2, vm, "the front lets go of the ports of a guest that serves")
        elif start is None or start.instance != target.instance or start.routes != target.routes:
            yield Violation(2, vm, "its ports are led to a guest that is not known to serve")
        elif target.instance not in living:
            yield Violation(2, vm, "its ports are led to a guest that does not live")

    def _stop(self, action: StopGuest) -> Iterator[Violation]:
        vm = action.vm
        yield from changed_checks.broken_by_stop(self.facts, vm, action.instance)
        record = self.after.get(vm) or self.record.vms.get(vm)
        if record is None or record.stop is None or record.stop.instance != action.instance:
            yield Violation(4, vm, "a stop without its durable intent")
            return
        if record.stop.cause == "removed" and self.desired is None:
            yield Violation(7, vm, "a removal without a desired state")
        yield from self._repair(vm, record, action)
        before = self.record.vms.get(vm)
        begun = before is not None and before.stop == record.stop
        left = record.start is not None and record.start.instance != action.instance
        if record.stop.cause == "handed-over" and not begun and not left:
            yield Violation(2, vm, "a stop of a guest whose ports no other guest took over")
        if record.stop.cause != "update" or not self.facts.serves(vm):
            return
        if record.candidate is not None:
            yield Violation(2, vm, "a stop of the serving guest before its candidate took over")
        good = record.last_good
        if good is None:
            yield Violation(2, vm, "an update of a healthy guest without a way back")
        else:
            yield from self._images(vm, good.spec, law=2)
        successor = record.generations[-1]
        if record.pin is None and successor.verdict == "trial":
            yield from self._images(vm, successor.spec, law=2)

    def _repair(self, vm: VMName, record: VMRecord, action: StopGuest) -> Iterator[Violation]:
        """Violations if a guest that is merely not ready is restarted: the cause may be elsewhere."""
        if (
            record.stop is None
            or record.stop.cause != "unhealthy"
            or self.facts.begun(vm, action.instance)
        ):
            return
        guest = self.facts.living(vm)
        generation = record.generation(guest.generation) if guest else None
        if guest is None or generation is None or guest.instance != action.instance:
            return
        if not guest_health.why_restart(guest, generation.spec.health, self.now):
            yield Violation(2, vm, "a restart of a guest that need not be restarted")

    def _images(self, vm: VMName, spec: VMSpec, law: int = 2) -> Iterator[Violation]:
        lacking = [s.title for s in spec.layers if s.key not in self.observed.layers]
        if spec.kernel.key not in self.observed.kernels:
            lacking.append(spec.kernel.title)
        if lacking:
            yield Violation(law, vm, f"images are not there: {', '.join(lacking)}")

    def _taken_away(self, action: MoveVM | RemoveVM | DropTaps) -> Iterator[Violation]:
        match action:
            case MoveVM():
                yield from self._move(action)
            case RemoveVM():
                yield from self._remove(action)
            case DropTaps():
                yield from self._drop_taps(action)

    def _remove(self, action: RemoveVM) -> Iterator[Violation]:
        if any(g.alive for g in self.observed.guests.get(action.vm, ())):
            yield Violation(8, action.vm, "removed while its guest lives")
        claimed = self.desired is not None and any(
            spec.moved_from == action.vm for spec in self.desired.vms.values()
        )
        if self.desired is None or action.vm in self.desired.vms or claimed:
            yield Violation(7, action.vm, "removed though it is not known to be unwanted")

    def _begun_empty(self) -> Iterator[Violation]:
        """Violations if a renamed VM would start without the volumes of its former name."""
        for action in self.plan.actions:
            if not isinstance(action, CreateGeneration) or action.generation.number != 1:
                continue
            old, known = action.generation.spec.moved_from, self.record.vms.get(action.vm)
            former = self.record.vms.get(old) if old is not None else None
            fresh = known is None or not known.generations
            if fresh and old is not None and (former is None or former.generations):
                yield Violation(7, action.vm, f"created empty though it was {old} before")

    def _move(self, action: MoveVM) -> Iterator[Violation]:
        for name in (action.vm, action.to):
            if any(g.alive for g in self.observed.guests.get(name, ())):
                yield Violation(1, name, "its folder is moved while a guest lives")
        if (taken := self.record.vms.get(action.to)) is not None and taken.generations:
            yield Violation(8, action.to, "its place is given to another VM")
        record = self.after.get(action.vm) or self.record.vms.get(action.vm)
        if record is None or record.moving != action.to:
            yield Violation(4, action.vm, "a move without its durable intent")

    def _wanted(self, key: str) -> bool:
        return self.desired is None or any(
            key == spec.kernel.key or any(key == layer.key for layer in spec.layers)
            for spec in self.desired.vms.values()
        )

    def _images_gone(self, action: CancelBuild | Collect) -> Iterator[Violation]:
        if isinstance(action, Collect):
            yield from self._collect(action)
        elif self._wanted(action.key):
            yield Violation(13, action.title, "a build that is wanted is cancelled")

    def _collect(self, action: Collect) -> Iterator[Violation]:
        for vm, record in {**self.record.vms, **self.after}.items():
            for generation in record.generations:
                keys = self.observed.with_parts(generation.spec.image_keys)
                if not keys <= action.pinned and self._needed(record, generation):
                    yield Violation(8, vm, f"generation {generation.number} is not pinned")

    def _drop_taps(self, action: DropTaps) -> Iterator[Violation]:
        starts = [a.machine.taps for a in self.plan.actions if isinstance(a, StartGuest)]
        used = {tap.name for taps in starts for tap in taps}
        for vm, guests in self.observed.guests.items():
            record = self.after.get(vm) or self.record.vms.get(vm)
            for guest in (guest for guest in guests if guest.alive):
                generation = record.generation(guest.generation) if record else None
                used |= {tap.name for tap in generation.spec.taps} if generation else set()
                if generation is None and vm == action.vm:
                    yield Violation(8, vm, "a tap is taken from a guest of which nothing is known")
        if used & set(action.names):
            yield Violation(8, action.vm, "a tap is taken from a guest that lives or is started")

    def _needed(self, record: VMRecord, generation: Generation) -> bool:
        running = {g.generation for g in self.observed.guests.get(record.name, ()) if g.alive}
        return (
            generation.verdict == "trial"
            or generation is record.last_good
            or generation.number in running
        )
