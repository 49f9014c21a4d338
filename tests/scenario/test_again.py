"""Handover, again: restarts and ways back of a VM that serves, beside the guest that serves."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from reconciler.model.desired import GroupSpec
from reconciler.model.names import GenerationNumber, GroupName
from reconciler.model.observed import Exit
from reconciler.model.record import Record
from reconciler.model.request import Request, RestartVM, Resume, RollbackTo, Suspend
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.scenario.second_guests import (
    FIRST,
    WEB,
    Gap,
    new_guests,
    now_serves,
    on_trial,
    serving,
    until,
)
from tests.world import CHECK, World, state, vm


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.shows(comparison=20)
async def test_a_restart_is_served_without_a_gap_by_a_second_guest_of_the_same_generation(
    world: World,
) -> None:
    await serving(world)
    first, good = now_serves(world), world.last_good("web")
    gap = Gap(world)
    await world.ask(RestartVM("web"))
    await world.settle()
    assert (gap.missed, gap.most) == (0, 2)
    assert now_serves(world) != first
    assert world.hypervisor.log == [
        ("start", "web", 1), ("lead", "web", 1),
        ("start", "web", 1), ("lead", "web", 1), ("end", "web", 1),
    ]  # fmt: skip
    assert world.last_good("web") == good, "it is the same generation, with the same verdict"
    assert world.events("handed-over") == ["web: generation 1 took over from its former guest"]
    assert dict(world.record("web").restarts) == {"manual": 1}
    assert world.record("web").restart is None


async def test_what_is_done_meanwhile_is_told(world: World) -> None:
    await serving(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    assert "generation 1 started again beside 1" in world.why("web")
    assert [(v.candidate, v.healthy) for v in world.status().vms] == [(1, True)]


@pytest.mark.parametrize("fate", ["bad", "sick", "exits", "panics"])
async def test_a_restart_that_fails_leaves_the_guest_that_serves_and_condemns_nothing(
    world: World, fate: str
) -> None:
    await serving(world)
    first, gap = now_serves(world), Gap(world)
    world.hypervisor.behaviour = new_guests(fate, world)
    await world.ask(RestartVM("web"))
    await world.settle()
    assert gap.missed == 0
    assert [g.process.instance for g in world.hypervisor.all_living("web")] == [first]
    assert world.generation("web", 1).verdict == "committed"
    assert world.record("web").blocked == ()
    assert world.record("web").restart is None, "asked for once, tried once"
    [told] = world.events("restart-given-up")
    assert "did not come up beside generation 1" in told
    assert "the restart is given up" in told
    world.hypervisor.behaviour = lambda _machine: "good"
    await world.ask(RestartVM("web"))
    await world.settle()
    assert now_serves(world) != first


@pytest.mark.parametrize("ill", [False, True])
async def test_a_guest_that_does_not_serve_is_ended_at_once_for_a_restart(
    world: World, *, ill: bool
) -> None:
    await serving(world)
    guest = world.hypervisor.living("web")
    await world.ask(RestartVM("web"))
    if ill:
        guest.fate = "bad"
        await until(world, lambda: world.hypervisor.starts["web"] == 2)
    else:
        world.hypervisor.kill("web")
    await world.settle()
    assert now_serves(world) != guest.process.instance
    assert len(world.hypervisor.all_living("web")) == 1


async def test_the_guest_that_serves_dies_and_the_second_one_is_in_its_place_at_once(
    world: World,
) -> None:
    await serving(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    second = world.hypervisor.all_living("web")[1].process.instance
    world.hypervisor.kill("web")
    await world.step()
    await world.step()
    assert now_serves(world) == second
    await world.settle()
    assert now_serves(world) == second
    assert world.hypervisor.starts["web"] == 2, "no third one is started"


async def test_a_restart_waits_for_memory_for_both_guests() -> None:
    world = World()
    await serving(world)
    first = now_serves(world)
    world.host.value = replace(world.host.value, memory_available_mib=64)
    await world.ask(RestartVM("web"))
    await world.run(10.0)
    assert "128MiB more memory for a second guest beside the one that serves" in world.why("web")
    assert now_serves(world) == first
    world.host.value = replace(world.host.value, memory_available_mib=4096)
    await world.settle()
    assert now_serves(world) != first


async def test_short_of_memory_a_restart_stops_first_where_the_manifest_allows_it() -> None:
    world = World()
    await serving(world, short="restart")
    first, short = now_serves(world), replace(world.host.value, memory_available_mib=64)

    def room() -> None:
        gone = not world.hypervisor.all_living("web")
        world.host.value = replace(short, memory_available_mib=64 + 128 * gone)

    world.on_pass = room
    room()
    await world.ask(RestartVM("web"))
    await world.settle()
    assert now_serves(world) != first
    assert [kind for kind, *_ in world.hypervisor.log][-3:] == ["end", "start", "lead"]


async def test_a_newer_commit_overtakes_a_restart_and_is_one(world: World) -> None:
    await serving(world)
    gap = Gap(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    await serving(world, "v2")
    assert gap.missed == 0
    assert world.hypervisor.running() == {"web": 2}
    assert world.hypervisor.starts["web"] == 3
    assert world.record("web").restart is None


async def test_a_restart_of_a_member_uses_nothing_of_the_budget() -> None:
    world = World()
    group = GroupSpec(GroupName("front"), max_unavailable=1)
    vms = [vm(n, group="front", handover=True, port=CHECK.port + i) for i, n in enumerate("abc")]
    await world.push(state(*vms, groups=(group,)))
    await world.settle()
    for name in "abc":
        await world.ask(RestartVM(name))
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, sum(len(world.hypervisor.all_living(name)) == 2 for name in "abc"))

    world.on_pass = look
    await world.settle()
    assert most == 3
    assert world.hypervisor.starts == {"a": 2, "b": 2, "c": 2}


@pytest.mark.shows(comparison=20)
async def test_a_rollback_that_a_person_asks_for_is_served_without_a_gap(world: World) -> None:
    await serving(world, "v1", "v2")
    gap = Gap(world)
    await world.ask(RollbackTo("web", FIRST))
    await world.settle()
    assert (gap.missed, gap.most) == (0, 2)
    assert world.hypervisor.running() == {"web": 1}
    assert "kept at generation 1" in world.why("web")
    await world.ask(Resume("web"))
    await world.settle()
    assert (gap.missed, gap.most) == (0, 2), "and so is the way forward again"
    assert world.hypervisor.running() == {"web": 2}
    assert [g.verdict for g in world.record("web").generations] == ["committed", "committed"]


async def test_a_rollback_of_a_guest_that_fails_its_checks_ends_it_at_once(world: World) -> None:
    await serving(world, "v1", "v2")
    world.hypervisor.living("web").fate = "bad"
    await world.ask(Suspend(None))
    await until(world, lambda: not world.status().vms[0].healthy)
    gap = Gap(world)
    await world.ask(RollbackTo("web", FIRST))
    await world.ask(Resume(None))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert gap.most == 1, "nobody waits for a boot beside who serves nobody"


async def test_a_way_back_that_does_not_come_up_is_tried_again_with_pauses_beside_who_serves(
    world: World,
) -> None:
    await serving(world, "v1", "v2")
    second, gap = now_serves(world), Gap(world)
    world.hypervisor.behaviour = new_guests("exits", world)
    await world.ask(RollbackTo("web", FIRST))
    await world.run(100.0)
    assert gap.missed == 0
    assert now_serves(world) == second
    assert 2 <= len(world.events("candidate-failed")) <= 6
    assert world.generation("web", 1).verdict == "committed"
    world.hypervisor.behaviour = lambda _machine: "good"
    await world.ask(RollbackTo("web", FIRST))
    await world.run(10.0)
    assert world.hypervisor.running() == {"web": 1}, "who asks again does not wait for the pause"
    assert gap.missed == 0


async def test_a_group_that_goes_back_goes_back_without_a_gap() -> None:
    world = World()
    group = GroupSpec(GroupName("front"), on_failure="rollbackGroup")

    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("x", 2) else "good"
    members = {"web": CHECK.port, "x": CHECK.port + 1}

    async def push(content: str) -> None:
        after = {"web": (), "x": ("web",)}
        vms = [
            vm(n, content, group="front", handover=True, port=p, after=after[n])
            for n, p in members.items()
        ]
        await world.push(state(*vms, groups=(group,)))

    await push("v1")
    await world.settle()
    gap = Gap(world)
    await push("v2")
    await world.settle()
    assert world.hypervisor.running() == {"web": 1, "x": 1}
    assert ("start", "web", 2) in world.hypervisor.log
    assert (gap.missed, gap.most) == (0, 2)


@pytest.mark.parametrize(
    "asked", [RestartVM("web"), RollbackTo("web", FIRST)], ids=["restart", "back"]
)
@pytest.mark.parametrize("call", ["start", "open-ports", "lead", "drained", "booted", "write"])
@pytest.mark.parametrize("death", ["crash-before", "crash-after"])
async def test_the_daemon_dies_at_every_step_and_the_next_one_carries_on_without_a_gap(
    asked: Request, call: str, death: Fault
) -> None:
    for at in range(5):
        world = World()
        await serving(world, "v1", "v2")
        before = now_serves(world)
        seen = [0]

        def choose(_number: int, name: str, at: int = at, seen: list[int] = seen) -> Fault | None:
            seen[0] += name == call
            return death if name == call and seen[0] == at + 1 else None

        gap = Gap(world)
        await world.ask(asked)  # the deaths come after a person was told that it is done
        world.faults.chooser = choose
        with contextlib.suppress(Crash):
            await world.settle()
        if world.faults.crashed:
            world.faults.crashed = False
            await world.restart()
            await world.settle()
        assert gap.missed == 0, (call, at)
        assert now_serves(world) != before
        assert len(world.hypervisor.all_living("web")) == 1
        assert world.hypervisor.running()[WEB] == (2 if isinstance(asked, RestartVM) else 1)


async def test_a_suspended_vm_keeps_both_guests_of_a_restart_and_goes_on_later(
    world: World,
) -> None:
    await serving(world)
    first = now_serves(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    await world.ask(Suspend("web"))
    await world.run(60.0)
    assert len(world.hypervisor.all_living("web")) == 2
    assert now_serves(world) == first
    await world.ask(Resume("web"))
    await world.settle()
    assert now_serves(world) != first


@pytest.mark.shows(fault=17)
@pytest.mark.parametrize("stood", [True, False], ids=["stood-still", "suspended"])
async def test_a_restart_gets_its_whole_time_again_after_one_in_which_nobody_looked(
    world: World, *, stood: bool
) -> None:
    await serving(world)
    first = now_serves(world)
    world.hypervisor.behaviour = new_guests("bad", world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    if stood:
        world.clock.advance(600.0)
    else:
        await world.ask(Suspend("web"))
        await world.run(600.0)
        await world.ask(Resume("web"))
    await world.step()
    for guest in world.hypervisor.all_living("web"):
        guest.fate = "good"  # it comes up within its time
    await world.settle()
    assert now_serves(world) != first
    assert not world.events("restart-given-up")


async def test_the_ledger_is_lost_between_two_guests_of_one_generation_and_nothing_is_condemned(
    world: World,
) -> None:
    await serving(world)
    first = now_serves(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    world.ledger._record = Record()
    await world.restart()
    await world.push(state(vm("web", handover=True)))
    await world.run(6.0)
    assert world.generation("web", 1).verdict == "committed"
    assert now_serves(world) == first
    await world.ask(Resume("web"))
    await world.settle()
    assert [g.process.instance for g in world.hypervisor.all_living("web")] == [first]


async def test_a_host_that_lost_its_power_during_a_restart_starts_one_guest(world: World) -> None:
    await serving(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    await world.settle()
    assert len(world.hypervisor.all_living("web")) == 1
    assert world.generation("web", 1).verdict == "committed"
    assert world.events("restart-given-up") == [], "the host went down, and not the guest"


async def test_the_link_to_what_is_started_next_never_leads_to_a_candidate(world: World) -> None:
    await serving(world)
    seen: set[GenerationNumber] = set()
    world.on_pass = lambda: seen.add(world.hypervisor.current[WEB])
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await serving(world, "v2")
    assert world.generation("web", 2).verdict == "condemned"
    assert seen == {1}
    await serving(world, "v3")
    assert world.hypervisor.current[WEB] == 3


async def test_a_second_guest_that_ended_with_the_first_is_no_reason_to_wait(world: World) -> None:
    await serving(world)
    await world.ask(RestartVM("web"))
    await until(world, lambda: on_trial(world))
    for guest in world.hypervisor.all_living("web"):
        world.hypervisor.end(guest.process.instance, Exit(signal=9))
    await world.settle()
    assert len(world.hypervisor.all_living("web")) == 1
    now_serves(world)


@pytest.mark.shows(fault=16)
async def test_a_restart_waits_until_a_way_back_is_over(world: World) -> None:
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    await world.settle()
    await world.push(state(vm("web", "v2")))
    await until(
        world, lambda: bool(world.record("web").rollback) and world.hypervisor.running() == {WEB: 1}
    )
    back = world.hypervisor.living("web").process.instance
    stops = set[bool]()
    world.on_pass = lambda: stops.add(
        world.record("web").stop is not None and world.record("web").rollback is not None
    )
    await world.ask(RestartVM("web"))
    await world.settle()
    assert stops == {False}
    assert world.hypervisor.living("web").process.instance != back
