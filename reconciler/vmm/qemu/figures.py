"""What QEMU counts of a guest, asked over QMP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconciler.errors import DriverError
from reconciler.model.usage import DiskOperations
from reconciler.vmm.qemu import qmp

QUERY = "query-blockstats"


async def disk_operations(folder: Path, timeout: float) -> DiskOperations:
    """`timeout` is in seconds. Raises DriverError."""
    async with qmp.session(folder, QUERY, timeout) as client:
        return total(await client.execute(QUERY))


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
