"""What a guest does with its disks, memory and networks, as its VMM and the host count it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskOperations:
    """Since the guest was started, over all of its disks."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class GuestMemory:
    """In bytes, of a guest with a balloon."""

    given: int
    """What the guest has: its memory less what the balloon holds."""
    available: int | None
    """What its programs could still take, by the guest's own word; None: it said nothing."""


@dataclass(frozen=True, slots=True)
class NetworkTraffic:
    """What went through a VM's networks since they were made, as the guest sees it."""

    received_bytes: int = 0
    received_packets: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0


@dataclass(frozen=True, slots=True)
class GuestFigures:
    """None: nobody could tell."""

    disks: DiskOperations | None = None
    memory: GuestMemory | None = None
    traffic: NetworkTraffic | None = None
