"""The decision: from what is wanted, found and remembered to what is done now.

`plan` is pure: no I/O, no clock, no logging, and the order of its inputs does not matter. It runs
in five strokes, each a file of this folder: take in what ended (`absorb`), judge who lives
(`verdicts`), choose where each VM should go (`targets`), ask whether it may move (`rollout`,
`preflight`), and see to images and removals (`images`, `prune`).
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import DesiredState
from reconciler.model.machine import Route
from reconciler.model.names import VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import (
    Note,
    Plan,
)
from reconciler.model.policy import Policy
from reconciler.model.record import Generation, Record
from reconciler.now import Now
from reconciler.planning.context import Draft, Standing
from reconciler.planning.health import probe_plan
from reconciler.planning.intake.deadlines import restart_what_ran_out
from reconciler.planning.intake.isolation import excused
from reconciler.planning.intake.milestones import is_remembered, remember
from reconciler.planning.intake.outcomes import absorb_exits, absorb_growth, absorb_outcomes
from reconciler.planning.preflight.images import Needs, cancel, collect
from reconciler.planning.preflight.preflight import (
    images_ready,
)
from reconciler.planning.preflight.snapshots import absorb_volumes
from reconciler.planning.results.revision import record_results
from reconciler.planning.rollout.budget import Budget, in_order
from reconciler.planning.rollout.bursts import note_wanted
from reconciler.planning.rollout.suspension import end_expired, scopes, suspended
from reconciler.planning.rollout.targets import (
    lift_outdated,
    take_in_place,
)
from reconciler.planning.steps import check_trial as checktrial
from reconciler.planning.steps.adoption import adopt
from reconciler.planning.steps.handover import absorb_handovers, finish, succeed
from reconciler.planning.steps.prune import mark_removals, remove
from reconciler.planning.steps.rename import carry_on, successors, take_over, taking_over, unfounded
from reconciler.planning.steps.retention import forget
from reconciler.planning.steps.routing import as_wanted, lead, let_go
from reconciler.planning.steps.taps import see_to
from reconciler.planning.steps.vm import move_one
from reconciler.planning.verdicts import readiness
from reconciler.planning.verdicts.holds import lift_holds, sent_back
from reconciler.planning.verdicts.progress_deadline import watch_progress
from reconciler.planning.verdicts.verdicts import judge_candidate, judge_guest


def plan(
    desired: DesiredState | None, observed: Observed, record: Record, now: Now, policy: Policy
) -> Plan:
    """What to do in this pass, what not and why, and when to look again.

    `desired` is None while no revision was ever valid: then everything stays as it is, and what
    crashes is started again.
    """
    draft = Draft(desired, excused(observed, record, now), record, now, policy)
    draft.memory_left = observed.host.memory_available_mib - policy.memory_reserve_mib
    _stand(draft)
    draft.suspended = record.suspended
    draft.sent_back = sent_back(record)
    end_expired(draft)
    restart_what_ran_out(draft)
    absorb_outcomes(draft)
    absorb_growth(draft)
    absorb_volumes(draft)
    absorb_handovers(draft)
    unsettled = [s for s in draft.standings.values() if not _settled(draft, s)]
    for standing in unsettled:
        _judge(draft, standing)
    mark_removals(draft)
    lift_holds(draft)
    _move(draft, {s.name for s in unsettled})
    see_to(draft)
    _watch(draft)
    watch_progress(draft)
    _applied(draft)
    record_results(draft)
    cancel(draft)
    collect(draft)
    forget(draft)
    return draft.finish()


def _judge(draft: Draft, standing: Standing) -> None:
    """What became of its guests, what is remembered of that, and what follows for their generations."""
    adopt(draft, standing)
    absorb_exits(draft, standing)
    succeed(draft, standing)
    remember(draft, standing)
    note_wanted(draft, standing)
    lift_outdated(draft, standing)
    take_in_place(draft, standing)
    paused = any(scopes(draft, standing))
    judge_guest(draft, standing, paused=paused)
    judge_candidate(draft, standing, paused=paused)
    checktrial.follow(draft, standing, paused=paused)
    readiness.follow(draft, standing)


def _stand(draft: Draft) -> None:
    """Every VM that is wanted, remembered or alive; one that is renamed once, not twice."""
    desired, record = draft.desired, draft.record
    specs = desired.vms if desired is not None else {}
    renamed = successors(desired, record)
    draft.unfounded = unfounded(desired, record, renamed)
    taken_over = take_over(draft, renamed)
    names = record.vms.keys() | specs.keys() | draft.observed.guests.keys()
    for name in sorted(map(VMName, names | taken_over.keys())):
        new = renamed.get(name)
        if name in taken_over:
            standing = draft.stand(name, specs.get(name), taken_over[name])
            former = standing.record.formerly
            words = f"{former} goes on as {name}, with its generations and volumes"
            draft.event("vm-renamed", words, standing)
        elif new is not None and new in taken_over:
            continue
        elif new is not None and new in specs and name not in specs:
            draft.stand(name, replace(specs[new], name=name)).successor = new
            draft.forerunners[new] = name
            draft.wait("rename", new, taking_over(name, record))
        elif name not in renamed.values():
            draft.stand(name, specs.get(name))


def _settled(draft: Draft, standing: Standing) -> bool:
    """The quick way out for a VM that serves what is wanted and of which nothing is pending."""
    record, spec = standing.record, standing.spec
    good = record.last_good
    return (
        spec is not None
        and good is not None
        and standing.name not in draft.sent_back
        and (good.spec is spec or good.spec == spec)
        and standing.synced
        and len(draft.observed.guests.get(standing.name, ())) == 1
        and record.start is not None
        and standing.guest is not None
        and record.start.instance == standing.guest.instance
        and record.pin is None
        and record.quarantine is None
        and record.backoff is None
        and record.restart is None
        and record.candidate is None
        and record.check_trial is None
        and all(block.withdrawn for block in record.blocked_checks)
        and record.taking is None
        and record.suspended is None
        and not record.removing
        and record.group == spec.group
        and is_remembered(draft, standing)
        and record.unready is None
        and as_wanted(draft, standing)
        and images_ready(draft, spec)
    )


def _move(draft: Draft, unsettled: set[VMName]) -> None:
    budget, needs = Budget(draft), Needs(draft)
    for standing in in_order(draft):
        if standing.name not in unsettled:
            continue
        if standing.busy:
            operation = draft.observed.busy[standing.name]
            draft.wait("busy", standing.name, f"{operation.kind} in progress")
        elif finish(draft, standing) or lead(draft, standing):
            pass  # ports wait for nothing, a suspension neither
        elif standing.record.moving is not None:
            carry_on(draft, standing)
        elif standing.record.removing:
            remove(draft, standing)
        elif not suspended(draft, standing):
            move_one(draft, standing, budget, needs)
    let_go(draft)
    needs.build()


def _watch(draft: Draft) -> None:
    """Every living guest is asked, for life."""
    for standing in draft.standings.values():
        _watch_candidate(draft, standing)
        guest = standing.guest
        if guest is None:
            continue
        generation = standing.record.generation(guest.generation)
        if generation is None or _unreachable(draft, standing, guest):
            continue
        soaking = generation.verdict == "trial" or standing.record.rollback is not None
        start = standing.record.start
        routes = start.routes if start is not None and start.instance == guest.instance else None
        _ask(draft, guest, generation, routes or (), soaking=soaking)
        checktrial.ask(draft, standing, routes or ())


def _unreachable(draft: Draft, standing: Standing, guest: Guest) -> bool:
    """Whether its ports are about to be opened, and it was never asked: it could not be meant."""
    waits = standing.record.taking == guest.instance and not guest.health.rounds
    return waits and draft.trouble(f"open-ports/{standing.name}") is None


def _watch_candidate(draft: Draft, standing: Standing) -> None:
    guest, candidate = standing.candidate, standing.record.candidate
    if guest is None or candidate is None or candidate.routes is None:
        return
    generation = standing.record.generation(candidate.generation)
    if generation is not None:
        _ask(draft, guest, generation, candidate.routes, soaking=True)


def _ask(
    draft: Draft, guest: Guest, generation: Generation, routes: tuple[Route, ...], *, soaking: bool
) -> None:
    """Through ports of its own, if it has any: that the front is away is no guest's illness."""
    question = probe_plan(
        guest, generation.spec.health, routes, generation.spec.taps, soaking=soaking
    )
    if question is not None:
        draft.probes[guest.instance] = question


def _applied(draft: Draft) -> None:
    """The revision is applied when every VM serves what it says."""
    desired, source = draft.desired, draft.record.source
    if desired is None or source.applied == desired.revision:
        return
    if all(_is_applied(s) and not s.acted for s in draft.standings.values() if s.spec is not None):
        draft.source = replace(source, applied=desired.revision)
        draft.actions.append(Note("applied", desired.revision[:8], "every VM serves it"))
        draft.event("revision-applied", f"revision {desired.revision[:8]} is applied")


def _is_applied(standing: Standing) -> bool:
    """It serves what is desired, or did so to its own end."""
    finished, good, spec = standing.record.finished, standing.record.last_good, standing.spec
    ended = finished is not None and good is not None and finished.generation == good.number
    return standing.synced or (
        ended and standing.guest is None and spec is not None and good is not None
        and good.digest == spec.digest
    )  # fmt: skip
