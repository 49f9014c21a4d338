"""Guests that end again and again: told as a loop, counted as down, and overtaken by a fix."""

from __future__ import annotations

import pytest

from reconciler.model.desired import GroupSpec, RestartPolicy
from reconciler.model.names import GroupName
from reconciler.model.observed import Exit
from reconciler.model.request import RestartVM
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=71)


async def crash(world: World, name: str, times: int) -> None:
    """It runs for 20 s each time, well by all its checks."""
    for _ in range(times):
        for _ in range(800):
            if name in {str(vm) for vm in world.hypervisor.running()}:
                break
            await world.run(0.5)
        await world.run(20)
        world.hypervisor.kill(name)
        await world.run(1)
    for _ in range(800):
        if name in {str(vm) for vm in world.hypervisor.running()}:
            return
        await world.run(0.5)


async def test_a_vm_that_crashes_every_20_seconds_is_never_healthy_and_waits_for_something() -> (
    None
):
    world = await World.settled(state(vm("web")))
    await crash(world, "web", 5)
    await world.run(20)
    (web,) = world.status().vms
    assert world.hypervisor.living("web").fate == "good", "all its checks pass"
    assert not web.healthy
    assert web.why.startswith("crash loop: 5 crashes in ")
    assert "killed by signal 9" in web.why
    assert web.restarted is not None
    assert dict(web.restarts)["crash"] == 5
    await world.run(45)
    (web,) = world.status().vms
    assert web.healthy, "it was steady for a minute"


async def test_while_it_pauses_it_has_failed_and_says_when_it_goes_on() -> None:
    world = await World.settled(state(vm("web")))
    await crash(world, "web", 5)
    await world.run(5)
    world.hypervisor.kill("web")
    await world.run(2)
    (web,) = world.status().vms
    assert web.state == "failed"
    assert "crash loop: 6 crashes" in web.why
    assert web.waits[0].until_wall is not None


async def test_one_crash_is_no_loop() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.kill("web")
    await world.settle()
    assert world.status().vms[0].healthy
    assert world.record("web").restarted is not None


async def test_a_member_in_a_crash_loop_uses_up_the_budget_and_is_overtaken_by_a_fix() -> None:
    group = GroupSpec(GroupName("front"), max_unavailable=1)
    old = [vm(n, group="front") for n in ("a", "b", "c")]
    world = await World.settled(state(*old, groups=(group,)))
    for name in ("a", "b"):
        await crash(world, name, 4)
    await world.push(state(*old[:2], vm("c", "v2", group="front"), groups=(group,)))
    await world.run(3)
    assert world.hypervisor.living("c").machine.generation == 1, "the loops use the budget up"
    await world.push(state(*(vm(n, "v3", group="front") for n in ("a", "b", "c")), groups=(group,)))
    await world.settle(600)
    assert all(v.healthy and v.generation.running == 2 for v in world.status().vms)


@pytest.mark.shows(fault=73)
async def test_a_guest_that_powers_off_stays_off_where_only_failures_are_restarted() -> None:
    policy = RestartPolicy("on-failure")
    world = await World.settled(state(vm("job", restart=policy)))
    world.hypervisor.end(world.hypervisor.living("job").process.instance, Exit(status=0))
    await world.settle()
    assert not world.hypervisor.running()
    assert "restart.policy is on-failure" in world.why("job")
    writes = world.ledger.writes
    await world.run(30)
    assert world.ledger.writes == writes
    await world.ask(RestartVM("job"))
    await world.settle()
    assert world.hypervisor.running()
    world.hypervisor.kill("job")
    await world.settle()
    assert world.hypervisor.running(), "that was a failure"


@pytest.mark.shows(fault=73)
async def test_a_guest_that_is_never_restarted_stays_down_until_the_host_boots_or_a_push() -> None:
    never = RestartPolicy("never")
    world = await World.settled(state(vm("job", restart=never)))
    world.hypervisor.kill("job")
    await world.settle()
    assert not world.hypervisor.running()
    await world.restart()
    await world.settle()
    assert not world.hypervisor.running(), "a new daemon knows that it ended"
    await world.push(state(vm("job")))
    await world.settle()
    assert world.hypervisor.running(), "its policy is another now"
    await world.push(state(vm("job", restart=never)))
    world.hypervisor.kill("job")
    await world.settle()
    world.clock.reboot()
    await world.restart()
    await world.settle()
    assert world.hypervisor.running(), "the host was booted"


@pytest.mark.shows(fault=73)
async def test_the_pause_before_a_restart_is_what_the_manifest_says() -> None:
    world = await World.settled(state(vm("web", restart=RestartPolicy(backoff=25.0))))
    world.hypervisor.kill("web")
    await world.run(20)
    assert not world.hypervisor.running()
    await world.run(10)
    assert world.hypervisor.running()


async def test_a_new_generation_runs_although_the_former_one_had_ended_for_good() -> None:
    world = await World.settled(state(vm("job", restart=RestartPolicy("never"))))
    world.hypervisor.kill("job")
    await world.settle()
    await world.push(state(vm("job", "v2", restart=RestartPolicy("never"))))
    await world.settle()
    assert world.hypervisor.living("job").machine.generation == 2
    assert world.record("job").finished is None
