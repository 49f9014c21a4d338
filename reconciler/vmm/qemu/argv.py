"""A machine as QEMU's command line: pure, so that golden tests can hold every word of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import PurePath

from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.hypervisors import QemuConfig
from reconciler.model.machine import (
    MOST_TREES_IN_LINE,
    NO_TREE,
    ROOT,
    BootDisk,
    Disk,
    Machine,
    Mount,
)

QMP_SOCKET = str(layout.run(PurePath()) / "qmp.sock")
"""Relative to the guest's folder, as the argv names it: sun_path holds 107 bytes."""

INSTANCE_KEY = "opt/org.reconciler/instance"
"""The fw_cfg entry in which a guest finds its instance id."""
TREES_KEY = "opt/org.reconciler/verity"
"""The fw_cfg entry with the trees of hashes of a guest that has more than its command line has room for."""

BALLOON = "balloon0"
"""The balloon's id, which microvm.nix gives it too."""
BALLOON_FIGURES = f"id={BALLOON},deflate-on-oom=on,guest-stats-polling-interval=30"
"""For its figures alone. No free page reporting: memory that a guest gave back would be given to the
next guest, and be missing when the first one wants it again."""

MOST_VIRTIO_DEVICES = 23
"""QEMU has 24 virtio-mmio transports on microvm with a second IO-APIC, which ACPI brings. With all
of them taken the guest boots, and its network is dead (seen with QEMU 7.2 and Linux 6.1)."""
PCI_FUNCTIONS = 8
"""Of a slot. The root bus has 31 slots for devices: more layers than that has no command line room for."""
MOST_PCI_DEVICES = 26
"""Of a guest that boots a disk; the root bus of q35 has 29 free slots for devices."""
MOST_CMDLINE_BYTES = 2047
"""Linux on x86 reads 2048 bytes with the closing NUL, and drops the rest without a word."""
MOST_SERIAL_BYTES = 20
PCI_QUEUES = "num-queues=1,queue-size=32,vectors=0"
"""Of a layer on PCI: short queues and shared interrupts, as a guest may have a hundred of them."""
BOOT_DISK = "disk"
"""The id and serial of a disk that firmware boots."""
# werror=report: a full disk of the host is the guest's I/O error and its probe's failure,
# rather than a guest that QEMU pauses for ever.
WRITABLE = "discard=unmap,werror=report"
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
BOARD_OF_A_DISK = "q35,usb=off,vmport=off,graphics=off"
"""For guests that bring their own kernel: it has the timers that such a kernel calibrates its clock by, where
nothing can be written on its command line. Without graphics the firmware prints on the serial port."""
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_WORD = re.compile(r"[!-~]+")
_MOUNT_PART = re.compile(r"[!-+\--9;-~]+")  # a visible word without `,` and `:`


OVMF_FILES = ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")
"""Of Debian's package ovmf: the program, and its variables as they are at first."""


def argv(machine: Machine, config: QemuConfig) -> tuple[str, ...]:
    """The whole command line. Raises DriverError for a machine that QEMU or Linux would garble."""
    return (
        config.binary,
        *_board(machine, config),
        *_boot(machine, config),
        *_disks(machine),
        *_networks(machine),
        *_taps(machine),
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
    if trees := [layer.hash_tree for layer in machine.layers if layer.hash_tree]:
        if len(trees) < len(machine.layers) or NO_TREE in trees:
            raise DriverError(f"{machine.vm}: some layers have no tree of hashes", kind="machine")
        yield f"reconciler.verity={_named_trees(trees)}"
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


def _named_trees(trees: Sequence[str]) -> str:
    """What the command line says of trees of hashes: all of them, or which list of them counts."""
    listed = ",".join(trees)
    if len(trees) <= MOST_TREES_IN_LINE:
        return listed
    return f"sha256:{sha256(listed.encode('ascii')).hexdigest()}"


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
    yield from ("-M", _board_of(machine))
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


def _boot(machine: Machine, config: QemuConfig) -> Iterator[str]:
    if machine.disk is None:
        yield from ("-kernel", machine.kernel)
        yield from ("-initrd", machine.initrd)
        yield from ("-append", kernel_cmdline(machine))
    elif machine.disk.firmware == "uefi":
        code, variables = (str(PurePath(config.ovmf) / name) for name in OVMF_FILES)
        yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(code)}")
        # The guest's changes to them end with it, as those of its disk.
        yield from ("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_value(variables)}")
    yield from ("-fw_cfg", f"name={INSTANCE_KEY},string={_value(machine.instance)}")
    trees = [layer.hash_tree for layer in machine.layers if layer.hash_tree]
    if len(trees) > MOST_TREES_IN_LINE:
        yield from ("-fw_cfg", f"name={TREES_KEY},string={_value(','.join(trees))}")
    yield from ("-device", f"virtio-rng-{_bus(machine)}")


def _bus(machine: Machine) -> str:
    """What the names of its virtio devices end in: of virtio-mmio, or of PCI."""
    return "device" if machine.disk is None else "pci"


def _board_of(machine: Machine) -> str:
    if machine.disk is not None:
        return BOARD_OF_A_DISK
    return f"{BOARD},pcie=on" if _room(machine) < len(machine.layers) else BOARD


def _room(machine: Machine) -> int:
    """How many layers the virtio-mmio transports hold, beside all that needs one."""
    others = len(machine.volumes) + len(machine.networks) + len(machine.taps)
    return MOST_VIRTIO_DEVICES - others - 1  # the random numbers


def _disks(machine: Machine) -> Iterator[str]:
    """Layers that find no transport are on PCI, which costs a boot its scan: only then the board has it."""
    if machine.disk is not None:
        yield from _disks_on_pci(machine, machine.disk)
        return
    room = _room(machine)
    if room < 0:
        raise DriverError(
            f"{machine.vm}: more than {MOST_VIRTIO_DEVICES} devices beside its layers",
            kind="machine",
            hint="use fewer volumes or interfaces",
        )
    for layer in machine.layers[:room]:
        yield from _disk(machine, layer, "virtio-blk-device")
    for number, layer in enumerate(machine.layers[room:]):
        slot, function = divmod(number, PCI_FUNCTIONS)
        place = f"bus=pcie.0,addr={slot + 1:x}.{function},multifunction=on"
        yield from _disk(machine, layer, f"virtio-blk-pci,{place},{PCI_QUEUES}")
    for volume in machine.volumes:
        yield from _disk(machine, volume, "virtio-blk-device")
    if len(machine.layers) < room:  # figures are no reason to refuse a machine
        yield from ("-device", f"virtio-balloon-device,{BALLOON_FIGURES}")


def _disks_on_pci(machine: Machine, booted: BootDisk) -> Iterator[str]:
    others = (*machine.layers, *machine.volumes)
    taken = len(others) + len(machine.networks) + len(machine.taps) + 3
    if taken > MOST_PCI_DEVICES:
        raise DriverError(
            f"{machine.vm}: more than {MOST_PCI_DEVICES} devices",
            kind="machine",
            hint="use fewer volumes or interfaces",
        )
    yield from ("-drive", f"if=none,id={BOOT_DISK},format=qcow2,{_written(booted)}")
    device = f"virtio-blk-pci,drive={BOOT_DISK},serial={BOOT_DISK},bootindex=0"
    yield from ("-device", device)
    for disk in others:
        yield from _disk(machine, disk, "virtio-blk-pci")
    yield from ("-device", f"virtio-balloon-pci,{BALLOON_FIGURES}")


def _written(booted: BootDisk) -> str:
    if not booted.overlay:
        # QEMU writes to a file of its own in TMPDIR that has no name any more once it is open, so nothing of
        # it is left behind, however the guest ends.
        return f"snapshot=on,{WRITABLE},file={_value(booted.path)}"
    # What it is above is said here, whatever its header names: a guest that broke out may have written that.
    below = (
        f"backing.driver=qcow2,backing.file.driver=file,backing.file.filename={_value(booted.path)}"
    )
    return f"{WRITABLE},file={_value(booted.overlay)},{below}"


def _disk(machine: Machine, disk: Disk, device: str) -> Iterator[str]:
    if not _MOUNT_PART.fullmatch(disk.serial) or len(disk.serial) > MOST_SERIAL_BYTES:
        raise DriverError(f"{machine.vm}: not a disk serial: {disk.serial!r}", kind="machine")
    mode = "read-only=on" if disk.read_only else f"read-only=off,{WRITABLE}"
    drive = f"if=none,id={disk.serial},format=raw,{mode},file={_value(disk.path)}"
    yield from ("-drive", drive)
    yield from ("-device", f"{device},drive={disk.serial},serial={disk.serial}")


def _networks(machine: Machine) -> Iterator[str]:
    for number, network in enumerate(machine.networks):
        forwards = "".join(
            f",hostfwd={f.protocol}:{_value(f.address)}:{f.host}-:{f.guest}"
            for f in network.forwards
        )
        yield from ("-netdev", f"user,id=net{number}{forwards}")
        yield from ("-device", _nic(machine, number, network.mac))


def _taps(machine: Machine) -> Iterator[str]:
    """The daemon made them and plugged them in: QEMU runs no script, and needs no right to make one."""
    for number, tap in enumerate(machine.taps, len(machine.networks)):
        name = _value(tap.name)
        yield from ("-netdev", f"tap,id=net{number},ifname={name},script=no,downscript=no")
        yield from ("-device", _nic(machine, number, tap.mac))


def _nic(machine: Machine, number: int, mac: str) -> str:
    # romfile: a disk is booted, and never the network.
    rom = "" if machine.disk is None else ",romfile="
    return f"virtio-net-{_bus(machine)},netdev=net{number},mac={_value(mac)}{rom}"


def _channels() -> Iterator[str]:
    # Appending lets the supervisor bound the file by copying and truncating it.
    yield from ("-chardev", f"file,id=console,path={layout.CONSOLE},append=on")
    yield from ("-serial", "chardev:console")
    yield from ("-qmp", f"unix:{QMP_SOCKET},server=on,wait=off")


def _value(text: str) -> str:
    """QEMU's own escape for its comma-separated options."""
    return text.replace(",", ",,")
