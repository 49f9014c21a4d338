"""The front: where it leads the ports of VMs that hand over, and what becomes of them when it fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.actions import Lead
from reconciler.model.desired import VMSpec
from reconciler.model.machine import Route, RouteTarget
from reconciler.model.names import InstanceId, VMName
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.record import Record
from reconciler.model.request import Suspend
from tests.world import CHECK, World, changed, listeners, state, vm

pytestmark = pytest.mark.shows(fault=77)

WEB = VMName("web")


@pytest.fixture
def world() -> World:
    return World(Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0))


def plain(content: str = "v1") -> VMSpec:
    """The same VM with the strategy restart, which changes in place."""
    return changed(vm("web", content, handover=True), update={"strategy": "restart"})


async def serving(world: World, *specs: VMSpec) -> None:
    await world.push(state(*(specs or (vm("web", handover=True),)), vm("other")))
    await world.settle()


async def some(world: World, passes: int = 12) -> None:
    for _ in range(passes):
        await world.step()
        world.clock.advance(1.0)


def planned(world: World) -> Plan:
    passed = world.reconciler.passed
    assert passed is not None
    return passed.plan


def led_to(world: World) -> InstanceId | None:
    led = world.front.table.get(WEB)
    return led.instance if led is not None else None


def serves(world: World) -> bool:
    """Whether the VM's guest is found at its ports, by the front."""
    guest = world.hypervisor.living("web")
    return led_to(world) == guest.process.instance and CHECK.port in guest.reached_at


async def test_a_guest_is_behind_the_front_from_its_first_start(world: World) -> None:
    await serving(world)
    guest = world.hypervisor.living("web")
    assert serves(world)
    assert CHECK.port not in guest.ports, "it has no port of the manifest itself"


async def test_a_guest_is_asked_through_its_own_ports(world: World) -> None:
    await serving(world)
    guest = world.hypervisor.living("web")
    asked = world.hypervisor.watched[guest.process.instance].checks
    assert [check.port for check in asked if hasattr(check, "port")] == list(guest.ports)


async def test_a_front_that_died_leads_again_after_one_pass_and_no_guest_is_blamed(
    world: World,
) -> None:
    await serving(world)
    guest = world.hypervisor.living("web").process.instance
    world.front.die()
    await world.step()
    assert serves(world)
    await some(world, 30)
    assert world.hypervisor.living("web").process.instance == guest
    assert world.events("guest-crashed") == []


async def test_the_front_is_led_again_though_a_person_suspended_the_host(world: World) -> None:
    await serving(world)
    await world.ask(Suspend(None))
    await world.step()
    world.front.die()
    await world.step()
    assert serves(world)


async def test_a_front_that_does_not_answer_is_told_and_touches_no_guest(world: World) -> None:
    await serving(world)
    before, led = len(world.hypervisor.log), world.faults.calls.count("lead")
    world.front.error = "the front does not answer"
    tried: list[Lead] = []
    world.on_pass = lambda: tried.extend(
        action for action in planned(world).actions if isinstance(action, Lead)
    )
    await some(world)
    assert "the front does not answer" in world.why("web")
    assert world.faults.calls.count("lead") == led, "nobody knows what should change"
    assert len(world.hypervisor.log) == before
    assert tried == [], "nobody knows where it leads: it is told nothing until it answers"
    world.front.error = ""
    await world.settle()
    assert world.why("web") == ""


async def test_a_crashed_guest_is_started_again_though_the_front_does_not_answer(
    world: World,
) -> None:
    await serving(world)
    world.front.error = "the front does not answer"
    world.hypervisor.kill("web")
    await some(world)
    assert world.hypervisor.running()[WEB] == 1
    world.front.error = ""
    await world.settle()
    assert serves(world)


async def test_nobody_is_led_to_a_guest_that_is_gone(world: World) -> None:
    await serving(world)
    world.hypervisor.behaviour = lambda _machine: "exits"
    world.hypervisor.kill("web")
    await world.step()
    assert led_to(world) is None, "its port may be somebody else's the next moment"


async def test_a_strategy_that_becomes_handover_touches_nothing_until_an_update(
    world: World,
) -> None:
    await serving(world, plain())
    guest = world.hypervisor.living("web")
    assert led_to(world) is None
    await serving(world)
    assert (led_to(world), guest.ports) == (None, {CHECK.port: CHECK.port})
    await serving(world, vm("web", "v2", handover=True))
    assert world.hypervisor.running()[WEB] == 2
    assert serves(world)
    assert [entry for entry in world.hypervisor.log if entry[1] == "web"] == [
        ("start", "web", 1), ("lead", "web", 1),
        ("start", "web", 2), ("lead", "web", 2), ("end", "web", 1),
    ]  # fmt: skip


async def test_a_guest_that_does_not_give_up_its_ports_is_stopped_for_its_successor(
    world: World,
) -> None:
    await serving(world, plain())
    world.hypervisor.deaf.add(world.hypervisor.living("web").process.instance)
    await serving(world, vm("web", "v2", handover=True))
    assert world.hypervisor.running()[WEB] == 2
    assert serves(world)


async def test_an_old_guest_that_does_not_answer_is_no_obstacle(world: World) -> None:
    await serving(world)
    world.hypervisor.deaf.add(world.hypervisor.living("web").process.instance)
    await serving(world, vm("web", "v2", handover=True))
    assert ("lead", "web", 2) in world.hypervisor.log
    assert world.hypervisor.running()[WEB] == 2


async def test_back_to_restart_the_front_lets_go_before_the_new_guest_starts(world: World) -> None:
    await serving(world)
    await serving(world, plain())
    assert serves(world), "nothing changes before the next update"
    await serving(world, plain("v2"))
    guest = world.hypervisor.living("web")
    assert (led_to(world), guest.ports) == (None, {CHECK.port: CHECK.port})


async def test_a_vm_that_was_removed_has_no_ports_at_the_front(world: World) -> None:
    await serving(world)
    await world.push(state(vm("other")))
    await world.settle()
    assert world.front.table == {}


async def test_what_the_front_holds_for_a_vm_that_nobody_knows_is_let_go(world: World) -> None:
    await serving(world)
    routes = (Route("tcp", "127.0.0.1", 99, 40099),)
    world.front.table[VMName("gone")] = RouteTarget(InstanceId("gone-g1-0"), routes)
    await world.settle()
    assert set(world.front.table) == {"web"}


async def test_a_stranger_on_its_port_is_told_and_tried_again(world: World) -> None:
    world.host.value = replace(world.host.value, listening=listeners(CHECK.port))
    world.front.strangers.add(CHECK.port)
    await world.push(state(vm("web", handover=True)))
    await some(world)
    assert "another process listens on it" in world.why("web")
    world.host.value = replace(world.host.value, listening=frozenset())
    await some(world)
    assert "port 8080 of the host is taken" in world.why("web"), "it came in between"
    assert world.events("lead-failed") != []
    world.front.strangers.clear()
    await world.settle()
    assert serves(world)


async def test_the_front_is_no_stranger_on_the_ports_that_it_holds(world: World) -> None:
    def listening() -> None:
        ports = {route.port for led in world.front.table.values() for route in led.routes}
        world.host.value = replace(world.host.value, listening=listeners(*ports))

    world.on_pass = listening
    await serving(world)
    await serving(world, vm("web", "v2", handover=True))
    assert world.hypervisor.running()[WEB] == 2
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running()[WEB] == 2


async def test_the_ledger_is_lost_and_the_front_leads_on(world: World) -> None:
    await serving(world)
    await serving(world, vm("web", "v2", handover=True))
    before = world.front.table[WEB]
    world.ledger._record = Record()
    await world.restart()
    await serving(world, vm("web", "v2", handover=True))
    assert world.front.table[WEB] == before
    assert world.hypervisor.starts["web"] == 2
    await serving(world, vm("web", "v3", handover=True))
    assert serves(world)


async def test_ledger_and_front_are_lost_and_the_guest_is_led_to_again(world: World) -> None:
    await serving(world)
    world.ledger._record = Record()
    world.front.die()
    await world.restart()
    await serving(world)
    assert serves(world)
    assert world.hypervisor.starts["web"] == 1


async def test_the_ledger_is_lost_and_who_has_the_ports_is_the_one_that_serves(
    world: World,
) -> None:
    await serving(world)
    world.front.lingers = 8.0
    await world.push(state(vm("web", "v2", handover=True), vm("other")))
    while world.hypervisor.living("web").machine.generation == 1:
        await world.step()
        world.clock.advance(0.2)
    assert len(world.hypervisor.all_living("web")) == 2
    world.ledger._record = Record()
    await world.restart()
    await world.push(state(vm("web", "v2", handover=True), vm("other")))
    await some(world, 6)
    led = world.front.table[WEB].instance
    assert world.hypervisor.guests[led].machine.generation == 2
    start = world.record("web").start
    assert start is not None
    assert start.instance == led


async def test_a_host_that_hands_nothing_over_has_nothing_to_do_with_the_front(
    world: World,
) -> None:
    await serving(world, vm("web", port=8080))
    await serving(world, vm("web", "v2", port=8080))
    passed = world.reconciler.passed
    assert passed is not None
    assert not any(isinstance(action, Lead) for action in passed.plan.actions)
    assert "lead" not in world.faults.calls


def at_one_address(name: str, content: str, port: int) -> VMSpec:
    """Handed over like any, at the address that plain VMs have, too."""
    spec = vm(name, content, handover=True, port=port)
    forward = replace(spec.networks[0].forwards[0], address="127.0.0.1")
    networks = (replace(spec.networks[0], forwards=(forward,)),)
    return replace(spec, networks=networks)


@pytest.mark.parametrize("taker", ["api", "plain"])
async def test_while_the_front_does_not_answer_nobody_takes_a_port_that_another_may_need_back(
    world: World, taker: str
) -> None:
    before = {"api": 8001, "plain": 8002, "web": CHECK.port}

    def wanted(content: str, ports: dict[str, int]) -> list[VMSpec]:
        fronted = [at_one_address(name, content, ports[name]) for name in ("api", "web")]
        return [*fronted, vm("plain", content, port=ports["plain"])]

    await world.push(state(*wanted("v1", before)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("web", 2) else "good"
    world.front.error = "the front does not answer"
    world.host.value = replace(world.host.value, listening=frozenset())
    await world.push(state(*wanted("v2", before | {taker: CHECK.port, "web": 8003})))
    await some(world, 60)
    assert f"port {CHECK.port} of the host is kept for web" in world.why(taker)
    assert world.hypervisor.running()[VMName(taker)] == 1
    world.front.die()
    world.front.error = ""
    await some(world, 60)
    assert serves(world), "it went back, and its port is there for it"
    assert world.hypervisor.running()[WEB] == 1


async def moved_behind_it(world: World) -> None:
    """A guest that has its ports itself is to be replaced by a handover."""
    await serving(world, plain())
    assert CHECK.port in world.hypervisor.living("web").ports


@pytest.mark.parametrize("known", [True, False], ids=["known to be away", "found to be away"])
async def test_a_guest_keeps_its_ports_while_the_front_cannot_be_reached(
    world: World, *, known: bool
) -> None:
    await moved_behind_it(world)
    world.front.gone = True
    world.front.error = "the front cannot be reached" if known else ""
    await world.push(state(vm("web", "v2", handover=True), vm("other")))
    await some(world, 60)
    assert CHECK.port in world.hypervisor.living("web").ports, "it serves as it did"
    assert world.hypervisor.stops["web"] == 0
    told = [world.why("web"), *world.events("open-ports-failed")]
    assert any("cannot be reached" in words for words in told)
    assert world.generation("web", 1).verdict == "committed"
    world.front.gone, world.front.error = False, ""
    await world.settle()
    assert world.hypervisor.running()[WEB] == 2
    assert serves(world)


@pytest.mark.parametrize("hangs", [True, False], ids=["does not answer", "leads nowhere"])
async def test_a_guest_that_nobody_reaches_is_not_called_healthy(
    world: World, *, hangs: bool
) -> None:
    await serving(world)
    world.front.gone, world.front.error = True, "the front does not answer" if hangs else ""
    world.front.die()
    await some(world, 3)
    status = next(one for one in world.status().vms if one.name == WEB)
    assert not status.healthy
    assert status.why
    world.front.gone, world.front.error = False, ""
    await world.settle()
    assert next(one for one in world.status().vms if one.name == WEB).healthy
