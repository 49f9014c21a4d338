"""How long VMs did not serve, told of as it happened."""

from tests.fakes import FakeMeter
from tests.world import World, state, vm


class Listener(FakeMeter):
    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[tuple[str, float]] = []

    def gap_ended(self, cause: str, seconds: float) -> None:
        self.gaps.append((cause, seconds))


async def a_world() -> tuple[World, Listener]:
    world = World()
    listener = Listener()
    world.meter = listener
    await world.restart()
    await world.push(state(vm("web"), vm("db")))
    await world.settle()
    return world, listener


async def test_an_update_is_one_planned_gap_of_the_vm_that_changed() -> None:
    world, listener = await a_world()
    assert listener.gaps == [], "a first start ends no gap"
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    ((cause, seconds),) = listener.gaps
    assert cause == "planned"
    assert 0 < seconds < 30


async def test_a_rollback_is_one_gap_however_many_guests_were_tried() -> None:
    world, listener = await a_world()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    ((cause, seconds),) = listener.gaps
    assert cause == "planned"
    assert seconds >= 30, "the trial never served, and had its whole deadline"


async def test_a_crash_is_an_unplanned_gap() -> None:
    world, listener = await a_world()
    world.hypervisor.kill("web")
    await world.settle()
    assert [cause for cause, _ in listener.gaps] == ["unplanned"]


async def test_a_handover_is_no_gap() -> None:
    world, listener = await a_world()
    await world.push(state(vm("web", handover=True), vm("db")))
    await world.settle()
    listener.gaps.clear()
    await world.push(state(vm("web", "v2", handover=True), vm("db")))
    await world.settle()
    assert world.last_good("web").number == 3
    assert listener.gaps == []
