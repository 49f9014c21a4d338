"""Guests that live and fail their checks: started again a few at a time, and never all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName
from reconciler.model.policy import Policy
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(row=44)

FLEET = tuple(f"vm-{n:02}" for n in range(14))
POLICY = Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0, max_builds=50)


class Breath:
    """Counts how many guests are not there at once, and lets guests fall ill and get well."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.most_gone = 0
        self._all = len(world.hypervisor.running())
        world.on_pass = self._look

    def _look(self) -> None:
        self.most_gone = max(self.most_gone, self._all - len(self.world.hypervisor.running()))

    def all_ill(self, names: Iterable[str]) -> None:
        for name in names:
            self.world.hypervisor.living(name).fate = "bad"

    async def run_for(self, seconds: float) -> None:
        until = self.world.clock.now().boot + seconds
        while self.world.clock.now().boot < until:
            await self.world.step()
            self.world.clock.advance(0.5)


async def running(desired: DesiredState, policy: Policy = POLICY) -> tuple[World, Breath]:
    world = World(policy)
    await world.push(desired)
    await world.settle()
    return world, Breath(world)


async def test_when_most_fail_at_once_the_host_is_suspect_and_one_at_a_time_is_started_again() -> (
    None
):
    world, breath = await running(state(*map(vm, FLEET)))
    breath.all_ill(FLEET[:12])
    await breath.run_for(3.0)
    assert any("12 of 14 VMs failed their checks within 60s" in world.why(n) for n in FLEET)
    assert "the host is suspect" in world.why(FLEET[11])
    while sum(world.hypervisor.starts[name] == 2 for name in FLEET) < 5:
        await breath.run_for(0.5)
    assert breath.most_gone == 1
    await breath.run_for(300.0)
    assert breath.most_gone == POLICY.max_repairs, "most are well: the host is suspect no more"
    assert all(world.hypervisor.starts[name] == 2 for name in FLEET[:12]), "all were mended"
    assert all(world.hypervisor.starts[name] == 1 for name in FLEET[12:])


async def test_when_they_get_well_by_themselves_nobody_else_is_started_again() -> None:
    world, breath = await running(state(*map(vm, FLEET)))
    breath.all_ill(FLEET)
    world.hypervisor.behaviour = lambda _m: "bad"  # the host is out of breath: new ones fail too
    await breath.run_for(20.0)
    world.hypervisor.behaviour = lambda _m: "good"
    for guest in world.hypervisor.guests.values():
        guest.fate = "good"
    await world.settle()
    assert sum(world.hypervisor.starts.values()) == len(FLEET) + 1


async def test_a_few_that_fail_are_started_again_at_once_as_many_as_the_host_allows() -> None:
    world, breath = await running(state(*map(vm, FLEET)), replace(POLICY, max_repairs=3))
    breath.all_ill(FLEET[:6])
    await breath.run_for(120.0)
    assert breath.most_gone == 3
    assert all(world.hypervisor.starts[name] == 2 for name in FLEET[:6])


async def test_of_a_group_no_more_are_started_again_at_once_than_may_be_down() -> None:
    groups = (GroupSpec(GroupName("g"), max_unavailable=2),)
    members = [vm(name, group="g" if name < "vm-05" else "") for name in FLEET]
    world, breath = await running(state(*members, groups=groups))
    breath.all_ill(FLEET[:5])
    await breath.run_for(3.0)
    assert sum("maxUnavailable is 2" in world.why(name) for name in FLEET) == 3
    await breath.run_for(120.0)
    assert breath.most_gone == 2
    assert all(world.hypervisor.starts[name] == 2 for name in FLEET[:5])


async def test_a_member_that_is_lost_does_not_keep_another_from_being_mended() -> None:
    groups = (GroupSpec(GroupName("g")),)
    world, breath = await running(
        state(vm("a", group="g"), vm("b", group="g"), vm("c"), groups=groups)
    )
    world.hypervisor.behaviour = lambda m: "exits" if m.vm == "a" else "good"
    world.hypervisor.kill("a")
    await breath.run_for(30.0)
    breath.all_ill(["b"])
    await breath.run_for(30.0)
    assert world.hypervisor.starts["b"] == 2
    assert world.hypervisor.healths[world.hypervisor.living("b").process.instance].passing_since


async def test_those_whom_no_restart_helps_take_nobody_elses_turn() -> None:
    world, breath = await running(state(*map(vm, FLEET)), replace(POLICY, max_repairs=1))
    hopeless = FLEET[:3]
    world.hypervisor.behaviour = lambda m: "bad" if m.vm in hopeless else "good"
    breath.all_ill(hopeless)
    await breath.run_for(200.0)
    breath.all_ill([FLEET[9]])
    await breath.run_for(40.0)  # the one under way has its startupDeadline, 30 s
    assert world.hypervisor.starts[FLEET[9]] == 2


async def test_guests_that_ended_are_started_again_at_once_however_many() -> None:
    world, breath = await running(state(*map(vm, FLEET)))
    for name in FLEET:
        world.hypervisor.kill(name)
    await breath.run_for(3.0)
    assert len(world.hypervisor.running()) == len(FLEET)


async def test_a_daemon_that_died_among_repairs_still_keeps_to_one_at_a_time() -> None:
    world, breath = await running(state(*map(vm, FLEET)))
    breath.all_ill(FLEET)
    await breath.run_for(4.0)
    for _ in range(4):
        await world.restart()
        await breath.run_for(2.0)
        assert breath.most_gone == 1
    await world.settle()
