"""Data comes back too: snapshots before a new generation writes, and their restoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from reconciler.model.desired import VMSpec
from reconciler.model.names import VMName
from reconciler.model.request import Retry
from tests.fakes.faults import Crash, Fault
from tests.world import World, changed, on_a_disk, state, vm

pytestmark = pytest.mark.shows(fault=76)

DISK = "/state/vms/db/volumes/data.raw"
ONE, OTHER = "aa" * 32, "bb" * 32
"""The sha256 of two images of disks."""
COPY = "/state/vms/db/snapshots/data.raw"


async def booted() -> World:
    world = World()
    await world.push(state(vm("db", snapshot=True)))
    await world.settle()
    return world


@pytest.mark.shows(comparison=16)
async def test_a_rollback_puts_the_volumes_back_as_they_were() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("db", "v2", snapshot=True)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1], "what generation 2 wrote is undone"
    assert world.events("volumes-restored")


@pytest.mark.shows(fault=94)
async def test_a_volume_that_is_gone_is_waited_for_and_no_empty_one_is_begun() -> None:
    world = await booted()
    held = world.hypervisor.sizes.pop(DISK)
    world.hypervisor.kill("db")
    await world.run(60)
    assert world.hypervisor.running() == {}
    assert DISK not in world.hypervisor.sizes
    assert any(
        "is gone" in trouble.error for trouble in world.adapters.ledger.record().builds.values()
    )
    world.hypervisor.sizes[DISK] = held
    await world.settle(300)
    assert world.hypervisor.running() == {"db": 1}


async def test_a_snapshot_is_dropped_when_its_generation_is_committed() -> None:
    world = await booted()
    await world.push(state(vm("db", "v2", snapshot=True)))
    await world.settle()
    assert world.hypervisor.disks == {DISK: [1, 2]}
    assert world.record("db").snapshot is None


async def test_without_the_wish_no_snapshot_is_taken_and_data_stays() -> None:
    world = World()
    await world.push(state(vm("db")))
    await world.settle()
    assert world.hypervisor.disks == {}


async def test_a_snapshot_allows_the_way_back_over_a_data_epoch() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("db", "v2", snapshot=True, epoch=2)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1]


@pytest.mark.shows(comparison=9)
async def test_an_overtaken_trial_leaves_the_snapshot_of_before_it() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation in (2, 3) else "good"
    await world.push(state(vm("db", "v2", snapshot=True)))
    while world.hypervisor.running() != {"db": 2}:
        await world.step()
        world.clock.advance(0.5)
    await world.push(state(vm("db", "v3", snapshot=True)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1]


async def test_a_snapshot_that_fails_starts_the_last_good_generation_again() -> None:
    world = await booted()
    world.faults.chooser = lambda _n, call: "error" if call == "snapshot" else None
    await world.push(state(vm("db", "v2", snapshot=True)))
    await world.settle(600)
    assert world.hypervisor.running() == {"db": 1}
    assert "snapshot failed 3 times" in world.why("db")
    assert world.hypervisor.stops["db"] == 3
    world.faults.chooser = lambda _n, _call: None
    await world.ask(Retry("db"))
    await world.settle(600)
    assert world.hypervisor.running() == {"db": 2}


async def test_a_restore_that_fails_is_tried_again_before_anything_starts() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    twice: list[Fault] = ["error", "error"]
    failures: Iterator[Fault] = iter(twice)
    world.faults.chooser = lambda _n, call: next(failures, None) if call == "restore" else None
    await world.push(state(vm("db", "v2", snapshot=True)))
    await world.settle(600)
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1]


async def test_a_restore_that_death_cut_short_is_finished_before_the_trial_is_tried_again() -> None:
    """The trial wrote before its VMM failed for want of something of the host, and is tried once more."""
    world = await booted()
    fates = iter(["lacks"])
    world.hypervisor.behaviour = lambda m: next(fates, "exits") if m.generation == 2 else "good"
    world.faults.chooser = lambda _n, call: "crash-before" if call == "restore" else None
    await world.push(state(vm("db", "v2", snapshot=True)))
    with pytest.raises(Crash):
        await world.settle(600)
    world.faults.chooser = lambda _n, _call: None
    world.faults.crashed = False
    world.clock.advance(60)
    await world.restart()
    await world.settle(600)
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1], "of the bad generation nothing is left"


async def test_a_removed_vm_keeps_its_volumes() -> None:
    world = await booted()
    assert VMName("db") in world.ledger.record().vms
    assert world.hypervisor.disks[DISK] == [1]


@pytest.mark.shows(fault=10)
async def test_what_the_last_good_one_wrote_after_a_rollback_outlives_the_next_failure() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation in (2, 3) else "good"
    await world.push(state(vm("db", "v2", snapshot=True)))
    while not world.events("volumes-restored") or not world.hypervisor.running():
        await world.step()
        world.clock.advance(0.1)
    await world.ask(Retry("db"))  # the way back is not behind it, and serves already
    await world.push(state(vm("db", "v3", snapshot=True)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1, 1], "twice its own, and of the bad ones nothing"


@pytest.mark.shows(fault=11)
async def test_after_a_reboot_amid_a_trial_the_last_good_one_runs_on_its_own_data() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("db", "v2", snapshot=True)))
    while world.hypervisor.running() != {"db": 2}:
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    while world.hypervisor.running() != {"db": 1}:
        await world.step()
        world.clock.advance(0.1)
    assert world.hypervisor.disks[DISK] == [1, 1]
    await world.settle()
    assert world.hypervisor.disks[DISK] == [1, 1, 1], "what it wrote in between is kept"


@pytest.mark.shows(fault=11)
async def test_a_revert_amid_a_trial_takes_back_what_the_trial_wrote() -> None:
    world = await booted()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("db", "v2", snapshot=True)))
    while world.hypervisor.running() != {"db": 2}:
        await world.step()
        world.clock.advance(0.1)
    await world.push(state(vm("db", snapshot=True)))
    await world.settle()
    assert world.hypervisor.disks == {DISK: [1, 1]}


def db_of(mib: int, content: str = "v1") -> VMSpec:
    spec = vm("db", content, snapshot=True)
    return changed(spec, volumes=(replace(spec.volumes[0], size_mib=mib),))


@pytest.mark.shows(comparison=22)
async def test_a_volume_that_shall_shrink_is_refused_before_anything_stops() -> None:
    world = World()
    await world.push(state(db_of(64), vm("web")))
    await world.settle()
    await world.push(state(db_of(32, "v2"), vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1, "web": 2}, "others go on"
    assert world.hypervisor.stops["db"] == 0
    assert "data has 64MiB and should have 32MiB" in world.why("db")
    status = next(one for one in world.status().vms if one.name == "db")
    assert (status.sync, status.healthy) == ("blocked", True)
    await world.push(state(db_of(64, "v2"), vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"db": 2, "web": 2}


@pytest.mark.shows(comparison=22)
async def test_a_volume_grows_between_two_guests_and_stays_so_after_a_rollback() -> None:
    world = World()
    await world.push(state(db_of(64)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(db_of(128)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.sizes == {DISK: 128}
    world.hypervisor.behaviour = lambda _m: "good"
    await world.push(state(db_of(96)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 3}, "what no good generation had is no shrinking"
    assert world.hypervisor.sizes == {DISK: 128}


async def test_a_volume_that_cannot_grow_stops_no_guest() -> None:
    world = await World.settled(state(db_of(64)))
    world.hypervisor.ungrowable = True
    await world.push(state(db_of(128)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.stops["db"] == 0
    assert world.generation("db", 2).verdict == "condemned"
    assert world.record("db").rollback is None, "there is nothing to go back from"
    assert "could not be grown" in world.why("db")
    status = next(one for one in world.status().vms if one.name == "db")
    assert (status.sync, status.healthy) == ("blocked", True)
    await world.push(state(db_of(64)))
    await world.settle()
    assert world.hypervisor.stops["db"] == 0


async def test_a_volume_that_cannot_grow_brings_the_last_good_generation_back_at_once() -> None:
    world = World()
    await world.push(state(db_of(64)))
    await world.settle()
    world.hypervisor.ungrowable_at_rest = True
    await world.push(state(db_of(128)))
    began = world.clock.now().boot
    await world.settle()
    assert world.clock.now().boot - began < 30.0
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[DISK] == [1, 1]
    evidence = world.generation("db", 2).evidence
    assert evidence is not None
    assert evidence.kind == "volumes"
    assert "could not be grown" in world.why("db")


def kept_disk(sha256: str, memory: int = 128, *, snapshot: bool = False) -> VMSpec:
    """A VM that boots a disk and keeps what its guests write to it."""
    return on_a_disk(vm("db", memory=memory, snapshot=snapshot), sha256)


def written_above(sha256: str) -> str:
    return f"/state/vms/db/volumes/root-{sha256}.qcow2"


async def test_what_is_written_to_a_disk_is_seen_above_its_own_image_alone() -> None:
    world = World()
    await world.push(state(kept_disk(ONE)))
    await world.settle()
    await world.push(state(kept_disk(ONE, 136)))
    await world.settle()
    assert world.hypervisor.disks == {written_above(ONE): [1, 2]}
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 3 else "good"
    await world.push(state(kept_disk(OTHER)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 2}
    assert world.hypervisor.disks == {written_above(ONE): [1, 2, 2], written_above(OTHER): [3]}
    await world.push(state(kept_disk(OTHER, 136)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 4}
    assert world.hypervisor.disks[written_above(OTHER)] == [3, 4]
    await world.push(state(kept_disk(ONE, 144)))
    await world.settle()
    assert world.hypervisor.disks[written_above(ONE)] == [1, 2, 2, 5], (
        "it comes back with its image"
    )


async def test_a_rollback_puts_a_kept_disk_back_as_it_was() -> None:
    world = World()
    await world.push(state(kept_disk(ONE, snapshot=True)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(kept_disk(ONE, 136, snapshot=True)))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert world.hypervisor.disks[written_above(ONE)] == [1, 1], "what generation 2 wrote is undone"


async def test_a_kept_disk_that_is_gone_is_waited_for_and_none_is_begun_in_its_place() -> None:
    world = World()
    await world.push(state(kept_disk(ONE)))
    await world.settle()
    held = world.hypervisor.sizes.pop(written_above(ONE))
    world.hypervisor.kill("db")
    await world.run(60)
    assert world.hypervisor.running() == {}
    assert written_above(ONE) not in world.hypervisor.sizes
    world.hypervisor.sizes[written_above(ONE)] = held
    await world.settle(300)
    assert world.hypervisor.running() == {"db": 1}
