"""What the scenarios of results ask of a world: the judgement of a revision, a VM or a group."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import DesiredState
from reconciler.model.revision_result import RevisionRecord, RevisionResult
from reconciler.planning.results.revision_results import (
    beside,
    entry_of,
    fleet_of,
    judge_revision,
    judge_subject,
)
from tests.world import World, vm


def result(world: World) -> RevisionResult:
    passed = world.reconciler.passed
    assert passed is not None
    assert passed.desired is not None
    record, now = world.durable.record(), world.clock.now()
    fleet = fleet_of(passed.desired, passed.observed, record, passed.plan, now)
    entry = entry_of(record.source, passed.desired)
    return replace(judge_revision(fleet, entry), beside=beside(fleet, entry, record.source))


def of(world: World, subject: str) -> RevisionResult:
    passed = world.reconciler.passed
    assert passed is not None
    assert passed.desired is not None
    record, now = world.durable.record(), world.clock.now()
    fleet = fleet_of(passed.desired, passed.observed, record, passed.plan, now)
    return judge_subject(fleet, subject, record.source)


def remembered(world: World, desired: DesiredState) -> RevisionRecord:
    found = world.durable.record().source.revisions
    return next(one for one in found if one.revision == desired.revision)


def bad(world: World, *layers: str) -> None:
    """Guests whose topmost layer is one of these never become healthy."""
    world.hypervisor.behaviour = lambda m: (
        "bad" if any(layer in m.layers[-1].path for layer in layers) else "good"
    )


def layer(name: str, content: str) -> str:
    return vm(name, content).layers[-1].key
