"""A guest's forwards: ports of its own that the kernel chooses, and those of its manifest given up.

Only QEMU's human monitor knows them: `info usernet`, `hostfwd_add`, `hostfwd_remove`. What is there is
asked first, each time: a daemon may have died at any point of an earlier try.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import DriverError
from reconciler.model.machine import ANY_ADDRESS, GuestEndpoint, PortForward, Route
from reconciler.vmm.qemu import qmp

DEADLINE = 5.0
"""Seconds for everything that is asked of one VMM; some 2 ms is what it takes."""
LISTENS_PAUSE = 0.02
"""Seconds between tries to reach a VMM that was just started."""
LOOPBACK = "127.0.0.1"

_HUB = re.compile(r"\S.*\(net(\d+)\):$")
_ROW = re.compile(r"\s*(TCP|UDP)\[(\w+)\]\s+-?\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)\b")


@dataclass(frozen=True, slots=True)
class ForwardRow:
    """One line of `info usernet`."""

    net: int
    state: str
    forward: PortForward
    """Of a connection: the forward that it came in by, if it came in by one."""

    @property
    def leads(self) -> bool:
        return self.state == "HOST_FORWARD"


def parse(text: str) -> tuple[ForwardRow, ...]:
    """The table of `info usernet`; lines that are none of its rows are passed over."""
    rows, net = [], -1
    for line in text.splitlines():
        if hub := _HUB.match(line):
            net = int(hub[1])
        elif found := _ROW.match(line):
            protocol, state, address, port, _, guest = found.groups()
            forward = PortForward(
                int(port), int(guest), "tcp" if protocol == "TCP" else "udp",
                ANY_ADDRESS if address == "*" else address,
            )  # fmt: skip
            rows.append(ForwardRow(net, state, forward))
    return tuple(rows)


class Monitor:
    """One VMM's forwards."""

    def __init__(self, client: qmp.Session) -> None:
        self._client = client

    async def rows(self) -> tuple[ForwardRow, ...]:
        return parse(await self._say("info usernet"))

    async def add(self, net: int, forward: PortForward) -> None:
        """Raises DriverError, as when another process has the port."""
        place = f"{forward.protocol}:{forward.address}:{forward.host}"
        if refused := (await self._say(f"hostfwd_add net{net} {place}-:{forward.guest}")).strip():
            raise DriverError(
                f"no port can be led to port {forward.guest} of it: {refused[:200]}", kind="port"
            )

    async def remove(self, net: int, forward: PortForward) -> None:
        place = f"{forward.protocol}:{forward.address}:{forward.host}"
        await self._say(f"hostfwd_remove net{net} {place}")

    async def _say(self, line: str) -> str:
        said = await self._client.execute("human-monitor-command", {"command-line": line})
        return said if isinstance(said, str) else ""


async def nothing() -> None:
    """What is awaited where no port is given up for anybody."""


async def open_ports(
    endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]] = nothing
) -> tuple[Route, ...]:
    """Ports that the kernel chooses lead to this guest, and none of its manifest; see the interface `Driver`.

    Connections that came in by a forward that goes are not concerned.
    """
    wanted = tuple(_wanted(endpoint))
    async with _fresh_monitor(endpoint) as monitor:
        rows = await monitor.rows()
        for net, forward in wanted:
            if _own(rows, net, forward, wanted) is None:
                await monitor.add(net, PortForward(0, forward.guest, forward.protocol, LOOPBACK))
                rows = await monitor.rows()
        going = [row for row in rows if row.leads and (row.net, row.forward) in wanted]
        if going:
            await before_giving_up()
        for row in going:
            await monitor.remove(row.net, row.forward)
        rows = await monitor.rows()
    found = [(forward, _own(rows, net, forward, wanted)) for net, forward in wanted]
    lacking = [forward.host for forward, own in found if own is None]
    left = [row.forward.host for row in rows if row.leads and (row.net, row.forward) in wanted]
    if lacking or left:
        raise DriverError(f"ports {lacking or left} of it are not as they were set", kind="port")
    return tuple(Route(f.protocol, f.address, f.host, own) for f, own in found if own is not None)


def _own(
    rows: tuple[ForwardRow, ...],
    net: int,
    forward: PortForward,
    wanted: tuple[tuple[int, PortForward], ...],
) -> int | None:
    """The port that the kernel chose to lead where this forward leads."""
    for row in rows:
        other = row.forward
        same = (row.net, other.protocol, other.guest) == (net, forward.protocol, forward.guest)
        if row.leads and same and other.address == LOOPBACK and (net, other) not in wanted:
            return other.host
    return None


def _wanted(endpoint: GuestEndpoint) -> Iterator[tuple[int, PortForward]]:
    for net, network in enumerate(endpoint.networks):
        for forward in network.forwards:
            yield net, forward


@contextlib.asynccontextmanager
async def _fresh_monitor(endpoint: GuestEndpoint) -> AsyncIterator[Monitor]:
    """The monitor of a VMM that was perhaps just started, and does not listen yet."""
    until = asyncio.get_running_loop().time() + DEADLINE
    async with contextlib.AsyncExitStack() as stack:
        monitor = None
        while monitor is None:
            session = qmp.session(
                Path(endpoint.folder), "about its forwards", DEADLINE, endpoint.pid
            )
            try:
                monitor = Monitor(await stack.enter_async_context(session))
            except DriverError as error:
                if error.kind != "missing" or asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(LISTENS_PAUSE)
        yield monitor
