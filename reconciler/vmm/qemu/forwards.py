"""Forwards of user networking, led from guest to guest while both run.

Only QEMU's human monitor knows them: `info usernet`, `hostfwd_add`, `hostfwd_remove`. What is there is
asked first, each time: a daemon may have died at any point of an earlier move.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

from reconciler.errors import DriverError
from reconciler.model.machine import Forward, Seat
from reconciler.vmm.qemu import qmp

DEADLINE = 5.0
"""Seconds for everything that one move asks of both VMMs; 4 ms is what it takes."""
BACK_DEADLINE = 1.0
INSISTS = 0.3
"""Seconds for which a port is asked for that somebody else might have taken in between."""
AHEAD = 32
"""Questions that wait at a VMM, so that one is there whenever it has answered the last."""
LISTENS_PAUSE = 0.02
"""Seconds between tries to reach a VMM that was just started."""
DRAIN_PAUSE = 0.05
LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - compared with, never listened on
UNDER_WAY = frozenset(
    ("SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "LAST_ACK")
)
"""States of a connection that may still carry an answer."""

_HUB = re.compile(r"\S.*\(net(\d+)\):$")
_ROW = re.compile(r"\s*(TCP|UDP)\[(\w+)\]\s+-?\d+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)\b")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `info usernet`."""

    net: int
    state: str
    forward: Forward
    """Of a connection: the forward that it came in by, if it came in by one."""

    @property
    def leads(self) -> bool:
        return self.state == "HOST_FORWARD"

    def stands_at(self, wanted: Forward) -> bool:
        """Whether it occupies the port of the host that this forward is to have."""
        own = self.forward
        same = (own.protocol, own.host) == (wanted.protocol, wanted.host)
        return self.leads and same and _overlap(own.address, wanted.address)


def _overlap(one: str, other: str) -> bool:
    return one == other or ANY_ADDRESS in (one, other)


def parse(text: str) -> tuple[Row, ...]:
    """The table of `info usernet`; lines that are none of its rows are passed over."""
    rows, net = [], -1
    for line in text.splitlines():
        if hub := _HUB.match(line):
            net = int(hub[1])
        elif found := _ROW.match(line):
            protocol, state, address, port, _, guest = found.groups()
            forward = Forward(
                int(port), int(guest), "tcp" if protocol == "TCP" else "udp",
                ANY_ADDRESS if address == "*" else address,
            )  # fmt: skip
            rows.append(Row(net, state, forward))
    return tuple(rows)


class Monitor:
    """One VMM's forwards."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client

    async def rows(self) -> tuple[Row, ...]:
        return parse(await self._say("info usernet"))

    async def add(self, net: int, forward: Forward) -> None:
        """Raises DriverError, as when the port is somebody else's."""
        if refused := await self.refusal(net, forward):
            raise _refused(forward, refused)

    async def insist(self, net: int, forward: Forward) -> None:
        """The same of a port that is about to be free: it is asked for again and again.

        Questions are waiting at the VMM all the while, so that nobody has the port for as short as can be.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + INSISTS
        asked = deque(self._asked(net, forward) for _ in range(AHEAD))
        try:
            while refused := await asked.popleft():
                if loop.time() > until:
                    raise _refused(forward, refused)
                asked.append(self._asked(net, forward))
            await asyncio.gather(*asked)  # refused: it has the port itself
        finally:
            for question in asked:
                question.cancel()

    def _asked(self, net: int, forward: Forward) -> asyncio.Task[str]:
        return asyncio.create_task(self.refusal(net, forward))

    async def refusal(self, net: int, forward: Forward) -> str:
        """Ask for a port; why it is not to be had, or nothing."""
        place = f"{forward.protocol}:{forward.address}:{forward.host}"
        return (await self._say(f"hostfwd_add net{net} {place}-:{forward.guest}")).strip()

    async def remove(self, net: int, forward: Forward) -> None:
        place = f"{forward.protocol}:{forward.address}:{forward.host}"
        await self._say(f"hostfwd_remove net{net} {place}")

    async def _say(self, line: str) -> str:
        said = await self._client.execute("human-monitor-command", {"command-line": line})
        return said if isinstance(said, str) else ""


def _refused(forward: Forward, why: str) -> DriverError:
    return DriverError(
        f"port {forward.host} of the host cannot be led to it: {why[:200]}",
        kind="port",
        hint="look who listens on it with `ss -ltnp`",
    )


async def open_ports(seat: Seat) -> tuple[tuple[int, int], ...]:
    """Let ports that the kernel chooses lead to this guest; see the engine's port `Driver`."""
    async with _fresh_monitor(seat) as monitor:
        rows = await monitor.rows()
        for net, forward in _wanted(seat):
            if _stand_in(rows, net, forward) is None:
                await monitor.add(net, Forward(0, forward.guest))
                rows = await monitor.rows()
        ports = [(f.host, _stand_in(rows, net, f)) for net, f in _wanted(seat)]
    lacking = [own for own, other in ports if other is None]
    if lacking:
        raise DriverError(f"no port stands in for {lacking}", kind="port")
    return tuple((own, other) for own, other in ports if other is not None)


def _stand_in(rows: tuple[Row, ...], net: int, forward: Forward) -> int | None:
    for row in rows:
        leads = row.leads and (row.net, row.forward.guest) == (net, forward.guest)
        if leads and row.forward.address == LOOPBACK and row.forward.host != forward.host:
            return row.forward.host
    return None


async def hand_over(giver: Seat | None, taker: Seat, drain: float) -> None:
    """Lead the taker's ports to it, and to nobody else; see the engine's port `Driver`."""
    async with contextlib.AsyncExitStack() as stack:
        giving = await stack.enter_async_context(_monitor(giver)) if giver is not None else None
        taking = await stack.enter_async_context(_monitor(taker))
        await _Move(giving, taking, taker).run()
    if giver is not None and drain > 0:
        await _drained(giver, drain)
    await _close_others(taker)


class _Move:
    """One move, port by port, so that each is without a guest for one answer of a VMM only."""

    def __init__(self, giving: Monitor | None, taking: Monitor, taker: Seat) -> None:
        self._giving, self._taking, self._taker = giving, taking, taker
        self._taken: list[Row] = []
        """Removed from the giver."""
        self._given: list[tuple[int, Forward]] = []
        """Added to the taker."""

    async def run(self) -> None:
        try:
            await self._move()
        except BaseExceptionGroup as failed:  # of a swap: one failed, and took the other with it
            await self._back()
            raise failed.exceptions[0] from None
        except BaseException:
            await self._back()
            raise

    async def _move(self) -> None:
        has = await self._taking.rows()
        had = [row for row in await self._giving.rows() if row.leads] if self._giving else []
        for net, forward in _wanted(self._taker):
            if any(row.net == net and row.leads and row.forward == forward for row in has):
                continue
            theirs = [row for row in had if row.stands_at(forward)]
            self._given.append((net, forward))
            await self._swap(theirs, net, forward)
            had = [row for row in had if row not in theirs]
        for row in had:
            await self._take(row)
        await self._verify()

    async def _swap(self, theirs: list[Row], net: int, forward: Forward) -> None:
        if not theirs:
            await self._taking.add(net, forward)
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(self._taking.insist(net, forward))
            for row in theirs:
                await self._take(row)

    async def _take(self, row: Row) -> None:
        if self._giving is not None:
            self._taken.append(row)
            await self._giving.remove(row.net, row.forward)

    async def _verify(self) -> None:
        wanted = set(_wanted(self._taker))
        found = {(row.net, row.forward) for row in await self._taking.rows() if row.leads}
        if lacking := sorted(forward.host for net, forward in wanted - found):
            raise DriverError(f"ports {lacking} do not lead to it after all", kind="port")

    async def _back(self) -> None:
        """Whoever had the ports has them again, as far as both can be told."""
        if self._giving is None:
            return
        for row in reversed(self._taken):  # what nobody has comes first
            for net, forward in self._given:
                if row.stands_at(forward):
                    await _try(self._taking.remove(net, forward))
            await _try(self._giving.add(row.net, row.forward))


async def _close_others(taker: Seat) -> None:
    """What led to it on its trial goes last: until now it was asked through that."""
    wanted = set(_wanted(taker))
    with contextlib.suppress(DriverError):  # a port of the loopback too many harms nobody
        async with _monitor(taker) as monitor:
            for row in await monitor.rows():
                if row.leads and (row.net, row.forward) not in wanted:
                    await monitor.remove(row.net, row.forward)


async def _try(step: Coroutine[Any, Any, None]) -> None:
    """One step of a way back, which the others do not depend on."""
    with contextlib.suppress(DriverError, QMPError, OSError, EOFError, TimeoutError):
        async with asyncio.timeout(BACK_DEADLINE):
            await step


async def _drained(giver: Seat, most: float) -> None:
    """Wait until no request is under way at a guest that gets no new ones, at most so long."""
    ports = {forward.host for _, forward in _wanted(giver)}
    with contextlib.suppress(DriverError, TimeoutError):
        async with asyncio.timeout(most), _monitor(giver, most) as monitor:
            while True:  # nothing tells when the last request ended
                rows = await monitor.rows()
                if not _under_way(rows, ports):
                    return
                await asyncio.sleep(DRAIN_PAUSE)


def _under_way(rows: tuple[Row, ...], ports: set[int]) -> bool:
    return any(row.state in UNDER_WAY and row.forward.host in ports for row in rows)


def _wanted(seat: Seat) -> Iterator[tuple[int, Forward]]:
    for net, network in enumerate(seat.networks):
        for forward in network.forwards:
            yield net, forward


@contextlib.asynccontextmanager
async def _monitor(seat: Seat, seconds: float | None = None) -> AsyncIterator[Monitor]:
    async with qmp.session(Path(seat.folder), "about its forwards", seconds or DEADLINE) as client:
        yield Monitor(client)


@contextlib.asynccontextmanager
async def _fresh_monitor(seat: Seat) -> AsyncIterator[Monitor]:
    """The same of a VMM that was just started, and may not listen yet."""
    until = asyncio.get_running_loop().time() + DEADLINE
    async with contextlib.AsyncExitStack() as stack:
        monitor = None
        while monitor is None:
            try:
                monitor = await stack.enter_async_context(_monitor(seat))
            except DriverError as error:
                if error.kind != "missing" or asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(LISTENS_PAUSE)
        yield monitor
