"""Each driver with something that stands in for its VMM, for the suite that all of them pass."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.errors import SupervisorError
from reconciler.host import layout
from reconciler.hypervisors import NIX_RUNNER, HypervisorTables, QemuConfig
from reconciler.model.machine import Machine
from reconciler.vmm.driver_interface import VMMDriver
from reconciler.vmm.registry import DriverRegistry, open_drivers
from tests.contract import stub_vmm
from tests.eventually import eventually
from tests.microvm_nix import make_runner
from tests.unit.vmm.machines import a_machine
from tests.unit.vmm.test_qmp import negotiate, peer, request_of, send
from tests.world import World


@dataclass
class Bench:
    """One driver, a machine for it, and a guest of that machine that can be brought to life."""

    name: str
    driver: VMMDriver
    machine: Machine
    living: Callable[[], AbstractAsyncContextManager[int]]
    """For as long as it lasts a VMM lives, whose pid it gives."""
    was_asked: Callable[[], bool]
    """Whether the guest was asked to end."""

    @property
    def folder(self) -> Path:
        return Path(self.machine.folder)


def everything(
    run_command: Callable[..., object] | None = None, program: str = sys.executable
) -> DriverRegistry:
    """All drivers of the product, with a stub beside them: how a new VMM comes in."""

    async def no_guest(*_: object) -> None:
        raise SupervisorError("there is no such guest")

    tables = HypervisorTables(qemu=QemuConfig(binary=program, accel="tcg"))
    product = open_drivers(tables, run_command or no_guest)  # type: ignore[arg-type]  # as it is called
    return DriverRegistry(
        {name: product.of(name) for name in product} | {stub_vmm.NAME: stub_vmm.StubDriver()}
    )


def qemu_bench(folder: Path) -> Bench:
    heard: list[str] = []

    async def vmm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        while request := await request_of(reader):
            heard.append(request["execute"])
            send(writer, {"return": {}, "id": request["id"]})

    @contextlib.asynccontextmanager
    async def living() -> AsyncIterator[int]:
        async with peer(folder, vmm):
            yield os.getpid()

    machine = replace(a_machine(folder), hypervisor="qemu")
    return Bench(
        "qemu", everything().of("qemu"), machine, living, lambda: "system_powerdown" in heard
    )


def runner_bench(folder: Path) -> Bench:
    asked: list[int] = []
    runner = make_runner(folder.parent.parent / "store/web", shutdown="exit 0")

    async def run_command(_: Path, pid: int, command: Sequence[str], __: float) -> None:
        if pid != os.getpid() or Path(command[0]).parent != runner / "bin":
            raise SupervisorError(f"process {pid} is no guest of ours")
        asked.append(pid)

    @contextlib.asynccontextmanager
    async def living() -> AsyncIterator[int]:
        await driver.prepare(machine)
        yield os.getpid()

    driver = everything(run_command).of(NIX_RUNNER)
    machine = replace(a_machine(folder), hypervisor=NIX_RUNNER, runner=str(runner), layers=())
    return Bench(NIX_RUNNER, driver, machine, living, lambda: bool(asked))


def fake_bench(folder: Path) -> Bench:
    world = World()
    machine = replace(a_machine(folder), layers=())

    @contextlib.asynccontextmanager
    async def living() -> AsyncIterator[int]:
        process = await world.hypervisor.start(machine, world.hypervisor.launch(machine))
        yield process.pid

    hypervisor = world.hypervisor
    return Bench("fake", hypervisor, machine, living, lambda: bool(hypervisor.stops[machine.vm]))


def stub_bench(folder: Path) -> Bench:
    ended: list[int] = []
    driver = everything().of(stub_vmm.NAME)
    machine = replace(a_machine(folder), hypervisor=stub_vmm.NAME)

    @contextlib.asynccontextmanager
    async def living() -> AsyncIterator[int]:
        launch = driver.launch(machine)
        folder.mkdir(parents=True, exist_ok=True)
        child = await asyncio.create_subprocess_exec(*launch.argv, cwd=launch.cwd)
        try:
            await eventually((layout.run(folder) / stub_vmm.SOCKET).is_socket)
            yield child.pid
            if child.returncode is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        ended.append(await child.wait())
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            await child.wait()

    return Bench(stub_vmm.NAME, driver, machine, living, lambda: bool(ended))


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "qemu": qemu_bench,
    NIX_RUNNER: runner_bench,
    "fake": fake_bench,
    stub_vmm.NAME: stub_bench,
}
