"""What healthy means without checks: a guest that said that it is up, and whose application runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.names import InstanceId
from tests.fakes.guest import QUIT
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=68)


async def test_a_guest_without_checks_is_not_committed_before_its_init_says_that_it_is_up() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", checked=False)))
    await world.run(20)
    assert world.record("web").generations[0].verdict == "trial"
    assert "waiting for its init to say that it is up" in world.why("web")
    guest = world.hypervisor.living("web")
    guest.said = replace(guest.said, up=world.clock.now().boot)
    await world.settle()
    assert world.last_good("web").reason == "it is up; it has no checks"


async def test_a_guest_without_checks_that_never_comes_up_is_condemned_at_its_deadline() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", checked=False)))
    await world.settle()
    newest = world.record("web").generations[-1]
    assert newest.verdict == "condemned"
    assert newest.reason == (
        "not healthy within startupDeadline 30s: its init did not say that it is up"
    )
    assert newest.evidence is not None
    assert newest.evidence.kind == "startup-timeout"


async def test_a_guest_whose_start_failed_after_its_vmm_was_up_has_to_say_that_it_is_up_too() -> (
    None
):
    world = World()
    await world.push(state(vm("web", checked=False)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "silent" if m.generation == 2 else "good"
    world.faults.chooser = lambda _n, call: "error" if call == "booted" else None
    await world.push(state(vm("web", "v2", checked=False)))
    await world.run(10)
    world.faults.chooser = lambda _n, _call: None
    assert world.hypervisor.running() == {"web": 2}, "the guest that came up was adopted"
    await world.settle()
    newest = world.record("web").generations[-1]
    assert newest.reason == (
        "not healthy within startupDeadline 30s: its init did not say that it is up"
    )
    assert world.hypervisor.running() == {"web": 1}


async def test_min_healthy_time_counts_from_the_moment_at_which_it_was_up() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", checked=False, min_healthy=10.0)))
    await world.run(15)
    guest = world.hypervisor.living("web")
    guest.said = replace(guest.said, up=world.clock.now().boot)
    await world.run(8)
    assert world.record("web").last_good is None
    assert "healthy for" in world.why("web")
    await world.run(4)
    assert world.record("web").last_good is not None


async def test_an_init_that_cannot_speak_is_taken_to_be_up_after_a_bounded_uptime() -> None:
    world = World()
    world.images.mute = True
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", checked=False)))
    await world.run(10)
    assert "taken as healthy after 15s of uptime" in world.why("web")
    assert world.record("web").last_good is None
    await world.settle()
    assert world.record("web").last_good is not None


async def test_an_init_that_is_not_ours_is_taken_to_be_up_some_time_after_it_was_started() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", checked=False)))
    await world.run(10)
    guest = world.hypervisor.living("web")
    guest.said = replace(guest.said, handed_over=world.clock.now().boot)
    await world.run(10)
    assert world.record("web").last_good is None
    await world.settle()
    assert world.record("web").last_good is not None


@pytest.mark.shows(fault=69)
async def test_an_application_that_ended_condemns_its_generation_at_once() -> None:
    world = await World.settled(state(vm("web", checked=False)))
    world.hypervisor.behaviour = lambda machine: "quits" if machine.generation == 2 else "good"
    before = world.clock.now().boot
    await world.push(state(vm("web", "v2", checked=False)))
    await world.settle()
    newest = world.generation("web", 2)
    assert newest.verdict == "condemned"
    assert newest.reason == f"its application ended: {QUIT}"
    assert newest.evidence is not None
    assert newest.evidence.kind == "ended"
    assert world.hypervisor.living("web").machine.generation == 1
    assert world.clock.now().boot - before < 25


@pytest.mark.shows(fault=69)
async def test_an_application_that_ended_is_evidence_beside_checks_that_fail() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _: "quits"
    await world.push(state(vm("web")))
    await world.run(5)
    assert world.record("web").generations[-1].reason == f"its application ended: {QUIT}"


@pytest.mark.shows(fault=69)
async def test_checks_that_pass_outweigh_the_status_of_a_start_script() -> None:
    world = await World.settled(state(vm("web")))
    guest = world.hypervisor.living("web")
    guest.said = replace(guest.said, ended=QUIT)
    await world.run(60)
    assert world.hypervisor.starts["web"] == 1
    assert world.status().vms[0].healthy


@pytest.mark.shows(fault=69)
async def test_a_committed_guest_whose_application_ended_is_started_again() -> None:
    world = await World.settled(state(vm("web", checked=False)))
    first = world.hypervisor.living("web")
    first.said = replace(first.said, ended=QUIT)
    await world.settle(700)
    assert world.hypervisor.living("web").process.instance != first.process.instance
    assert dict(world.record("web").restarts)["crash"] == 1
    assert world.record("web").restarted is not None
    assert QUIT in str(world.record("web").restarted)


async def test_a_committed_guest_that_boots_and_never_comes_up_is_started_again() -> None:
    world = await World.settled(state(vm("web", purpose="readiness")))
    world.hypervisor.behaviour = lambda _: "silent"
    world.hypervisor.kill("web")
    await world.run(45)
    assert world.hypervisor.starts["web"] >= 3
    world.hypervisor.behaviour = lambda _: "good"
    await world.settle(1200)
    assert world.status().vms[0].healthy


async def test_what_was_heard_is_known_to_the_next_daemon_without_its_console() -> None:
    world = await World.settled(state(vm("web", checked=False)))
    guest = world.hypervisor.living("web")
    assert world.record("web").start is not None
    guest.said = type(guest.said)()  # its console was bounded since
    await world.restart()
    await world.run(120)
    assert world.hypervisor.living("web") is guest
    assert world.status().vms[0].healthy


async def test_a_second_guest_without_checks_takes_over_once_it_is_up() -> None:
    world = await World.settled(state(vm("web", checked=False, handover=True)))
    world.hypervisor.behaviour = lambda _: "silent"
    await world.push(state(vm("web", "v2", checked=False, handover=True)))
    await world.run(10)
    old, new = world.hypervisor.all_living("web")
    assert old.machine.generation == 1
    new.said = replace(new.said, up=world.clock.now().boot)
    await world.settle()
    assert world.hypervisor.living("web").process.instance == InstanceId(new.process.instance)
    await world.restart()
    await world.run(60)
    assert world.hypervisor.starts["web"] == 2
