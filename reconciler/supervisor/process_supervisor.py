"""Tracks the processes of guests, from start or adoption to their end.

States of a guest, as seen by one daemon:

    start, adopt --> alive --(its pidfd is readable)--> ended --(forget)--> gone
    adopt ------------------------------------------------^

A backend starts, finds and signals processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.clock import Clock
from reconciler.errors import GuestConflict, SupervisorError
from reconciler.model.guest_reports import Announced, ConsoleText, NetworkTraffic
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import InstanceId
from reconciler.model.observed import Conflict, Process
from reconciler.supervisor import console
from reconciler.supervisor.announcements import Listener, listen_all
from reconciler.supervisor.console_watch import ConsoleWatch
from reconciler.supervisor.guest_discovery import EndedGuest, Finding, ended
from reconciler.supervisor.guest_file import slot_folder
from reconciler.supervisor.process_backend import Backend
from reconciler.supervisor.spawn import ProcessHandle

log = logging.getLogger(__name__)

ROUND = 2.0
"""Seconds between checks of log sizes and conflicts."""
LISTEN = 0.25
"""Seconds between reads of the consoles of guests that have not announced that they are up."""
YOUNG = 600.0
"""Age in seconds up to which a guest may still be booting."""
LOCK_TRIES = 10
LOCK_PAUSE = 0.01
"""Seconds. The kernel releases the lock with the process, but a helper of the VMM, or another process
that tests the lock, may hold it for a moment longer."""


def _ignore(_: Process) -> None:
    pass


@dataclass(slots=True)
class _SupervisedGuest:
    held: ProcessHandle
    folder: Path
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        self.listener = Listener(self.folder, self.held.process.instance)

    @property
    def process(self) -> Process:
        return self.held.process


class ProcessSupervisor:
    """Starts, adopts and watches VMM processes. `root` is the folder `vms` of the state directory.

    `wake` is called when a guest ended or a conflict came or went; `on_change` is called with each new
    state of a process: started, adopted, ended. Both are called in the event loop's thread.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        wake: Callable[[], None],
        backend: Backend,
        on_change: Callable[[Process], None] = _ignore,
        console_bytes: int = console.MOST_BYTES,
    ) -> None:
        self._root = root.resolve()
        self._clock = clock
        self._wake = wake
        self._backend = backend
        self._on_change = on_change
        self._console_bytes = console_bytes
        self._watch = ConsoleWatch(console_bytes)
        self._guests: dict[InstanceId, _SupervisedGuest] = {}
        self._conflicts: dict[Path, Conflict] = {}
        self._processes: tuple[Process, ...] | None = ()
        self._starting: dict[Path, asyncio.Task[Process]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._listening = asyncio.Lock()

    def processes(self) -> tuple[Process, ...]:
        """All processes that were not forgotten, running or ended."""
        if self._processes is None:
            self._processes = tuple(guest.process for guest in self._guests.values())
        return self._processes

    def conflicts(self) -> tuple[Conflict, ...]:
        """VMs whose lock or socket a process holds that is not ours."""
        return tuple(self._conflicts.values())

    def said(self) -> Mapping[InstanceId, Announced]:
        """What running guests announced on their consoles."""
        return {
            instance: guest.listener.said
            for instance, guest in self._guests.items()
            if guest.process.alive
        }

    async def printed(self, instance: InstanceId) -> ConsoleText:
        """What a guest printed since it was started, bounded; unreadable for one that is not known."""
        guest = self._guests.get(instance)
        if guest is None:
            return ConsoleText(unreadable="the guest is not known")
        return await asyncio.to_thread(console.printed, guest.folder, instance)

    async def adopt(self) -> None:
        """Find the guests that earlier daemons started. Raises SupervisorError."""
        for folder, finding in await self._backend.find_all(self._root):
            self._register_found(folder, finding)
        await self._listen(self._living())

    async def start(self, machine: Machine, launch: Launch) -> Process:
        """Start a VMM for a machine. Raises GuestConflict or SupervisorError."""
        folder = slot_folder(self._root, machine.vm, machine.slot)
        if folder in self._starting or any(
            g.folder == folder and g.process.alive for g in self._guests.values()
        ):
            raise GuestConflict(f"{machine.vm}: a guest of it already runs")
        if machine.keeps_data and machine.slot != 1:
            raise GuestConflict(f"{machine.vm}: a guest beside another one may not have volumes")
        # In its own task: the caller may be cancelled, but a process that was started must be
        # registered.
        task = asyncio.create_task(self._start(folder, machine, launch))
        self._starting[folder] = task
        task.add_done_callback(lambda _: self._starting.pop(folder))
        return await asyncio.shield(task)

    async def signal(self, instance: InstanceId, number: int) -> None:
        """Send a signal to a guest's VMM; does nothing if it ended. Raises SupervisorError."""
        guest = self._guests.get(instance)
        if guest is not None and guest.held.pidfd >= 0:
            await self._backend.signal(guest.held, number)

    async def press(self, folder: Path, pid: int, button: Sequence[str], seconds: float) -> None:
        """Run a command that asks the guest with this pid to shut down. Raises SupervisorError."""
        alive = (guest for guest in self._guests.values() if guest.process.alive)
        guest = next((guest for guest in alive if guest.process.pid == pid), None)
        if guest is None:
            raise SupervisorError(f"{folder.name}: process {pid} is not one of our guests any more")
        await self._backend.press(guest.held, folder, button, seconds)

    async def wait_gone(self, instance: InstanceId, timeout: float) -> bool:
        """Wait at most `timeout` seconds for a guest's end; returns whether it ended."""
        guest = self._guests.get(instance)
        if guest is None or guest.gone.is_set():
            return True
        try:
            async with asyncio.timeout(timeout):
                await guest.gone.wait()
        except TimeoutError:
            return False
        return True

    async def traffic(self, instance: InstanceId, timeout: float) -> NetworkTraffic | None:
        """What a guest received and sent; None if it is not counted, or not known within `timeout` seconds."""
        guest = self._guests.get(instance)
        if guest is None or not guest.process.alive:
            return None
        try:
            async with asyncio.timeout(timeout):
                return await self._backend.traffic(guest.held)
        except (TimeoutError, SupervisorError):
            return None

    async def forget(self, instance: InstanceId) -> None:
        """Drop a guest that ended; does nothing while it runs."""
        guest = self._guests.get(instance)
        if guest is None or guest.process.alive:
            return
        del self._guests[instance]
        self._processes = None
        await self._backend.forget(guest.folder, instance)

    async def run(self) -> None:
        """Bound logs, read consoles and recheck conflicts, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listening())
            while True:
                await self._clock.sleep(ROUND)
                await self._listen(self._living())
                await self._bound_logs()
                await self._recheck_conflicts()

    async def _keep_listening(self) -> None:
        """Read consoles of booting guests often; the others are read together with the logs."""
        while True:
            await self._clock.sleep(LISTEN)
            since = self._clock.now().boot - YOUNG
            booting = [g for g in self._living() if g.process.started_boot > since]
            await self._listen([g for g in booting if g.listener.said.up is None])

    def _living(self) -> list[_SupervisedGuest]:
        return [guest for guest in self._guests.values() if guest.process.alive]

    async def _listen(self, guests: list[_SupervisedGuest]) -> None:
        if not guests:
            return
        listeners = [guest.listener for guest in guests]
        async with self._listening:  # a console must be read by one thread at a time
            heard = await asyncio.to_thread(listen_all, listeners, self._clock.now().boot)
        if heard:
            self._wake()

    async def close(self) -> None:
        """Release all resources; the guests keep running."""
        for task in (*self._starting.values(), *self._endings):
            await asyncio.wait([task])
        for guest in self._guests.values():
            self._release(guest)
        self._guests.clear()
        self._processes = None
        await asyncio.to_thread(self._watch.close)
        await self._backend.close()

    async def _start(self, folder: Path, machine: Machine, launch: Launch) -> Process:
        try:
            held = await self._spawn(folder, machine, launch)
        except GuestConflict as conflict:
            if folder not in self._conflicts:  # what adoption found is more precise
                self._set_conflict(folder, Conflict(machine.vm, str(conflict)))
            raise
        self._set_conflict(folder, None)
        self._register_running(folder, held)
        return held.process

    async def _spawn(self, folder: Path, machine: Machine, launch: Launch) -> ProcessHandle:
        for _ in range(LOCK_TRIES):
            try:
                return await self._backend.spawn(folder, machine, launch)
            except GuestConflict:
                await self._clock.sleep(LOCK_PAUSE)
        return await self._backend.spawn(folder, machine, launch)

    def _register_found(self, folder: Path, finding: Finding) -> None:
        self._set_conflict(folder, finding if isinstance(finding, Conflict) else None)
        match finding:
            case ProcessHandle():
                fields = {"vm": finding.process.vm, "pid": finding.process.pid}
                log.info("guest adopted", extra={"fields": fields})
                self._register_running(folder, finding)
            case EndedGuest(process):
                self._guests[process.instance] = guest = _SupervisedGuest(
                    ProcessHandle(process, -1), folder
                )
                guest.gone.set()
                self._changed(process)
            case Conflict() | None:
                pass

    def _register_running(self, folder: Path, held: ProcessHandle) -> None:
        guest = _SupervisedGuest(held, folder)
        self._guests[held.process.instance] = guest
        self._watch.add(folder)
        self._changed(held.process)
        if held.pidfd >= 0:
            # A pidfd becomes readable when its process ends, also if the process is not our child.
            asyncio.get_running_loop().add_reader(held.pidfd, self._on_exit, guest)
        else:  # it ended before its pidfd could be opened
            self._on_exit(guest)

    def _on_exit(self, guest: _SupervisedGuest) -> None:
        if guest.held.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(guest.held.pidfd)
        task = asyncio.create_task(self._record_end(guest))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _record_end(self, guest: _SupervisedGuest) -> None:
        how = await self._backend.exit_of(guest.held)
        # Before the end is reported: a helper that holds the lock would make the next start a conflict.
        await self._backend.end_rest(guest.held, guest.folder)
        self._release(guest)
        guest.held = ProcessHandle(ended(guest.process, guest.folder, how), -1)
        guest.gone.set()
        self._changed(guest.process)
        self._wake()

    def _release(self, guest: _SupervisedGuest) -> None:
        pidfd = guest.held.pidfd
        if pidfd >= 0:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
            guest.held = ProcessHandle(guest.process, -1)
            self._watch.remove(guest.folder)

    def _changed(self, process: Process) -> None:
        self._processes = None
        self._on_change(process)

    def _set_conflict(self, folder: Path, conflict: Conflict | None) -> None:
        if self._conflicts.get(folder) == conflict:
            return
        if conflict is None:
            del self._conflicts[folder]
        else:
            fields = {"vm": conflict.vm, "what": conflict.what}
            log.warning(
                "a process that is not ours holds a VM's lock or socket", extra={"fields": fields}
            )
            self._conflicts[folder] = conflict
        self._wake()

    async def _bound_logs(self) -> None:
        alive = [guest.folder for guest in self._guests.values() if guest.process.alive]
        for problem in await self._backend.bound_logs(alive, self._console_bytes):
            log.warning("a console log cannot be bounded: %s", problem)

    async def _recheck_conflicts(self) -> None:
        """Clear conflicts whose process ended, or turned out to be a guest of ours."""
        for folder in tuple(self._conflicts):
            if folder in self._starting:
                continue
            try:
                finding = await self._backend.find(folder)
            except (
                SupervisorError
            ) as error:  # systemd cannot be asked at present; the next round asks again
                log.warning("a conflict cannot be checked: %s", error)
                return
            if folder in self._starting or folder not in self._conflicts:
                if isinstance(finding, ProcessHandle):
                    os.close(finding.pidfd)
                continue
            self._register_found(folder, finding)
