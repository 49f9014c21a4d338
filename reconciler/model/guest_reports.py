"""What is learned from a running guest: its console, lines that it announces there, and counters of its devices."""

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


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """What one guest printed since it was started, in its own words: not cleaned."""

    text: str = ""
    """The newest 256 KiB; bytes that are no UTF-8 are replaced."""
    cut: bool = False
    """Whether older text, or lines within, may be missing: the log was truncated, or is longer."""
    unreadable: str = ""
    """Why this host cannot read the console, which says nothing about the guest; empty: it can."""


@dataclass(frozen=True, slots=True)
class Announced:
    """Facts from the console of one instance; boot-clock seconds.

    A guest is believed about its own health and nothing else.
    """

    up: float | None = None
    """When it said that it is up: its init runs, and the application's start script was begun."""
    handed_over: float | None = None
    """When our initrd started an init that is not ours, from which no further word is expected."""
    ended: str = ""
    """Which part of its application ended, and how: `rc.local status 3`. Empty: none that failed."""
    console: tuple[str, ...] = ()
    """The lines before that one, cleaned."""

    def merged(self, newer: Announced) -> Announced:
        """Both together: what was heard once stays so."""
        if newer is NOTHING_ANNOUNCED or newer == self:
            return self
        return Announced(
            self.up if self.up is not None else newer.up,
            self.handed_over if self.handed_over is not None else newer.handed_over,
            self.ended or newer.ended,
            self.console if self.ended else newer.console,
        )


NOTHING_ANNOUNCED = Announced()
