"""Calls to systemd's manager over the system's D-Bus, each with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from reconciler.errors import SupervisorError
from reconciler.model.guest_reports import NetworkTraffic

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
SERVICE = f"{SYSTEMD}.Service"
UNCOUNTED = 2**64 - 1
"""systemd's value for a counter that it does not have."""
FIRST_OF_SYSTEMD = 200
"""Exit statuses from here on are systemd's: it could not execute the program (systemd.exec(5))."""
DEADLINE = 30.0
"""Seconds for one call; a job that takes longer counts as failed."""
GONE = frozenset({f"{SYSTEMD}.NoSuchUnit", f"{SYSTEMD}.NoSuchProcess", f"{SYSTEMD}.UnitNotLoaded"})
JOB_REMOVED = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'"


@dataclass(frozen=True, slots=True)
class UnitState:
    """What PID 1 knows about a service's main process."""

    main_pid: int
    """0 if it does not run."""
    exec_pid: int
    """The pid of the newest one, also after it ended."""
    code: int
    """CLD_EXITED, CLD_KILLED or CLD_DUMPED of <signal.h>; 0 while it runs."""
    status: int
    result: str
    environment: dict[str, str]

    @property
    def ran(self) -> bool:
        """Whether it was executed and ended by itself.

        If it ends before PID 1 sees that it was executed, its start job fails although it ran.
        """
        by_itself = self.code != os.CLD_EXITED or self.status < FIRST_OF_SYSTEMD
        return self.result in ("exit-code", "signal", "core-dump") and by_itself


class CallRefused(Exception):
    """An error reply, with its D-Bus error name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text} ({name})")
        self.name = name


class Manager:
    """systemd's manager. Connects at the first call, and again after the connection was lost.

    All methods raise SupervisorError.
    """

    def __init__(self) -> None:
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._jobs: dict[str, asyncio.Queue[tuple[str, str]]] = {}

    async def start_transient(self, unit: str, properties: Sequence[tuple[str, Any]]) -> str:
        """Start a transient unit; returns the job's result, such as `done`. Raises CallRefused."""
        body = [unit, "fail", [list(item) for item in properties], []]
        return await self._job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)

    async def clear(self, unit: str) -> None:
        """Stop a unit and drop its state; does nothing if there is none."""
        with _unless_gone(unit):
            await self._job(unit, "StopUnit", "ss", [unit, "replace"])
            await self._ask("ResetFailedUnit", "s", [unit])

    async def stop(self, unit: str) -> None:
        """Ask a unit to stop, without waiting for it; does nothing if there is none."""
        with _unless_gone(unit):
            await self._ask("StopUnit", "ss", [unit, "replace"])

    async def kill(self, unit: str, number: int) -> None:
        """Send a signal to the main process; does nothing if there is none."""
        with _unless_gone(unit):
            await self._ask("KillUnit", "ssi", [unit, "main", number])

    async def kill_rest(self, unit: str) -> None:
        """Kill all processes of a unit; does nothing if there is none."""
        with _unless_gone(unit):
            await self._ask("KillUnit", "ssi", [unit, "all", signal.SIGKILL])

    async def units(self, pattern: str) -> frozenset[str]:
        """Names of loaded units that match a pattern, running or not."""
        try:
            (found,) = await self._ask("ListUnitsByPatterns", "asas", [[], [pattern]])
        except CallRefused as refused:
            raise SupervisorError(f"systemd: {refused}", kind="systemd") from refused
        return frozenset(row[0] for row in found)

    async def state(self, unit: str) -> UnitState | None:
        """The state of a unit's main process; None if there is no such unit."""
        try:
            raw = await self._properties(unit)
        except CallRefused as refused:
            if refused.name in GONE or refused.name.endswith(".UnknownObject"):
                return None
            raise SupervisorError(f"{unit}: {refused}", kind="systemd") from refused
        return UnitState(
            main_pid=raw["MainPID"].value,
            exec_pid=raw["ExecMainPID"].value,
            code=raw["ExecMainCode"].value,
            status=raw["ExecMainStatus"].value,
            result=raw["Result"].value,
            environment=dict(e.partition("=")[::2] for e in raw["Environment"].value),
        )

    async def traffic(self, unit: str) -> NetworkTraffic | None:
        """What a service received and sent; None if the kernel does not count it."""
        try:
            raw = await self._properties(unit)
        except CallRefused:
            return None
        return traffic({name: value.value for name, value in raw.items()})

    async def _properties(self, unit: str) -> dict[str, Any]:
        """Properties of a service. Raises CallRefused."""
        (path,) = await self._ask("GetUnit", "s", [unit])
        (found,) = await self._ask("GetAll", "s", [SERVICE], path)
        properties: dict[str, Any] = found
        return properties

    async def close(self) -> None:
        """Disconnect. A later call would connect again."""
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()

    async def _job(self, unit: str, member: str, signature: str, body: list[Any]) -> str:
        """Start a job and wait for its result. The caller ensures one job at a time for each unit."""
        ended = self._jobs[unit] = asyncio.Queue()
        try:
            (job,) = await self._ask(member, signature, body)
            async with asyncio.timeout(DEADLINE):
                while True:
                    found, result = await ended.get()
                    if found == job:
                        return result
        except TimeoutError:
            return "timeout"
        finally:
            del self._jobs[unit]

    async def _ask(
        self, member: str, signature: str, body: list[Any], path: str = MANAGER_PATH
    ) -> list[Any]:
        interface = MANAGER if path == MANAGER_PATH else "org.freedesktop.DBus.Properties"
        bus = await self._connected()
        return await _call(bus, SYSTEMD, path, interface, member, signature, body)

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._bus = await self._connect()
            return self._bus

    async def _connect(self) -> MessageBus:
        bus = MessageBus(bus_type=BusType.SYSTEM, auth_timeout=DEADLINE)
        try:
            async with asyncio.timeout(DEADLINE):
                await bus.connect()
        except Exception as error:  # the library raises many kinds of errors
            raise SupervisorError(
                f"no connection to the system's D-Bus: {error}",
                kind="bus",
                hint="is dbus installed and running? `systemctl status dbus`;"
                ' on a host without systemd: supervisor = "local"',
            ) from error
        bus.add_message_handler(self._on_message)
        dbus = "org.freedesktop.DBus"
        try:
            await _call(bus, dbus, "/org/freedesktop/DBus", dbus, "AddMatch", "s", [JOB_REMOVED])
            await _call(bus, SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe", "", [])
        except BaseException:
            bus.disconnect()
            raise
        return bus

    def _on_message(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member == "JobRemoved":
            _, job, unit, result = message.body
            if (waiting := self._jobs.get(unit)) is not None:
                waiting.put_nowait((job, result))


@contextlib.contextmanager
def _unless_gone(unit: str) -> Iterator[None]:
    """Ignore that a unit does not exist. Raises SupervisorError for other refusals."""
    try:
        yield
    except CallRefused as refused:
        if refused.name not in GONE:
            raise SupervisorError(f"{unit}: {refused}", kind="systemd") from refused


def traffic(properties: Mapping[str, Any]) -> NetworkTraffic | None:
    """Counters from a unit's properties; None with a hybrid cgroup hierarchy or an older systemd."""
    names = ("IPIngressBytes", "IPIngressPackets", "IPEgressBytes", "IPEgressPackets")
    found = [properties.get(name, UNCOUNTED) for name in names]
    if UNCOUNTED in found:
        return None
    return NetworkTraffic(*found)


async def _call(
    bus: MessageBus, service: str, path: str, interface: str, member: str, signature: str, body: list[Any]
) -> list[Any]:  # fmt: skip
    """One call. Raises CallRefused for an error reply, SupervisorError if there was none."""
    message = Message(
        destination=service, path=path, interface=interface, member=member,
        signature=signature, body=body,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE):
            reply = await bus.call(message)
    except Exception as error:  # of the bus, the deadline, or the library
        raise SupervisorError(
            f"systemd did not answer {member}: {error!r}",
            kind="bus",
            hint="is the host overloaded?",
        ) from error
    if reply.message_type is MessageType.ERROR:
        raise CallRefused(reply.error_name or "", str(reply.body[0]) if reply.body else "")
    answer: list[Any] = reply.body
    return answer
