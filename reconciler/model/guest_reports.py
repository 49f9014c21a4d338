"""What is learned from a running guest: its console, its announcements there, and counters of its devices."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import GenerationNumber


@dataclass(frozen=True, slots=True)
class DiskOperations:
    """Operations since the guest was started, over all its disks."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class GuestMemory:
    """Memory of a guest with a balloon, in bytes."""

    given: int
    """Its memory minus what the balloon holds."""
    available: int | None
    """What its programs could still allocate, as reported by the guest; None: not reported."""


@dataclass(frozen=True, slots=True)
class NetworkTraffic:
    """Traffic of a VM's networks since they were created, from the guest's point of view."""

    received_bytes: int = 0
    received_packets: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0


@dataclass(frozen=True, slots=True)
class GuestFigures:
    """All counters of a guest; None for those that are not known."""

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
    """Announcements on the console of one instance; times are in boot-clock seconds.

    A guest is believed only about its own health.
    """

    up: float | None = None
    """When it announced that it is up: its init runs and has started the application's script."""
    handed_over: float | None = None
    """When our initrd started an init that is not ours, which announces nothing more."""
    ended: str = ""
    """The part of its application that ended, and how: `rc.local status 3`. Empty: none failed."""
    console: tuple[str, ...] = ()
    """The lines before that announcement, cleaned."""
    damaged: float | None = None
    """When its kernel first said that a block of a layer is not what was built."""

    def merged(self, newer: Announced) -> Announced:
        """Both combined: what was announced once stays so."""
        if newer is NOTHING_ANNOUNCED or newer == self:
            return self
        return Announced(
            self.up if self.up is not None else newer.up,
            self.handed_over if self.handed_over is not None else newer.handed_over,
            self.ended or newer.ended,
            self.console if self.ended else newer.console,
            self.damaged if self.damaged is not None else newer.damaged,
        )


NOTHING_ANNOUNCED = Announced()


@dataclass(frozen=True, slots=True)
class DamageReport:
    """A report of a damaged block: the newest that counts of a VM."""

    generation: GenerationNumber
    """Of the guest that said so: images of its layers are read again."""
    wall: float
    """When it was heard, in Unix seconds."""
    settled: bool = False
    """Whether all of them were read, and what that found is an event."""
