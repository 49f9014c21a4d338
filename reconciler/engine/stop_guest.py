"""The ladder on which a guest is stopped: power button, SIGTERM, SIGKILL, each with its time."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from reconciler.engine.guest_interfaces import Driver
from reconciler.engine.interfaces import Adapters
from reconciler.errors import DriverError, SupervisorError
from reconciler.host import layout
from reconciler.model.actions import StopLadder
from reconciler.model.machine import Slot
from reconciler.model.names import InstanceId, VMName
from reconciler.model.observed import Process

PRESS_AGAIN = 1.0
"""Seconds between presses: a guest that was still booting has not heard the first."""
PRESS_DEADLINE = 2.0


async def stop_guest(
    adapters: Adapters, vm: VMName, instance: InstanceId, slot: Slot, ladder: StopLadder
) -> None:
    """Return when the process is gone. Raises SupervisorError when even SIGKILL did not end it."""
    folder = layout.guest_folder(adapters.generations.folder(vm), slot)
    if await _ask(adapters, instance, folder, ladder.power_button):
        return
    for number, seconds in ((signal.SIGTERM, ladder.term), (signal.SIGKILL, ladder.kill)):
        await adapters.supervisor.signal(instance, number)
        if await adapters.supervisor.wait_gone(instance, seconds):
            return
    raise SupervisorError(
        f"the VMM of {vm} outlives SIGKILL", kind="stuck",
        hint="it hangs in the kernel: look at its state with ps, and at the host's disks",
    )  # fmt: skip


async def _ask(adapters: Adapters, instance: InstanceId, folder: Path, seconds: float) -> bool:
    """Press until the guest is gone or the time is up; whether it is gone."""
    guest = _vmm(adapters, instance)
    if guest is None:
        return True
    driver = _driver(adapters, guest)
    if driver is None or not driver.capabilities.power_button:
        return False
    gone = asyncio.ensure_future(adapters.supervisor.wait_gone(instance, seconds))
    asked = False
    try:
        while not gone.done():
            try:
                await driver.press_power_button(folder, guest.pid, PRESS_DEADLINE)
                asked = True
            except DriverError:
                if not asked:  # it is going already, or hangs and wants the next rung
                    await _pause(adapters, gone)
                    return gone.done() and gone.result()
            await _pause(adapters, gone)
        return gone.result()
    finally:
        gone.cancel()


def _driver(adapters: Adapters, guest: Process) -> Driver | None:
    """None for a VMM that a newer version started, and this one does not know."""
    try:
        return adapters.drivers.of(guest.hypervisor)
    except DriverError:
        return None


def _vmm(adapters: Adapters, instance: InstanceId) -> Process | None:
    """The process that is meant, if it lives; in its folder there may be another one by now."""
    for process in adapters.supervisor.processes():
        if process.instance == instance and process.alive:
            return process
    return None


async def _pause(adapters: Adapters, gone: asyncio.Future[bool]) -> None:
    pause = asyncio.ensure_future(adapters.clock.sleep(PRESS_AGAIN))
    await asyncio.wait((gone, pause), return_when=asyncio.FIRST_COMPLETED)
    pause.cancel()
