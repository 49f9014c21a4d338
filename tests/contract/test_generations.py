"""What every keeper of generations' folders must do when a VM gets another name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.engine.guest_interfaces import Generations
from reconciler.errors import DriverError
from reconciler.model.machine import Launch
from reconciler.model.names import VMName
from reconciler.model.record import Generation
from reconciler.planning.machines import instance_id, machine_of
from reconciler.vmm.generation_folders import GenerationFolders
from tests.world import World, observed_on, vm

WEB, SHOP = VMName("web"), VMName("shop")
WORLD = World()
FIRST = Generation(WEB, 1, vm("web").digest, "f" * 40, vm("web"), 0.0)  # type: ignore[arg-type]  # plain


@pytest.fixture(params=("fake", "real"))
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Generations:
    makers: dict[str, Callable[[], Generations]] = {
        "fake": lambda: World().hypervisor,
        "real": lambda: GenerationFolders(tmp_path / "vms"),
    }
    return makers[request.param]()


async def made(keeper: Generations, generation: Generation) -> None:
    world = World()
    instance = instance_id(generation.vm, generation, world.clock.now())
    machine = machine_of(generation, instance, observed_on(world.host.value), "/state")
    await keeper.create(machine, Launch(("true",), "/"), generation, current=True)


async def test_a_moved_folder_is_under_its_new_name_and_no_more_under_the_old(
    keeper: Generations,
) -> None:
    await made(keeper, FIRST)
    assert await keeper.occupied([WEB, SHOP]) == {WEB}
    await keeper.move(WEB, SHOP)
    assert await keeper.occupied([WEB, SHOP]) == {SHOP}


async def test_a_move_that_was_done_is_done_again_without_harm(keeper: Generations) -> None:
    await made(keeper, FIRST)
    await keeper.move(WEB, SHOP)
    await keeper.move(WEB, SHOP)
    assert await keeper.occupied([WEB, SHOP]) == {SHOP}


async def test_nothing_is_moved_onto_what_lies_there_already(keeper: Generations) -> None:
    await made(keeper, FIRST)
    await keeper.move(WEB, SHOP)
    await made(keeper, FIRST)
    with pytest.raises(DriverError) as refused:
        await keeper.move(WEB, SHOP)
    assert refused.value.kind == "occupied"
    assert await keeper.occupied([WEB, SHOP]) == {WEB, SHOP}


async def test_a_vm_of_which_nothing_was_written_is_moved_all_the_same(keeper: Generations) -> None:
    await made(keeper, FIRST)
    await keeper.move(VMName("other"), SHOP)
    assert await keeper.occupied([WEB, SHOP]) == {WEB}


async def test_volumes_console_and_lock_move_with_the_real_folder(tmp_path: Path) -> None:
    keeper = GenerationFolders(tmp_path)
    await made(keeper, FIRST)
    volume = tmp_path / "web/volumes/data.raw"
    volume.write_bytes(b"acknowledged")
    lock = os.open(tmp_path / "web/lock", os.O_CREAT | os.O_RDWR)
    (tmp_path / "shop").mkdir()  # an empty folder is in nobody's way
    await keeper.move(WEB, SHOP)
    assert (tmp_path / "shop/volumes/data.raw").read_bytes() == b"acknowledged"
    assert os.fstat(lock).st_ino == (tmp_path / "shop/lock").stat().st_ino
    assert (tmp_path / "shop/current/share/microvm/generation.json").exists()
    os.close(lock)
