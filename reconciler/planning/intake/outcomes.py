"""Taking in what happened since the last pass: ended guests, ended operations, new boots."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from reconciler.model.names import InstanceId, Revision, VMName
from reconciler.model.observed import Exit, Guest, Outcome
from reconciler.model.plan import ForgetGuest, Note
from reconciler.model.policy import (
    BY_THE_FRONT,
    CRASH_BACKOFF,
    HANDOVER_BACKOFF,
    TROUBLE_BACKOFF,
    doubling,
)
from reconciler.model.record import (
    BuildTrouble,
    Evidence,
    Generation,
    Severity,
    VMRecord,
)
from reconciler.model.restarts import Finished
from reconciler.model.setbacks import Backoff
from reconciler.planning.context import Draft, Standing, count_restart
from reconciler.planning.intake.start_trouble import absorb_start, start_failed
from reconciler.planning.verdicts.verdicts import condemn, failed, quarantine

SNAPSHOT_TRIES = 3
OCCUPIED = "occupied"
_BUILDS = ("build-layer", "build-kernel")
_GROWING = ("create", "start")
"""Operations that may find that a volume cannot have its size: better the first than the second."""
_PROMPT = ("open-ports", "hand-over", "lead")
"""Operations of milliseconds, which somebody may be waiting for."""


def absorb_outcomes(draft: Draft) -> None:
    """A failed operation is remembered with a pause; a success clears what was remembered."""
    for outcome in draft.observed.outcomes:
        key = trouble_key(outcome)
        if outcome.error is None:
            draft.clear_trouble(key)
            if outcome.kind in ("start", "start-beside"):
                draft.clear_trouble(f"create/{outcome.subject}")  # a start makes the folder too
            elif outcome.kind in _BUILDS and outcome.detail:
                draft.event("image-differs", outcome.detail, severity="warning")
            continue
        standing = draft.standings.get(VMName(outcome.subject))
        if standing is not None and absorb_start(draft, standing, outcome):
            continue
        former = draft.trouble(key)
        attempts = (former.attempts if former else 0) + 1
        # Each try of a snapshot stops a guest that serves: a few are enough.
        costly = outcome.kind == "snapshot" and attempts >= SNAPSHOT_TRIES
        definitive = not outcome.transient or costly or _stays(draft, outcome)
        if outcome.error_kind == "disk-full" and attempts == 1:
            draft.disk_full = True
        backoff = HANDOVER_BACKOFF if outcome.kind in _PROMPT else TROUBLE_BACKOFF
        draft.troubles[key] = BuildTrouble(
            key=key,
            title=BY_THE_FRONT if outcome.error_kind == "front" else outcome.kind,
            attempts=attempts,
            error=outcome.error,
            definitive=definitive,
            retry=draft.deadline(doubling(backoff, attempts)),
        )
        draft.event(
            f"{outcome.kind}-failed", f"{outcome.kind} {outcome.subject[:12]}: {outcome.error}",
            standing,
            "error" if definitive else "warning",
            revision=_named_by(draft, outcome.subject) if outcome.kind in _BUILDS else None,
        )  # fmt: skip


def _named_by(draft: Draft, key: str) -> Revision | None:
    """The revision that an image is built for: that of the VMs that want it and have not proven it."""
    for standing in draft.standings.values():
        spec, good = standing.spec, standing.record.last_good
        if spec is None or key not in spec.image_keys:
            continue
        if good is None or key not in good.spec.image_keys:
            return draft.origin(standing)
    return None


def absorb_growth(draft: Draft) -> None:
    """A volume that cannot grow: its generation never ran, and the one before serves without that."""
    for outcome in draft.observed.outcomes:
        standing = draft.standings.get(VMName(outcome.subject))
        if outcome.kind not in _GROWING or outcome.error_kind != "growth" or standing is None:
            continue
        record = standing.record
        begun = record.generation(record.start.generation) if record.start else None
        if outcome.kind == "create":  # whoever serves serves on
            begun = record.generations[-1] if record.generations else None
        if begun is None or begun.verdict != "trial" or record.last_good is None:
            continue
        if outcome.kind == "start":
            standing.record = replace(record, start=None)
        draft.clear_trouble(trouble_key(outcome))
        condemn(draft, standing, begun, outcome.error or "", Evidence("volumes"))


def _stays(draft: Draft, outcome: Outcome) -> bool:
    """Whether a move was refused since its place is taken: nothing moved, and the VM goes on here."""
    standing = draft.standings.get(VMName(outcome.subject))
    if outcome.kind != "move" or outcome.error_kind != OCCUPIED or standing is None:
        return False
    standing.record = replace(standing.record, moving=None)
    return True


def trouble_key(outcome: Outcome) -> str:
    """Builds are remembered by what they build, operations by what they do to whom."""
    return outcome.subject if outcome.kind in _BUILDS else f"{outcome.kind}/{outcome.subject}"


def absorb_exits(draft: Draft, standing: Standing) -> None:
    """Ended guests get their place in the record, and may then be forgotten."""
    if standing.busy:
        return
    for guest in draft.observed.guests.get(standing.name, ()):
        if guest.alive:
            continue
        _absorb_exit(draft, standing, guest)
        draft.do(standing, ForgetGuest(standing.name, guest.instance, "its end is in the record"))
        standing.acted = False  # forgetting stands in nobody's way
    _absorb_vanished(standing)


def _absorb_exit(draft: Draft, standing: Standing, guest: Guest) -> None:
    record = standing.record
    if record.stop is not None and record.stop.instance == guest.instance:
        standing.record = _without(replace(record, stop=None), guest.instance)
        return
    if record.candidate is not None and record.candidate.instance == guest.instance:
        _candidate_ended(draft, standing, guest)
        return
    if record.start is None or record.start.instance != guest.instance:
        return
    if record.start.deadline.boot_id != draft.now.boot_id:
        return  # the host went down, not the guest: no verdict and no crash follows from that
    standing.record = replace(record, start=None, restart=None)
    generation = record.generation(guest.generation)
    if generation is None:
        return
    why = f"the guest ended: {guest.process.exit}"
    if _by_the_host(guest) and (generation.verdict == "trial" or not guest.health.ever_passed):
        start_failed(draft, standing, generation, str(guest.process.exit))
    elif generation.verdict == "trial":
        condemn(draft, standing, generation, why, _evidence(guest))
    elif record.rollback is not None:
        quarantine(draft, standing, f"rolling back failed: {why}")
    elif _stays_down(generation, record, guest):
        _finished(draft, standing, generation, why)
    else:
        crashed(draft, standing, why)


def _stays_down(generation: Generation, record: VMRecord, guest: Guest) -> bool:
    """Whether it is not to be started again, by its own policy."""
    end = guest.process.exit
    said = record.start.said if record.start is not None else guest.said
    match generation.spec.restart.policy:
        case "always":
            return False
        case "on-failure":
            failed = end is None or end.status != 0 or end.panicked or end.reported
            return not (failed or said.ended)
        case "never":
            return True


def _finished(draft: Draft, standing: Standing, generation: Generation, why: str) -> None:
    policy = generation.spec.restart.policy
    finished = Finished(generation.number, why, draft.now.boot_id, draft.now.wall)
    standing.record = replace(standing.record, finished=finished, backoff=None)
    words = f"{standing.name}: {why}; restart.policy is {policy}: it stays down"
    severity: Severity = "info" if policy == "on-failure" else "warning"
    draft.event("guest-finished", words, standing, severity, generation.number)


def _kind_of(end: Exit | None) -> Literal["reported", "panicked", "exited"]:
    if end is not None and end.reported:
        return "reported"
    return "panicked" if end is not None and end.panicked else "exited"


def _candidate_ended(draft: Draft, standing: Standing, guest: Guest) -> None:
    """It never served: its generation is condemned, and the guest that serves is not concerned."""
    record, candidate = standing.record, standing.record.candidate
    generation = record.generation(guest.generation)
    lost = candidate is not None and candidate.deadline.boot_id != draft.now.boot_id
    if generation is not None and _by_the_host(guest) and not lost:
        start_failed(draft, standing, generation, str(guest.process.exit), beside=True)
    elif generation is not None and generation.verdict != "condemned" and not lost:
        failed(
            draft, standing, generation, f"the guest ended: {guest.process.exit}", _evidence(guest)
        )
    standing.record = replace(standing.record, candidate=None)


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


def _absorb_vanished(standing: Standing) -> None:
    """A start or stop in the record whose process is nowhere: spawned never, or lost with a boot."""
    record = standing.record
    if record.candidate is not None and standing.candidate is None:
        standing.record = record = replace(record, candidate=None)
    if record.stop is None or standing.leaving is not None:
        return
    if standing.guest is None or record.stop.instance != standing.guest.instance:
        standing.record = _without(replace(record, stop=None), record.stop.instance)


def crashed(draft: Draft, standing: Standing, why: str, *, ill: bool = False) -> None:
    """A committed guest ended or turned bad by itself: again, after a pause that grows."""
    former, now = standing.record.backoff, draft.now.wall
    crashes = (former.crashes if former else 0) + 1
    since = (former.since_wall or now) if former else now
    running = standing.record.generation(standing.running) if standing.running is not None else None
    good = running or standing.record.last_good
    given = good.spec.restart.backoff if good is not None else None
    pause = doubling(CRASH_BACKOFF, crashes) if crashes > 1 else 0.0
    pause = pause if given is None else given
    backoff = Backoff(crashes, draft.deadline(pause), why, ill, since)
    standing.record = count_restart(replace(standing.record, backoff=backoff), "crash", now, why)
    draft.actions.append(Note("crash", standing.name, why))
    draft.event("guest-crashed", f"{standing.name}: {why}", standing, "warning", standing.running)


def note_illness(draft: Draft, standing: Standing) -> None:
    """Count it as a crash that a committed guest which must be restarted is stopped for something new.

    No gate kept that from it since it is broken. Nothing else tells so once it is gone, and gates that
    are shut again would bring the former generation back, to be stopped for the new one again and again.
    """
    running = standing.record.generation(standing.running) if standing.running is not None else None
    if standing.ailing and running is not None and running.verdict == "committed":
        crashed(draft, standing, standing.ailing, ill=True)
