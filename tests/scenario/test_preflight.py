"""What the host lacks is noticed before anything stops, is told, and is made up for when it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from reconciler.model.names import VMName
from reconciler.model.request import Restart, Retry
from reconciler.planning.policy import Policy
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
        await world.ask(Restart(name))
    await world.run(30.0)
    assert world.hypervisor.stops == stopped, "a healthy guest is not stopped for nothing"
