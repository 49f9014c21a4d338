"""Guests that run without a place in the record: after losing it, adopt and do not act."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.plan import Note
from reconciler.model.record import Start, Suspension
from reconciler.planning.draft import Draft, Standing


def adopt(draft: Draft, standing: Standing) -> None:
    """Take a living guest with its generation, as it was found on disk, into the record.

    Its generation counts as committed, since nothing better is known and it runs. Where it is not
    what the desired state wants, the VM is suspended: going on is a person's choice.
    """
    guest = standing.guest
    if guest is None or standing.record.start is not None or standing.record.generations:
        return
    found = draft.observed.found.get(standing.name)
    if found is None:
        draft.wait(
            "conflict",
            standing.name,
            f"process {guest.process.pid} runs as its guest, and nothing is known of it",
        )
        standing.acted = True
        return
    committed = replace(found, verdict="committed", verdict_wall=draft.now.wall, reason="adopted")
    deadline = draft.deadline(found.spec.health.startup_deadline)
    record = standing.record.with_generation(committed)
    record = replace(record, start=Start(guest.instance, found.number, "restart", deadline))
    if standing.spec is None or standing.spec.digest != found.digest:
        record = replace(
            record,
            suspended=Suspension(
                draft.now.wall, "adopted after the ledger was lost, and not what is desired"
            ),
        )
    standing.record = record
    draft.actions.append(Note("adopt", standing.name, f"generation {found.number} runs"))
    draft.event(
        "guest-adopted", f"{standing.name}: generation {found.number} adopted", standing, "warning"
    )
