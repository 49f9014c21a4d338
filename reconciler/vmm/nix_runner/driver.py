"""Runners that Nix made as a driver: started as they are, and ended by what they bring along.

A runner has its own kernel, disks and network; of a machine it gets only the folders that it may
write to. Its working directory is `vms/NAME/volumes/`, so that images named by relative paths stay when the VM
leaves the repository, as all volumes do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePath
from typing import Protocol

from reconciler.errors import DriverError, SupervisorError
from reconciler.host import layout
from reconciler.hypervisors import CAPABILITIES, NIX_RUNNER, Capabilities
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.model.observed import Fingerprint
from reconciler.vmm.nix_runner import shutdown as nix_shutdown

RUN, SHUTDOWN = "bin/microvm-run", "bin/microvm-shutdown"

RunCommand = Callable[[Path, int, Sequence[str], float], Awaitable[None]]
"""Has a command ask the guest of a folder, by its pid, to end, with the guest's own rights. Raises SupervisorError."""


Button = Callable[[str, float], tuple[str, ...]]
"""The command that presses a power button by a socket, and waits at most so many seconds."""


class Fingerprinted(Protocol):
    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint: ...


class NixRunnerDriver:
    """`beside` is the driver of the VMM that a runner is taken to have, `button` its power button by a socket."""

    def __init__(self, run_command: RunCommand, beside: Fingerprinted, button: Button) -> None:
        self._run_command = run_command
        self._beside = beside
        self._button_of = button

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES[NIX_RUNNER]

    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint:
        """Each runner brings its VMM; what it runs on is the host's."""
        return Fingerprint("", accel=(await self._beside.fingerprint(boot_id, state)).accel)

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
            power_button=self._patient_button(runner, machine.vm, machine.stop_timeout),
            prints_console=True,
            is_script=True,
            makes_volumes=True,
        )

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        runner = layout.started_runner(folder).resolve()
        if not _listens(runner, folder):
            raise DriverError(
                f"{folder.name}: its runner has no {SHUTDOWN} and no {folder.name}.sock: it cannot be"
                " asked to end, and gets SIGTERM", kind="missing",
            )  # fmt: skip
        try:
            await self._run_command(
                folder, pid, self._button(runner, folder.name, deadline), deadline
            )
        except SupervisorError as error:
            raise DriverError(str(error), kind="refused") from error

    def _patient_button(self, runner: Path, vm: str, seconds: float) -> tuple[str, ...]:
        """One that returns when the guest is gone, or after so many seconds."""
        button = self._button(runner, vm, seconds)
        if not os.access(runner / SHUTDOWN, os.X_OK):
            return button  # that of a VMM waits
        return (sys.executable, "-IS", nix_shutdown.__file__, f"{seconds:g}", *button)

    def _button(self, runner: Path, vm: str, seconds: float) -> tuple[str, ...]:
        """The runner's own; without one its VMM's, if the socket has microvm.nix's name."""
        own = runner / SHUTDOWN
        if os.access(own, os.X_OK):
            return (str(own),)
        return self._button_of(f"{vm}.sock", seconds)

    async def prepare(self, machine: Machine) -> None:
        """Make room for what the runner makes itself, and note which runner is started."""
        try:
            await asyncio.to_thread(_prepare, Path(machine.folder), Path(machine.runner))
        except OSError as error:
            raise DriverError(f"{machine.vm}: {error}", kind="folder") from error

    async def open_ports(
        self,
        endpoint: GuestEndpoint,
        before_giving_up: Callable[[], Awaitable[None]],  # noqa: ARG002 - none is given up
    ) -> tuple[Route, ...]:
        raise DriverError(
            f"{endpoint.instance}: ports of a runner's guest cannot be changed", kind="capability"
        )

    async def figures(
        self,
        folder: Path,
        pid: int | None,  # noqa: ARG002 - nothing is asked
        timeout: float,  # noqa: ARG002 - likewise
    ) -> GuestFigures:
        raise DriverError(f"{folder.name}: a runner's VMM is not asked", kind="capability")


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
