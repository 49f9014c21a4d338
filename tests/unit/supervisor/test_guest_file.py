"""Whose guest lives in a folder: as it was started, also by versions that did not write it down."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.host import layout
from reconciler.hypervisors import DEFAULT, NIX_RUNNER
from reconciler.model.machine import Launch
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Process
from reconciler.supervisor import guest_file
from reconciler.supervisor.spawn import environment
from reconciler.vmm.generation_files import contents
from tests.unit.vmm.machines import a_generation, a_machine

GUEST = {
    "instance": "web-g3-abc",
    "generation": 3,
    "pid": 4711,
    "start_time": 99,
    "started_boot": 1.5,
    "boot_id": "b",
}
"""As versions wrote it that knew one VMM."""


def found(folder: Path) -> Process:
    known = guest_file.read(folder)
    assert known is not None
    return known.process(folder)


def wrote(folder: Path, guest: dict[str, object]) -> None:
    path = layout.guest_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(guest))


def describe(home: Path, runner: str) -> None:
    """The description of generation 3, as those versions wrote it: its machine names no hypervisor."""
    machine = replace(a_machine(home), runner=runner)
    text = contents(machine, Launch(("vmm",), str(home)), a_generation(3))[layout.DESCRIPTION]
    described = json.loads(text)
    del described[0]["machine"]["hypervisor"]
    path = layout.description(layout.generation(home, 3))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(described))


@pytest.mark.parametrize("slot", [1, 2])
@pytest.mark.parametrize(("runner", "expected"), [("", DEFAULT), ("/s/runners/k", NIX_RUNNER)])
def test_a_guest_of_an_earlier_version_is_known_by_its_generation(
    tmp_path: Path, slot: int, runner: str, expected: str
) -> None:
    home = tmp_path / "web"
    folder = layout.guest_folder(home, slot)
    describe(home, runner)
    wrote(folder, GUEST)
    assert found(folder).hypervisor == expected


def test_a_guest_whose_generation_is_not_readable_is_the_default_ones(tmp_path: Path) -> None:
    wrote(tmp_path / "web", GUEST)
    assert found(tmp_path / "web").hypervisor == DEFAULT


def test_what_was_written_at_the_start_counts_more_than_what_lies_around(tmp_path: Path) -> None:
    home = tmp_path / "web"
    describe(home, "/s/runners/k")
    layout.started_runner(home).symlink_to("/nix/store/x")
    process = Process(
        VMName("web"), InstanceId("i"), GenerationNumber(3), os.getpid(), 1, 1.0,
        hypervisor="of-tomorrow",
    )  # fmt: skip
    layout.run(home).mkdir()
    guest_file.write(home, process, "b")
    assert found(home) == process


def test_a_process_says_in_its_environment_whose_guest_it_is(tmp_path: Path) -> None:
    machine = replace(a_machine(tmp_path), hypervisor="of-tomorrow")
    given = environment(machine, Launch(("vmm",), str(tmp_path)), tmp_path, "/bin")
    assert given["RECONCILER_HYPERVISOR"] == "of-tomorrow"
