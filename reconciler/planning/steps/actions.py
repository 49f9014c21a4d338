"""The single steps of a VM, each with what must be remembered of it: create, start, stop."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import VMSpec
from reconciler.model.machine import Slot
from reconciler.model.observed import Guest
from reconciler.model.plan import CreateGeneration, StartGuest, StopGuest, StopLadder
from reconciler.model.record import (
    Generation,
    Start,
    StartPurpose,
    Stop,
    StopCause,
    VMRecord,
)
from reconciler.planning.context import Draft, Standing, count_restart
from reconciler.planning.machine import instance_id, machine_of, volume_sizes
from reconciler.planning.preflight.preflight import claim_memory, preflight
from reconciler.planning.preflight.snapshots import prepare_volumes
from reconciler.planning.verdicts.crash_loop import crashes_in_words

MAKES_WAY: frozenset[StopCause] = frozenset(("update", "overtaken", "handed-over", "removed"))


def create(draft: Draft, standing: Standing, spec: VMSpec) -> None:
    record = standing.record
    generation = Generation(
        vm=standing.name,
        number=record.next_number,
        digest=spec.digest,
        revision=draft.origin(standing) or record.generations[-1].revision,
        spec=spec,
        created_wall=draft.now.wall,
    )
    standing.record = record.with_generation(generation)
    draft.clear_trouble(f"snapshot/{standing.name}")
    draft.clear_trouble(f"trial/{standing.name}")
    why = write(draft, standing, generation)
    draft.event(
        "generation-created", f"{standing.name}: {why}", standing, generation=generation.number
    )


def write(draft: Draft, standing: Standing, generation: Generation) -> str:
    """Write a generation's folder; returns why, in words."""
    machine = machine_of(
        generation, instance_id(standing.name, generation, draft.now), draft.observed.host,
        draft.policy.state_dir,
    )  # fmt: skip
    earlier = standing.record.proven(generation.digest)
    as_before = f", as generation {earlier.number} was" if earlier is not None else ""
    why = f"generation {generation.number} of revision {generation.revision[:8]}{as_before}"
    sizes = volume_sizes(generation, draft.policy.state_dir)
    draft.do(standing, CreateGeneration(standing.name, generation, machine, why, sizes))
    return why


def start(draft: Draft, standing: Standing, generation: Generation) -> None:
    record, now = standing.record, draft.now
    backoff = record.backoff
    committed = generation.verdict == "committed" and record.rollback is None
    if committed and (over := _finished(draft, record, generation)):
        draft.wait("ended", standing.name, over)
        return
    if committed and backoff is not None and not backoff.until.passed(now):
        why = f"{crashes_in_words(backoff, now)}, again soon: {backoff.reason}"
        draft.wait("backoff", standing.name, why, backoff.until.boot)
        return
    if any(in_trouble(draft, standing, kind) for kind in ("create", "start", "restore")):
        return
    if not preflight(draft, standing, generation.spec, repair=generation.verdict == "committed"):
        return
    purpose = _purpose(standing, generation)
    if not prepare_volumes(draft, standing, generation, purpose):
        return
    record = standing.record
    claim_memory(draft, standing, generation.spec)
    instance = instance_id(standing.name, generation, now)
    deadline = draft.deadline(generation.spec.health.startup_deadline)
    announces = generation.spec.kernel.key in draft.observed.announcing
    begun = Start(instance, generation.number, purpose, deadline, announces=announces)
    taking = instance if behind_front(generation.spec) else None
    record = replace(record, start=begun, taking=taking, stop=None, restart=None, finished=None)
    if purpose == "trial" and record.last_good is not None:
        record = count_restart(record, "rollout", draft.now.wall)
    standing.record = record
    machine = machine_of(
        generation,
        instance,
        draft.observed.host,
        draft.policy.state_dir,
        free_slot(draft, standing),
    )
    why = f"generation {generation.number}: {purpose}"
    sizes = volume_sizes(generation, draft.policy.state_dir)
    good = record.last_good
    kept = frozenset(volume_sizes(good, draft.policy.state_dir) if good is not None else ())
    draft.do(standing, StartGuest(standing.name, machine, sizes, why, kept & sizes.keys()))
    draft.event("guest-starting", f"{standing.name}: {why}", standing, generation=generation.number)


def _finished(draft: Draft, record: VMRecord, generation: Generation) -> str:
    """Why it is not started again, in words; empty: nothing is in the way."""
    finished, policy = record.finished, generation.spec.restart.policy
    if finished is None or finished.generation != generation.number or policy == "always":
        return ""
    if finished.boot_id != draft.now.boot_id:
        return ""
    return f"{finished.why}; restart.policy is {policy}"


def behind_front(spec: VMSpec) -> bool:
    """Whether its guest is to get ports of its own, to which the front leads."""
    return spec.handed_over and any(network.forwards for network in spec.networks)


def _purpose(standing: Standing, generation: Generation) -> StartPurpose:
    rollback = standing.record.rollback
    if rollback is not None and rollback.target == generation.number:
        return "rollback"
    return "trial" if generation.verdict == "trial" else "restart"


def free_slot(draft: Draft, standing: Standing) -> Slot:
    """Where no guest of the VM lives."""
    guests = draft.observed.guests.get(standing.name, ())
    return 2 if any(g.alive and g.process.slot == 1 for g in guests) else 1


def stop(
    draft: Draft, standing: Standing, cause: StopCause, why: str, guest: Guest | None = None
) -> None:
    """Stop the guest that serves, or another one of the VM."""
    guest = guest or standing.guest
    if guest is None or in_trouble(draft, standing, "stop"):
        return
    generation = standing.record.generation(guest.generation)
    timeout = generation.spec.update.stop_timeout if generation else 60.0
    record = replace(standing.record, stop=Stop(guest.instance, cause))
    if guest is standing.guest:
        record = replace(record, restart=None)
    if cause == "requested":
        record = count_restart(record, "manual", draft.now.wall)
    standing.record = record
    ladder = StopLadder(timeout)
    action = StopGuest(standing.name, guest.instance, ladder, why, guest.process.slot)
    draft.do(standing, action)
    draft.event(
        "guest-stopping", f"{standing.name}: generation {guest.generation}: {why}", standing,
        generation=guest.generation,
        # A guest that makes way does so for what is desired now; else it goes for its own sake.
        revision=draft.origin(standing) if cause in MAKES_WAY else None,
    )  # fmt: skip


def in_trouble(draft: Draft, standing: Standing, kind: str) -> bool:
    """An operation of ours failed lately; it is tried again after a pause."""
    trouble = draft.trouble(f"{kind}/{standing.name}")
    if trouble is not None and trouble.definitive:
        times = f"{trouble.attempts} times" if trouble.attempts > 1 else "once"
        why = f"{trouble.title} failed {times}: {trouble.error}; mend it and `retry`"
        draft.wait("broken", standing.name, why)
        return True
    if (pausing := draft.pausing(f"{kind}/{standing.name}")) is None:
        return False
    draft.wait(
        "build",
        standing.name,
        f"{pausing.title} failed, again soon: {pausing.error}",
        pausing.retry.boot,
    )
    return True
