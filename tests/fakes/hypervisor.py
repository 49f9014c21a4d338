"""Driver, supervisor, prober and generations over one dict of guests."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from reconciler.errors import DriverError, GuestConflict
from reconciler.hypervisors import CAPABILITIES, DEFAULT, Capabilities
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced, GuestFigures
from reconciler.model.machine import (
    GuestEndpoint,
    HostPort,
    Launch,
    Machine,
    Route,
    RouteTarget,
    overlap,
)
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Conflict, Exit, Fingerprint, Process
from reconciler.model.record import Generation
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.front import FakeFront
from tests.fakes.guest import ENDS, QUIT, Behaviour, FakeGuest, forwards_of, writable
from tests.fakes.prober import FakeProber
from tests.fakes.taps import FakeTaps


@dataclass
class FakeHypervisor(FakeProber):
    """Driver, supervisor, prober and folders of generations over one dict of guests.

    It survives the engine, as real guests do, and it watches law 1: two living guests of one VM
    raise at once.
    """

    clock: FakeClock
    faults: Faults
    front: FakeFront
    taps: FakeTaps
    wake: Callable[[], None] = lambda: None
    behaviour: Behaviour = lambda _machine: "good"
    folders: dict[VMName, dict[GenerationNumber, Generation]] = field(default_factory=dict)
    current: dict[VMName, GenerationNumber] = field(default_factory=dict)
    disks: dict[str, list[int]] = field(default_factory=dict)
    above: dict[str, str] = field(default_factory=dict)
    """The image that each overlay of a disk was begun above, by the overlay's file name."""
    foreign: dict[VMName, str] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    log: list[tuple[str, VMName, GenerationNumber]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    """MiB of each volume that was made, by its path."""
    ungrowable: bool = False
    ungrowable_at_rest: bool = False
    """Nothing was seen of it while the guest had them."""
    unkillable: set[VMName] = field(default_factory=set)
    has_power_button: bool = True
    deaf: set[InstanceId] = field(default_factory=set)
    """Guests whose VMM answers no question."""
    free_ports: itertools.count[int] = field(default_factory=lambda: itertools.count(40000))
    broken: list[str] = field(default_factory=list)
    """What may never happen, and did: a worker would take the exception for an error of its own."""
    pids: itertools.count[int] = field(default_factory=lambda: itertools.count(100))
    _processes: tuple[Process, ...] | None = None

    def __post_init__(self) -> None:
        self.front.told = self._led

    def _led(self, vm: VMName, led: RouteTarget | None) -> None:
        guest = self.guests.get(led.instance) if led is not None else None
        if guest is not None:
            self.log.append(("lead", vm, guest.machine.generation))

    # Drivers, and the one of them

    def of(self, hypervisor: str) -> FakeHypervisor:
        if hypervisor not in CAPABILITIES:
            raise DriverError(f"this version has no driver for {hypervisor!r}", kind="hypervisor")
        return self

    def launch(self, machine: Machine) -> Launch:
        return Launch(("fake", machine.vm), machine.folder)

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        fault = await self.faults.before("power-button")
        alive = [guest for guest in self.guests.values() if guest.process.alive]
        if pid not in (guest.process.pid for guest in alive):
            raise DriverError(f"{folder}: process {pid} is gone", kind="missing")
        for guest in alive:
            deaf = guest.ignores_power_button or guest.machine.vm in self.unkillable
            deaf = deaf or guest.process.instance in self.deaf
            meant = guest.machine.folder == str(folder) and guest.process.pid == pid
            if meant and not deaf:
                self.end(guest.process.instance, Exit(status=0))
        self.faults.after("power-button", fault)

    async def prepare(self, machine: Machine) -> None:
        pass

    async def figures(self, folder: Path, pid: int | None, timeout: float) -> GuestFigures:
        if all(guest.process.pid != pid for guest in self.guests.values() if guest.process.alive):
            raise DriverError(f"{folder}: process {pid} is gone", kind="missing")
        return GuestFigures()

    @property
    def capabilities(self) -> Capabilities:
        return replace(CAPABILITIES[DEFAULT], power_button=self.has_power_button)

    async def fingerprint(self, boot_id: str, state: Path | None) -> Fingerprint:
        return Fingerprint("fake")

    async def make_volumes(
        self, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        fault = await self.faults.before("volumes")
        if lost := sorted(kept - self.sizes.keys()):
            raise DriverError(f"volume {lost[0]} is gone", kind="volume")
        for path, size in sizes.items():
            if path in self.sizes and self.sizes[path] < size:
                self._at_rest(path)
                if self.ungrowable or self.ungrowable_at_rest:
                    raise DriverError(f"{path} could not be grown: e2fsck", kind="growth")
            self.sizes[path] = max(size, self.sizes.get(path, 0))
        self.faults.after("volumes", fault)

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        if self.ungrowable and any(
            self.sizes.get(path, size) < size for path, size in sizes.items()
        ):
            raise DriverError(
                f"{machine.vm}: a volume could not be grown: resize2fs", kind="growth"
            )

    async def open_ports(
        self, seat: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        fault = await self.faults.before("open-ports")
        guest = self._listening(seat)
        wanted = [f for n in seat.networks for f in n.forwards]
        if any(forward.host in guest.ports for forward in wanted):
            await before_giving_up()
        for forward in wanted:
            guest.ports.pop(forward.host, None)
            if forward.host not in guest.ports.values():
                guest.ports[next(self.free_ports)] = forward.host
        self.faults.after("open-ports", fault)
        own = {stands_for: port for port, stands_for in guest.ports.items()}
        return tuple(Route(f.protocol, f.address, f.host, own[f.host]) for f in wanted)

    def _listening(self, seat: GuestEndpoint) -> FakeGuest:
        guest = self.guests.get(seat.instance)
        if guest is None or not guest.process.alive or seat.instance in self.deaf:
            raise DriverError(f"{seat.instance} does not answer", kind="missing")
        return guest

    # Supervisor

    async def adopt(self) -> None:
        self._processes = None

    def processes(self) -> tuple[Process, ...]:
        if self._processes is None:
            self._processes = tuple(guest.process for guest in self.guests.values())
        return self._processes

    def said(self) -> Mapping[InstanceId, Announced]:
        return {
            instance: guest.said for instance, guest in self.guests.items() if guest.process.alive
        }

    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(Conflict(vm, what) for vm, what in self.foreign.items())

    async def start(self, machine: Machine, launch: Launch) -> Process:
        fault = await self.faults.before("start")
        if machine.vm in self.foreign:
            raise GuestConflict(f"{machine.vm} is held by somebody else")
        alive = [g for g in self.guests.values() if g.machine.vm == machine.vm and g.process.alive]
        self._never(
            any(g.machine.slot == machine.slot for g in alive),
            f"a second guest of {machine.vm} in slot {machine.slot}",
        )
        self._never(
            machine.keeps_data and (machine.slot != 1 or any(g.machine.keeps_data for g in alive)),
            f"law 1: a second writer of {machine.vm}",
        )
        ports = {f.host: f.host for n in machine.networks for f in n.forwards}
        self._never(
            any(ports.keys() & g.ports.keys() for g in alive),
            f"two guests of {machine.vm} at a port",
        )
        made = {tap.name: machine.vm for tap in machine.taps}.items() <= self.taps.ours().items()
        self._never(not made, f"{machine.vm} is started without its tap")
        now = self.clock.now()
        process = Process(
            machine.vm, machine.instance, machine.generation, next(self.pids), 1, now.boot,
            slot=machine.slot, hypervisor=machine.hypervisor,
        )  # fmt: skip
        if machine.disk is not None and machine.disk.overlay:
            below = self.above.setdefault(PurePath(machine.disk.overlay).name, machine.disk.path)
            self._never(
                below != machine.disk.path,
                f"what {machine.vm} wrote above {below} is put above {machine.disk.path}",
            )
        for path in writable(machine):
            self.disks.setdefault(path, []).append(machine.generation)
        fate = self.behaviour(machine)
        wanted = [HostPort(f.address, f.host, f.protocol) for f in forwards_of(machine)]
        if any(overlap(one, other) for one in wanted for other in self.listening()):
            fate, ports = "lacks", {}  # QEMU cannot set up its forwards
        said = (
            NOTHING_ANNOUNCED
            if fate == "silent"
            else Announced(up=now.boot, ended=QUIT if fate == "quits" else "")
        )
        guest = FakeGuest(process, machine, fate, self.front, said=said, ports=ports)
        self.guests[machine.instance] = guest
        self.starts[machine.vm] += 1
        self.log.append(("start", machine.vm, machine.generation))
        self._processes = None
        if fate in ENDS:
            self.end(machine.instance, ENDS[fate])
        self.faults.after("start", fault)
        return process

    async def signal(self, instance: InstanceId, number: int) -> None:
        fault = await self.faults.before("signal")
        guest = self.guests.get(instance)
        if guest is not None and guest.machine.vm not in self.unkillable:
            self.end(instance, Exit(signal=number))
        self.faults.after("signal", fault)

    async def wait_gone(self, instance: InstanceId, timeout: float) -> bool:
        guest = self.guests.get(instance)
        if guest is None or not guest.process.alive:
            return True
        late = asyncio.ensure_future(self.clock.sleep(timeout))
        gone = asyncio.ensure_future(guest.gone.wait())
        try:
            await asyncio.wait((late, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
            gone.cancel()
        return not guest.process.alive

    async def forget(self, instance: InstanceId) -> None:
        fault = await self.faults.before("forget")
        guest = self.guests.get(instance)
        if guest is not None and not guest.process.alive:
            del self.guests[instance]
            self._processes = None
        self.faults.after("forget", fault)

    def end(self, instance: InstanceId, ended: Exit) -> None:
        """The guest's process ends now."""
        guest = self.guests[instance]
        if guest.process.alive:
            guest.process = replace(guest.process, exit=ended)
            self.stops[guest.machine.vm] += 1
            self.log.append(("end", guest.machine.vm, guest.machine.generation))
            self._processes = None
            guest.gone.set()
            self.wake()

    def kill(self, vm: str) -> None:
        """As `kill -9` of a VM's living guest."""
        self.end(self.living(vm).process.instance, Exit(signal=9))

    def power_loss(self) -> None:
        """Every guest is gone with the host; their ends are found later, unexplained."""
        for guest in self.guests.values():
            if guest.process.alive:
                self.end(guest.process.instance, Exit())

    def living(self, vm: str) -> FakeGuest:
        """The guest of a VM; where there are two, the one that has its ports."""
        return self.all_living(vm)[0]

    def all_living(self, vm: str) -> list[FakeGuest]:
        """Whoever has the VM's ports comes first."""
        alive = [g for g in self.guests.values() if g.machine.vm == vm and g.process.alive]
        return sorted(alive, key=lambda g: not g.serves)

    def listening(self) -> frozenset[HostPort]:
        """Ports of the host that lead to a guest; those of its own are on the loopback."""
        return frozenset(
            HostPort(addresses.get(port, "127.0.0.1"), port)
            for guest in self.guests.values()
            if guest.process.alive
            for addresses in [{f.host: f.address for f in forwards_of(guest.machine)}]
            for port in guest.ports
        )

    def running(self) -> dict[VMName, GenerationNumber]:
        alive = [g for g in self.guests.values() if g.process.alive]
        alive.sort(key=lambda g: g.serves)
        return {g.machine.vm: g.machine.generation for g in alive}

    # Volumes: each is the list of the generations that wrote to it

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        fault = await self.faults.before("snapshot")
        for volume, copy in pairs:
            self._at_rest(volume)
            if volume in self.disks:
                self.disks[copy] = list(self.disks[volume])
        self.faults.after("snapshot", fault)
        return "reflink"

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        fault = await self.faults.before("restore")
        for copy, volume in pairs:
            if volume in self.disks and copy not in self.disks:
                raise DriverError(f"snapshot {copy} is gone", kind="volume")
        for copy, volume in pairs:
            self._at_rest(volume)
            if copy in self.disks:
                self.disks[volume] = list(self.disks[copy])
        self.faults.after("restore", fault)

    async def drop_snapshots(self, paths: Sequence[str]) -> None:
        fault = await self.faults.before("drop-snapshots")
        for path in paths:
            self.disks.pop(path, None)
        self.faults.after("drop-snapshots", fault)

    def _at_rest(self, volume: str) -> None:
        writers = [
            guest.machine.vm
            for guest in self.guests.values()
            if guest.process.alive and volume in writable(guest.machine)
        ]
        self._never(bool(writers), f"volumes of {writers} were touched while their guest lives")

    def _never(self, seen: bool, what: str) -> None:  # noqa: FBT001
        if seen:
            self.broken.append(what)
            raise AssertionError(what)

    # Generations

    async def create(
        self, machine: Machine, launch: Launch, generation: Generation, *, current: bool = False
    ) -> None:
        fault = await self.faults.before("create")
        self.folders.setdefault(generation.vm, {})[generation.number] = generation
        if current:
            self.current[generation.vm] = generation.number
        self.faults.after("create", fault)

    async def set_booted(self, vm: VMName, number: GenerationNumber) -> None:
        fault = await self.faults.before("booted")
        self.current[vm] = number
        self.faults.after("booted", fault)

    async def drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None:
        fault = await self.faults.before("drop")
        for number in numbers:
            self.folders.get(vm, {}).pop(number, None)
        self.faults.after("drop", fault)

    async def remove(self, vm: VMName) -> None:
        fault = await self.faults.before("remove")
        self.folders.pop(vm, None)
        self.faults.after("remove", fault)

    async def move(self, old: VMName, new: VMName) -> None:
        fault = await self.faults.before("move")
        alive = [g.machine.vm for g in self.guests.values() if g.process.alive]
        self._never(old in alive or new in alive, f"{old} was moved while a guest lives")
        if old in self.folders or self._lying(old):
            if new in self.folders or self._lying(new):
                raise DriverError(f"{new} is not empty", kind="occupied")
            self.folders[new] = self.folders.pop(old, {})
            for path in [path for path in self.sizes if path.startswith(f"/state/vms/{old}/")]:
                self.sizes[path.replace(f"/vms/{old}/", f"/vms/{new}/")] = self.sizes.pop(path)
            for path in self._lying(old):
                self.disks[path.replace(f"/vms/{old}/", f"/vms/{new}/")] = self.disks.pop(path)
        self.faults.after("move", fault)

    async def occupied(self, names: Sequence[VMName]) -> frozenset[VMName]:
        return frozenset(n for n in names if n in self.folders or self._lying(n))

    def _lying(self, vm: VMName) -> list[str]:
        return [path for path in self.disks if path.startswith(f"/state/vms/{vm}/")]

    def folder(self, vm: VMName) -> Path:
        return Path("/state/vms") / vm

    async def read(self, vm: VMName, number: GenerationNumber) -> Generation | None:
        return self.folders.get(vm, {}).get(number)
