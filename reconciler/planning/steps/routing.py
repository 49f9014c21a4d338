"""Where the front leads a VM's ports: to the guest that serves, or, while none does, to nobody."""

from __future__ import annotations

from reconciler.model.machine import Led, Route
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import Lead
from reconciler.model.record import VMRecord
from reconciler.planning.context import Draft, Standing
from reconciler.planning.preflight.preflight import LOOK_AGAIN
from reconciler.planning.steps.actions import in_trouble

CUT_OFF = "its guest is well, and the front does not lead its ports to it"


def wanted(standing: Standing) -> Led | None:
    """Where they are to lead. None: the front has nothing to do with this VM, or not yet."""
    start, guest = standing.record.start, standing.guest
    if guest is None or start is None or start.instance != guest.instance or not start.routes:
        return None
    return Led(guest.instance, start.routes)


def is_cut_off(record: VMRecord, guest: Guest, observed: Observed) -> bool:
    """Whether a guest that serves by way of the front is not found there: well, and reached by nobody."""
    start = record.start
    if start is None or start.instance != guest.instance or not start.routes:
        return False
    led = observed.front.get(record.name)
    return bool(observed.front_ails) or led is None or led.instance != guest.instance


def as_wanted(draft: Draft, standing: Standing) -> bool:
    """Whether the front leads them there, as far as it was asked."""
    known = not draft.observed.front_ails
    return known and draft.observed.front.get(standing.name) == wanted(standing)


def lead(draft: Draft, standing: Standing) -> bool:
    """See that they lead there, whatever else is so; whether something was decided."""
    want, guest, start = wanted(standing), standing.guest, standing.record.start
    if draft.observed.front_ails:
        if want is not None:
            draft.wait("port", standing.name, draft.observed.front_ails)
            draft.wake_at(draft.now.boot + LOOK_AGAIN)
        return False
    unknown = guest is not None and (start is None or start.instance != guest.instance)
    if (
        as_wanted(draft, standing)
        or unknown
        or _handing_over(standing)
        or in_trouble(draft, standing, "lead")
    ):
        return False
    why = "no guest of it serves" if want is None else f"generation {standing.running} serves"
    draft.do(standing, Lead(standing.name, want, f"its ports: {why}"))
    return True


def _handing_over(standing: Standing) -> bool:
    """Whether they may lead to its candidate already."""
    taking = standing.record.taking
    return standing.candidate is not None and standing.candidate.instance == taking


def let_go(draft: Draft) -> None:
    """Ports that the front holds for VMs of which nobody knows any more."""
    for name in sorted(draft.observed.front.keys() - draft.standings.keys()):
        if name not in draft.observed.busy and draft.pausing(f"lead/{name}") is None:
            draft.actions.append(Lead(name, None, "its ports: there is no such VM"))


def routes_of(draft: Draft, guest: Guest) -> tuple[Route, ...] | None:
    """What the front knows of a guest that the record does not."""
    led = draft.observed.front.get(guest.process.vm)
    return led.routes if led is not None and led.instance == guest.instance else None
