"""VMs that hand over, and what somebody sees who looks after each pass."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.model.desired import ShortOfMemory
from reconciler.model.machine import Machine
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from tests.fakes.guest import Behaviour
from tests.world import CHECK, World, state, vm

WEB = VMName("web")
FIRST = GenerationNumber(1)


async def serving(world: World, *contents: str, short: ShortOfMemory = "wait") -> None:
    for content in contents or ("v1",):
        await world.push(state(vm("web", content, handover=True, short_of_memory=short)))
        await world.settle()


def now_serves(world: World) -> InstanceId:
    guest = world.hypervisor.living("web")
    assert CHECK.port in guest.reached_at
    return guest.process.instance


class Gap:
    """Counts passes in which nobody has the port, and how many guests lived at most."""

    def __init__(self, world: World) -> None:
        self.world, self.missed, self.most = world, 0, 0
        world.on_pass = self.look

    def look(self) -> None:
        alive = self.world.hypervisor.all_living("web")
        self.most = max(self.most, len(alive))
        self.missed += not any(CHECK.port in guest.reached_at for guest in alive)


def new_guests(fate: str, after: World) -> Behaviour:
    """Guests that are started from now on fare like this; those that live are as they were."""
    living = {guest.process.instance for guest in after.hypervisor.all_living("web")}

    def behaviour(machine: Machine) -> str:
        return "good" if machine.instance in living else fate

    return behaviour


async def until(world: World, seen: Callable[[], bool]) -> None:
    for _ in range(200):
        await world.step()
        if seen():
            return
        world.clock.advance(0.1)
    raise AssertionError(f"it never came: {world.why('web')!r}")


def on_trial(world: World) -> bool:
    candidate = world.record("web").candidate
    return candidate is not None and candidate.routes is not None
