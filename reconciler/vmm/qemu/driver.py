"""QEMU as a driver: how a machine becomes a process, and how its guest is asked to stop."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path, PurePath

from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.hypervisors import CAPABILITIES, Capabilities, QemuConfig
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.machine import BootDisk, GuestEndpoint, Launch, Machine, Route
from reconciler.model.observed import Fingerprint
from reconciler.vmm.programs import run
from reconciler.vmm.qemu import accel, forwards, power_button, qmp, stats
from reconciler.vmm.qemu.argv import OVMF_FILES, QMP_SOCKET, argv

PACKAGE = "qemu-system-x86"
VERSION = re.compile(r"version (\d[\w.]*)")
VERSION_SECONDS = 2.0


class QemuDriver:
    """Holds settings, and what it found of this host."""

    def __init__(self, config: QemuConfig) -> None:
        self._config = config
        self._looking = asyncio.Lock()
        self._found: Fingerprint | None = None

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES["qemu"]

    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint:
        """Once in a driver's life, but for a caller without a `state`."""
        async with self._looking:
            if self._found is None or state is None:
                self._found = await self._look(boot_id, state)
            return self._found

    async def _look(self, boot_id: str, state: Path | None) -> Fingerprint:
        config, path = self._config, shutil.which(self._config.binary) or ""
        found = Fingerprint(config.binary, PACKAGE, path, await _version(path) if path else "")
        if state is not None:
            chosen = await accel.choose_accel(config, boot_id, layout.accel(state))
            return replace(found, accel=chosen)
        kvm = await accel.state_of_kvm(config)
        return replace(found, kvm=kvm, accel="kvm" if kvm == "proven" else "tcg")

    def launch(self, machine: Machine) -> Launch:
        """Raises DriverError also when the firmware that it names is not installed."""
        button = self.power_button(QMP_SOCKET, machine.stop_timeout)
        env: tuple[tuple[str, str], ...] = ()
        if machine.disk is not None:
            self._refuse_missing_firmware(machine, machine.disk)
            # Of the host's disk, as volumes are, and writable for a guest's own user.
            env = (("TMPDIR", str(layout.run(PurePath(machine.folder)))),)
        return Launch(argv(machine, self._config), machine.folder, env, power_button=button)

    def _refuse_missing_firmware(self, machine: Machine, disk: BootDisk) -> None:
        folder = Path(self._config.ovmf)
        if disk.firmware == "uefi" and not all((folder / name).is_file() for name in OVMF_FILES):
            raise DriverError(
                f"{machine.vm}: {folder} has no firmware for `uefi`: {' and '.join(OVMF_FILES)}",
                kind="missing",
                hint="apt-get install ovmf, or name its folder in [qemu] ovmf; it is tried again",
            )

    @staticmethod
    def power_button(socket: str, seconds: float) -> tuple[str, ...]:
        """The command that presses it, by a QMP socket, and waits so long for the guest's end."""
        # Isolated, and without site: what presses the button needs Python alone.
        return (sys.executable, "-IS", power_button.__file__, socket, f"{seconds:g}")

    async def prepare(self, machine: Machine) -> None:
        """Nothing: what it names is there."""

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        await qmp.execute(folder, "system_powerdown", deadline, pid)

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        """Each forward's port of the host, with the one that the kernel chose for the guest."""
        return await forwards.open_ports(endpoint, before_giving_up)

    async def figures(self, folder: Path, pid: int | None, timeout: float) -> GuestFigures:
        return await stats.guest_figures(folder, timeout, pid)


async def _version(path: str) -> str:
    """By its own words; empty if it does not say."""
    try:
        _, said = await run((path, "--version"), VERSION_SECONDS)
    except (DriverError, OSError):
        return ""
    found = VERSION.search(said)
    return found[1] if found else ""
