"""Whose console is shown: that of the guest that serves, or of the other one of its VM."""

from __future__ import annotations

from reconciler.engine.loop import Engine
from reconciler.model.names import VMName
from reconciler.model.request import RestartVM
from tests.world import World, state, vm

WEB = VMName("web")


def shown(world: World, *, beside: bool) -> str:
    engine = Engine(world.adapters, world.policy)
    return engine.console(WEB, beside=beside).parent.name


async def test_a_candidates_console_is_shown_apart_wherever_it_lives() -> None:
    world = World()
    await world.push(state(vm("web", handover=True)))
    await world.settle()
    assert (shown(world, beside=False), shown(world, beside=True)) == ("web", "web.2")
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 3 else "good"
    for content in ("v2", "v3"):
        await world.push(state(vm("web", content, handover=True)))
        await world.settle()
    assert world.hypervisor.living("web").process.slot == 2
    assert (shown(world, beside=False), shown(world, beside=True)) == ("web.2", "web")


async def test_the_guest_that_serves_is_gone_and_the_candidates_console_is_still_its_own() -> None:
    world = World()
    await world.push(state(vm("web", handover=True)))
    await world.settle()
    await world.ask(RestartVM("web"))
    while world.record("web").candidate is None or len(world.hypervisor.all_living("web")) < 2:
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.kill("web")
    await world.hypervisor.forget(next(iter(world.hypervisor.guests)))
    assert (shown(world, beside=False), shown(world, beside=True)) == ("web", "web.2")
