"""A machine as QEMU's command line: pure, so that golden tests can hold every word of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.hypervisors import QemuConfig
from reconciler.model.machine import ROOT, Disk, Machine, Mount, Tap, UserNetwork

QMP_SOCKET = str(layout.run(PurePath()) / "qmp.sock")
"""Relative to the guest's folder, as the argv names it: sun_path holds 107 bytes."""

INSTANCE_KEY = "opt/org.reconciler/instance"
"""The fw_cfg entry in which a guest finds its instance id."""

BALLOON = "balloon0"
"""The balloon's id, which microvm.nix gives it too."""
BALLOON_DEVICE = (
    f"virtio-balloon-device,id={BALLOON},deflate-on-oom=on,guest-stats-polling-interval=30"
)
"""For its figures alone. No free page reporting: memory that a guest gave back would be given to the
next guest, and be missing when the first one wants it again."""

MOST_VIRTIO_DEVICES = 23
"""QEMU has 24 virtio-mmio transports on microvm with a second IO-APIC, which ACPI brings. With all
of them taken the guest boots, and its network is dead (seen with QEMU 7.2 and Linux 6.1)."""
MOST_CMDLINE_BYTES = 2047
"""Linux on x86 reads 2048 bytes with the closing NUL, and drops the rest without a word."""
MOST_SERIAL_BYTES = 20
USER_ADDRESS, USER_GATEWAY, USER_NAMESERVER = "10.0.2.15/24", "10.0.2.2", "10.0.2.3"
"""The fixed addresses of QEMU's user networking."""

# The translation cache takes what it is given, up to 1 GiB. A boot with 16 MiB costs 7 % more CPU, as
# it is flushed; with 64 MiB a guest takes 12 MB more, and nothing is gained.
TCG = "tcg,tb-size=32"
QUICK = ("cryptomgr.notests", "rcupdate.rcu_expedited=1", "8250.nr_uarts=1")
"""Self-tests, grace periods and absent ports cost a fifth of a boot under TCG, and protect nothing."""

# No PIC, no PIT: kvmclock or the known TSC frequency stand in, and ACPI brings the IO-APICs.
# The RTC gives the guest the time of day. The ISA serial port is the console, ISA also carries
# pvpanic: its PCI form would need pcie=on, and with it a PCI scan at each boot.
BOARD = "microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_WORD = re.compile(r"[!-~]+")
_MOUNT_PART = re.compile(r"[!-+\--9;-~]+")  # a visible word without `,` and `:`


def argv(machine: Machine, config: QemuConfig) -> tuple[str, ...]:
    """The whole command line. Raises DriverError for a machine that QEMU or Linux would garble."""
    return (
        config.binary,
        *_board(machine, config),
        *_boot(machine),
        *_disks(machine),
        *_networks(machine.networks),
        *_taps(machine.taps, len(machine.networks)),
        *_channels(),
    )


def kernel_cmdline(machine: Machine) -> str:
    """The command line of the guest's kernel, which our initrd reads too.

    The manifest's words come early, so that they cannot undo what the controller relies on:
    of two equal parameters Linux takes the last.
    """
    words = [
        "quiet",
        *QUICK,
        *machine.cmdline,
        "console=ttyS0",
        "reboot=t",
        "panic=-1",
        *_guest_contract(machine),
    ]
    for word in words:
        if not _WORD.fullmatch(word):
            raise DriverError(f"{machine.vm}: not a kernel parameter: {word!r}", kind="machine")
    line = " ".join(words)
    if len(line) > MOST_CMDLINE_BYTES:
        raise DriverError(
            f"{machine.vm}: the kernel's command line has {len(line)} bytes",
            kind="machine",
            hint=f"at most {MOST_CMDLINE_BYTES} fit: use fewer layers, volumes or parameters",
        )
    return line


def _guest_contract(machine: Machine) -> Iterator[str]:
    if machine.accel == "tcg" and machine.tsc_khz:
        # Without it a guest under TCG freezes at random while it calibrates the TSC.
        yield f"tsc_early_khz={machine.tsc_khz}"
    if machine.layers:
        yield "reconciler.layers=" + ",".join(layer.serial for layer in machine.layers)
    if machine.read_only_root:
        yield "reconciler.writable=none"
    for mount in machine.mounts:
        if mount.mount_point == ROOT:
            yield f"reconciler.writable={_mount(machine, mount).replace(':/:', ':')}"
        else:
            yield "reconciler.mount=" + _mount(machine, mount)
    if machine.networks and not machine.taps:
        yield "reconciler.net=user"
    elif machine.taps:
        yield from _nics(machine)


def _nics(machine: Machine) -> Iterator[str]:
    """MAC,ADDRESS,GATEWAY,NAMESERVERS of each interface: with several, only the MAC says which is which."""
    away = any(tap.gateway for tap in machine.taps)
    named = any(tap.nameservers for tap in machine.taps)
    for tap in machine.taps:
        servers = "+".join(tap.nameservers)
        yield f"reconciler.nic={tap.mac},{tap.address},{tap.gateway},{servers}"
    for network in machine.networks[:1]:
        gateway, servers = "" if away else USER_GATEWAY, "" if named else USER_NAMESERVER
        yield f"reconciler.nic={network.mac},{USER_ADDRESS},{gateway},{servers}"


def _mount(machine: Machine, mount: Mount) -> str:
    parts = (mount.serial, mount.mount_point, mount.fs_type)
    if not all(_MOUNT_PART.fullmatch(part) for part in parts):
        raise DriverError(f"{machine.vm}: not a mount: {':'.join(parts)!r}", kind="machine")
    return ":".join(parts)


def _board(machine: Machine, config: QemuConfig) -> Iterator[str]:
    kvm = machine.accel == "kvm"
    # The process's name is what `top` shows; Linux keeps 15 bytes of it.
    yield from ("-name", f"guest={_value(machine.vm)},process=microvm@{_value(machine.vm)}")
    yield from ("-M", BOARD)
    yield from ("-accel", "kvm" if kvm else TCG)
    yield from ("-cpu", config.cpu or ("host" if kvm else "max"))
    yield from ("-smp", str(machine.vcpu))
    yield from ("-m", f"{machine.memory_mib}M")
    yield from ("-nodefaults", "-no-user-config", "-display", "none")
    yield from ("-sandbox", SANDBOX)
    # A guest that reboots ends its process: the planner decides what is started next.
    yield "-no-reboot"
    # Without pvpanic a panic with panic=-1 looks like a reboot, and exits 0.
    yield from ("-device", "pvpanic", "-action", "panic=exit-failure")


def _boot(machine: Machine) -> Iterator[str]:
    yield from ("-kernel", machine.kernel)
    yield from ("-initrd", machine.initrd)
    yield from ("-append", kernel_cmdline(machine))
    yield from ("-fw_cfg", f"name={INSTANCE_KEY},string={_value(machine.instance)}")
    yield from ("-device", "virtio-rng-device")


def _disks(machine: Machine) -> Iterator[str]:
    disks = (*machine.layers, *machine.volumes)
    taken = len(disks) + len(machine.networks) + len(machine.taps) + 1
    if taken > MOST_VIRTIO_DEVICES:
        raise DriverError(
            f"{machine.vm}: more than {MOST_VIRTIO_DEVICES} devices",
            kind="machine",
            hint="use fewer layers, volumes or interfaces",
        )
    for disk in disks:
        yield from _disk(machine, disk)
    if taken < MOST_VIRTIO_DEVICES:  # figures are no reason to refuse a machine
        yield from ("-device", BALLOON_DEVICE)


def _disk(machine: Machine, disk: Disk) -> Iterator[str]:
    if not _MOUNT_PART.fullmatch(disk.serial) or len(disk.serial) > MOST_SERIAL_BYTES:
        raise DriverError(f"{machine.vm}: not a disk serial: {disk.serial!r}", kind="machine")
    # werror=report: a full disk of the host is the guest's I/O error and its probe's failure,
    # rather than a guest that QEMU pauses for ever.
    mode = "read-only=on" if disk.read_only else "read-only=off,discard=unmap,werror=report"
    drive = f"if=none,id={disk.serial},format=raw,{mode},file={_value(disk.path)}"
    yield from ("-drive", drive)
    yield from ("-device", f"virtio-blk-device,drive={disk.serial},serial={disk.serial}")


def _networks(networks: tuple[UserNetwork, ...]) -> Iterator[str]:
    for number, network in enumerate(networks):
        forwards = "".join(
            f",hostfwd={f.protocol}:{_value(f.address)}:{f.host}-:{f.guest}"
            for f in network.forwards
        )
        yield from ("-netdev", f"user,id=net{number}{forwards}")
        yield from ("-device", f"virtio-net-device,netdev=net{number},mac={_value(network.mac)}")


def _taps(taps: tuple[Tap, ...], first: int) -> Iterator[str]:
    """The daemon made them and plugged them in: QEMU runs no script, and needs no right to make one."""
    for number, tap in enumerate(taps, first):
        name = _value(tap.name)
        yield from ("-netdev", f"tap,id=net{number},ifname={name},script=no,downscript=no")
        yield from ("-device", f"virtio-net-device,netdev=net{number},mac={_value(tap.mac)}")


def _channels() -> Iterator[str]:
    # Appending lets the supervisor bound the file by copying and truncating it.
    yield from ("-chardev", f"file,id=console,path={layout.CONSOLE},append=on")
    yield from ("-serial", "chardev:console")
    yield from ("-qmp", f"unix:{QMP_SOCKET},server=on,wait=off")


def _value(text: str) -> str:
    """QEMU's own escape for its comma-separated options."""
    return text.replace(",", ",,")
