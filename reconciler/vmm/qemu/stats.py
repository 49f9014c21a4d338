"""What QEMU counts of a guest, asked over QMP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconciler.errors import DriverError
from reconciler.model.guest_reports import DiskOperations, GuestFigures, GuestMemory
from reconciler.vmm.qemu import qmp
from reconciler.vmm.qemu.argv import BALLOON

DISKS = "query-blockstats"
MOST = 2**63 - 1
"""A number beyond this stands for one that the guest did not give."""


async def guest_figures(folder: Path, timeout: float, pid: int | None = None) -> GuestFigures:
    """`timeout` is in seconds; `pid` is the VMM that is meant. Raises DriverError."""
    async with qmp.session(folder, DISKS, timeout, pid) as client:
        return GuestFigures(disks=total(await client.execute(DISKS)), memory=await _memory(client))


async def _memory(client: qmp.Session) -> GuestMemory | None:
    """None for a guest without a balloon, as one that an older version started."""
    try:
        given = await client.execute("query-balloon")
        said = await client.execute(
            "qom-get", {"path": f"/machine/peripheral/{BALLOON}", "property": "guest-stats"}
        )
    except DriverError as error:
        if error.kind != "refused":
            raise
        return None
    return memory(given, said)


def total(answer: Any) -> DiskOperations:
    """Over all disks. Raises DriverError for what is no answer to our question."""
    try:
        stats = [disk["stats"] for disk in answer]
        return DiskOperations(
            reads=sum(int(one["rd_operations"]) for one in stats),
            writes=sum(int(one["wr_operations"]) for one in stats),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DriverError(f"QMP: no figures of disks: {error!r}", kind="protocol") from error


def memory(given: Any, said: Any) -> GuestMemory:
    """From two answers; what a guest says is believed as far as it is a number that can be.

    Raises DriverError for what is no answer to our questions.
    """
    try:
        actual, stats, heard = int(given["actual"]), said["stats"], int(said["last-update"])
        available = stats.get("stat-available-memory", -1) if heard else -1
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DriverError(f"QMP: no figures of memory: {error!r}", kind="protocol") from error
    told = isinstance(available, int) and 0 <= available <= MOST
    return GuestMemory(actual, available if told else None)
