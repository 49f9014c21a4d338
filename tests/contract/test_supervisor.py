"""What every supervisor must do, shown on each of them."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from os import geteuid
from pathlib import Path
from typing import Protocol

import pytest

from reconciler.clock import SystemClock
from reconciler.engine.guest_interfaces import Supervisor
from reconciler.errors import GuestConflict, SupervisorError
from reconciler.model.machine import Disk, Launch, Machine, Slot
from reconciler.model.names import InstanceId
from reconciler.model.observed import Process
from reconciler.supervisor.local import LocalSupervisor
from reconciler.supervisor.systemd import SystemdSupervisor
from tests.contract.vmms import (
    EXITS_WITH_3,
    FAILS_AT_ONCE,
    IGNORES_SIGTERM,
    IS_NOT_THERE,
    LACKS_A_PORT,
    LIVES,
    PANICS,
    a_guest,
)
from tests.eventually import eventually

pytestmark = pytest.mark.shows(fault=75, row=10)

SOON = 30.0
"""Seconds until a process that was killed is gone, on a host that does much else too."""
SLOTS: tuple[Slot, ...] = (1, 2)


class Stage(Protocol):
    """A host with one supervisor at a time."""

    root: Path
    wakes: int
    changes: list[Process]
    supervisor: Supervisor

    async def next_daemon(self) -> Supervisor:
        """The daemon dies; another one starts on the same state, and adopts."""
        ...

    async def close(self) -> None: ...


Kept = LocalSupervisor | SystemdSupervisor


@dataclass
class KeptStage:
    """A stage of one kind of supervisor."""

    kind: type[Kept]
    root: Path
    wakes: int = 0
    changes: list[Process] = field(default_factory=list)

    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.kept = self.supervisor = self._open()

    def _open(self) -> Kept:
        return self.kind(self.root, SystemClock(), self._wake, self.changes.append)

    def _wake(self) -> None:
        self.wakes += 1

    async def next_daemon(self, meanwhile: Callable[[], object] = lambda: None) -> Supervisor:
        await self.kept.close()
        meanwhile()
        self.kept = self.supervisor = self._open()
        await self.kept.adopt()
        return self.kept

    async def close(self) -> None:
        for process in self.supervisor.processes():
            await self.supervisor.signal(process.instance, signal.SIGKILL)
            assert await self.supervisor.wait_gone(process.instance, SOON)
            await self.supervisor.forget(process.instance)
        await self.kept.close()


STAGES: dict[str, Callable[[Path], KeptStage]] = {
    "local": partial(KeptStage, LocalSupervisor),
    "systemd": partial(KeptStage, SystemdSupervisor),
}


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "systemd" and not (Path("/run/systemd/system").is_dir() and geteuid() == 0):
        pytest.skip("no systemd here; tests/systemd runs this in a container")
    stage = STAGES[request.param](tmp_path / "vms")
    await stage.supervisor.adopt()
    yield stage
    await stage.close()


async def start(stage: Stage, argv: tuple[str, ...] = LIVES, name: str = "web") -> Process:
    machine, launch = a_guest(stage.root, argv, name)
    return await stage.supervisor.start(machine, launch)


def only(stage: Stage) -> Process:
    (process,) = stage.supervisor.processes()
    return process


async def test_a_supervisor_without_guests_has_none(stage: Stage) -> None:
    assert stage.supervisor.processes() == ()
    assert stage.supervisor.conflicts() == ()


async def test_a_started_guest_is_there_and_alive(stage: Stage) -> None:
    before = SystemClock().now().boot
    process = await start(stage)
    assert only(stage) == process
    assert process.alive
    assert process.vm == "web"
    assert abs(process.started_boot - before) < 5
    assert stage.changes == [process]


async def test_processes_are_the_same_object_until_something_changes(stage: Stage) -> None:
    await start(stage)
    assert stage.supervisor.processes() is stage.supervisor.processes()


@pytest.mark.shows(law=1)
async def test_a_second_guest_of_a_vm_is_refused_and_the_first_lives_on(stage: Stage) -> None:
    process = await start(stage)
    with pytest.raises(GuestConflict):
        await start(stage)
    assert only(stage) == process


@pytest.mark.shows(law=1)
async def test_of_two_starts_at_once_exactly_one_wins(stage: Stage) -> None:
    starts = [start(stage) for _ in range(5)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(result, Process) for result in results) == 1
    assert sum(isinstance(result, GuestConflict) for result in results) == 4


async def test_many_vms_start_at_once(stage: Stage) -> None:
    await asyncio.gather(*(start(stage, name=f"vm{n}") for n in range(20)))
    assert {p.vm for p in stage.supervisor.processes() if p.alive} == {f"vm{n}" for n in range(20)}


async def test_a_program_that_is_not_there_is_an_error_with_a_hint(stage: Stage) -> None:
    with pytest.raises(SupervisorError) as caught:
        await start(stage, IS_NOT_THERE)
    assert caught.value.hint
    assert stage.supervisor.processes() == ()
    await start(stage)


async def test_a_death_wakes_the_loop_and_tells_the_signal(stage: Stage) -> None:
    process = await start(stage)
    await stage.supervisor.signal(process.instance, signal.SIGKILL)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    dead = only(stage)
    assert dead.exit is not None
    assert dead.exit.signal == signal.SIGKILL
    assert stage.wakes == 1
    assert stage.changes == [process, dead]


async def test_an_exit_tells_its_status(stage: Stage) -> None:
    process = await start(stage, EXITS_WITH_3)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    assert str(only(stage).exit) == "exit status 3"


async def test_a_panic_is_recognised_and_shown_without_control_characters(stage: Stage) -> None:
    process = await start(stage, PANICS)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    end = only(stage).exit
    assert end is not None
    assert end.panicked
    assert end.console == ("Booting", "[    1.2] Kernel panic - not syncing: init is gone")


async def test_the_panic_of_an_earlier_guest_is_not_blamed_on_the_next(stage: Stage) -> None:
    process = await start(stage, PANICS)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    await stage.supervisor.forget(process.instance)
    process = await start(stage, EXITS_WITH_3)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    end = only(stage).exit
    assert end is not None
    assert not end.panicked
    assert end.console == ()


async def test_what_the_vmm_said_before_it_failed_is_kept(stage: Stage) -> None:
    process = await start(stage, FAILS_AT_ONCE)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    end = only(stage).exit
    assert end is not None
    assert end.console == ("vmm: cannot bind port 8080",)


async def test_what_the_host_lacked_is_told_apart_from_what_the_guest_did(stage: Stage) -> None:
    process = await start(stage, LACKS_A_PORT)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    end = only(stage).exit
    assert end is not None
    assert "Could not set up host forwarding rule" in end.host_fault
    await stage.supervisor.forget(process.instance)
    process = await start(stage, FAILS_AT_ONCE)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    end = only(stage).exit
    assert end is not None
    assert end.host_fault == ""


async def test_a_guest_that_ignores_sigterm_is_still_there_after_the_wait(stage: Stage) -> None:
    process = await start(stage, IGNORES_SIGTERM)
    await eventually((stage.root / "web/run/ready").exists)
    await stage.supervisor.signal(process.instance, signal.SIGTERM)
    assert not await stage.supervisor.wait_gone(process.instance, 0.1)
    assert only(stage).alive
    await stage.supervisor.signal(process.instance, signal.SIGKILL)
    assert await stage.supervisor.wait_gone(process.instance, SOON)


async def test_signals_to_the_dead_and_the_unknown_do_nothing(stage: Stage) -> None:
    process = await start(stage, EXITS_WITH_3)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    await stage.supervisor.signal(process.instance, signal.SIGKILL)
    await stage.supervisor.signal(InstanceId("nobody"), signal.SIGKILL)
    assert await stage.supervisor.wait_gone(InstanceId("nobody"), 0)


async def test_a_dead_guest_stays_until_it_is_forgotten(stage: Stage) -> None:
    process = await start(stage, EXITS_WITH_3)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    assert not only(stage).alive
    await stage.supervisor.forget(process.instance)
    await stage.supervisor.forget(process.instance)
    assert stage.supervisor.processes() == ()
    await stage.next_daemon()
    assert stage.supervisor.processes() == ()


async def test_the_living_are_not_forgotten(stage: Stage) -> None:
    process = await start(stage)
    await stage.supervisor.forget(process.instance)
    assert only(stage) == process


async def test_the_vm_of_a_dead_guest_can_be_started_before_it_is_forgotten(stage: Stage) -> None:
    first = await start(stage, EXITS_WITH_3)
    assert await stage.supervisor.wait_gone(first.instance, SOON)
    second = await start(stage)
    await stage.supervisor.forget(first.instance)
    assert only(stage) == second
    await stage.next_daemon()
    assert only(stage) == second


async def test_the_next_daemon_adopts_the_living_as_they_were(stage: Stage) -> None:
    processes = {(await start(stage, name=name)) for name in ("web", "db")}
    await stage.next_daemon()
    assert set(stage.supervisor.processes()) == processes


async def test_the_next_daemon_finds_those_that_died_meanwhile(stage: Stage) -> None:
    process = await start(stage, PANICS)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    await stage.next_daemon()
    found = only(stage)
    assert (found.instance, found.generation) == (process.instance, process.generation)
    assert found.exit is not None
    assert found.exit.panicked


async def test_an_adopted_guest_can_be_signalled_and_its_death_is_noticed(stage: Stage) -> None:
    process = await start(stage)
    await stage.next_daemon()
    before = stage.wakes
    await stage.supervisor.signal(process.instance, signal.SIGKILL)
    assert await stage.supervisor.wait_gone(process.instance, SOON)
    assert not only(stage).alive
    assert stage.wakes == before + 1


async def test_a_second_guest_is_refused_after_adoption_too(stage: Stage) -> None:
    process = await start(stage)
    await stage.next_daemon()
    with pytest.raises(GuestConflict):
        await start(stage)
    assert only(stage) == process


async def start_in(stage: Stage, slot: Slot, argv: tuple[str, ...] = LIVES) -> Process:
    machine, launch = a_guest(stage.root, argv, number=slot, slot=slot)
    return await stage.supervisor.start(machine, launch)


async def test_a_vm_has_two_slots_and_a_guest_in_each_at_most(stage: Stage) -> None:
    both = {await start_in(stage, 1), await start_in(stage, 2)}
    assert {(p.vm, p.slot) for p in both} == {("web", 1), ("web", 2)}
    for slot in SLOTS:
        with pytest.raises(GuestConflict):
            await start_in(stage, slot)
    assert set(stage.supervisor.processes()) == both
    assert stage.supervisor.conflicts() == ()


@pytest.mark.shows(law=1)
async def test_who_writes_to_volumes_is_never_in_the_second_slot(stage: Stage) -> None:
    disk = Disk(str(stage.root / "web/volumes/data.raw"), "vol-data", read_only=False)
    machine, launch = a_guest(stage.root, slot=2, volumes=(disk,))
    with pytest.raises(GuestConflict):
        await stage.supervisor.start(machine, launch)
    assert stage.supervisor.processes() == ()


async def test_the_next_daemon_adopts_both_guests_of_a_vm_where_they_are(stage: Stage) -> None:
    both = {await start_in(stage, 1), await start_in(stage, 2)}
    await stage.next_daemon()
    assert set(stage.supervisor.processes()) == both
    with pytest.raises(GuestConflict):
        await start_in(stage, 2)


async def test_a_signal_means_one_of_both_guests_and_its_end_is_its_own(stage: Stage) -> None:
    first, second = await start_in(stage, 1), await start_in(stage, 2, PANICS)
    assert await stage.supervisor.wait_gone(second.instance, SOON)
    third = await start_in(stage, 2)
    await stage.supervisor.signal(third.instance, signal.SIGKILL)
    assert await stage.supervisor.wait_gone(third.instance, SOON)
    found = {p.instance: p for p in stage.supervisor.processes()}
    assert found[first.instance].alive
    ends = (found[second.instance].exit, found[third.instance].exit)
    assert [end.panicked for end in ends if end is not None] == [True, False]
    for process in (second, third):
        await stage.supervisor.forget(process.instance)
    assert only(stage) == first


async def test_a_stranger_in_one_slot_is_no_conflict_of_the_other(stage: Stage) -> None:
    await start_in(stage, 1)
    folder = stage.root / "web.2"
    folder.mkdir()
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(GuestConflict):
            await start_in(stage, 2)
        assert [c.vm for c in stage.supervisor.conflicts()] == ["web"]
        assert only(stage).slot == 1
    await start_in(stage, 2)
    assert stage.supervisor.conflicts() == ()


async def test_who_starts_a_guest_may_go_away_and_the_guest_is_known(stage: Stage) -> None:
    machine: Machine
    launch: Launch
    machine, launch = a_guest(stage.root)
    starting = asyncio.create_task(stage.supervisor.start(machine, launch))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await eventually(lambda: len(stage.supervisor.processes()) == 1)
    assert only(stage).instance == machine.instance
