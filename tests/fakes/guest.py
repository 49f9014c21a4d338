"""A guest in memory: what it is, where it is reached, and how it may end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.model.checks import NetworkCheck
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced
from reconciler.model.health import ProbePlan
from reconciler.model.machine import Machine, PortForward
from reconciler.model.observed import Exit, Process
from tests.fakes.front import FakeFront

Behaviour = Callable[[Machine], str]
"""How a guest of this machine fares: good, bad (never passes), sick (passes, then fails),
faint (fails now, and nobody knows it but who asks), unasked (the prober is broken), exits, panics,
lacks (its VMM ends for want of something of the host), unready (passes once, and then is alive and not
ready), silent (never passes, nor says that it is up), quits (its application ends, and it lives on)."""
QUIT = "rc.local status 3"

ENDS = {
    "exits": Exit(status=1),
    "lacks": Exit(status=1, host_fault="Could not set up host forwarding rule"),
    "reports": Exit(status=0, reported="no schema"),
    "panics": Exit(status=1, panicked=True, console=("Kernel panic",)),
}


@dataclass
class FakeGuest:
    process: Process
    machine: Machine
    fate: str
    front: FakeFront
    ignores_power_button: bool = False
    said: Announced = NOTHING_ANNOUNCED
    ports: dict[int, int] = field(default_factory=dict)
    """Ports of the host that lead to it, each with the port of the manifest for which it stands."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def serves(self) -> bool:
        """Ports of its manifest lead to it, by themselves or by the front."""
        return bool(self.reached_at)

    @property
    def reached_at(self) -> set[int]:
        """The ports of its manifest at which it is found, and not its own."""
        direct = {port for port, stands_for in self.ports.items() if port == stands_for}
        led = self.front.table.get(self.machine.vm)
        return direct | {r.port for r in led.routes if r.target in self.ports} if led else direct


def writable(machine: Machine) -> tuple[str, ...]:
    """The paths of all that outlives its guest, and that it writes to."""
    overlay = machine.disk.overlay if machine.disk is not None else ""
    return (*(disk.path for disk in machine.volumes), *((overlay,) if overlay else ()))


def forwards_of(machine: Machine) -> list[PortForward]:
    return [forward for network in machine.networks for forward in network.forwards]


def reached(guest: FakeGuest, question: ProbePlan) -> bool:
    """Whether the question comes to this guest, and not to the other one of its VM."""
    asked = {check.port for check in question.checks if isinstance(check, NetworkCheck)}
    return asked <= guest.ports.keys() | guest.reached_at
