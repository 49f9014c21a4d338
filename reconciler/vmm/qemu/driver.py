"""QEMU as a driver: how a machine becomes a process, and how its guest is asked to stop."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from reconciler.config import QemuConfig
from reconciler.errors import DriverError
from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.vmm.qemu import forwards, growth, power_button as press, qmp, volumes
from reconciler.vmm.qemu.argv import QMP_SOCKET, argv


class QemuDriver:
    """Holds nothing but settings: every call stands for itself."""

    def __init__(self, config: QemuConfig) -> None:
        self._config = config

    def launch(self, machine: Machine) -> Launch:
        # Isolated, and without site: what presses the button needs Python alone.
        button = (sys.executable, "-IS", press.__file__, QMP_SOCKET, f"{machine.stop_timeout:g}")
        return Launch(argv(machine, self._config), cwd=machine.folder, power_button=button)

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        """`deadline` is in seconds from now."""
        await qmp.execute(folder, "system_powerdown", deadline, pid)

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        """Each forward's port of the host, with the one that the kernel chose for the guest."""
        return await forwards.open_ports(endpoint, before_giving_up)

    async def volumes(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        """`sizes` is in MiB, by the disk's path; `kept` are those that are there since a generation worked."""
        filesystems = {mount.serial: mount.fs_type for mount in machine.mounts}
        for disk in machine.volumes:
            size = sizes.get(disk.path)
            if size is None:
                raise DriverError(f"{machine.vm}: volume {disk.serial} has no size", kind="volume")
            if disk.path in kept:
                await volumes.refuse_lost(Path(disk.path), size)
            await volumes.create(Path(disk.path), size, filesystems.get(disk.serial, "ext4"))
            await growth.grow(Path(disk.path), size)

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        """See whether the volumes that exist could have these sizes; nothing is changed."""
        for disk in machine.volumes:
            if (size := sizes.get(disk.path)) is not None:
                await growth.can_grow(Path(disk.path), size)
