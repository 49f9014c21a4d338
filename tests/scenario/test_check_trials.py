"""A commit that changes only how guests are judged: tried beside the present checks, at no guest's cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState
from reconciler.model.names import Revision, VMName
from reconciler.model.request import RestartVM, Resume, Retry, RollbackTo, Suspend
from tests.fakes.prober import WRONG
from tests.scenario.check_stories import OTHER, newest, one, path_of, result, status, untouched
from tests.world import World, changed, state, vm

pytestmark = pytest.mark.shows(law=14, fault=58)


@pytest.mark.shows(fault=60)
async def test_changed_checks_replace_the_old_ones_when_the_guest_has_passed_them() -> None:
    world = await World.settled(one("/healthz"))
    desired = one(OTHER)
    await world.push(desired)
    await world.run(2)
    assert path_of(world, "web") == "/healthz", "it has not passed for minHealthyTime yet"
    assert status(world, "web").sync == "out-of-sync"
    assert "on trial beside the present ones" in world.why("web")
    assert world.ledger.record().source.applied != desired.revision
    assert result(world) == "working"
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert untouched(world, "web")
    assert world.ledger.record().source.applied == desired.revision
    assert result(world) == "converged"
    assert len(world.events("checks-tried")) == len(world.events("checks-accepted")) == 1


@pytest.mark.shows(fault=60)
async def test_checks_that_do_not_pass_are_refused_and_the_guest_serves_on() -> None:
    world = await World.settled(one("/healthz"))
    desired = one(f"{WRONG}/typo")
    await world.push(desired)
    await world.settle()
    assert untouched(world, "web")
    assert path_of(world, "web") == "/healthz"
    told = status(world, "web")
    assert (told.state, told.healthy, told.sync) == ("running", True, "blocked")
    assert f"revision {desired.revision[:8]}" in told.why
    assert "not passed within startupDeadline 30s" in told.why
    assert result(world) == "rolled-back"
    assert newest(world, "checks-condemned").severity == "error"
    assert world.ledger.record().source.applied != desired.revision
    assert not world.record("web").blocked, "its generation is as good as before"


async def test_a_person_who_retries_has_refused_checks_tried_once_more() -> None:
    world = await World.settled(one("/healthz"))
    world.hypervisor.lost_paths.add(OTHER)
    await world.push(one(OTHER))
    await world.settle()
    world.hypervisor.lost_paths.clear()
    await world.run(60)
    assert path_of(world, "web") == "/healthz", "not by itself"
    await world.ask(Retry("web"))
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert untouched(world, "web")


async def test_a_vm_waits_for_the_changed_checks_of_what_it_comes_after() -> None:
    def pair(path: str) -> DesiredState:
        return state(vm("db", path=path), vm("app", after=("db",), path=path))

    world = await World.settled(pair("/healthz"))
    await world.push(pair(WRONG))
    await world.settle()
    assert world.record("app").check_trial is None
    assert not world.record("app").blocked_checks
    assert "comes after db" in world.why("app")
    assert untouched(world, "db", "app")


async def test_a_newer_commit_with_other_checks_overtakes_a_trial() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(WRONG))
    await world.run(5)
    await world.push(one(OTHER))
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert not world.record("web").blocked_checks


async def test_a_new_digest_overtakes_a_trial_and_is_judged_by_its_own_checks() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(WRONG))
    await world.run(5)
    await world.push(one(OTHER, "v2"))
    await world.settle()
    assert (path_of(world, "web"), world.last_good("web").number) == (OTHER, 2)
    assert world.record("web").check_trial is None


async def test_a_docs_only_commit_does_not_begin_a_trial_from_the_start() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(OTHER))
    await world.run(2)
    trial = world.record("web").check_trial
    await world.push(replace(one(OTHER), revision=Revision("f" * 40)))
    await world.step()
    assert world.record("web").check_trial == trial


async def test_a_guest_that_dies_is_followed_by_a_trial_on_the_next_one() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(OTHER))
    await world.run(2)
    before = world.record("web").check_trial
    world.hypervisor.kill("web")
    await world.run(2)
    after = world.record("web").check_trial
    assert before is not None
    assert after is not None
    assert before.instance != after.instance
    assert path_of(world, "web") == "/healthz"
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert not world.record("web").blocked_checks


async def test_a_restart_by_a_person_begins_the_trial_on_the_new_guest() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(OTHER))
    await world.run(2)
    await world.ask(RestartVM("web"))
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert world.hypervisor.starts["web"] == 2


async def test_a_suspension_pauses_a_trial_and_gives_it_its_whole_time_again() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(WRONG))
    await world.run(20)
    await world.ask(Suspend("web"))
    await world.run(100)
    assert status(world, "web").sync == "suspended"
    assert world.record("web").check_trial is not None
    await world.ask(Resume("web"))
    await world.run(20)
    assert not world.record("web").blocked_checks
    await world.settle()
    assert world.record("web").blocked_checks


@pytest.mark.shows(fault=61)
async def test_a_guest_that_fell_ill_itself_says_nothing_about_changed_checks() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(OTHER))
    await world.run(2)
    world.hypervisor.living("web").fate = "bad"
    await world.run(60)
    assert not world.record("web").blocked_checks
    await world.settle()
    assert path_of(world, "web") == OTHER, "the guest that was started in its place passed them"


async def test_checks_that_pass_and_then_fail_are_refused_before_the_deadline() -> None:
    world = await World.settled(one("/healthz", startup_deadline=300.0))
    await world.push(one(OTHER, startup_deadline=300.0))
    await world.run(2)
    world.hypervisor.lost_paths.add(OTHER)
    await world.run(20)
    assert "passed, then failed" in world.record("web").blocked_checks[0].reason
    assert untouched(world, "web")


@pytest.mark.shows(fault=61)
async def test_checks_that_cannot_be_asked_are_neither_taken_nor_refused() -> None:
    world = await World.settled(one("/healthz"))
    world.hypervisor.living("web").fate = "unasked"
    await world.push(one(OTHER))
    await world.run(100)
    assert path_of(world, "web") == "/healthz"
    assert not world.record("web").blocked_checks
    assert "could not be asked" in world.why("web")
    world.hypervisor.living("web").fate = "good"
    await world.settle()
    assert path_of(world, "web") == OTHER


async def test_a_guest_that_its_present_checks_would_stop_is_spared_for_mended_ones() -> None:
    world = await World.settled(one("/healthz", startup_deadline=300.0))
    await world.push(one(OTHER, startup_deadline=300.0))
    await world.run(2)
    world.hypervisor.lost_paths.add("/healthz")
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert untouched(world, "web")


async def test_a_shorter_startup_deadline_is_of_the_next_generation() -> None:
    """Only a boot can show that a guest makes it, and the next one may follow a crash."""
    world = await World.settled(one("/healthz"))
    await world.push(one("/healthz", startup_deadline=5.0))
    await world.settle()
    assert world.last_good("web").spec.health.startup_deadline == 30.0
    assert status(world, "web").sync == "synced"
    writes = world.ledger.writes
    await world.step()
    assert world.ledger.writes == writes
    await world.push(one("/healthz", "v2", startup_deadline=5.0))
    await world.settle()
    assert world.last_good("web").spec.health.startup_deadline == 5.0


async def test_a_shorter_startup_deadline_bounds_the_trial_all_the_same() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(WRONG, startup_deadline=6.0))
    await world.run(15)
    assert "within startupDeadline 6s" in world.record("web").blocked_checks[0].reason
    assert untouched(world, "web")


async def test_fields_that_judge_nobody_act_at_once_though_checks_are_on_trial() -> None:
    world = await World.settled(one("/healthz"))
    spec = one(OTHER).vms[VMName("web")]
    await world.push(state(changed(spec, labels=(("tier", "x"),), update={"stop_timeout": 9.0})))
    await world.step()
    good = world.last_good("web").spec
    assert (good.labels, good.update.stop_timeout) == ((("tier", "x"),), 9.0)
    assert path_of(world, "web") == "/healthz"


async def test_a_rollback_is_judged_by_the_checks_of_the_generation_that_it_goes_to() -> None:
    world = await World.settled(one("/healthz"))
    await world.push(one(OTHER, "v2"))
    await world.settle()
    world.hypervisor.lost_paths.add(OTHER)
    await world.ask(RollbackTo("web"))
    await world.run(60)
    assert world.hypervisor.running()[VMName("web")] == 1
    assert status(world, "web").healthy
    starts = world.hypervisor.starts["web"]
    await world.push(one(WRONG, "v2"))
    await world.run(60)
    assert world.hypervisor.starts["web"] == starts, "pinned: nothing is tried"
    assert world.record("web").check_trial is None


async def test_a_guest_that_hands_over_is_asked_through_its_own_ports() -> None:
    first, second = (state(vm("web", handover=True, path=path)) for path in ("/healthz", OTHER))
    world = await World.settled(first)
    await world.push(second)
    await world.step()
    instance = world.hypervisor.living("web").process.instance
    assert world.hypervisor.on_trial[instance].checks[0].port >= 40000  # type: ignore[union-attr]
    await world.settle()
    assert path_of(world, "web") == OTHER
    assert untouched(world, "web")
