"""A guest's complete hardware: a driver makes a command line of it, and needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from reconciler.hypervisors import DEFAULT
from reconciler.model.names import GenerationNumber, InstanceId, VMName

Accel = Literal["kvm", "tcg"]
Protocol = Literal["tcp", "udp"]
Firmware = Literal["bios", "uefi"]
Slot = Literal[1, 2]
"""A VM has two slots for guests, each with its own lock, sockets and console. A guest that writes to volumes
is always in the first, so that its lock excludes a second writer."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - only compared with, never bound
MOST_TREES_IN_LINE = 16
"""Trees of hashes that the kernel's command line names: as many as a VM has layers that are one image each.
More are a list beside it, which initrds of contract 3 read."""
NO_TREE = "none"
"""A tree of hashes that should be there, and is not known: such a machine is refused."""
ROOT = "/"
"""The mount point of the volume that has what a guest writes to its root."""
HOST_END = "fe:"
"""Prefix of the MAC of a tap's end on the host. A bridge takes the lowest MAC of its ports as its own, and
this prefix is higher than any guest's, so the bridge's MAC stays stable."""


def other(slot: Slot) -> Slot:
    """The other slot."""
    return 2 if slot == 1 else 1


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtio block device; the guest finds it by `serial` (at most 20 bytes), never by position."""

    path: str
    serial: str
    read_only: bool
    hash_tree: str = ""
    """Its blocks of 4096 bytes and the root of the tree that follows them, `BLOCKS:ROOT`; empty: it has none."""


@dataclass(frozen=True, slots=True)
class PortForward:
    """A port of the host that is forwarded to a port of the guest."""

    host: int
    guest: int
    protocol: Protocol = "tcp"
    address: str = "127.0.0.1"


class HostPort(NamedTuple):
    """A port of the host, on one of its addresses or on all."""

    address: str
    port: int
    protocol: Protocol = "tcp"


def overlap(one: HostPort, other: HostPort) -> bool:
    """Whether only one of two ports can be bound."""
    same = (one.port, one.protocol) == (other.port, other.protocol)
    return same and share(one.address, other.address)


def share(one: str, other: str) -> bool:
    """Whether a port on one address is also a port on the other."""
    return one == other or ANY_ADDRESS in (one, other)


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """A network inside the VMM: the guest is 10.0.2.15/24 behind 10.0.2.2."""

    mac: str
    forwards: tuple[PortForward, ...] = ()


@dataclass(frozen=True, slots=True)
class Tap:
    """A tap: an interface of the host that connects a guest to a bridge."""

    name: str
    """On the host; at most 15 characters."""
    bridge: str
    mac: str
    """Of the guest's end."""
    interface: int
    """Its index among the VM's interfaces."""
    address: str = ""
    """The guest's, such as 10.20.0.5/24; empty: the guest configures itself."""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()

    @property
    def ip(self) -> str:
        """The address without its prefix."""
        return self.address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume as the guest sees it: disk by `serial`, mounted at `mount_point`, which may be `ROOT`."""

    serial: str
    mount_point: str
    fs_type: str


def volume_serial(volume: str) -> str:
    """The serial of a volume's disk; virtio-blk keeps 20 bytes, and volume names have at most 16."""
    return f"vol-{volume}"


@dataclass(frozen=True, slots=True)
class BootDisk:
    """A disk that firmware boots."""

    path: str
    """A qcow2 that guests share; none of them writes to it."""
    firmware: Firmware
    overlay: str = ""
    """A qcow2 of this VM and this image alone, which keeps what guests write; empty: that ends with the guest."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that one start of one guest needs.

    Paths are absolute. `folder` is the guest's working folder (`vms/NAME`, or `vms/NAME.2` for
    the second slot), in which the driver puts its sockets (`run/qmp.sock`) and the console log
    (`console.log`).
    """

    vm: VMName
    generation: GenerationNumber
    instance: InstanceId
    vcpu: int
    memory_mib: int
    accel: Accel
    tsc_khz: int | None
    """The host's TSC frequency; needed under tcg, where calibrating it freezes guests."""
    kernel: str
    initrd: str
    cmdline: tuple[str, ...]
    layers: tuple[Disk, ...]
    """Read-only store disks, bottom first, with serials layer0, layer1, ..."""
    volumes: tuple[Disk, ...]
    mounts: tuple[Mount, ...]
    networks: tuple[UserNetwork, ...]
    folder: str
    stop_timeout: float = 60.0
    """Seconds that the guest has after its power button was pressed."""
    slot: Slot = 1
    taps: tuple[Tap, ...] = ()
    runner: str = ""
    """A link to a runner built by Nix, which brings its own kernel, disks and network; those fields are empty."""
    hypervisor: str = DEFAULT
    """The name of its driver. Descriptions that earlier versions wrote lack it."""
    read_only_root: bool = False
    disk: BootDisk | None = None
    """Booted in place of a kernel, which is empty then, as are `initrd` and `cmdline`; `mounts` is in its seed."""

    @property
    def keeps_data(self) -> bool:
        """Whether its guest writes to what outlives it: two such guests would destroy it."""
        return bool(self.volumes) or (self.disk is not None and bool(self.disk.overlay))


@dataclass(frozen=True, slots=True)
class GuestEndpoint:
    """A running guest as a target for traffic."""

    instance: InstanceId
    generation: GenerationNumber
    folder: str
    """The folder with its control socket."""
    networks: tuple[UserNetwork, ...]
    """With the forwards of its manifest."""
    pid: int | None = None
    """Of its VMM: commands are sent only if this process answers."""
    hypervisor: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Route:
    """A port of the host, and the loopback port that leads to one guest."""

    protocol: Protocol
    address: str
    port: int
    target: int


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """The guest to which the proxy sends new connections of a VM."""

    instance: InstanceId
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The proxy's routing table."""

    targets: Mapping[VMName, RouteTarget] = field(default_factory=dict)
    error: str = ""
    """Why the proxy could not be asked; `targets` is then unknown."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A machine as a process: what the supervisor starts."""

    argv: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, str], ...] = ()
    power_button: tuple[str, ...] = ()
    """A command that asks the guest to shut down and waits for it; run in `cwd`, also without a daemon."""
    prints_console: bool = False
    """Whether the guest's console is the VMM's standard output, and not a file that the VMM opens."""
    is_script: bool = False
    """It uses low descriptors as if they were free: the lock that it inherits has a high one."""
    makes_volumes: bool = False
    """It creates files and sockets in the folder of volumes itself."""
