"""What every driver of a VMM must do, shown on each that is registered, on the fake, and on a stub that is added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path, PurePath

import pytest

from reconciler.errors import DriverError
from reconciler.hypervisors import CAPABILITIES, HYPERVISORS, NIX_RUNNER
from reconciler.model.machine import GuestEndpoint
from reconciler.supervisor.guest_file import slot_of
from tests.contract import stub_vmm
from tests.contract.drivers import BENCHES, Bench, everything
from tests.contract.test_supervisor import STAGES
from tests.house import House

SECONDS = 2.0
"""A deadline that is short, and that a host under load keeps."""
NAMED_OUTSIDE = {"hypervisors.py", "model/host_fault.py", "vmm/registry.py"}
"""Beside its own folder: its name and capabilities, its words for a host in trouble, its registration."""


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return BENCHES[request.param](tmp_path / "vms/web")


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def endpoint(bench: Bench, pid: int) -> GuestEndpoint:
    machine = bench.machine
    return GuestEndpoint(
        machine.instance, machine.generation, machine.folder, machine.networks, pid,
        hypervisor=bench.name,
    )  # fmt: skip


async def refusal(asked: Awaitable[object]) -> DriverError:
    with pytest.raises(DriverError) as caught:
        await asked
    return caught.value


def test_each_name_has_a_driver_that_can_do_what_is_said_of_it() -> None:
    drivers = everything()
    assert [*drivers] == [*HYPERVISORS, NIX_RUNNER, stub_vmm.NAME]
    assert {name: drivers.of(name).capabilities for name in CAPABILITIES} == CAPABILITIES


def test_a_guest_of_a_vmm_that_this_version_does_not_know_has_no_driver() -> None:
    with pytest.raises(DriverError) as caught:
        everything().of("of-tomorrow")
    assert caught.value.kind == "hypervisor"


def test_a_vmm_is_named_in_two_files_beside_its_folder_and_its_words() -> None:
    assert {place.partition(":")[0] for place in House().qemu_lines} == NAMED_OUTSIDE


def test_a_command_line_is_the_same_each_time_and_runs_below_the_guests_folder(
    bench: Bench, tmp_path: Path
) -> None:
    before = files(tmp_path)
    launch = bench.driver.launch(bench.machine)
    assert launch == bench.driver.launch(bench.machine)
    assert all(launch.argv)
    assert "\0" not in "".join(launch.argv)
    assert PurePath(launch.cwd).is_relative_to(bench.machine.folder)
    assert files(tmp_path) == before


def test_a_driver_with_a_power_button_names_a_command_that_presses_it(bench: Bench) -> None:
    if bench.name == "fake":
        pytest.skip("nobody runs the commands of the fake")
    button = bench.driver.launch(bench.machine).power_button
    assert bool(button) == bench.driver.capabilities.power_button
    assert not button or Path(button[0]).is_absolute()


async def test_what_a_start_needs_is_made_and_made_again(bench: Bench, tmp_path: Path) -> None:
    await bench.driver.prepare(bench.machine)
    made = files(tmp_path)
    await bench.driver.prepare(bench.machine)
    assert files(tmp_path) == made


async def test_a_living_guest_hears_its_power_button(bench: Bench) -> None:
    async with bench.living() as pid:
        await bench.driver.press_power_button(bench.folder, pid, SECONDS)
    assert bench.was_asked()


async def test_a_vmm_in_another_ones_place_is_not_asked_to_end(bench: Bench) -> None:
    async with bench.living() as pid:
        await refusal(bench.driver.press_power_button(bench.folder, pid + 1, SECONDS))
    assert not bench.was_asked()


async def test_a_folder_without_a_guest_is_an_error_and_no_wait(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    await refusal(bench.driver.press_power_button(bench.folder, 1, SECONDS))


async def test_ports_are_opened_or_refused_by_what_the_driver_says_of_itself(bench: Bench) -> None:
    given_up: list[str] = []

    async def before() -> None:
        given_up.append("asked")

    refused = await refusal(bench.driver.open_ports(endpoint(bench, 1), before))
    assert (refused.kind == "capability") != bench.driver.capabilities.open_ports
    assert given_up == [], "nothing was given up for a guest that is not there"


async def test_figures_are_given_or_refused_by_what_the_driver_says_of_itself(bench: Bench) -> None:
    refused = await refusal(bench.driver.figures(bench.folder, 1, SECONDS))
    assert (refused.kind == "capability") != bench.driver.capabilities.figures


async def test_a_host_that_was_probed_gives_the_same_answer_again(
    bench: Bench, tmp_path: Path
) -> None:
    first = await bench.driver.fingerprint("boot-1", tmp_path)
    assert await bench.driver.fingerprint("boot-1", tmp_path) == first
    assert first.accel in ("kvm", "tcg")


async def test_a_program_that_is_not_there_is_an_answer(tmp_path: Path) -> None:
    found = (
        await everything(program=str(tmp_path / "absent")).of(HYPERVISORS[0]).fingerprint("b", None)
    )
    assert (found.path, found.version, found.accel) == ("", "", "tcg")
    assert found.package


Step = Callable[[], Awaitable[object]]


async def test_a_guest_of_an_added_vmm_is_found_by_the_next_daemon_and_ended_by_its_driver(
    tmp_path: Path,
) -> None:
    drivers = everything()
    machine = BENCHES[stub_vmm.NAME](tmp_path / "vms/web").machine
    stage = STAGES["local"](tmp_path / "vms")
    try:
        driver = drivers.of(machine.hypervisor)
        started = await stage.supervisor.start(machine, driver.launch(machine))
        supervisor = await stage.next_daemon()
        (adopted,) = supervisor.processes()
        assert (adopted.instance, adopted.hypervisor) == (started.instance, stub_vmm.NAME)
        folder = Path(machine.folder)
        assert slot_of(folder) == adopted.slot
        while not await supervisor.wait_gone(adopted.instance, 0.05):
            try:
                await drivers.of(adopted.hypervisor).press_power_button(folder, adopted.pid, 1.0)
            except DriverError:  # it does not listen yet
                continue
        (dead,) = supervisor.processes()
        assert dead.exit is not None
        assert dead.exit.signal is None
    finally:
        await stage.close()
