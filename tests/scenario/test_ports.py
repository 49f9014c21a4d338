"""Ports of the host that go from one VM to another: who gives one up may need it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.machine import ANY_ADDRESS, Machine
from tests.world import World, listeners, state, vm


async def run_for(world: World, seconds: float) -> None:
    until = world.clock.now().boot + seconds
    while world.clock.now().boot < until:
        await world.step()
        world.clock.advance(0.5)


@pytest.mark.shows(law=6, fault=13)
async def test_a_port_is_not_taken_while_the_way_back_of_its_former_holder_needs_it() -> None:
    world = World()
    await world.push(state(vm("api", port=8001), vm("web", port=8002)))
    await world.settle()
    moved = vm("web", "v2", port=8003)
    failing = moved.layers[-1].key

    def fate(machine: Machine) -> str:
        return "bad" if failing in machine.layers[-1].path else "good"

    world.hypervisor.behaviour = fate
    await world.push(state(vm("api", "v2", port=8002), moved))
    await run_for(world, 120.0)
    assert world.hypervisor.living("web").machine.generation == 1, (
        "it is back where it was, and serves"
    )
    assert world.events("rolled-back")
    assert world.hypervisor.living("web").ports == {8002: 8002}
    assert world.hypervisor.stops["api"] == 0, "what it asks for is not free"
    assert "port 8002 of the host is taken: web has not released it yet" in world.why("api")


async def test_a_port_is_taken_once_its_former_holder_is_proven_without_it() -> None:
    world = World()
    await world.push(state(vm("api", port=8001), vm("web", port=8002)))
    await world.settle()
    await world.push(state(vm("api", "v2", port=8002), vm("web", "v2", port=8003)))
    await world.settle()
    assert world.hypervisor.living("api").ports == {8002: 8002}
    assert world.hypervisor.living("web").ports == {8003: 8003}


async def test_ports_that_were_swapped_stop_nobody_and_the_wait_says_what_to_do() -> None:
    world = World()
    await world.push(state(vm("a", port=8001), vm("b", port=8002), vm("c", port=8003)))
    await world.settle()
    swapped = (vm("a", "v2", port=8002), vm("b", "v2", port=8003), vm("c", "v2", port=8001))
    await world.push(state(*swapped))
    await run_for(world, 60.0)
    assert not world.hypervisor.stops
    assert "b has it, and waits for a port of a: let one of them take a free port first" in (
        world.why("a")
    )
    await world.push(state(vm("a", "v2", port=8004), *swapped[1:]))
    await world.settle()
    assert {vm: world.hypervisor.living(vm).ports.popitem()[0] for vm in "abc"} == {
        "a": 8004, "b": 8003, "c": 8001,
    }  # fmt: skip


@pytest.mark.shows(fault=13)
async def test_a_guest_that_crashed_keeps_its_port_from_others_until_it_is_back() -> None:
    world = World()
    await world.push(state(vm("api", port=8001), vm("web", port=8002)))
    await world.settle()
    for _ in range(3):  # it pauses longer and longer, and nobody listens meanwhile
        world.hypervisor.kill("web")
        await run_for(world, 3.0)
    world.images.bad.add(vm("web", "v2", port=8003).layers[0].key)
    await world.push(state(vm("api", "v2", port=8002), vm("web", "v2", port=8003)))
    await run_for(world, 60.0)
    assert world.hypervisor.living("web").ports == {8002: 8002}
    assert world.hypervisor.living("api").ports == {8001: 8001}


async def test_a_port_of_another_address_is_another_port() -> None:
    here, there = "127.0.0.1", "10.0.0.1"
    world = World()
    world.host.value = replace(world.host.value, listening=listeners(8080, address="10.0.0.9"))
    desired = state(vm("api", port=8080, address=here), vm("web", port=8080, address=there))
    await world.push(desired)
    await world.settle()
    assert world.hypervisor.running() == {"api": 1, "web": 1}
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {"api": 1, "web": 1}


@pytest.mark.parametrize("address", ["10.0.0.1", ANY_ADDRESS])
async def test_a_port_of_all_addresses_is_that_of_each(address: str) -> None:
    world = World()
    all_of_them = listeners(8080, address=ANY_ADDRESS if address != ANY_ADDRESS else "10.0.0.9")
    world.host.value = replace(world.host.value, listening=all_of_them)
    await world.push(state(vm("web", port=8080, address=address)))
    await run_for(world, 20.0)
    assert world.hypervisor.running() == {}
    assert "port 8080 of the host is taken: another process listens on it" in world.why("web")


async def test_a_port_that_is_opened_to_all_addresses_is_its_own_still() -> None:
    world = await World.settled(state(vm("web", port=8080)))
    await world.push(state(vm("web", "v2", port=8080, address=ANY_ADDRESS)))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}
