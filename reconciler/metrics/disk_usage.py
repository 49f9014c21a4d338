"""What the folders of the state take of the disk, looked up now and then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reconciler.clock import Clock
from reconciler.host import layout

ROUND = 300.0
"""Seconds between two looks."""
MOST = 200_000
"""Entries of a folder that are looked at: what has more is reported too small, and costs no more."""
BLOCK = 512
"""Bytes, of `st_blocks`: a volume of which little was written takes little."""
KINDS = ("mirror", "layers", "kernels", "volumes", "snapshots", "ledger")


def stock(state: Path) -> dict[str, int]:
    """Allocated bytes by kind; what vanishes while it is looked at does not count."""
    vms = _folders(layout.vms(state))
    return {
        "mirror": _allocated(layout.mirror(state)),
        "layers": _allocated(layout.images(state, "layers")),
        "kernels": _allocated(layout.images(state, "kernels")),
        "volumes": sum(_allocated(layout.volumes(vm)) for vm in vms),
        "snapshots": sum(_allocated(layout.snapshots(vm)) for vm in vms),
        "ledger": sum(map(_size, layout.ledger_files(state))),
    }


async def keep_stock(state: Path, clock: Clock, tell: Callable[[Mapping[str, int]], None]) -> None:
    """Until cancelled."""
    while True:
        tell(await asyncio.to_thread(stock, state))
        await clock.sleep(ROUND)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir()]
    except OSError:
        return []


def _allocated(folder: Path) -> int:
    return sum(size for _, size in zip(range(MOST), _sizes(folder), strict=False))


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield _size(Path(place, name))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * BLOCK
    except OSError:
        return 0
