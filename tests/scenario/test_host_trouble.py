"""Trouble of the host is no verdict: nothing is condemned for it, and no VM is left down for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.desired import VMSpec
from reconciler.model.machine import HostPort, PortForward
from reconciler.model.request import Retry
from tests.world import World, changed, state, vm

pytestmark = [pytest.mark.shows(fault=74), pytest.mark.shows(fault=75)]

HOME = "127.0.0.1"


def by_udp(spec: VMSpec) -> VMSpec:
    networks = tuple(
        replace(n, forwards=(*n.forwards, PortForward(5353, 53, "udp"))) for n in spec.networks
    )
    return changed(spec, networks=networks)


@pytest.mark.parametrize("handover", [False, True])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_port_that_somebody_has_without_listening_is_waited_for_before_the_stop(
    protocol: str,
    *,
    handover: bool,
) -> None:
    world = await World.settled(state(vm("web", port=8001, handover=handover)))
    wanted = vm("web", "v2", port=8002, handover=handover, address=HOME)
    wanted = by_udp(wanted) if protocol == "udp" else wanted
    port = HostPort(HOME, 5353, "udp") if protocol == "udp" else HostPort(HOME, 8002)
    world.host.bound = frozenset({port})
    await world.push(state(wanted))
    await world.run(60.0)
    assert world.hypervisor.stops["web"] == 0
    assert "of the host is taken" in world.why("web")
    assert str(port.port) in world.why("web")
    world.host.bound = frozenset()
    await world.settle()
    assert world.last_good("web").digest == wanted.digest


async def test_a_port_that_is_taken_between_the_look_and_the_start_condemns_nothing() -> None:
    world = await World.settled(state(vm("web", port=8001)))
    world.hypervisor.behaviour = lambda m: "lacks" if m.generation == 2 else "good"
    wanted = vm("web", "v2", port=8002)
    await world.push(state(wanted))
    await world.run(20.0)
    assert world.hypervisor.running() == {"web": 1}, "it is not down for what the host lacks"
    assert world.generation("web", 2).verdict == "trial"
    assert world.record("web").blocked == ()
    assert "Could not set up host forwarding rule" in world.why("web")
    world.hypervisor.behaviour = lambda _m: "good"
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_guest_that_serves_is_not_stopped_for_ever_for_what_the_host_lacks() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.behaviour = lambda m: "lacks" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.run(3600.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.starts["web"] == 1 + 2 * 3, "three tries, and back after each"
    assert "mend it and `retry`" in world.why("web")
    world.hypervisor.behaviour = lambda _m: "good"
    await world.ask(Retry("web"))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_fix_that_is_pushed_does_not_wait_for_the_trouble_of_the_one_before() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.behaviour = lambda m: "lacks" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.run(3600.0)
    await world.push(state(vm("web", "v3")))
    await world.run(10.0)
    assert world.hypervisor.running() == {"web": 3}


async def test_the_first_guest_of_a_vm_is_tried_until_the_host_has_what_it_needs() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _m: "lacks"
    await world.push(state(vm("web")))
    await world.run(600.0)
    assert world.generation("web", 1).verdict == "trial"
    world.hypervisor.behaviour = lambda _m: "good"
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}


async def test_a_committed_guest_that_cannot_be_started_again_has_not_crashed() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.behaviour = lambda _m: "lacks"
    world.hypervisor.kill("web")
    await world.run(60.0)
    backoff = world.record("web").backoff
    assert backoff is not None
    assert backoff.crashes == 1
    assert "start failed, again soon" in world.why("web")
    world.hypervisor.behaviour = lambda _m: "good"
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}


async def test_a_second_guest_that_lacks_something_of_the_host_is_tried_again() -> None:
    world = await World.settled(state(vm("web", handover=True)))
    world.hypervisor.behaviour = lambda m: "lacks" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", handover=True)))
    await world.run(120.0)
    assert world.hypervisor.stops["web"] > 1
    assert world.generation("web", 2).verdict == "trial"
    assert world.hypervisor.living("web").machine.generation == 1
    world.hypervisor.behaviour = lambda _m: "good"
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_start_that_fails_before_there_is_a_process_leaves_the_vm_up_too() -> None:
    world = await World.settled(state(vm("web", bridge="br0")))
    trial = vm("web", "v2", bridge="br0")
    world.faults.chooser = lambda _n, call: "error" if call == "volumes" and on_trial() else None

    def on_trial() -> bool:
        begun = world.record("web").start
        return begun is not None and begun.purpose == "trial"

    await world.push(state(trial))
    await world.run(20.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.generation("web", 2).verdict == "trial"
