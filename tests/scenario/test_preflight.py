"""What the host lacks is noticed before anything stops, is told, and is made up for when it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from reconciler.model.names import VMName
from reconciler.model.policy import Policy
from reconciler.model.request import RestartVM, Retry
from tests.world import World, listeners, state, vm

NEW = vm("web", "v2", memory=512, port=9090, snapshot=True)


@dataclass(frozen=True)
class Lack:
    kind: str
    begins: Callable[[World], object]
    ends: Callable[[World], object]


def facts(world: World, **changed: object) -> None:
    world.host.value = replace(world.host.value, **changed)  # type: ignore[arg-type]


LACKS = {
    "free memory": Lack(
        "memory",
        lambda world: facts(world, memory_available_mib=256),
        lambda world: facts(world, memory_available_mib=4096),
    ),
    "disk": Lack(
        "disk",
        lambda world: facts(world, disk_free_mib=80),
        lambda world: facts(world, disk_free_mib=10_000),
    ),
    "a port": Lack(
        "port",
        lambda world: facts(world, listening=listeners(9090)),
        lambda world: facts(world, listening=frozenset()),
    ),
    "the VM's lock": Lack(
        "conflict",
        lambda world: world.hypervisor.foreign.update({VMName("web"): "process 7 holds the lock"}),
        lambda world: world.hypervisor.foreign.clear(),
    ),
    "its images": Lack(
        "broken",
        lambda world: world.images.bad.add(NEW.layers[0].key),
        lambda world: world.images.bad.clear(),
    ),
    "its folder": Lack(
        "build",
        lambda world: setattr(
            world.faults, "chooser", lambda _n, call: "error" if call == "create" else None
        ),
        lambda world: setattr(world.faults, "chooser", lambda _n, _call: None),
    ),
}


@pytest.mark.shows(promise=1, fault=9)
@pytest.mark.parametrize("lack", LACKS.values(), ids=LACKS)
async def test_an_update_that_lacks_something_stops_nothing_until_it_is_there(lack: Lack) -> None:
    world = World(Policy("/state", memory_reserve_mib=0, disk_reserve_mib=50))
    facts(world, disk_free_mib=10_000)
    await world.push(state(vm("web", snapshot=True)))
    await world.settle()
    lack.begins(world)
    await world.push(state(NEW))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.stops["web"] == 0, "it serves on"
    assert lack.kind in {wait.kind for wait in world.status().vms[0].waits}
    assert world.record("web").blocked == (), "the host lacks something, and the digest is not bad"
    lack.ends(world)
    if lack.kind == "broken":  # a bad input is looked at again when a person says so
        await world.ask(Retry("web"))
    await world.settle()
    assert world.hypervisor.running() == {"web": world.last_good("web").number}
    assert world.last_good("web").digest == NEW.digest


async def test_a_restart_waits_for_its_images_whatever_the_strategy() -> None:
    world = World()
    await world.push(state(vm("web", handover=True), vm("plain")))
    await world.settle()
    stopped = dict(world.hypervisor.stops)
    for name in ("web", "plain"):
        for layer in world.last_good(name).spec.layers:
            world.images.lose(layer.key)
            world.images.bad.add(layer.key)
        await world.ask(RestartVM(name))
    await world.run(30.0)
    assert world.hypervisor.stops == stopped, "a healthy guest is not stopped for nothing"


@pytest.mark.shows(fault=128)
@pytest.mark.parametrize("lacking", ["memory", "disk"])
async def test_below_the_reserve_what_ran_before_is_started_and_nothing_new(lacking: str) -> None:
    """As docs/operations/ and limits.md say: after a crash, on a way back, and at a person's word."""
    policy = Policy("/state", memory_reserve_mib=64, disk_reserve_mib=1024)
    world = await World.settled(state(vm("web"), vm("db")), policy)
    bad = vm("db", "v2").layers[-1].key
    world.hypervisor.behaviour = lambda m: "bad" if bad in m.layers[-1].path else "good"
    await world.push(state(vm("web"), vm("db", "v2")))
    await world.run(5.0)
    assert dict(world.hypervisor.running())[VMName("db")] == 2
    world.host.value = replace(
        world.host.value,
        memory_available_mib=1 if lacking == "memory" else 4096,
        disk_free_mib=1 if lacking == "disk" else 4096,
    )
    await world.settle()
    assert world.hypervisor.running() == {"web": 1, "db": 1}, "the way back"
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {"web": 1, "db": 1}, "the crash"
    await world.ask(RestartVM("web"))
    await world.settle()
    assert world.hypervisor.starts["web"] == 3, "the person's word"
    await world.push(state(vm("web", "v3", memory=256), vm("db", "v2"), vm("new")))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1, "db": 1}


@pytest.mark.shows(fault=129)
@pytest.mark.parametrize("lacking", ["memory", "disk"])
async def test_a_host_that_runs_short_in_the_middle_of_an_update_leaves_no_vm_down(
    lacking: str,
) -> None:
    """The guest is stopped, and then something else takes the memory, or fills the disk."""
    world = await World.settled(
        state(vm("web")), Policy("/state", memory_reserve_mib=64, disk_reserve_mib=1024)
    )
    plenty = world.host.value
    await world.push(state(vm("web", "v2", memory=256)))
    while world.hypervisor.running():
        await world.step()
        world.clock.advance(0.5)
    world.host.value = replace(
        plenty,
        memory_available_mib=1 if lacking == "memory" else 4096,
        disk_free_mib=1 if lacking == "disk" else 4096,
    )
    await world.run(30.0)
    assert world.hypervisor.running() == {"web": 1}, "the last good one serves meanwhile"
    starts = world.hypervisor.starts["web"]
    await world.run(120.0)
    assert world.hypervisor.starts["web"] == starts, "and is not stopped again for it"
    world.host.value = plenty
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


@pytest.mark.shows(fault=129)
async def test_an_update_to_the_same_size_needs_no_memory_beyond_the_reserve() -> None:
    policy = Policy("/state", memory_reserve_mib=512, disk_reserve_mib=0)
    world = await World.settled(state(vm("web")), policy)
    world.host.value = replace(world.host.value, memory_available_mib=100)
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}
    assert world.hypervisor.starts["web"] == 2
