"""A volume that grows, on a real guest: the guest sees the room, and no record is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.fleet import DATABASE
from tests.integration.harness import Harness

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PATH = "/cgi-bin/records"
MIB = 1024 * 1024


def filesystem_mib(volume: Path) -> int:
    """From the superblock, which the kernel of the guest wrote back when it was mounted."""
    with volume.open("rb") as file:
        file.seek(1024)
        block = file.read(1024)
    count, shift = int.from_bytes(block[4:8], "little"), int.from_bytes(block[24:28], "little")
    return count * (1024 << shift) // MIB


def test_a_volume_grows_and_one_that_shall_shrink_leaves_its_guest_alone(fleet: Harness) -> None:
    volume = fleet.stage.state / "vms" / DATABASE / "volumes/data.raw"
    before = filesystem_mib(volume)
    assert fleet.ask(DATABASE, PATH, "before it grew").startswith("records:")
    stored = fleet.ask(DATABASE, PATH).splitlines()

    fleet.edit(DATABASE, lambda spec: spec["volumes"][0].update(size="192MiB"))
    now = fleet.settled(fleet.push("db: more room"))
    assert (before, filesystem_mib(volume)) == (64, 192)
    assert fleet.ask(DATABASE, PATH).splitlines() == stored
    pid = now.vms[DATABASE].pid

    fleet.edit(DATABASE, lambda spec: spec["volumes"][0].update(size="64MiB"))
    fleet.push("db: less room")
    refused = fleet.until(
        "the shrinking is refused", lambda it: "never made smaller" in it.vms[DATABASE].why
    )
    assert refused.vms[DATABASE].pid == pid
    assert fleet.ask(DATABASE, PATH).splitlines() == stored
    fleet.edit(DATABASE, lambda spec: spec["volumes"][0].update(size="192MiB"))
    fleet.good = fleet.push("db: as much room as it has")
    fleet.settled(fleet.good)
