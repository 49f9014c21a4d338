"""A machine as a transient unit of systemd, with limits and a sandbox for its VMM. Pure."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbus_fast import Variant

from reconciler.host import layout
from reconciler.model.machine import Launch, Machine, Slot
from reconciler.model.names import VMName
from reconciler.supervisor import locked_exec
from reconciler.supervisor.spawn import DEFAULT_PATH, environment

SLICE = "microvms.slice"
PATTERN = "microvm-*.service"
GROUP = "microvm"
"""The group with access to guests' files; its only members are guests and the daemon."""

OVERHEAD_MIB = 256
"""Memory of a VMM beyond its guest's: translation cache, buffers, stacks. 60 to 110 MiB were measured
under emulation, and less under KVM."""
TASKS = 64
"""Threads of a VMM beyond one for each CPU; its I/O uses up to this many."""
WEIGHT_PER_CPU = 100
"""systemd's default weight, for each CPU of the guest."""
QUOTA_USEC_PER_CPU = 1_000_000

STOP_GRACE = 10.0
"""Seconds beyond the guest's stop timeout, for the command that presses its power button."""
DAEMON = "reconciler.service"
NETWORK = "network.target"

LOCK_TAKEN = 75
"""Exit status of a unit that found the lock held: EX_TEMPFAIL."""

CAP_NET_BIND_SERVICE = 1 << 10
KVM, TUN = "/dev/kvm", "/dev/net/tun"
FIRST_FREE_PORT = 1024
MS_REC = 0x4000
MOST_USER_CHARACTERS = 31

Property = tuple[str, Variant]


@dataclass(frozen=True, slots=True)
class HostPaths:
    """Paths of the host that a unit needs."""

    state: Path
    """The state directory; of it a guest sees only its own folder and images."""
    flock: str
    program: str
    """The VMM, as an absolute path."""
    kvm_group: str | None
    """The group of /dev/kvm."""


def unit_name(vm: VMName, slot: Slot = 1) -> str:
    """The unit of a guest. Names of VMs have no dots, so the second guest's name is unique."""
    return f"microvm-{vm}.service" if slot == 1 else f"microvm-{vm}.2.service"


def user_name(vm: VMName, slot: Slot = 1) -> str:
    """The name of a guest's dynamic user, which exists while the guest runs; at most 31 characters."""
    name = f"microvm-{vm}"
    if slot == 1 and len(name) <= MOST_USER_CHARACTERS:
        return name
    meant = vm if slot == 1 else f"{vm}.2"
    return f"microvm-{hashlib.sha256(meant.encode()).hexdigest()[:16]}"


def properties(machine: Machine, launch: Launch, place: HostPaths) -> list[Property]:
    """All properties for StartTransientUnit."""
    return [
        *_process(machine, launch, place),
        *_limits(machine),
        *_identity(machine, place),
        *_files(machine, place),
        *_network(machine),
        *_kernel(),
    ]


def _process(machine: Machine, launch: Launch, place: HostPaths) -> Iterator[Property]:
    yield "Description", Variant("s", f"microVM {machine.vm}, generation {machine.generation}")
    yield "Type", Variant("s", "exec")
    # The planner decides about restarts. The unit stays until its end is in the record.
    yield "Restart", Variant("s", "no")
    yield "RemainAfterExit", Variant("b", True)  # noqa: FBT003  D-Bus's own form
    taker, argv = _taking_the_lock(machine, launch, place)
    yield (
        "ExecStart",
        Variant("a(sasb)", [[taker, [*argv, place.program, *launch.argv[1:]], False]]),
    )
    yield "WorkingDirectory", Variant("s", launch.cwd)
    given = environment(machine, launch, Path(machine.folder), DEFAULT_PATH)
    yield "Environment", Variant("as", [f"{key}={value}" for key, value in given.items()])
    folder = Path(machine.folder)
    log = str(layout.vmm_log(folder))
    said = str(layout.console(folder)) if launch.prints_console else log
    yield "StandardOutputFileToAppend", Variant("s", said)
    yield "StandardErrorFileToAppend", Variant("s", log)
    yield from _ending(machine, launch)


def _taking_the_lock(machine: Machine, launch: Launch, place: HostPaths) -> tuple[str, list[str]]:
    """The program that takes the lock and then becomes the VMM, with its arguments."""
    held = str(layout.lock(Path(machine.folder)))
    if launch.is_script:
        return sys.executable, [sys.executable, "-IS", locked_exec.__file__, held, str(LOCK_TAKEN)]
    flock = ("flock", "--nonblock", "--no-fork", "--conflict-exit-code", str(LOCK_TAKEN))
    return place.flock, [*flock, held]


def _ending(machine: Machine, launch: Launch) -> Iterator[Property]:
    """How the guest shuts down when the unit is stopped by others, as at the host's shutdown."""
    if launch.power_button:
        press = [launch.power_button[0], list(launch.power_button), True]
        yield "ExecStop", Variant("a(sasb)", [press])
    seconds = machine.stop_timeout + STOP_GRACE
    yield "TimeoutStopUSec", Variant("t", int(seconds * 1_000_000))
    # Stopped in reverse order: first the daemon, which would restart ended guests, then the guests,
    # and then what they need.
    yield "Before", Variant("as", [DAEMON])
    yield "After", Variant("as", [NETWORK])


def _limits(machine: Machine) -> Iterator[Property]:
    yield "Slice", Variant("s", SLICE)
    yield "MemoryMax", Variant("t", (machine.memory_mib + OVERHEAD_MIB) * 1024 * 1024)
    yield "TasksMax", Variant("t", TASKS + machine.vcpu)
    yield "CPUWeight", Variant("t", min(10_000, WEIGHT_PER_CPU * machine.vcpu))
    # One CPU more than the guest has, for device emulation.
    yield "CPUQuotaPerSecUSec", Variant("t", QUOTA_USEC_PER_CPU * (machine.vcpu + 1))
    yield "IOWeight", Variant("t", 100)
    yield "LimitCORE", Variant("t", 0)  # a core dump would contain the guest's memory


def _identity(machine: Machine, place: HostPaths) -> Iterator[Property]:
    yield "DynamicUser", Variant("b", True)  # noqa: FBT003
    yield "User", Variant("s", user_name(machine.vm, machine.slot))
    yield "Group", Variant("s", GROUP)
    if machine.accel == "kvm" and place.kvm_group:
        yield "SupplementaryGroups", Variant("as", [place.kvm_group])
    yield "UMask", Variant("u", 0o007)  # the daemon uses the sockets as a member of the group
    # No PrivateUsers=: on hosts that forbid user namespaces no guest would start.
    capabilities = CAP_NET_BIND_SERVICE if _takes_low_ports(machine) else 0
    yield "AmbientCapabilities", Variant("t", capabilities)
    yield "CapabilityBoundingSet", Variant("t", capabilities)
    yield "NoNewPrivileges", Variant("b", True)  # noqa: FBT003


def _files(machine: Machine, place: HostPaths) -> Iterator[Property]:
    yield "ProtectSystem", Variant("s", "strict")
    yield "ProtectHome", Variant("s", "yes")
    yield "PrivateTmp", Variant("b", True)  # noqa: FBT003
    # An empty file system over the state directory hides all other guests.
    yield "TemporaryFileSystem", Variant("a(ss)", [[str(place.state), "ro"]])
    yield "BindPaths", Variant("a(ssbt)", [[machine.folder, machine.folder, False, MS_REC]])
    booted = (machine.kernel, machine.initrd) if machine.disk is None else (machine.disk.path,)
    images = (*booted, *(layer.path for layer in machine.layers))
    shown = [[p, p, True, 0] for p in images if Path(p).is_relative_to(place.state)]
    if shown:
        yield "BindReadOnlyPaths", Variant("a(ssbt)", shown)
    yield "DevicePolicy", Variant("s", "closed")
    devices = [KVM] if machine.accel == "kvm" else []
    devices += [TUN] if machine.taps else []
    if devices:
        yield "DeviceAllow", Variant("a(ss)", [[device, "rw"] for device in devices])
    else:
        yield "PrivateDevices", Variant("b", True)  # noqa: FBT003
    yield "ProtectProc", Variant("s", "invisible")
    yield "ProcSubset", Variant("s", "pid")


def _network(machine: Machine) -> Iterator[Property]:
    families = ["AF_UNIX", "AF_INET", "AF_INET6"] if machine.networks else ["AF_UNIX"]
    yield "RestrictAddressFamilies", Variant("(bas)", [True, families])
    # A tap is in the host's network namespace. A VMM with taps alone still gets only AF_UNIX sockets.
    yield "PrivateNetwork", Variant("b", not machine.networks and not machine.taps)
    yield "IPAccounting", Variant("b", True)  # noqa: FBT003


def _kernel() -> Iterator[Property]:
    for name in (
        "ProtectControlGroups",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
    ):
        yield name, Variant("b", True)  # noqa: FBT003
    yield "ProtectClock", Variant("b", True)  # noqa: FBT003
    yield "RestrictNamespaces", Variant("t", 0)
    yield "KeyringMode", Variant("s", "private")
    yield "SystemCallArchitectures", Variant("as", ["native"])
    # seccomp(2) is allowed: VMMs restrict their own threads further.
    yield "SystemCallFilter", Variant("(bas)", [True, ["@system-service", "seccomp"]])
    yield "SystemCallFilter", Variant("(bas)", [False, ["@privileged", "@resources"]])
    # EPERM: the call fails instead of killing the VMM.
    yield ("SystemCallErrorNumber", Variant("i", 1))


def _takes_low_ports(machine: Machine) -> bool:
    return any(f.host < FIRST_FREE_PORT for n in machine.networks for f in n.forwards)
