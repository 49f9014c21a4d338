"""The systemd supervisor: each guest is a transient service, with limits and a user of its own."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.clock import Clock
from reconciler.errors import GuestConflict, SupervisorError
from reconciler.host import layout
from reconciler.model.guest_reports import NetworkTraffic
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import GenerationNumber, InstanceId
from reconciler.model.observed import Conflict, Exit, Process
from reconciler.supervisor import console, guest_file, lock, procfs
from reconciler.supervisor.guest_discovery import EndedGuest, Finding, ended, folders, stranger
from reconciler.supervisor.guest_file import owner, slot_of
from reconciler.supervisor.process_backend import Threads
from reconciler.supervisor.process_supervisor import ProcessSupervisor
from reconciler.supervisor.spawn import ProcessHandle, fresh_log
from reconciler.supervisor.systemd_bus import CallRefused, Manager, UnitState
from reconciler.supervisor.systemd_files import grant_access, group_id
from reconciler.supervisor.systemd_unit import (
    LOCK_TAKEN,
    PATTERN,
    HostPaths,
    properties,
    unit_name,
)

KVM = Path("/dev/kvm")
REAPED_SECONDS = 5.0
"""How long PID 1 may take to reap a process that ended."""
REAPED_PAUSE = 0.005


class Units:
    """Guests as transient units of systemd. `root` is the folder of all VMs."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._manager = Manager()
        self._threads = Threads()
        # Successive guests use the same unit name: calls for one must not reach the next.
        self._unit_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        present = await self._manager.units(PATTERN)
        found: list[tuple[Path, Finding]] = []
        for folder in await self._threads.run(folders, root):
            unit = unit_name(owner(folder), slot_of(folder))
            state = await self._manager.state(unit) if unit in present else None
            found.append((folder, await self._judge(folder, state)))
        return found

    async def find(self, folder: Path) -> Finding:
        unit = unit_name(owner(folder), slot_of(folder))
        return await self._judge(folder, await self._manager.state(unit))

    async def spawn(self, folder: Path, machine: Machine, launch: Launch) -> ProcessHandle:
        unit = unit_name(machine.vm, machine.slot)
        async with self._unit_locks[unit]:
            await self._clear_dead_unit(folder, unit)
            try:
                place = await self._threads.run(self._prepare, folder, machine, launch)
            except OSError as error:
                raise _cannot_start(machine, str(error)) from error
            try:
                result = await self._manager.start_transient(
                    unit, properties(machine, launch, place)
                )
            except CallRefused as refused:
                raise _cannot_start(machine, str(refused)) from refused
            return await self._started(unit, folder, machine, result)

    async def signal(self, held: ProcessHandle, number: int) -> None:
        # PID 1 sends it, because we may not: the unit runs as another user.
        await self._manager.kill(unit_name(held.process.vm, held.process.slot), number)

    async def press(
        self,
        held: ProcessHandle,
        folder: Path,  # noqa: ARG002 - the unit has it
        button: Sequence[str],  # noqa: ARG002 - this too
        seconds: float,  # noqa: ARG002 - it has its own deadline
    ) -> None:
        # The unit has the same command as its ExecStop, and runs it in the guest's sandbox: the daemon
        # must not run code of a repository.
        await self._manager.stop(unit_name(held.process.vm, held.process.slot))

    async def exit_of(self, held: ProcessHandle) -> Exit:
        unit = unit_name(held.process.vm, held.process.slot)
        deadline = self._clock.now().boot + REAPED_SECONDS
        while self._clock.now().boot < deadline:
            try:
                state = await self._manager.state(unit)
            except SupervisorError:
                return Exit()
            if state is None or _instance(state) != held.process.instance:
                return Exit()
            if state.main_pid == 0:
                return _exit(state)
            await self._clock.sleep(REAPED_PAUSE)
        return Exit()

    async def end_rest(self, held: ProcessHandle, folder: Path) -> None:  # noqa: ARG002 - the unit has them all
        unit = unit_name(held.process.vm, held.process.slot)
        with contextlib.suppress(SupervisorError):
            state = await self._manager.state(unit)
            theirs = state is not None and _instance(state) == held.process.instance
            if state is not None and theirs and not state.main_pid:
                await self._manager.kill_rest(unit)

    async def traffic(self, held: ProcessHandle) -> NetworkTraffic | None:
        return await self._manager.traffic(unit_name(held.process.vm, held.process.slot))

    async def forget(self, folder: Path, instance: InstanceId) -> None:
        unit = unit_name(owner(folder), slot_of(folder))
        async with self._unit_locks[unit]:
            with contextlib.suppress(
                SupervisorError
            ):  # the next daemon finds it ended again, and forgets it again
                state = await self._manager.state(unit)
                if state is not None and _instance(state) == instance and not state.main_pid:
                    await self._manager.clear(unit)

    async def bound_logs(self, folders: list[Path], most: int) -> list[str]:
        return await self._threads.run(console.bound_all, folders, most)

    async def close(self) -> None:
        self._threads.close()
        await self._manager.close()

    async def _judge(self, folder: Path, state: UnitState | None) -> Finding:
        vm, unit = owner(folder), unit_name(owner(folder), slot_of(folder))
        ours = state is not None and _folder(state) == folder
        if state is not None and ours and state.main_pid:
            held = self._held(folder, state)
            again = await self._manager.state(unit)
            # PID 1 still names this pid after the pidfd was opened, so it was not reaped and reused.
            if held.pidfd >= 0 and again is not None and again.main_pid == state.main_pid:
                return held
            if held.pidfd >= 0:
                os.close(held.pidfd)
            state = again
        try:
            free = await self._threads.run(lock.is_free, folder)
            if not free and state is not None and ours and not state.main_pid:
                # The VMM ended, and a helper that it left in the unit has inherited the lock.
                await self._manager.kill_rest(unit)
                free = await self._threads.run(lock.wait_until_free, folder)
            if not free:
                return Conflict(vm, await self._threads.run(stranger, folder))
        except OSError as error:
            return Conflict(vm, f"cannot tell whether a guest runs: {error}")
        if state is None or state.main_pid or not (ours and _instance(state)):
            return None
        process = self._held(folder, state).process
        return EndedGuest(ended(process, folder, _exit(state)))

    async def _clear_dead_unit(self, folder: Path, unit: str) -> None:
        """Clear the unit of a guest that ended. Raises GuestConflict if it runs or is not ours."""
        state = await self._manager.state(unit)
        if state is not None and (state.main_pid or _folder(state) != folder):
            raise GuestConflict(
                f"{unit} exists already and is not one of our guests",
                hint=f"see `systemctl status {unit}`; the daemon does not stop it",
            )
        if state is not None:
            await self._manager.clear(unit)
        if not await self._threads.run(lock.is_free, folder):
            raise lock.taken(folder)

    def _prepare(self, folder: Path, machine: Machine, launch: Launch) -> HostPaths:
        program = shutil.which(launch.argv[0])
        flock = shutil.which("flock")
        if program is None or flock is None:
            raise FileNotFoundError(f"no such program: {launch.argv[0] if flock else 'flock'}")
        layout.run(folder).mkdir(parents=True, exist_ok=True)
        lock.refuse_listeners(folder)
        console.announce(folder, machine.instance, machine.generation)
        fresh_log(layout.vmm_log(folder)).close()
        grant_access(folder, group_id(), makes_own=launch.makes_volumes)
        return HostPaths(self._root.parent, flock, program, _group_of(KVM))

    async def _started(
        self, unit: str, folder: Path, machine: Machine, result: str
    ) -> ProcessHandle:
        state = await self._manager.state(unit)
        if state is not None and not state.main_pid and state.status == LOCK_TAKEN:
            await self._manager.clear(unit)
            raise GuestConflict(f"{machine.vm}: another process took the lock at this moment")
        if state is None or (result != "done" and not state.ran):
            await self._manager.clear(unit)
            why = f"{state.result}, status {state.status}" if state else result
            raise _cannot_start(machine, why)
        return self._held(folder, state)

    def _held(self, folder: Path, state: UnitState) -> ProcessHandle:
        """The process with its pidfd, which is -1 if it has already ended."""
        pid = state.main_pid or state.exec_pid
        pidfd = -1
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid) if state.main_pid else -1
        stat = procfs.stat_of(pid) if state.main_pid else None
        process = Process(
            vm=owner(folder),
            slot=slot_of(folder),
            instance=_instance(state) or InstanceId(""),
            generation=_generation(state),
            pid=pid,
            start_time=stat.start_time if stat else 0,
            started_boot=stat.started_boot if stat else self._clock.now().boot,
            hypervisor=guest_file.hypervisor_of(
                folder, _generation(state), state.environment.get(procfs.HYPERVISOR, "")
            ),
        )
        return ProcessHandle(process, pidfd)


class SystemdSupervisor(ProcessSupervisor):
    """Guests as transient services; see `ProcessSupervisor` for the arguments."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        wake: Callable[[], None],
        on_change: Callable[[Process], None] = lambda _: None,
        console_bytes: int = console.MOST_BYTES,
    ) -> None:
        units = Units(root.resolve(), clock)
        super().__init__(root, clock, wake, units, on_change, console_bytes)


def _instance(state: UnitState) -> InstanceId | None:
    found = state.environment.get(procfs.INSTANCE)
    return InstanceId(found) if found else None


def _folder(state: UnitState) -> Path | None:
    found = state.environment.get(procfs.FOLDER)
    return Path(found) if found else None


def _generation(state: UnitState) -> GenerationNumber:
    number = state.environment.get(procfs.GENERATION, "")
    return GenerationNumber(int(number) if number.isascii() and number.isdigit() else 0)


def _exit(state: UnitState) -> Exit:
    if state.code == os.CLD_EXITED:
        return Exit(status=state.status)
    return Exit(signal=state.status) if state.code else Exit()


def _group_of(path: Path) -> str | None:
    """The name of a file's group; None if it is root's, which no guest may join."""
    try:
        number = path.stat().st_gid
        return grp.getgrgid(number).gr_name if number else None
    except (OSError, KeyError):
        return None


def _cannot_start(machine: Machine, why: str) -> SupervisorError:
    return SupervisorError(
        f"{machine.vm}: cannot start: {why}",
        kind="spawn",
        hint=f"is the program installed? see `journalctl -u {unit_name(machine.vm, machine.slot)}`",
    )
