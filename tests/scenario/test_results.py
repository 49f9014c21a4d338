"""A result is of a revision: judged by what it changed, with the true cause, and healthy only when seen so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.change import PutSource
from reconciler.model.desired import GroupSpec, RestartPolicy
from reconciler.model.names import GroupName, VMName
from reconciler.model.observed import Exit
from reconciler.model.policy import Policy
from reconciler.model.request import Abort, Retry, Suspend
from tests.scenario.result_stories import bad, layer, of, remembered, result
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(law=15)

GROUP = GroupSpec(GroupName("g"))


@pytest.mark.shows(fault=81)
async def test_a_commit_that_changes_nothing_is_not_blamed_for_an_older_failure() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"))
    broken = state(vm("web", "v2"), vm("db"))
    await world.push(broken)
    await world.settle()
    assert result(world).result == "rolled-back"
    await world.push(state(vm("web", "v2"), vm("db"), revision="d" * 40))
    await world.settle()
    found = result(world)
    assert (found.result, found.vms) == ("unchanged", ())
    assert len(found.beside) == 1
    assert "web: generation 2 failed" in found.beside[0]
    assert broken.revision[:8] in found.beside[0], "the revision that caused it is named"
    assert remembered(world, broken).result == "rolled-back"


@pytest.mark.shows(fault=81)
async def test_a_revision_is_judged_by_the_vms_that_it_changed() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"))
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    second = state(vm("web", "v2"), vm("db", "v2"))
    await world.push(second)
    await world.settle()
    found = result(world)
    assert (found.result, found.changed, found.healthy) == ("converged", 1, 1)
    assert found.beside
    assert remembered(world, second).result == "converged"
    assert world.durable.record().source.applied != second.revision, "the host is not as declared"
    assert any(second.revision[:8] in words for words in world.events("revision-ended"))


@pytest.mark.shows(fault=82)
async def test_after_a_restart_nothing_is_called_healthy_before_it_answered() -> None:
    fleet = state(*(vm(name) for name in "abcd"))
    world = await World.settled(fleet)
    await world.restart()
    await world.reconciler.run_pass()
    found = result(world)
    assert (found.result, found.healthy, found.ended) == ("working", 0, False)
    assert "have not answered" in found.why
    await world.settle()
    assert (result(world).result, result(world).healthy) == ("converged", 4)


async def test_a_vm_that_fell_ill_later_is_not_healthy_though_its_revision_was_applied() -> None:
    desired = state(vm("web"))
    world = await World.settled(desired)
    for guest in world.hypervisor.guests.values():
        guest.fate = "bad"
    world.hypervisor.behaviour = lambda _: "bad"
    await world.run(60.0)
    assert result(world).result == "working"
    assert remembered(world, desired).result == "converged", "what it changed was healthy once"


@pytest.mark.shows(fault=84)
async def test_the_whole_group_shares_the_result_of_the_member_that_failed_and_names_it() -> None:
    names = ("a", "b", "c")
    world = await World.settled(state(*(vm(n, group="g") for n in names), groups=(GROUP,)))
    bad(world, layer("b", "v2"))
    group = replace(GROUP, canary=(VMName("b"),))
    await world.push(state(*(vm(n, "v2", group="g") for n in names), groups=(group,)))
    await world.settle()
    found = result(world)
    assert found.result == "rolled-back"
    assert found.why.startswith("b: generation 2 failed"), "not a, which is only held"
    assert of(world, "g").result == "rolled-back"
    assert "held: b failed" in of(world, "a").why


async def test_an_aborted_rollout_failed_and_nobody_is_said_to_have_failed() -> None:
    names = ("a", "b")
    world = await World.settled(state(*(vm(n, group="g") for n in names), groups=(GROUP,)))
    await world.push(state(*(vm(n, "v2", group="g") for n in names), groups=(GROUP,)))
    await world.run(1.0)
    await world.ask(Abort("g", "not today"))
    await world.settle()
    found = result(world)
    assert found.result == "failed"
    assert "aborted by a person: not today" in found.why


@pytest.mark.shows(fault=81)
@pytest.mark.shows(fault=130)
async def test_a_vm_belongs_to_the_newest_revision_that_changed_it() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"), layer("db", "v2"))
    first = state(vm("web", "v2"), vm("db", "v2"))
    await world.push(first)
    await world.run(1.0)
    second = state(vm("web", "v3"), vm("db", "v2"))
    await world.push(second)
    await world.settle()
    assert result(world).result == "converged", "web of the second revision is healthy"
    old = remembered(world, first)
    assert (old.result, old.blamed) == ("rolled-back", (VMName("db"),))


async def test_a_revision_all_of_whose_vms_were_changed_again_is_superseded() -> None:
    world = await World.settled(state(vm("web")))
    first, second = state(vm("web", "v2")), state(vm("web", "v3"))
    await world.push(first)
    await world.run(0.5)
    await world.push(second)
    await world.settle()
    assert remembered(world, first).result == "superseded"
    assert result(world).result == "converged"


@pytest.mark.shows(fault=90)
async def test_a_revision_that_failed_stays_so_when_a_newer_one_changes_the_vm_that_failed() -> (
    None
):
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"))
    first = state(vm("web", "v2"), vm("db", "v2"))
    await world.push(first)
    await world.settle()
    assert remembered(world, first).result == "rolled-back"
    await world.push(state(vm("web", "v3"), vm("db", "v2")))
    await world.settle()
    assert result(world).result == "converged"
    assert remembered(world, first).result == "rolled-back", "web never took it"


@pytest.mark.shows(fault=92)
async def test_a_result_counts_all_that_failed_however_they_did() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"), layer("new", "v1"))
    await world.push(state(vm("web", "v2"), vm("db"), vm("new")))
    await world.settle()
    found = result(world)
    assert (found.result, found.healthy, found.changed) == ("failed", 0, 2)
    assert found.why.startswith("new: generation 1 failed")
    assert found.why.endswith("; and 1 more"), "web went back"


@pytest.mark.shows(fault=91)
async def test_a_former_name_that_is_put_right_is_a_change_of_that_vm() -> None:
    world = await World.settled(state(vm("web")))
    await world.push(state(vm("shop", "web", moved_from="wob")))
    await world.settle()
    assert result(world).result == "waiting"
    await world.push(state(vm("shop", "web", moved_from="web"), revision="d" * 40))
    await world.settle()
    assert (result(world).result, result(world).changed) == ("converged", 1)


async def test_a_retry_that_succeeds_mends_the_result_of_the_revision_that_failed() -> None:
    world = await World.settled(state(vm("web")))
    bad(world, layer("web", "v2"))
    broken = state(vm("web", "v2"))
    await world.push(broken)
    await world.settle()
    world.hypervisor.behaviour = lambda _: "good"
    await world.ask(Retry("web"))
    await world.settle()
    assert remembered(world, broken).result == "converged"


@pytest.mark.shows(fault=83)
async def test_a_digest_that_was_condemned_before_names_the_revision_that_condemned_it() -> None:
    world = await World.settled(state(vm("web")))
    bad(world, layer("web", "v2"))
    broken = state(vm("web", "v2"))
    await world.push(broken)
    await world.settle()
    await world.push(state(vm("web"), revision="b" * 40))
    await world.settle()
    assert result(world).result == "converged", "taken back, and the last good one was seen healthy"
    await world.push(state(vm("web", "v2"), revision="c" * 40))
    await world.settle()
    found = result(world)
    assert found.result == "rolled-back"
    assert f"(revision {broken.revision[:8]})" in found.why


@pytest.mark.shows(fault=84)
async def test_what_waits_for_a_vm_that_a_person_must_mend_names_that_one() -> None:
    world = await World.settled(
        state(vm("db"), vm("app", after=("db",)), vm("web", after=("app",)))
    )
    bad(world, layer("db", "v2"))
    await world.push(state(vm("db", "v2"), vm("app", after=("db",)), vm("web", after=("app",))))
    await world.settle()
    await world.push(
        state(vm("db", "v2"), vm("app", "v2", after=("db",)), vm("web", "v2", after=("app",)))
    )
    await world.settle()
    found = result(world)
    assert (found.result, found.ended) == ("waiting", True)
    assert "db: generation 2 failed" in found.why
    assert "db" in of(world, "web").why


@pytest.mark.shows(fault=82)
async def test_a_suspended_vm_waits_for_a_person_and_is_not_called_applied() -> None:
    world = await World.settled(state(vm("web")))
    await world.ask(Suspend("web"))
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert (result(world).result, result(world).ended) == ("waiting", True)


async def test_a_layer_that_cannot_be_built_fails_the_revision_that_names_it() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    world.images.bad.add(layer("web", "v2"))
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    assert result(world).result == "failed"
    assert "cannot be built" in result(world).why


@pytest.mark.shows(fault=93)
@pytest.mark.parametrize("prune", [True, False])
async def test_a_removal_is_part_of_the_result_as_far_as_the_host_allows_it(*, prune: bool) -> None:
    world = World(Policy("/state", prune=prune, memory_reserve_mib=0, disk_reserve_mib=0))
    await world.push(state(vm("web"), vm("db")))
    await world.settle()
    await world.push(state(vm("db")))
    await world.settle()
    found = result(world)
    assert (found.result, found.changed) == ("converged", 1)
    kept = "" if prune else "web: not in the repository; kept, since source.prune is off"
    assert (found.why, found.beside) == (kept, ()), "this revision left it out, and no other"


async def test_a_change_of_labels_alone_changes_no_vm() -> None:
    world = await World.settled(state(vm("web")))
    await world.push(state(vm("web", labels={"tier": "front"})))
    await world.settle()
    assert result(world).result == "unchanged"


@pytest.mark.shows(fault=67)
async def test_a_revision_that_changes_checks_alone_answers_for_the_vms_whose_checks_they_are() -> (
    None
):
    world = await World.settled(state(vm("web"), vm("db")))
    checks = state(vm("web", path="/other"), vm("db"))
    await world.push(checks)
    await world.settle()
    assert result(world).result == "converged"
    assert remembered(world, checks).changed == 1


@pytest.mark.shows(fault=83)
async def test_events_carry_the_revision_that_caused_them_and_not_the_one_that_is_desired() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"))
    broken = state(vm("web", "v2"), vm("db"))
    await world.push(broken)
    await world.run(5.0)
    assert world.hypervisor.running()[VMName("web")] == 2
    await world.push(state(vm("web", "v2"), vm("db"), revision="d" * 40))
    await world.settle()
    kinds = ("guest-stopping", "generation-condemned", "rolled-back", "revision-ended")
    caused = {e.kind: e.revision for e in world.ledger.history if e.kind in kinds}
    assert caused == dict.fromkeys(kinds, broken.revision)


async def test_the_revisions_that_are_remembered_are_bounded_and_name_each_vm_once() -> None:
    world = await World.settled(state(*(vm(f"vm{n}") for n in range(5))))
    for commit in range(80):
        vms = (vm(f"vm{n}", f"v{commit if n == commit % 5 else 0}") for n in range(5))
        await world.push(state(*vms))
    kept = world.durable.record().source.revisions
    names = [name for one in kept for name in one.vms]
    assert len(kept) == 50
    assert len(names) == len(set(names)) <= 5


async def test_a_ledger_from_before_results_were_kept_judges_all_vms() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    before = replace(world.durable.record().source, revisions=())
    await world.durable.write([PutSource(before)])
    found = result(world)
    assert (found.result, found.changed) == ("converged", 2)


@pytest.mark.shows(fault=83)
async def test_a_build_that_fails_late_is_of_the_revision_that_named_the_layer() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    world.images.bad.add(layer("web", "v2"))
    world.images.slow = lambda _: 20.0
    broken = state(vm("web", "v2"), vm("db"))
    await world.push(broken)
    await world.run(2.0)
    await world.push(state(vm("web", "v2"), vm("db"), revision="d" * 40))
    await world.settle()
    failed = [e for e in world.ledger.history if e.kind == "build-layer-failed"]
    assert [event.revision for event in failed] == [broken.revision]
    assert remembered(world, broken).result == "failed"


@pytest.mark.shows(fault=97)
async def test_what_failed_before_the_newest_change_is_not_blamed_for_trouble_after_it() -> None:
    world = await World.settled(state(vm("web", purpose="readiness"), vm("db")))
    bad(world, layer("web", "v2"))
    broken = state(vm("web", "v2", purpose="readiness"), vm("db"))
    await world.push(broken)
    await world.settle()
    good = state(vm("web", "v3", purpose="readiness"), vm("db"))
    await world.push(good)
    await world.settle()
    await world.push(state(vm("web", "v3", purpose="readiness"), vm("db"), revision="d" * 40))
    await world.settle()
    world.hypervisor.living("web").fate = "unready"
    await world.run(60)
    found = result(world)
    assert good.revision[:8] in found.beside[0]


@pytest.mark.shows(fault=98)
async def test_a_vm_that_served_what_is_desired_to_its_good_end_is_converged() -> None:
    job = vm("job", checked=False, restart=RestartPolicy(policy="on-failure"))
    world = await World.settled(state(job, vm("db")))
    await world.run(30)
    world.hypervisor.end(world.hypervisor.living("job").process.instance, Exit(status=0))
    await world.run(30)
    found = result(world)
    assert found.result == "converged"


@pytest.mark.shows(fault=98)
async def test_what_comes_after_a_job_comes_after_its_good_end() -> None:
    job = vm("job", checked=False, restart=RestartPolicy(policy="on-failure"))
    world = await World.settled(state(job, vm("web", after=("job",))))
    world.hypervisor.end(world.hypervisor.living("job").process.instance, Exit(status=0))
    await world.run(30)
    await world.push(state(job, vm("web", "v2", after=("job",))))
    await world.run(30)
    assert world.hypervisor.running() == {"web": 2}


async def test_a_revision_that_failed_is_converged_after_a_retry_that_passed() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad(world, layer("web", "v2"))
    second = state(vm("web", "v2"), vm("db"))
    await world.push(second)
    await world.settle()
    assert remembered(world, second).result == "rolled-back"
    bad(world)
    await world.ask(Retry("web"))
    await world.settle()
    assert remembered(world, second).result == "converged"
    assert result(world).result == "converged"
