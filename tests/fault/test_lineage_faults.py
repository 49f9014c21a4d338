"""A branch that was rewritten or set back: refused, told, and followed only after a person's word."""

from __future__ import annotations

import pytest

from reconciler.errors import RequestRefused, RevisionRefused
from reconciler.model.request import AcceptRewrite
from tests.eventually import eventually
from tests.fault.test_engine_faults import plain, running
from tests.world import World, state


async def refused(world: World) -> None:
    """The engine looks, and refuses what it sees."""
    async with running(world) as engine:
        with pytest.raises(RevisionRefused):
            await engine.reconcile(wait=True, timeout=20)


async def converged(world: World) -> None:
    async with running(world) as engine:
        assert (await engine.reconcile(wait=True, timeout=20)).result == "converged"


def without_ledger(world: World) -> World:
    """The same host and repository after its ledger was lost."""
    lost = World()
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost.source = world.source
    lost._boot()
    return lost


async def at_v2() -> World:
    world = World()
    for content in ("v1", "v2"):
        world.source.push(plain(content))
        await converged(world)
    assert world.hypervisor.running() == {"web": 2}
    return world


@pytest.mark.shows(row=25)
async def test_row_25_a_forced_push_is_refused_and_what_runs_stays() -> None:
    world = await at_v2()
    world.source.rewrite(plain("v3"))
    await refused(world)
    await refused(world)
    assert world.hypervisor.running() == {"web": 2}
    rejection = world.durable.record().source.rejection
    assert rejection is not None
    assert (rejection.kind, rejection.revision) == ("ancestry", plain("v3").revision)
    assert len(world.events("revision-rejected")) == 1, "told once, however often it is looked at"
    world.source.rewrite(plain("v2"))
    await converged(world)
    assert world.durable.record().source.rejection is None, "put back, it is no trouble any more"


@pytest.mark.shows(row=25)
async def test_row_25_a_rewrite_is_followed_after_a_persons_word_and_only_that_one() -> None:
    world = await at_v2()
    with pytest.raises(RequestRefused, match="no rewritten branch"):
        await world.ask(AcceptRewrite(plain("v3").revision))
    world.source.rewrite(plain("v3"))
    await refused(world)
    with pytest.raises(RequestRefused, match="not the revision"):
        await world.ask(AcceptRewrite("1234567"))
    async with running(world) as engine:
        await engine.request(AcceptRewrite(plain("v3").revision[:7]))
        await eventually(lambda: world.hypervisor.running() == {"web": 3})
    record = world.durable.record().source
    assert (record.revision, record.rewritten, record.rejection) == (
        plain("v3").revision, None, None,
    )  # fmt: skip
    world.source.rewrite(plain("v4"))
    await refused(world)
    assert world.hypervisor.running() == {"web": 3}


@pytest.mark.shows(row=26)
async def test_row_26_a_branch_set_back_to_an_old_commit_is_refused() -> None:
    world = await at_v2()
    world.source.rewrite(plain("v1"))
    await refused(world)
    assert world.hypervisor.running() == {"web": 2}


@pytest.mark.shows(row=26)
async def test_row_26_losing_the_ledger_opens_no_way_back_to_an_old_commit() -> None:
    world = await at_v2()
    world.source.rewrite(plain("v1"))
    world = without_ledger(world)
    await refused(world)
    assert world.hypervisor.running() == {"web": 2}
    assert world.record("web").suspended is not None, "adopted, and what is desired is not known"
    world.source.rewrite(plain("v2"))
    world.source.push(plain("v3"))
    async with running(world) as engine:
        report = await engine.reconcile(wait=False, timeout=1)
        assert report.revision == plain("v3").revision, "what continues it is taken"


async def test_a_refused_rewrite_is_no_reason_to_write_again_and_again() -> None:
    world = await at_v2()
    world.source.rewrite(plain("v3"))
    await refused(world)
    written = world.ledger.writes
    await refused(world)
    assert world.ledger.writes == written


async def test_a_refused_revision_is_never_told_as_done_though_what_runs_is_well() -> None:
    world = World()
    world.source.push(plain("v1"))
    await converged(world)
    world.source.push(state())
    async with running(world) as engine:
        for wait in (True, False, True):
            report = await engine.reconcile(wait=wait, timeout=20)
            assert (report.result, report.revision) == ("failed", state().revision)
            assert "an emptied repository stops nothing" in report.why
    assert world.hypervisor.running() == {"web": 1}
