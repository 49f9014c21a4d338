"""PID 1 as we ask it over the system's D-Bus: a few questions, each with a deadline."""

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
"""systemd's word for a figure that it does not have."""
FIRST_OF_SYSTEMD = 200
"""Exit statuses from here on are systemd's own: the program could not be executed (systemd.exec(5))."""
DEADLINE = 30.0
"""Seconds for one question; a job of PID 1 ends within them too, or counts as failed."""
GONE = frozenset({f"{SYSTEMD}.NoSuchUnit", f"{SYSTEMD}.NoSuchProcess", f"{SYSTEMD}.UnitNotLoaded"})
JOB_REMOVED = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'"


@dataclass(frozen=True, slots=True)
class UnitState:
    """What PID 1 knows of a service's main process."""

    main_pid: int
    """0 when it does not run."""
    exec_pid: int
    """That of the last one."""
    code: int
    """CLD_EXITED, CLD_KILLED or CLD_DUMPED of <signal.h>, 0 while it runs."""
    status: int
    result: str
    environment: dict[str, str]

    @property
    def ran(self) -> bool:
        """Whether it ended by itself, and maybe before PID 1 saw that it had been executed.

        The job that started it has failed then, though nothing kept it from running.
        """
        by_itself = self.code != os.CLD_EXITED or self.status < FIRST_OF_SYSTEMD
        return self.result in ("exit-code", "signal", "core-dump") and by_itself


class CallRefused(Exception):
    """An error reply, by its D-Bus name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text} ({name})")
        self.name = name


class Manager:
    """Connects when it is first asked, and again when the bus was lost. Raises SupervisorError."""

    def __init__(self) -> None:
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._jobs: dict[str, asyncio.Queue[tuple[str, str]]] = {}

    async def start_transient(self, unit: str, properties: Sequence[tuple[str, Any]]) -> str:
        """Start a unit that no file describes; the job's result. Raises Refused."""
        body = [unit, "fail", [list(item) for item in properties], []]
        return await self._job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)

    async def clear(self, unit: str) -> None:
        """Stop a unit and drop what is known of it; a no-op when there is none."""
        with _unless_gone(unit):
            await self._job(unit, "StopUnit", "ss", [unit, "replace"])
            await self._ask("ResetFailedUnit", "s", [unit])

    async def stop(self, unit: str) -> None:
        """Tell a unit to stop, and do not wait for it; a no-op when there is none."""
        with _unless_gone(unit):
            await self._ask("StopUnit", "ss", [unit, "replace"])

    async def kill(self, unit: str, number: int) -> None:
        """Send a signal to the main process; a no-op when there is none."""
        with _unless_gone(unit):
            await self._ask("KillUnit", "ssi", [unit, "main", number])

    async def kill_rest(self, unit: str) -> None:
        """End all processes of a unit; a no-op when there is none."""
        with _unless_gone(unit):
            await self._ask("KillUnit", "ssi", [unit, "all", signal.SIGKILL])

    async def units(self, pattern: str) -> frozenset[str]:
        """The loaded units with such names, alive or dead."""
        try:
            (found,) = await self._ask("ListUnitsByPatterns", "asas", [[], [pattern]])
        except CallRefused as refused:
            raise SupervisorError(f"systemd: {refused}", kind="systemd") from refused
        return frozenset(row[0] for row in found)

    async def state(self, unit: str) -> UnitState | None:
        """None when PID 1 has no such unit."""
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
        """What a service received and sent; None where the kernel does not count it."""
        try:
            raw = await self._properties(unit)
        except CallRefused:
            return None
        return traffic({name: value.value for name, value in raw.items()})

    async def _properties(self, unit: str) -> dict[str, Any]:
        """Raises Refused."""
        (path,) = await self._ask("GetUnit", "s", [unit])
        (found,) = await self._ask("GetAll", "s", [SERVICE], path)
        properties: dict[str, Any] = found
        return properties

    async def close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()

    async def _job(self, unit: str, member: str, signature: str, body: list[Any]) -> str:
        """Ask for a job, and wait for its result. One at a time for each unit."""
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
        except Exception as error:  # the library lets through what its parts raise
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
    """A unit that is not there is as good as one that was told. Raises SupervisorError for all else."""
    try:
        yield
    except CallRefused as refused:
        if refused.name not in GONE:
            raise SupervisorError(f"{unit}: {refused}", kind="systemd") from refused


def traffic(properties: Mapping[str, Any]) -> NetworkTraffic | None:
    """From the properties of a unit: a hybrid hierarchy of cgroups, or an older systemd, has none."""
    names = ("IPIngressBytes", "IPIngressPackets", "IPEgressBytes", "IPEgressPackets")
    found = [properties.get(name, UNCOUNTED) for name in names]
    if UNCOUNTED in found:
        return None
    return NetworkTraffic(*found)


async def _call(
    bus: MessageBus, whom: str, path: str, interface: str, member: str, signature: str, body: list[Any]
) -> list[Any]:  # fmt: skip
    """One call. Raises Refused, or SupervisorError when there was no answer."""
    message = Message(
        destination=whom, path=path, interface=interface, member=member,
        signature=signature, body=body,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE):
            reply = await bus.call(message)
    except Exception as error:  # of the bus, of the deadline, or what the library lets through
        raise SupervisorError(
            f"systemd did not answer {member}: {error!r}",
            kind="bus",
            hint="is the host overloaded?",
        ) from error
    if reply.message_type is MessageType.ERROR:
        raise CallRefused(reply.error_name or "", str(reply.body[0]) if reply.body else "")
    answer: list[Any] = reply.body
    return answer
