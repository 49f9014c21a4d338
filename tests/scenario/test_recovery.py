"""What the host, the daemon and guests do to each other, and how it mends."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import GroupName
from reconciler.model.observed import Exit, HostFacts
from reconciler.model.policy import Policy
from reconciler.model.request import RestartVM, Resume, Suspend
from tests.fakes import Crash
from tests.world import World, listeners, state, vm

FRONT = GroupSpec(GroupName("front"), max_unavailable=1)


def fleet(content: str = "v1", **changed: str) -> list[VMSpec]:
    names = {"web-a": "front", "web-b": "front", "web-c": "front"}
    return [vm(n, changed.get(n.replace("-", "_"), content), group=g) for n, g in names.items()]


@pytest.mark.shows(fault=22)
async def test_a_guest_in_quarantine_that_ends_is_not_started_again() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", mode="manual")))
    await world.settle()
    assert world.record("web").quarantine is not None
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {}
    assert "rollback.mode is manual" in world.why("web")


async def test_restart_ends_the_pause_after_a_crash() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    for _ in range(7):
        world.hypervisor.kill("web")
        for _ in range(3):
            await world.step()
        world.clock.advance(0.1)
        if not world.hypervisor.running():
            break
    assert "again soon" in world.why("web")
    await world.ask(RestartVM("web"))
    await world.step()
    assert world.hypervisor.running() == {"web": 1}


@pytest.mark.shows(fault=24)
async def test_a_reboot_of_the_host_condemns_nothing_and_brings_back_the_last_good_first() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.push(state(vm("web", "v2", min_healthy=60.0)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.5)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    starts = len(world.hypervisor.log)
    await world.settle()
    fresh = [number for kind, _, number in world.hypervisor.log[starts:] if kind == "start"]
    assert fresh == [1, 2], "first what was good, then the trial anew"
    assert world.record("web").blocked == ()
    assert dict(world.record("web").restarts).get("crash", 0) == 0
    assert world.hypervisor.running() == {"web": 2}


async def test_a_vm_that_was_suspended_over_a_reboot_goes_on_with_the_last_good_first() -> None:
    world = await World.settled(state(vm("web")))
    await world.push(state(vm("web", "v2", min_healthy=60.0)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.5)
    await world.ask(Suspend("web"))
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    await world.run(5.0)
    starts = len(world.hypervisor.log)
    await world.ask(Resume("web"))
    await world.settle()
    fresh = [number for kind, _, number in world.hypervisor.log[starts:] if kind == "start"]
    assert fresh == [1, 2]


@pytest.mark.shows(fault=23)
async def test_a_rollback_that_cannot_even_start_ends_in_quarantine_in_time() -> None:
    world = World()
    await world.push(state(vm("web", port=8080)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", port=9090)))
    world.on_pass = lambda: setattr(
        world.host, "value", replace(world.host.value, listening=listeners(8080))
    )
    await world.settle()
    assert world.record("web").quarantine is not None
    assert "not started in time" in world.why("web")


@pytest.mark.shows(fault=25)
async def test_a_crashed_guest_comes_back_though_the_disk_is_nearly_full() -> None:
    world = World(Policy("/state", disk_reserve_mib=1000, memory_reserve_mib=1000))
    await world.push(state(vm("web")))
    await world.settle()
    world.host.value = HostFacts(200, 10, 1)
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}


@pytest.mark.shows(fault=26)
async def test_restarts_that_people_ask_for_keep_to_the_budget() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    for name in ("web-a", "web-b", "web-c"):
        await world.ask(RestartVM(name))
    least: list[int] = []
    world.on_pass = lambda: least.append(len(world.hypervisor.running()))
    await world.settle()
    assert min(least) == 2
    assert world.hypervisor.starts == {"web-a": 2, "web-b": 2, "web-c": 2}


@pytest.mark.shows(fault=27)
async def test_an_older_ledger_put_back_follows_the_guest_that_runs() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    former = world.ledger.record()
    await world.ask(RestartVM("web"))
    await world.settle()
    world.ledger._record = former
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts["web"] == 2
    start = world.record("web").start
    assert start is not None
    assert start.instance == world.hypervisor.living("web").process.instance


@pytest.mark.shows(law=2)
async def test_a_port_that_somebody_else_holds_stops_nothing() -> None:
    world = World()
    await world.push(state(vm("web", port=8080)))
    await world.settle()
    world.host.value = replace(world.host.value, listening=listeners(8080, 9090))
    await world.push(state(vm("web", port=9090)))
    for _ in range(6):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.starts["web"] == 1
    assert "port 9090" in world.why("web")


@pytest.mark.shows(law=2)
async def test_memory_that_the_host_does_not_have_stops_nothing() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.host.value = HostFacts(100, 10_000, 1)
    await world.push(state(vm("web", memory=512)))
    for _ in range(6):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.starts["web"] == 1
    assert "384MiB more memory" in world.why("web")


@pytest.mark.shows(comparison=16)
async def test_a_rollback_across_a_data_epoch_is_refused() -> None:
    world = World()
    await world.push(state(vm("web", epoch=1)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "sick" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", epoch=2, min_healthy=20.0)))
    await world.settle()
    assert "dataEpoch" in world.why("web")
    assert world.hypervisor.running() == {"web": 2}


async def test_a_guest_without_a_power_button_is_ended_by_signals_at_once() -> None:
    world = await World.settled(state(vm("web")))
    guest, world.hypervisor.has_power_button = world.hypervisor.living("web"), False
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert guest.process.exit == Exit(signal=15)
    assert world.hypervisor.running() == {"web": 2}


async def test_a_guest_of_a_vmm_that_this_version_does_not_know_is_ended_by_signals() -> None:
    world = await World.settled(state(vm("web")))
    guest = world.hypervisor.living("web")
    guest.process = replace(guest.process, hypervisor="of-tomorrow")
    await world.hypervisor.adopt()  # as a daemon of an earlier version finds it
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert guest.process.exit is not None
    assert guest.process.exit.signal is not None
    assert world.hypervisor.running() == {"web": 2}


async def test_a_guest_that_ignores_the_power_button_is_ended_by_signals() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.living("web").ignores_power_button = True
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


@pytest.mark.shows(law=9)
async def test_a_lost_ledger_means_adopting_and_not_acting() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    lost = World()
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost._boot()
    await lost.push(state(vm("web")))
    await lost.settle()
    assert lost.hypervisor.starts["web"] == 1
    assert lost.last_good("web").reason == "adopted"


@pytest.mark.shows(fault=30)
async def test_an_adopted_guest_goes_on_when_it_turns_out_to_be_what_is_desired() -> None:
    world = World()
    await world.push(state(vm("web"), vm("db")))
    await world.settle()
    lost = World()
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost._boot()
    await lost.step()  # before the source was read for the first time
    assert lost.record("web").suspended is not None
    await lost.push(state(vm("web"), vm("db", "v2")))
    await lost.settle()
    assert lost.hypervisor.starts == {"web": 1, "db": 1}
    assert lost.record("web").suspended is None
    assert lost.record("db").suspended is not None, "another digest is a person's choice"


@pytest.mark.shows(comparison=15)
async def test_a_broken_prober_neither_commits_nor_condemns() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "unasked" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    for _ in range(100):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.running() == {"web": 2}
    assert world.generation("web", 2).verdict == "trial"
    assert "could not be asked" in world.why("web")


@pytest.mark.shows(law=12)
async def test_a_fresh_daemon_with_nothing_to_do_writes_nothing() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    world.clock.advance(3600.0)
    await world.restart()
    writes = world.ledger.writes
    await world.settle()
    assert world.ledger.writes == writes


async def test_a_way_back_that_a_dead_daemon_had_not_begun_is_walked_by_the_next() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    world.faults.chooser = lambda _n, _call: (
        "crash-before" if world.record("web").rollback is not None else None
    )
    with contextlib.suppress(Crash):
        await world.settle()
    assert world.record("web").rollback is not None
    assert world.hypervisor.running() == {}
    world.faults.chooser = lambda _n, _call: None
    world.faults.crashed = False
    world.clock.advance(3600.0)
    await world.restart()
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert world.record("web").quarantine is None


async def test_after_a_restart_of_the_daemon_a_guest_that_served_runs_with_health_unknown() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.restart()
    await world.reconciler.run_pass()
    found = world.status().vms[0]
    assert (found.state, found.healthy, found.unasked) == ("running", False, True)
    await world.settle()
    found = world.status().vms[0]
    assert (found.state, found.healthy, found.unasked) == ("running", True, False)


async def test_after_a_restart_of_the_daemon_a_guest_on_trial_is_still_starting() -> None:
    world = World()
    await world.push(state(vm("web", min_healthy=60.0)))
    while not world.hypervisor.running():
        await world.step()
    await world.restart()
    await world.reconciler.run_pass()
    found = world.status().vms[0]
    assert (found.state, found.unasked) == ("starting", False)
