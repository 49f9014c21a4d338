"""Changed checks of a group: the canary first, in order, few at once, and held like any change."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from reconciler.model.desired import DesiredState, GroupSpec, UpdateWindow, VMSpec
from reconciler.model.names import Revision, VMName
from reconciler.model.request import Abort, Promote
from tests.fakes.prober import WRONG
from tests.scenario.check_stories import NAMES, OTHER, fleet, group, path_of, status, untouched
from tests.world import World, changed, state, vm

pytestmark = pytest.mark.shows(fault=58)


async def test_only_the_canary_is_asked_first_and_a_typo_stays_with_it() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(WRONG))
    await world.run(10)
    assert [n for n in NAMES if world.record(n).check_trial] == ["b"]
    assert "canary b goes first" in world.why("a")
    await world.settle()
    assert untouched(world, *NAMES)
    assert {path_of(world, n) for n in NAMES} == {"/healthz"}
    assert {n: status(world, n).sync for n in NAMES} == {
        "a": "out-of-sync", "b": "blocked", "c": "out-of-sync",
    }  # fmt: skip
    held = world.hold("g")
    assert held is not None
    assert "its changed checks" in held.reason
    assert "is held" in world.why("a")
    assert len(world.events("checks-tried")) == 1


async def test_others_wait_until_the_canary_has_soaked_under_its_new_checks() -> None:
    policy = group(canary=(VMName("b"),), canary_soak=60.0, max_unavailable=3)
    world = await World.settled(fleet("/healthz", policy))
    await world.run(120)
    await world.push(fleet(OTHER, policy))
    await world.run(30)
    assert [path_of(world, n) for n in NAMES] == ["/healthz", OTHER, "/healthz"]
    assert "canary b soaks" in world.why("a")
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}
    assert untouched(world, *NAMES)


async def test_checks_are_told_of_the_revision_that_changed_them_whatever_came_later() -> None:
    policy = group(canary=(VMName("b"),), canary_soak=20.0)
    world = await World.settled(fleet("/healthz", policy))
    changed = fleet(WRONG, policy)
    changed = replace(changed, vms={**changed.vms, VMName("b"): spec_of("b", OTHER)})
    await world.push(changed)
    await world.run(10)
    await world.push(replace(changed, revision=Revision("d" * 40)))
    await world.settle()
    (refused,) = world.record("a").blocked_checks
    assert refused.revision == changed.revision
    assert f"revision {changed.revision[:8]}" in world.why("a")


@pytest.mark.parametrize("limit", [1, 2])
async def test_no_more_of_a_group_than_max_unavailable_are_asked_at_once(limit: int) -> None:
    policy = group(max_unavailable=limit)
    world = await World.settled(fleet("/healthz", policy))
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, sum(world.record(n).check_trial is not None for n in NAMES))

    world.on_pass = count
    await world.push(fleet(OTHER, policy))
    await world.settle()
    assert most == limit
    assert {path_of(world, n) for n in NAMES} == {OTHER}


async def test_changed_checks_wait_for_the_window() -> None:
    world = await World.settled(fleet("/healthz", group()))
    now = datetime.fromtimestamp(world.clock.now().wall, ZoneInfo("UTC"))
    policy = group(windows=(UpdateWindow(f"{now.minute} {(now.hour + 1) % 24} * * *", 1800.0),))
    await world.push(fleet(OTHER, policy))
    await world.run(30)
    assert {path_of(world, n) for n in NAMES} == {"/healthz"}
    assert "outside of window" in world.why("a")
    world.clock.advance(3600.0)
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}


@pytest.mark.shows(fault=60)
async def test_changed_checks_wait_for_a_person_even_after_an_earlier_promotion() -> None:
    policy = group(approval="manual")
    world = await World.settled(fleet("/healthz", policy))
    await world.ask(Promote("g"))
    await world.push(fleet(OTHER, policy))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {"/healthz"}
    assert "promote g" in world.why("a")
    await world.ask(Promote("g"))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}
    await world.push(fleet("/third", policy))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}, "that was not promoted"


async def test_a_revert_ends_the_trial_at_once() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(WRONG))
    await world.run(5)
    await world.push(fleet("/healthz"))
    await world.step()
    assert world.record("b").check_trial is None
    await world.settle()
    assert not any(world.record(n).blocked_checks for n in NAMES)
    assert all(status(world, n).sync == "synced" for n in NAMES)
    assert len(world.events("checks-withdrawn")) == 1


async def test_a_revert_after_the_refusal_lifts_the_hold_and_says_that_it_is_over() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(WRONG))
    await world.settle()
    await world.push(fleet("/healthz"))
    await world.settle()
    assert world.hold("g") is None
    assert all(status(world, n).sync == "synced" for n in NAMES)
    assert len(world.events("checks-withdrawn")) == 1
    await world.push(fleet(WRONG))
    await world.settle()
    assert status(world, "b").sync == "blocked", "the same is not tried again by itself"
    assert len(world.events("checks-tried")) == 1


async def test_a_mended_check_is_tried_in_place_of_a_refused_one() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(WRONG))
    await world.settle()
    await world.push(fleet(OTHER))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}
    assert world.hold("g") is None
    assert untouched(world, *NAMES)


@pytest.mark.parametrize("path", [OTHER, WRONG])
async def test_a_trial_outlives_the_daemon(path: str) -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(path))
    await world.run(2)
    begun = world.record("b").check_trial
    await world.restart()
    await world.step()
    assert begun is not None
    assert world.record("b").check_trial == begun
    await world.settle()
    assert path_of(world, "b") == (OTHER if path == OTHER else "/healthz")
    assert untouched(world, *NAMES)


async def test_removed_checks_are_taken_after_the_canary_too() -> None:
    def without(policy: GroupSpec) -> DesiredState:
        told = fleet("/healthz", policy)
        bare = {n: replace(s, health=replace(s.health, checks=())) for n, s in told.vms.items()}
        return replace(told, vms=bare, revision=Revision("f" * 40))

    world = await World.settled(
        fleet("/healthz", group(windows=(UpdateWindow("0 0 1 1 *", 60.0),)))
    )
    await world.push(without(group(windows=(UpdateWindow("0 0 1 1 *", 60.0),))))
    await world.run(30)
    assert path_of(world, "a") == "/healthz", "outside of the window"
    await world.push(without(group()))
    await world.settle()
    assert not any(world.last_good(n).spec.health.checks for n in NAMES)
    assert untouched(world, *NAMES)


async def test_the_plan_says_that_checks_are_on_trial() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(OTHER))
    await world.step()
    passed = world.reconciler.passed
    assert passed is not None
    told = passed.plan.differences
    assert set(told) == set(map(VMName, NAMES))
    assert {(c.path, c.effect) for changes in told.values() for c in changes} == {
        ("spec.health.checks[0]", "checks on trial")
    }


@pytest.mark.shows(fault=60)
async def test_an_aborted_rollout_of_checks_ends_trials_and_begins_none() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet(WRONG))
    await world.run(5)
    await world.ask(Abort("g", "not today"))
    await world.run(60)
    assert not any(world.record(n).check_trial or world.record(n).blocked_checks for n in NAMES)
    assert "aborted by a person" in world.why("b")
    await world.push(fleet(OTHER))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {OTHER}


async def test_a_group_that_goes_back_as_a_whole_takes_back_changed_checks() -> None:
    policy = group(on_failure="rollbackGroup")
    world = await World.settled(fleet("/healthz", policy))
    wrong_for_c = fleet(OTHER, policy)
    wrong_for_c = replace(wrong_for_c, vms={**wrong_for_c.vms, VMName("c"): spec_of("c", WRONG)})
    await world.push(wrong_for_c)
    await world.run(20)
    assert [path_of(world, n) for n in NAMES] == [OTHER, OTHER, "/healthz"]
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {"/healthz"}
    assert "is held" in world.why("a")
    assert untouched(world, *NAMES)
    await world.push(fleet("/third", policy))
    await world.settle()
    assert {path_of(world, n) for n in NAMES} == {"/third"}


async def test_a_member_that_a_hold_need_not_send_back_waits_with_later_checks_and_says_so() -> (
    None
):
    """Its longer startupDeadline was taken, and stays: a shorter one is of the next generation."""
    policy = group(on_failure="rollbackGroup")
    world = await World.settled(fleet("/healthz", policy))
    patient = changed(spec_of("a", "/healthz"), health={"startup_deadline": 90.0})
    first = fleet("/healthz", policy)
    vms = {**first.vms, VMName("a"): patient, VMName("c"): spec_of("c", WRONG)}
    await world.push(replace(first, vms=vms))
    await world.settle()
    assert world.last_good("a").spec.health.startup_deadline == 90.0
    vms |= {VMName("a"): changed(spec_of("a", OTHER), health={"startup_deadline": 90.0})}
    await world.push(replace(first, vms=vms))
    await world.settle()
    assert [path_of(world, n) for n in NAMES] == ["/healthz"] * 3
    assert "is held" in world.why("a")


def spec_of(name: str, path: str) -> VMSpec:
    return vm(name, group="g", min_healthy=4.0, path=path)


@pytest.mark.shows(fault=60)
async def test_an_older_digest_with_checks_that_it_never_passed_waits_for_the_canary() -> None:
    world = await World.settled(fleet("/healthz"))
    await world.push(fleet("/healthz", content="v2"))
    await world.settle()
    await world.push(fleet(WRONG, content="v1"))
    await world.settle()
    assert world.hypervisor.starts == {"a": 2, "b": 4, "c": 2}
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}


@pytest.mark.shows(fault=96)
async def test_changed_checks_of_members_that_are_not_ready_go_by_the_canary_too() -> None:
    def ready(path: str) -> DesiredState:
        members = [vm(n, group="g", path=path, purpose="readiness") for n in NAMES]
        return state(*members, groups=(group(canary=(VMName("b"),)),))

    world = await World.settled(ready("/healthz"))
    for name in ("a", "c"):
        world.hypervisor.living(name).fate = "unready"
    await world.run(60)
    await world.push(ready(WRONG))
    await world.run(5)
    assert [n for n in NAMES if world.record(n).check_trial] == ["b"]
