"""Folders of generations, as microvm.nix's tools would find them."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import DriverError
from reconciler.model.machine import Launch
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.vmm.generation_folders import GenerationFolders
from tests.unit.vmm.machines import a_generation, a_machine

WEB = VMName("web")
BUTTON = ("/bin/sh", "-c", "echo pressed in $(pwd)")


def number(value: int) -> GenerationNumber:
    return GenerationNumber(value)


def run(program: Path, timeout: float = 10) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program], capture_output=True, text=True, check=False, timeout=timeout)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def folders(tmp_path: Path) -> GenerationFolders:
    return GenerationFolders(tmp_path / "vms")


async def create(folders: GenerationFolders, value: int, *argv: str, current: bool = True) -> Path:
    home = folders.folder(WEB)
    launch = Launch(
        argv=argv or ("/bin/echo", "hello"),
        cwd=str(home),
        env=(("KEY", "it's"),),
        power_button=BUTTON,
    )
    await folders.create(a_machine(home), launch, a_generation(value), current=current)
    return home


async def test_a_generation_is_a_runner_and_current_points_at_it(
    folders: GenerationFolders,
) -> None:
    home = await create(folders, 3)
    assert str((home / "current").readlink()) == "generations/3"
    assert os.access(home / "current/bin/microvm-run", os.X_OK)
    assert os.access(home / "current/bin/microvm-shutdown", os.X_OK)
    assert (home / "current/share/microvm/hypervisor").read_text() == "qemu\n"
    assert (home / "volumes").is_dir()


async def test_the_runner_starts_exactly_the_command_with_its_odd_characters(
    folders: GenerationFolders,
) -> None:
    odd = "a b; $(touch x) 'q' \"d\" \\ \n end"
    home = await create(folders, 1, "/usr/bin/printf", "%s|%s", odd, "$KEY")
    ran = run(home / "current/bin/microvm-run")
    assert ran.stdout == f"{odd}|$KEY"


async def test_the_runner_refuses_while_somebody_holds_the_lock(folders: GenerationFolders) -> None:
    home = await create(folders, 1)
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(home / "current/bin/microvm-run").returncode == 1
    assert run(home / "current/bin/microvm-run").returncode == 0


async def test_the_button_is_pressed_in_the_folder_and_the_end_of_the_vmm_waited_for(
    folders: GenerationFolders,
) -> None:
    home = await create(folders, 1)
    with (home / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(subprocess.TimeoutExpired):
            run(home / "current/bin/microvm-shutdown", 0.5)
    assert run(home / "current/bin/microvm-shutdown").stdout == f"pressed in {home}\n"


async def test_a_generation_is_read_back_as_it_was(folders: GenerationFolders) -> None:
    await create(folders, 3)
    assert await folders.read(WEB, number(3)) == a_generation(3)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '[{"generation": 1}]', "\0"])
async def test_a_description_that_is_not_one_is_read_as_nothing(
    folders: GenerationFolders, text: str
) -> None:
    home = await create(folders, 3)
    (home / "current/share/microvm/generation.json").write_text(text)
    assert await folders.read(WEB, number(3)) is None


async def test_a_description_of_another_vm_is_read_as_nothing(folders: GenerationFolders) -> None:
    home = await create(folders, 3)
    (home / "generations/3").rename(home / "generations/4")
    assert await folders.read(WEB, number(4)) is None
    assert await folders.read(WEB, number(5)) is None


async def test_creating_it_again_renews_what_differs_from_start_to_start(
    folders: GenerationFolders,
) -> None:
    home = await create(folders, 3)
    before = (home / "current/share/microvm/hypervisor").stat().st_mtime_ns
    machine = replace(a_machine(home), instance=InstanceId("web-g3-later"))
    await folders.create(machine, Launch(("/bin/later",), str(home)), a_generation(3))
    assert "/bin/later" in (home / "current/bin/microvm-run").read_text()
    assert (home / "current/share/microvm/hypervisor").stat().st_mtime_ns == before


async def test_half_a_generation_of_a_daemon_that_died_is_cleared_away(
    folders: GenerationFolders,
) -> None:
    home = await create(folders, 1)
    (home / "generations/.2.abc").mkdir()
    await create(folders, 3)
    assert names_in(home / "generations") == ["1", "3"]


async def test_a_generation_that_is_only_written_is_not_what_is_started_next(
    folders: GenerationFolders,
) -> None:
    await create(folders, 1)
    home = await create(folders, 2, current=False)
    assert str((home / "current").readlink()) == "generations/1"


async def test_the_runner_of_what_serves_is_not_that_of_a_second_guest_before_it_serves(
    folders: GenerationFolders,
) -> None:
    home = await create(folders, 1, "first")
    await folders.set_booted(WEB, number(1))
    await create(folders, 1, "second", current=False)
    assert "first" in (home / "booted/bin/microvm-run").read_text()
    await create(folders, 1, "second")
    assert "second" in (home / "booted/bin/microvm-run").read_text()


async def test_current_and_booted_move_without_a_gap(folders: GenerationFolders) -> None:
    await create(folders, 1)
    home = await create(folders, 2)
    await folders.set_booted(WEB, number(1))
    assert str((home / "current").readlink()) == "generations/1"
    await folders.set_booted(WEB, number(2))
    assert str((home / "booted").readlink()) == "generations/2"
    assert str((home / "current").readlink()) == "generations/2"


async def test_dropping_removes_those_generations_and_no_others(folders: GenerationFolders) -> None:
    for value in (1, 2, 3):
        await create(folders, value)
    home = folders.folder(WEB)
    await folders.drop(WEB, [number(1), number(2), number(9)])
    assert names_in(home / "generations") == ["3"]


async def test_removing_a_vm_keeps_its_volumes(folders: GenerationFolders) -> None:
    home = await create(folders, 1)
    (home.parent / "web.2/run").mkdir(parents=True)
    (home / "volumes/data.raw").write_text("precious")
    (home / "console.log").write_text("x")
    await folders.remove(WEB)
    assert not (home.parent / "web.2").exists()
    assert (home / "volumes/data.raw").read_text() == "precious"
    assert set(names_in(home)) <= {"volumes", "lock"}
    await folders.remove(WEB)


async def test_removing_a_vm_without_volumes_leaves_nothing(folders: GenerationFolders) -> None:
    home = await create(folders, 1)
    await folders.remove(WEB)
    assert not home.exists()
    await folders.remove(WEB)


async def test_a_socket_that_a_killed_runner_left_keeps_nothing(folders: GenerationFolders) -> None:
    home = await create(folders, 1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "volumes/web.sock"))
    await folders.remove(WEB)
    assert not home.exists()


async def test_a_runner_works_beside_its_volumes_under_the_lock_of_its_vm(
    folders: GenerationFolders,
) -> None:
    home = folders.folder(WEB)
    launch = Launch(
        ("/bin/sh", "-c", "pwd; ! flock -n ../lock true && echo locked"), f"{home}/volumes"
    )
    await folders.create(a_machine(home), launch, a_generation(1), current=True)
    done = run(home / "current/bin/microvm-run")
    assert done.stdout.split() == [f"{home}/volumes", "locked"], done.stderr


async def test_a_disk_that_refuses_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "vms").write_text("a file in its place")
    folders = GenerationFolders(tmp_path / "vms")
    with pytest.raises(DriverError) as caught:
        await create(folders, 1)
    assert caught.value.hint
