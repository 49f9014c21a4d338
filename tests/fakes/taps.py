"""The host's interfaces, in memory. They survive the engine, as those of the kernel do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from reconciler.errors import DriverError
from reconciler.model.machine import Machine, Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Link, Links
from tests.fakes.faults import Faults


@dataclass
class FakeTaps:
    faults: Faults
    links: dict[str, Link] = field(
        default_factory=lambda: {"lo": Link("other"), "br0": Link("bridge")}
    )
    hindrance: str = ""
    used: Callable[[], Iterable[str]] = lambda: ()
    """Names of the taps that living guests have open."""
    broken: list[str] = field(default_factory=list)

    async def look(self) -> Links:
        return Links(dict(self.links), self.hindrance)

    async def make(self, vm: VMName, taps: Sequence[Tap]) -> None:
        for tap in taps:
            fault = await self.faults.before("make-tap")
            there = self.links.get(tap.name)
            if there is not None and there.owner is None:
                raise DriverError(f"interface {tap.name} is there, and not ours", kind="network")
            self.links[tap.name] = Link("tap", vm, up=False)
            middle = await self.faults.before("plug-made-tap")
            self._plug(tap)
            self.faults.after("make-tap", fault or middle)

    async def plug(self, vm: VMName, taps: Sequence[Tap]) -> None:
        for tap in taps:
            fault = await self.faults.before("plug-tap")
            there = self.links.get(tap.name)
            if there is None or there.owner != vm:
                raise DriverError(f"tap {tap.name} of {vm} is gone", kind="network")
            self._plug(tap)
            self.faults.after("plug-tap", fault)

    async def drop(self, names: Sequence[str]) -> None:
        for name in names:
            fault = await self.faults.before("drop-tap")
            there = self.links.get(name)
            if there is not None and there.owner is not None:
                if name in self.used():
                    self.broken.append(f"tap {name} was taken from a living guest")
                del self.links[name]
            self.faults.after("drop-tap", fault)

    def _plug(self, tap: Tap) -> None:
        bridge = self.links.get(tap.bridge)
        if bridge is None or bridge.kind != "bridge":
            raise DriverError(f"the host has no bridge {tap.bridge}", kind="network")
        self.links[tap.name] = replace(self.links[tap.name], bridge=tap.bridge, up=True)

    def restart_bridge(self, name: str) -> None:
        """As `networkctl` or `ip` do it: what was plugged in hangs loose, and nobody says so."""
        for other, link in self.links.items():
            if link.bridge == name:
                self.links[other] = replace(link, bridge="")

    def lead_to(self, machine: Machine) -> bool:
        """Whether all taps of a guest are where they are to be."""
        return all(
            self.links.get(tap.name) == Link("tap", machine.vm, tap.bridge) for tap in machine.taps
        )

    def ours(self) -> dict[str, VMName]:
        """Taps with our mark, and whose they are."""
        return {name: link.owner for name, link in self.links.items() if link.owner is not None}
