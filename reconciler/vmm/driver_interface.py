"""What a VMM's driver answers. One class a VMM, in `vmm/NAME/driver.py`; `registry.py` names them.

    fingerprint what this host has of it
    launch      a machine as a command line
    press_power_button, open_ports, figures     what a living guest's VMM is asked

A driver holds settings and no guests: of a guest it gets the folder, the pid and no more, so that each
daemon can talk to what an earlier one started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from reconciler.hypervisors import Capabilities
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.model.observed import Fingerprint


class VMMDriver(Protocol):
    """What is `async` has a deadline of its own, and raises DriverError alone."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do on any host; the row of its name in `hypervisors.CAPABILITIES`."""
        ...

    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint:
        """Look at this host. Never raises: what is missing is in the answer.

        `state` is the state directory, which may keep for this boot what took long to find out
        (`layout.accel`). None: find out now, whatever the config decides.
        """
        ...

    def launch(self, machine: Machine) -> Launch:
        """The command line. Pure but for looking for what it names. Raises DriverError."""
        ...

    async def prepare(self, machine: Machine) -> None:
        """Create in the guest's folder what `launch` names and no other part creates."""
        ...

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        """Ask the guest of this folder to shut down; return when it was asked. `deadline` is in seconds.

        A process other than `pid` that answers is not asked.
        """
        ...

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        """See the engine's `Driver`. Raises DriverError of kind `capability` where it cannot."""
        ...

    async def figures(self, folder: Path, pid: int | None, timeout: float) -> GuestFigures:
        """Disks and memory of a guest, within `timeout` seconds.

        Raises DriverError, of kind `capability` where it cannot.
        """
        ...
