"""Which driver a guest is for: QEMU as we command it, or a runner that commands its own VMM."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.vmm.nix_runner import driver as nixrunner
from reconciler.vmm.nix_runner.driver import NixRunnerDriver
from reconciler.vmm.qemu.driver import QemuDriver


class Drivers:
    """Tells them apart by the machine, and a living guest by what its folder says of its start.

    Traffic is moved between guests of QEMU alone: a manifest with a runner cannot ask for it.
    """

    def __init__(self, qemu: QemuDriver, runners: NixRunnerDriver) -> None:
        self._qemu = qemu
        self._runners = runners

    def launch(self, machine: Machine) -> Launch:
        return (self._runners if machine.runner else self._qemu).launch(machine)

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        made = nixrunner.is_runners(folder)
        await (self._runners if made else self._qemu).press_power_button(folder, pid, deadline)

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        return await self._qemu.open_ports(endpoint, before_giving_up)

    async def volumes(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        if machine.runner:
            await self._runners.prepare(machine)
            return
        nixrunner.forget(Path(machine.folder))
        await self._qemu.volumes(machine, sizes, kept)

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        if not machine.runner:  # a runner sees to its own volumes
            await self._qemu.can_grow(machine, sizes)
