"""Which commits the next one must descend from, and a person's leave to follow one that does not."""

from __future__ import annotations

from dataclasses import replace

from reconciler.errors import RequestRefused
from reconciler.model.change import PutSource
from reconciler.model.desired import Lineage
from reconciler.model.names import Revision
from reconciler.model.record import Generation, Record, VMRecord
from reconciler.now import Now
from reconciler.requests.result import SHORTEST_PREFIX, Answer, done


def lineage(record: Record) -> Lineage:
    """What a new revision must continue.

    That is the desired revision. With the ledger it is lost, and then the revisions of what was
    found running take its place, so that losing state opens no way back to an old commit.
    """
    source = record.source
    if source.revision is not None:
        return Lineage((source.revision,), source.rewritten)
    found = {g.revision for vm in record.vms.values() for g in _in_force(vm)}
    return Lineage(tuple(sorted(found)), source.rewritten)


def _in_force(vm: VMRecord) -> list[Generation]:
    good = vm.last_good
    running = vm.generation(vm.start.generation) if vm.start is not None else None
    return [g for g in (good, running) if g is not None]


def accept_rewrite(revision: str, record: Record, now: Now) -> Answer:
    """Take the refused revision as what the next one continues. Raises RequestRefused."""
    rejection = record.source.rejection
    if rejection is None or rejection.kind != "ancestry":
        raise RequestRefused(
            "no rewritten branch is refused at present", hint="see `reconciler status`"
        )
    refused = rejection.revision
    if len(revision) < SHORTEST_PREFIX or not refused.startswith(revision):
        raise RequestRefused(
            f"{revision!r} is not the revision that is refused", hint=f"that is {refused}"
        )
    put = PutSource(replace(record.source, rewritten=Revision(refused)))
    words = f"revision {refused[:8]} is followed though the branch was rewritten"
    return done([put], "rewrite-accepted", words, now, None)
