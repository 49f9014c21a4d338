"""Handover: a second guest boots beside the one that serves, and takes its ports once it may be committed.

create --> beside --> its own ports --> on trial --> the front leads to it --> committed, the old one stopped
                         |  exited, checks failed, deadline, overtaken
                         v
                      stopped: it never served

A restart, and a way back to a committed generation, go the same way. What fails then is the try, and not the
generation, which was proven before: it stays committed, and whoever serves serves on.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import VMSpec
from reconciler.model.machine import Led, Route, Seat, guest_folder
from reconciler.model.names import VMName
from reconciler.model.observed import Guest
from reconciler.model.plan import HandOver, OpenPorts, StartBeside
from reconciler.model.policy import BY_THE_FRONT
from reconciler.model.record import Candidate, Generation, Start, Stop, VMRecord
from reconciler.planning.context import Draft, Standing, count_restart
from reconciler.planning.machine import instance_id, machine_of, vm_folder
from reconciler.planning.preflight.preflight import LOOK_AGAIN, claim_memory, preflight, ready
from reconciler.planning.rollout.gates import at_stake
from reconciler.planning.rollout.targets import Target
from reconciler.planning.steps.actions import behind_front, create, free_slot, in_trouble, stop
from reconciler.planning.verdicts.verdicts import commit

MOST_DRAIN = 10.0
"""Seconds that requests of the old guest have to end; a client that keeps its connection loses it then."""
TRIES = 3
"""Failed attempts to take the ports of its manifest from a guest that has them itself; then it is stopped."""


def absorb_handovers(draft: Draft) -> None:
    """What became of ports that were opened or led elsewhere."""
    for outcome in draft.observed.outcomes:
        standing = draft.standings.get(VMName(outcome.subject))
        if standing is None or outcome.error is not None:
            continue
        if outcome.kind == "open-ports":
            _opened(standing, outcome.routes)
        elif outcome.kind == "hand-over":
            _moved(draft, standing)


def _opened(standing: Standing, routes: tuple[Route, ...]) -> None:
    """A guest has ports of its own: the one that serves, if it was to get them, else its candidate."""
    record, start, candidate = standing.record, standing.record.start, standing.record.candidate
    if start is not None and record.taking == start.instance and start.routes is None:
        standing.record = replace(record, start=replace(start, routes=routes), taking=None)
    elif candidate is not None and candidate.routes is None:
        standing.record = replace(record, candidate=replace(candidate, routes=routes))


def _moved(draft: Draft, standing: Standing) -> None:
    """New connections come to the candidate, which is committed with that."""
    record, guest, candidate = standing.record, standing.candidate, standing.record.candidate
    if candidate is None or record.taking != candidate.instance:
        return
    generation = record.generation(candidate.generation)
    if guest is None or generation is None:
        return  # it died in that moment: whoever served gets the ports back
    old = standing.guest
    standing.record = replace(
        record,
        start=Start(
            candidate.instance, candidate.generation, "trial", candidate.deadline, candidate.routes,
            candidate.announces, candidate.said, candidate.passed,
        ),
        candidate=None, taking=None, restart=None,
        stop=Stop(old.instance, "handed-over") if old is not None else None,
    )  # fmt: skip
    draft.seat(standing)
    draft.clear_trouble(f"candidate/{standing.name}")
    if generation.verdict == "trial":
        commit(draft, standing, generation)
    before = f" from generation {old.generation}" if old is not None else ""
    if old is not None and old.generation == generation.number:
        before = " from its former guest"
    draft.event(
        "handed-over", f"{standing.name}: generation {generation.number} took over{before}",
        standing, generation=generation.number,
    )  # fmt: skip


def applies(standing: Standing, spec: VMSpec) -> bool:
    """Whether this spec replaces what runs by a handover: a guest that is down has nothing to hand over."""
    return spec.handed_over and standing.guest is not None and not standing.down


def begin(draft: Draft, standing: Standing, target: Target, spec: VMSpec) -> bool:
    """The next step towards a candidate. False: there is no room, and a restart is allowed instead."""
    made = target.generation
    proven = made is not None and made.verdict == "committed"
    back = proven and made is not None and made.number != standing.running
    if back and in_trouble(draft, standing, "candidate"):
        return True
    if spec.memory_mib > draft.memory_left and spec.update.short_of_memory == "restart":
        return False
    if not preflight(draft, standing, spec, beside=True):
        return True
    if draft.observed.front_ails and behind_front(spec):
        # Whoever serves keeps its ports, and nothing is put beside it that could not take them over.
        draft.wait("port", standing.name, draft.observed.front_ails)
        draft.wake_at(draft.now.boot + LOOK_AGAIN)
        return True
    if (asked := _behind_the_front(draft, standing)) is not None:
        return asked
    claim_memory(draft, standing, spec, beside=True)
    if not proven and standing.record.last_good is not None:
        at_stake(draft).add(standing.name)
    if made is None:
        create(draft, standing, spec)
    elif not any(in_trouble(draft, standing, kind) for kind in ("create", "start-beside")):
        _start_beside(draft, standing, made)
    return True


def replace_anew(draft: Draft, standing: Standing, generation: Generation) -> bool:
    """A restart that a person asked for, by a second guest of what runs. False: it takes a stop."""
    if not applies(standing, generation.spec):
        return False
    if standing.candidate is not None or not ready(draft, standing, generation.spec):
        return True  # another one's trial comes first, and may spare the restart
    return begin(draft, standing, Target(generation), generation.spec)


def succeed(draft: Draft, standing: Standing) -> None:
    """Who served is gone: a candidate of a proven generation is in its place at once, as a start of it would be."""
    record, candidate = standing.record, standing.record.candidate
    if standing.guest is not None or standing.candidate is None or candidate is None:
        return
    generation = record.generation(candidate.generation)
    held = record.rollback is not None or record.quarantine is not None or record.removing
    if standing.busy or standing.leaving is not None or held:
        return
    if generation is None or generation.verdict != "committed":
        return
    number, routes = generation.number, candidate.routes
    begun = Start(
        candidate.instance, number, "restart", candidate.deadline, routes,
        candidate.announces, candidate.said, candidate.passed,
    )  # fmt: skip
    taking = candidate.instance if routes is None else None
    standing.record = replace(record, start=begun, candidate=None, taking=taking, restart=None)
    draft.seat(standing)
    words = (
        f"{standing.name}: the second guest of generation {number} serves, since the first ended"
    )
    draft.event("handed-over", words, standing, generation=number)


def _behind_the_front(draft: Draft, standing: Standing) -> bool | None:
    """Give the one that serves ports of its own first, if it has those of its manifest itself.

    None: it has. False: it does not answer, and can only be stopped to free them.
    """
    start, guest = standing.record.start, standing.guest
    running = standing.record.generation(guest.generation) if guest else None
    if start is None or guest is None or running is None or start.routes is not None:
        return None
    if not any(network.forwards for network in running.spec.networks):
        return None
    trouble = draft.trouble(f"open-ports/{standing.name}")
    if trouble is not None and trouble.attempts >= TRIES and trouble.title != BY_THE_FRONT:
        return False
    standing.record = replace(standing.record, taking=guest.instance)
    _open_ports(draft, standing, guest, running)
    return True


def _start_beside(draft: Draft, standing: Standing, generation: Generation) -> None:
    instance = instance_id(standing.name, generation, draft.now)
    deadline = draft.deadline(generation.spec.health.startup_deadline)
    routes = None if behind_front(generation.spec) else ()
    announces = generation.spec.kernel.key in draft.observed.announcing
    candidate = Candidate(instance, generation.number, deadline, routes, announces)
    beside = replace(standing.record, candidate=candidate)
    standing.record = _counted(beside, generation, draft.now.wall)
    machine = machine_of(
        generation,
        instance,
        draft.observed.host,
        draft.policy.state_dir,
        free_slot(draft, standing),
    )
    what = "trial" if generation.verdict == "trial" else "a new guest"
    why = f"generation {generation.number}: {what} beside generation {standing.running}"
    draft.do(standing, StartBeside(standing.name, machine, why))
    draft.event("guest-starting", f"{standing.name}: {why}", standing, generation=generation.number)


def _counted(record: VMRecord, generation: Generation, wall: float) -> VMRecord:
    if generation.verdict == "trial":
        return count_restart(record, "rollout", wall)
    again = record.start is not None and record.start.generation == generation.number
    return count_restart(record, "manual", wall) if again else record


def finish(draft: Draft, standing: Standing) -> bool:
    """Carry on with ports that somebody is being given, whatever else is so; whether that is all."""
    record, guest, candidate = standing.record, standing.guest, standing.candidate
    if record.taking is None or (guest is not None and standing.stopping):
        return False
    if candidate is not None and record.taking == candidate.instance and _wanted(standing):
        _hand_over(draft, standing)
        return True
    running = record.generation(guest.generation) if guest is not None else None
    if guest is not None and running is not None and _without_ports(record, guest):
        return _open_ports(draft, standing, guest, running)
    standing.record = replace(record, taking=None)
    return False


def _without_ports(record: VMRecord, guest: Guest) -> bool:
    """Whether the guest that serves is being given ports of its own."""
    start = record.start
    meant = start is not None and start.instance == guest.instance == record.taking
    return meant and start is not None and start.routes is None


def _wanted(standing: Standing) -> bool:
    candidate = standing.record.candidate
    generation = standing.record.generation(candidate.generation) if candidate else None
    return generation is not None and generation.verdict != "condemned"


def tend(draft: Draft, standing: Standing, target: Target) -> bool:
    """See to the guests beside the one that serves; whether that is all for this pass."""
    if standing.leaving is not None:
        _see_off(draft, standing, standing.leaving)
        return True
    if standing.unknown is not None:
        process = standing.unknown.process
        why = f"process {process.pid} runs as a second guest of it, and nothing is known of that"
        draft.wait("conflict", standing.name, why)
        return True
    guest, candidate = standing.candidate, standing.record.candidate
    if guest is None or candidate is None:
        return False
    if standing.guest is not None and standing.stopping:
        return False
    if target.generation is None or not _sought(draft, standing, target.generation):
        if draft.desired is None:
            return False  # nobody knows what is wanted: everything stays as it is
        _dismiss(draft, standing, guest, target)
        return True
    if candidate.routes is None:
        return _open_ports(draft, standing, guest, target.generation)
    if standing.ready:
        _hand_over(draft, standing)
        return True
    return False


def _sought(draft: Draft, standing: Standing, wanted: Generation) -> bool:
    """Whether its candidate is still what should serve next."""
    record, guest, candidate = standing.record, standing.guest, standing.record.candidate
    if candidate is None or candidate.generation != wanted.number:
        return False
    if wanted.verdict == "trial":
        return True
    if guest is not None and guest.generation == wanted.number:
        return record.restart == guest.instance
    trouble = draft.trouble(f"candidate/{standing.name}")
    return trouble is None or trouble.retry.passed(draft.now)


def _see_off(draft: Draft, standing: Standing, guest: Guest) -> None:
    told = standing.record.stop
    if told is None:
        return
    why = f"generation {standing.running} took over" if told.cause == "handed-over" else told.cause
    stop(draft, standing, told.cause, f"carrying on: {why}", guest)


def _dismiss(draft: Draft, standing: Standing, guest: Guest, target: Target) -> None:
    """The candidate is not wanted any more; whoever serves is not concerned."""
    generation = standing.record.generation(guest.generation)
    if generation is not None and generation.verdict == "condemned":
        stop(draft, standing, "condemned", generation.reason, guest)
    else:
        stop(draft, standing, "overtaken", target.why or "it is not wanted any more", guest)


def _open_ports(draft: Draft, standing: Standing, guest: Guest, generation: Generation) -> bool:
    """Nothing else is tried before; where it failed lately, all else goes on meanwhile."""
    if in_trouble(draft, standing, "open-ports"):
        return False
    folder = guest_folder(vm_folder(draft.policy.state_dir, guest.process.vm), guest.process.slot)
    seat = Seat(
        guest.instance, generation.number, folder, generation.spec.networks, guest.process.pid
    )
    why = f"generation {generation.number} gets ports of its own"
    draft.do(standing, OpenPorts(standing.name, seat, why))
    return True


def _hand_over(draft: Draft, standing: Standing) -> None:
    """Lead the ports to the candidate."""
    record, candidate, old = standing.record, standing.record.candidate, standing.guest
    generation = record.generation(candidate.generation) if candidate else None
    if candidate is None or candidate.routes is None or generation is None:
        return
    if in_trouble(draft, standing, "hand-over"):
        return
    standing.record = replace(record, taking=candidate.instance)
    running = record.generation(old.generation) if old is not None else None
    drain = min(MOST_DRAIN, running.spec.update.stop_timeout) if running is not None else 0.0
    led = Led(candidate.instance, candidate.routes)
    giver = old.instance if old is not None else None
    why = f"generation {candidate.generation} takes over, healthy for its minHealthyTime"
    slot = standing.candidate.process.slot if standing.candidate is not None else 1
    machine = machine_of(
        generation, candidate.instance, draft.observed.host, draft.policy.state_dir, slot
    )
    draft.do(standing, HandOver(standing.name, machine, led, giver, drain, why))
