"""What a guest does with its disks, as its VMM counts it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskOperations:
    """Since the guest was started, over all of its disks."""

    reads: int
    writes: int
