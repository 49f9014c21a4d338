"""Handover: a second guest boots beside the one that serves, and takes its ports once it may be committed.

create --> beside --> its own ports --> on trial --> forwards moved --> committed, the old one stopped
                         |  exited, checks failed, deadline, overtaken
                         v
                      stopped: it never served
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import VMSpec
from reconciler.model.health import ProcessCheck
from reconciler.model.machine import Seat, UserNetwork, guest_folder
from reconciler.model.names import VMName
from reconciler.model.observed import Guest
from reconciler.model.plan import HandOver, OpenPorts, StartBeside
from reconciler.model.record import Candidate, Generation, Start, Stop
from reconciler.planning.draft import Draft, Standing, count_restart
from reconciler.planning.gates import at_stake
from reconciler.planning.machines import instance_id, machine_of, vm_folder
from reconciler.planning.preflight import claim_memory, preflight
from reconciler.planning.rollout import Budget
from reconciler.planning.steps import create, free_slot, in_trouble, stop
from reconciler.planning.targets import Target
from reconciler.planning.verdicts import commit

MOST_DRAIN = 10.0
"""Seconds that requests of the old guest have to end; a client that keeps its connection loses it then."""
TRIES = 3
"""Failed attempts to move the forwards, after which the old guest is stopped to free them."""


def absorb_handovers(draft: Draft) -> None:
    """What became of ports that were opened or moved."""
    for outcome in draft.observed.outcomes:
        standing = draft.standings.get(VMName(outcome.subject))
        if standing is None or outcome.error is not None:
            continue
        candidate = standing.record.candidate
        if outcome.kind == "open-ports" and candidate is not None:
            opened = replace(candidate, ports=outcome.ports)
            standing.record = replace(standing.record, candidate=opened)
        elif outcome.kind == "hand-over":
            _moved(draft, standing)


def _moved(draft: Draft, standing: Standing) -> None:
    """The forwards lead to whom they were meant for; a candidate is committed with that."""
    record, guest, candidate = standing.record, standing.candidate, standing.record.candidate
    if candidate is None or record.taking != candidate.instance:
        standing.record = replace(record, taking=None)
        return
    generation = record.generation(candidate.generation)
    if guest is None or generation is None:
        return  # it died in that moment: `finish` takes them back
    old = standing.guest
    standing.record = replace(
        record,
        start=Start(candidate.instance, candidate.generation, "trial", candidate.deadline),
        candidate=None, taking=None, restart=None,
        stop=Stop(old.instance, "handed-over") if old is not None else None,
    )  # fmt: skip
    draft.seat(standing)
    commit(draft, standing, generation)
    before = f" from generation {old.generation}" if old is not None else ""
    draft.event(
        "handed-over", f"{standing.name}: generation {generation.number} took over{before}",
        standing, generation=generation.number,
    )  # fmt: skip


def applies(standing: Standing, spec: VMSpec) -> bool:
    """Whether this spec replaces what runs by a handover: a guest that is down has nothing to hand over."""
    wanted = spec.update.strategy == "handover" and not spec.volumes
    return wanted and standing.guest is not None and not standing.down


def begin(draft: Draft, standing: Standing, target: Target, spec: VMSpec) -> bool:
    """The next step towards a candidate. False: there is no room, and a restart is allowed instead."""
    if spec.memory_mib > draft.memory_left and spec.update.short_of_memory == "restart":
        return False
    if not preflight(draft, standing, spec, beside=True):
        return True
    claim_memory(draft, standing, spec, beside=True)
    if standing.record.last_good is not None:
        at_stake(draft).add(standing.name)
    if target.generation is None:
        create(draft, standing, spec)
    elif not any(in_trouble(draft, standing, kind) for kind in ("create", "start-beside")):
        _start_beside(draft, standing, target.generation)
    return True


def _start_beside(draft: Draft, standing: Standing, generation: Generation) -> None:
    instance = instance_id(standing.name, generation, draft.now)
    deadline = draft.deadline(generation.spec.health.startup_deadline)
    ports = None if _asked(generation.spec) else ()
    candidate = Candidate(instance, generation.number, deadline, ports)
    standing.record = count_restart(replace(standing.record, candidate=candidate), "rollout")
    machine = machine_of(
        generation,
        instance,
        draft.observed.host,
        draft.policy.state_dir,
        free_slot(draft, standing),
    )
    why = f"generation {generation.number}: trial beside generation {standing.running}"
    draft.do(standing, StartBeside(standing.name, machine, why))
    draft.event("guest-starting", f"{standing.name}: {why}", standing, generation=generation.number)


def finish(draft: Draft, standing: Standing, budget: Budget) -> bool:
    """Carry on with forwards that may be half moved, whatever else is so; whether there were any."""
    record, candidate = standing.record, standing.candidate
    if record.taking is None or (standing.guest is not None and standing.stopping):
        return False
    if candidate is not None and record.taking == candidate.instance and _wanted(standing):
        hand_over(draft, standing, budget)
    elif standing.guest is not None:
        _take_back(draft, standing)
    else:
        standing.record = replace(record, taking=None)
    return True


def _wanted(standing: Standing) -> bool:
    candidate = standing.record.candidate
    generation = standing.record.generation(candidate.generation) if candidate else None
    return generation is not None and generation.verdict == "trial"


def tend(draft: Draft, standing: Standing, target: Target, budget: Budget) -> bool:
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
    wanted = target.generation is not None and target.generation.number == candidate.generation
    if draft.desired is None:
        return False  # nobody knows what is wanted: everything stays as it is
    if target.generation is None or not wanted:
        _dismiss(draft, standing, guest, target)
        return True
    if candidate.ports is None:
        return _open_ports(draft, standing, guest, target.generation)
    if standing.ready:
        return hand_over(draft, standing, budget)
    return False


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
        stop(draft, standing, "overtaken", target.why or "something newer is wanted", guest)


def _open_ports(draft: Draft, standing: Standing, guest: Guest, generation: Generation) -> bool:
    """Nothing else is tried before it can be asked; the one that serves is seen to meanwhile."""
    if in_trouble(draft, standing, "open-ports"):
        return False
    seat = replace(_seat(draft, guest, generation), networks=_asked(generation.spec))
    why = f"generation {generation.number} gets ports of its own for its trial"
    draft.do(standing, OpenPorts(standing.name, seat, why))
    return True


def hand_over(draft: Draft, standing: Standing, budget: Budget) -> bool:
    """Move the forwards to the candidate; whether something was decided."""
    record, guest, old = standing.record, standing.candidate, standing.guest
    generation = record.generation(guest.generation) if guest else None
    if guest is None or generation is None:
        return False
    trouble = draft.trouble(f"hand-over/{standing.name}")
    if old is not None and trouble is not None and trouble.attempts >= TRIES:
        if budget.take(standing):
            why = f"its ports could not be moved {trouble.attempts} times: {trouble.error}"
            stop(draft, standing, "update", f"{why}; generation {generation.number} is ready")
            draft.clear_trouble(f"hand-over/{standing.name}")  # who held them is going
        return True
    if in_trouble(draft, standing, "hand-over"):
        return False
    standing.record = replace(record, taking=guest.instance)
    running = record.generation(old.generation) if old is not None else None
    giver = _seat(draft, old, running) if old is not None and running is not None else None
    drain = min(MOST_DRAIN, running.spec.update.stop_timeout) if running is not None else 0.0
    why = f"generation {generation.number} takes over, healthy for its minHealthyTime"
    taker = _seat(draft, guest, generation)
    draft.do(standing, HandOver(standing.name, giver, taker, drain, why))
    return True


def _take_back(draft: Draft, standing: Standing) -> None:
    """Whoever was to take over is gone or failed: the one that served gets its ports back."""
    guest = standing.guest
    running = standing.record.generation(guest.generation) if guest else None
    if guest is None or running is None or in_trouble(draft, standing, "hand-over"):
        return
    rival, seat = standing.candidate, None
    other = standing.record.generation(rival.generation) if rival is not None else None
    if rival is not None and other is not None:
        seat = _seat(draft, rival, other)
    standing.record = replace(standing.record, taking=guest.instance)
    why = f"generation {running.number} keeps its ports"
    draft.do(standing, HandOver(standing.name, seat, _seat(draft, guest, running), 0.0, why))


def _seat(draft: Draft, guest: Guest, generation: Generation) -> Seat:
    home = vm_folder(draft.policy.state_dir, guest.process.vm)
    folder = guest_folder(home, guest.process.slot)
    return Seat(guest.instance, generation.number, folder, generation.spec.networks)


def _asked(spec: VMSpec) -> tuple[UserNetwork, ...]:
    """The networks with only those forwards that the checks ask through; empty where none does."""
    ports = {check.port for check in spec.health.checks if not isinstance(check, ProcessCheck)}
    networks = tuple(
        replace(n, forwards=tuple(f for f in n.forwards if f.protocol == "tcp" and f.host in ports))
        for n in spec.networks
    )
    return networks if any(n.forwards for n in networks) else ()
