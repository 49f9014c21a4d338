"""Runners that Nix made as a driver: started as they are, and ended by what they bring along.

A runner has its own kernel, disks and network: nothing of a machine is told to it but where it may
write. It finds itself in `vms/NAME/volumes/`, so that images named by relative paths stay when the VM
leaves the repository, as all volumes do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePath

from reconciler.errors import DriverError, SupervisorError
from reconciler.host import layout
from reconciler.model.machine import Launch, Machine
from reconciler.vmm.nix_runner import shutdown as nix_shutdown
from reconciler.vmm.qemu import power_button as press

RUN, SHUTDOWN = "bin/microvm-run", "bin/microvm-shutdown"

Press = Callable[[Path, int, Sequence[str], float], Awaitable[None]]
"""Has a command ask the guest of a folder, by its pid, to end, with the guest's own rights. Raises SupervisorError."""


class NixRunnerDriver:
    def __init__(self, press: Press) -> None:
        self._press = press

    def launch(self, machine: Machine) -> Launch:
        """Raises DriverError when the runner is gone."""
        runner = Path(machine.runner).resolve()
        if not os.access(runner / RUN, os.X_OK):
            raise DriverError(
                f"{machine.vm}: {runner} is no runner any more", kind="runner",
                hint="was it deleted from the Nix store by force? it is built again",
            )  # fmt: skip
        folder = PurePath(machine.folder)
        cwd = str(layout.volumes(folder))
        return Launch(
            (str(runner / RUN),),
            cwd=cwd,
            env=(("HOME", cwd), ("XDG_RUNTIME_DIR", str(layout.run(folder)))),
            power_button=_patient_button(runner, machine.vm, machine.stop_timeout),
            prints_console=True,
        )

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        runner = layout.started_runner(folder).resolve()
        if not _listens(runner, folder):
            raise DriverError(
                f"{folder.name}: its runner has no {SHUTDOWN} and no {folder.name}.sock: it cannot be"
                " asked to end, and gets SIGTERM", kind="missing",
            )  # fmt: skip
        try:
            await self._press(folder, pid, _button(runner, folder.name, deadline), deadline)
        except SupervisorError as error:
            raise DriverError(str(error), kind="refused") from error

    async def prepare(self, machine: Machine) -> None:
        """Make room for what the runner makes itself."""
        await asyncio.to_thread(_prepare, Path(machine.folder), Path(machine.runner))


def is_runners(folder: Path) -> bool:
    """Whether the guest of this folder was started by a runner."""
    return layout.started_runner(folder).is_symlink()


def forget(folder: Path) -> None:
    layout.started_runner(folder).unlink(missing_ok=True)


def _prepare(folder: Path, runner: Path) -> None:
    layout.volumes(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    link = layout.started_runner(folder)
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(runner.resolve())
    temporary.rename(link)


def _listens(runner: Path, folder: Path) -> bool:
    own, socket = runner / SHUTDOWN, layout.volumes(folder) / f"{folder.name}.sock"
    return os.access(own, os.X_OK) or socket.is_socket()


def _patient_button(runner: Path, vm: str, seconds: float) -> tuple[str, ...]:
    """One that returns when the guest is gone, or after so many seconds."""
    button = _button(runner, vm, seconds)
    if not os.access(runner / SHUTDOWN, os.X_OK):
        return button  # QEMU's own waits
    return (sys.executable, "-IS", nix_shutdown.__file__, f"{seconds:g}", *button)


def _button(runner: Path, vm: str, seconds: float) -> tuple[str, ...]:
    """The runner's own; without one QEMU's power button, if its socket has microvm.nix's name."""
    own = runner / SHUTDOWN
    if os.access(own, os.X_OK):
        return (str(own),)
    return (sys.executable, "-IS", press.__file__, f"{vm}.sock", f"{seconds:g}")
