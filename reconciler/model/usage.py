"""What a guest does with its disks and networks, as its VMM and the host count it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskOperations:
    """Since the guest was started, over all of its disks."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class NetworkTraffic:
    """What went through a VM's taps since they were made, as the guest sees it."""

    received_bytes: int = 0
    received_packets: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0
