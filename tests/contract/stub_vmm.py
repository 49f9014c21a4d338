"""A VMM that is no more than its driver needs: the one file that a new VMM must bring, as an example and a proof.

Its process listens on `run/stub.sock`, and ends when it hears `off` there.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from reconciler.endpoints import dial
from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.hypervisors import Capabilities
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.model.observed import Fingerprint

NAME = "stub"
SOCKET = "stub.sock"
PEER = struct.Struct("iii")
VMM = """\
import pathlib, socket, sys
pathlib.Path("run").mkdir(exist_ok=True)
path = pathlib.Path("run/stub.sock")
path.unlink(missing_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(str(path))
server.listen()
while server.accept()[0].recv(3) != b"off":
    pass
"""
BUTTON = """\
import socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("run/stub.sock")
peer.sendall(b"off")
"""


class StubDriver:
    """It can be asked to end, and nothing else."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            user_networks=False, taps=False, open_ports=False, power_button=True, figures=False
        )

    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint:  # noqa: ARG002
        return Fingerprint(sys.executable, "python3", shutil.which(sys.executable) or "")

    def launch(self, machine: Machine) -> Launch:
        return Launch(
            (sys.executable, "-IS", "-c", VMM),
            cwd=machine.folder,
            power_button=(sys.executable, "-IS", "-c", BUTTON),
        )

    async def prepare(self, machine: Machine) -> None:
        pass

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        try:
            async with asyncio.timeout(deadline):
                await asyncio.to_thread(_press, layout.run(folder) / SOCKET, pid)
        except (OSError, TimeoutError) as error:
            raise DriverError(f"no stub at {folder}: {error}", kind="missing") from error

    async def open_ports(
        self,
        endpoint: GuestEndpoint,
        before_giving_up: Callable[[], Awaitable[None]],  # noqa: ARG002
    ) -> tuple[Route, ...]:
        raise DriverError(f"{endpoint.instance}: a stub has no ports", kind="capability")

    async def figures(self, folder: Path, pid: int | None, timeout: float) -> GuestFigures:  # noqa: ARG002
        raise DriverError(f"{folder.name}: a stub counts nothing", kind="capability")


def _press(path: Path, pid: int) -> None:
    with contextlib.closing(dial(path)) as peer:
        found, _, _ = PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if found != pid:
            raise ConnectionRefusedError(f"process {found} answers, and {pid} is meant")
        peer.sendall(b"off")
