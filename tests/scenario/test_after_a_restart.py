"""What a new daemon says before it has asked anybody: no guest that served is called unhealthy."""

from __future__ import annotations

import pytest

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.host_view import fleet_lines
from reconciler.cli.status import exit_code
from reconciler.model.desired import GroupSpec
from reconciler.model.names import GroupName
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=118)


async def test_guests_that_served_are_not_asked_yet_and_not_unhealthy() -> None:
    members = [vm(f"web-{n}", group="front") for n in range(3)]
    world = await World.settled(state(*members, groups=(GroupSpec(GroupName("front")),)))
    await world.restart()
    world.hypervisor.watched = {}
    await world.reconciler.run_pass()
    status = world.status()
    assert [(v.healthy, v.unasked, v.state) for v in status.vms] == [(False, True, "running")] * 3
    assert exit_code(status) is ExitCode.OK
    lines = [str(line) for line in fleet_lines(status, 120, world.clock.now().wall)]
    assert any("0 of 3 VMs healthy, 3 not asked yet" in line for line in lines)
    (group,) = status.groups
    assert group.unavailable == 0
    await world.settle()
    assert all(v.healthy for v in world.status().vms)


async def test_a_guest_that_was_restarted_and_came_back_is_known_to_have_served() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.kill("web")
    await world.run(5)
    assert world.status().vms[0].healthy
    await world.restart()
    await world.reconciler.run_pass()
    (web,) = world.status().vms
    assert web.unasked, "it is younger than its startupDeadline, and was seen well all the same"
