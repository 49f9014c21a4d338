"""What the engine asks of guests and of what they need: VMMs, processes, folders, disks, ports and taps.

The half of `interfaces` that is about guests; the same rules hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from reconciler.hypervisors import Capabilities
from reconciler.model.guest_reports import Announced
from reconciler.model.machine import (
    GuestEndpoint,
    Launch,
    Machine,
    Route,
    RouteTarget,
    RoutingTable,
    Tap,
)
from reconciler.model.names import (
    GenerationNumber,
    InstanceId,
    VMName,
)
from reconciler.model.observed import Conflict, Links, Process
from reconciler.model.record import Generation


class Driver(Protocol):
    """A VMM: how a machine becomes a process, and how a guest is asked to stop."""

    @property
    def capabilities(self) -> Capabilities: ...

    def launch(self, machine: Machine) -> Launch: ...

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        """Ask the guest to shut down; answers when it was told.

        `pid` is its VMM: whoever else took its place meanwhile is not told. Raises DriverError.
        """
        ...

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        """Let free loopback ports lead to this guest, one for each forward, and none of the forwards' own.

        `before_giving_up` is awaited before the first of the forwards' own is given up, if it has any;
        what it raises leaves them as they are. Raises DriverError. May be done again, however far it came.
        """
        ...

    async def prepare(self, machine: Machine) -> None:
        """Create in the guest's folder what `launch` names and no other part creates. Raises DriverError."""
        ...


class Drivers(Protocol):
    """The drivers of this version, by hypervisor."""

    def of(self, hypervisor: str) -> Driver:
        """Raises DriverError for a name that it does not know, as one that a newer version started."""
        ...


class PortProxy(Protocol):
    """Holds ports of the host for guests that hand over to each other; it outlives both, and the daemon."""

    async def look(self) -> RoutingTable:
        """The routes of every VM. Never raises, and never starts it."""
        ...

    async def reach(self) -> None:
        """Check that it runs and answers; start it if it does not run. Raises ProxyError."""
        ...

    async def route(self, vm: VMName, target: RouteTarget | None) -> None:
        """Send new connections to these ports to this guest, all at once; None: give up its ports.

        Starts the proxy if it does not run. Raises ProxyError, and then its routes are unchanged.
        """
        ...

    async def drained(self, vm: VMName, instance: InstanceId | None, most: float) -> None:
        """Return when no connection to this guest is under way, at the latest after so many seconds."""
        ...


class Supervisor(Protocol):
    """Keeps VMM processes. They outlive it."""

    async def adopt(self) -> None:
        """Find the guests that were started earlier, alive or dead. Call once, before anything else."""
        ...

    def processes(self) -> tuple[Process, ...]: ...

    def conflicts(self) -> tuple[Conflict, ...]: ...

    def said(self) -> Mapping[InstanceId, Announced]:
        """What living guests announced on their consoles, as far as they can still be read."""
        ...

    async def start(self, machine: Machine, launch: Launch) -> Process:
        """Start a VMM that holds the VM's lock. Raises GuestConflict or SupervisorError."""
        ...

    async def signal(self, instance: InstanceId, number: int) -> None:
        """Send a signal to exactly this process; a no-op when it is gone."""
        ...

    async def wait_gone(self, instance: InstanceId, timeout: float) -> bool:
        """Whether the process ended within `timeout` seconds."""
        ...

    async def forget(self, instance: InstanceId) -> None:
        """Drop an ended guest, whose end is now in the record."""
        ...


class Generations(Protocol):
    """The folders of generations: runners in the form that microvm.nix knows."""

    async def create(
        self, machine: Machine, launch: Launch, generation: Generation, *, current: bool = False
    ) -> None:
        """Write `vms/NAME/generations/N/` whole or not at all; if it is to serve now, point `current` at it."""
        ...

    async def set_booted(self, vm: VMName, number: GenerationNumber) -> None:
        """It runs and serves: point `current` and `booted` at it."""
        ...

    async def drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None: ...

    async def remove(self, vm: VMName) -> None:
        """Remove a VM's folder but for its volumes, which are kept."""
        ...

    async def move(self, old: VMName, new: VMName) -> None:
        """Give a VM's folder another name, durably, and whole or not at all.

        A no-op where it was done before. Raises DriverError, of kind `occupied` if something lies
        under the new name.
        """
        ...

    async def occupied(self, names: Sequence[VMName]) -> frozenset[VMName]:
        """Those of these names under which something lies."""
        ...

    def folder(self, vm: VMName) -> Path: ...

    async def read(self, vm: VMName, number: GenerationNumber) -> Generation | None:
        """A generation as its folder describes it; None when it does not, or not readably."""
        ...


class Volumes(Protocol):
    """The writable disks of VMs, and their snapshots."""

    async def prepare(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        """Create the volumes that are missing and format them, once; let those grow that are too small.

        `sizes` are in MiB, by path. None is ever made smaller, and none of `kept`, by their paths, is begun
        again. Raises DriverError, of kind `growth` where one cannot grow.
        """
        ...

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        """See, while a guest may have them, whether the volumes could have these sizes.

        Raises DriverError, of kind `growth` where one cannot.
        """
        ...

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Copy each volume that exists to its snapshot, whole or not at all; returns the method.

        Raises DriverError.
        """
        ...

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Replace each volume by its snapshot, whole or not at all.

        What has neither volume nor snapshot is passed over. Raises DriverError, and where a snapshot of
        a volume is gone, before any is replaced.
        """
        ...

    async def drop(self, paths: Sequence[str]) -> None: ...


class Taps(Protocol):
    """Interfaces of the host that lead to guests."""

    async def look(self) -> Links:
        """What is there now. Never raises: what went wrong is `hindrance`, and nothing was found."""
        ...

    async def make(self, vm: VMName, taps: Sequence[Tap]) -> None:
        """See that these are there, ours, plugged into their bridges and up.

        A no-op where they are; a stranger's interface is left as it is. Raises DriverError.
        """
        ...

    async def plug(self, vm: VMName, taps: Sequence[Tap]) -> None:
        """Put taps that are there back into their bridges. Raises DriverError."""
        ...

    async def drop(self, names: Sequence[str]) -> None:
        """Remove those of them that are ours. Raises DriverError."""
        ...
