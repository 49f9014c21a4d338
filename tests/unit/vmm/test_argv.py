"""The command line, word for word: a change here restarts nothing, but boots everything anew."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import DriverError
from reconciler.hypervisors import QemuConfig
from reconciler.model.machine import NO_TREE, BootDisk, Disk, Firmware, Machine, Mount, Tap
from reconciler.vmm.qemu.argv import (
    BALLOON_FIGURES,
    MOST_PCI_DEVICES,
    MOST_VIRTIO_DEVICES,
    argv,
    kernel_cmdline,
)
from reconciler.vmm.qemu.driver import QemuDriver
from tests.unit.vmm.machines import a_full_machine, a_machine

SMALL = """\
qemu-system-x86_64
-name guest=web,process=microvm@web
-M microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on
-accel tcg,tb-size=32
-cpu max
-smp 1
-m 256M
-nodefaults
-no-user-config
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-no-reboot
-device pvpanic
-action panic=exit-failure
-kernel /s/kernels/k/vmlinuz
-initrd /s/kernels/k/initrd
-append quiet cryptomgr.notests rcupdate.rcu_expedited=1 8250.nr_uarts=1 console=ttyS0 \
reboot=t panic=-1 tsc_early_khz=2596095 reconciler.layers=layer0 \
reconciler.net=user
-fw_cfg name=opt/org.reconciler/instance,string=web-g3-abc
-device virtio-rng-device
-drive if=none,id=layer0,format=raw,read-only=on,file=/s/layers/a/image
-device virtio-blk-device,drive=layer0,serial=layer0
-device virtio-balloon-device,id=balloon0,deflate-on-oom=on,guest-stats-polling-interval=30
-netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80
-device virtio-net-device,netdev=net0,mac=52:54:00:00:00:01
-chardev file,id=console,path=console.log,append=on
-serial chardev:console
-qmp unix:run/qmp.sock,server=on,wait=off
"""

FULL = """\
qemu-system-x86_64
-name guest=web,process=microvm@web
-M microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on
-accel kvm
-cpu host
-smp 2
-m 512M
-nodefaults
-no-user-config
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-no-reboot
-device pvpanic
-action panic=exit-failure
-kernel /s/kernels/k/vmlinuz
-initrd /s/kernels/k/initrd
-append quiet cryptomgr.notests rcupdate.rcu_expedited=1 8250.nr_uarts=1 loglevel=7 init=/sbin/init \
console=ttyS0 reboot=t panic=-1 \
reconciler.layers=layer0,layer1 reconciler.mount=vol-data:/var/lib/app:ext4 reconciler.net=user
-fw_cfg name=opt/org.reconciler/instance,string=web-g3-abc
-device virtio-rng-device
-drive if=none,id=layer0,format=raw,read-only=on,file=/s/layers/a/image
-device virtio-blk-device,drive=layer0,serial=layer0
-drive if=none,id=layer1,format=raw,read-only=on,file=/s/odd,, name/image
-device virtio-blk-device,drive=layer1,serial=layer1
-drive if=none,id=vol-data,format=raw,read-only=off,discard=unmap,werror=report,\
file=/s/vms/web/volumes/data.raw
-device virtio-blk-device,drive=vol-data,serial=vol-data
-device virtio-balloon-device,id=balloon0,deflate-on-oom=on,guest-stats-polling-interval=30
-netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:127.0.0.2:5353-:53
-device virtio-net-device,netdev=net0,mac=52:54:00:00:00:01
-chardev file,id=console,path=console.log,append=on
-serial chardev:console
-qmp unix:run/qmp.sock,server=on,wait=off
"""


DISK = """\
qemu-system-x86_64
-name guest=web,process=microvm@web
-M q35,usb=off,vmport=off,graphics=off
-accel tcg,tb-size=32
-cpu max
-smp 1
-m 256M
-nodefaults
-no-user-config
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-no-reboot
-device pvpanic
-action panic=exit-failure
-drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
-drive if=pflash,unit=1,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd
-fw_cfg name=opt/org.reconciler/instance,string=web-g3-abc
-device virtio-rng-pci
-drive if=none,id=disk,format=qcow2,snapshot=on,discard=unmap,werror=report,file=/s/disks/k/image
-device virtio-blk-pci,drive=disk,serial=disk,bootindex=0
-drive if=none,id=layer0,format=raw,read-only=on,file=/s/layers/a/image
-device virtio-blk-pci,drive=layer0,serial=layer0
-device virtio-balloon-pci,id=balloon0,deflate-on-oom=on,guest-stats-polling-interval=30
-netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80
-device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=
-chardev file,id=console,path=console.log,append=on
-serial chardev:console
-qmp unix:run/qmp.sock,server=on,wait=off
"""


def shown(words: tuple[str, ...]) -> str:
    """One option a line, with its value."""
    text = words[0]
    for word in words[1:]:
        text += f"\n{word}" if word.startswith("-") else f" {word}"
    return text + "\n"


def test_a_small_machine_becomes_exactly_this_command_line() -> None:
    assert shown(argv(a_machine(), QemuConfig())) == SMALL


def test_a_full_machine_under_kvm_becomes_exactly_this_command_line() -> None:
    assert shown(argv(a_full_machine(), QemuConfig())) == FULL


def a_machine_with_a_disk(firmware: Firmware) -> Machine:
    return replace(a_machine(), kernel="", initrd="", disk=BootDisk("/s/disks/k/image", firmware))


def test_a_disk_is_booted_by_firmware_with_an_overlay_that_has_no_name() -> None:
    assert shown(argv(a_machine_with_a_disk("uefi"), QemuConfig())) == DISK
    drives = [line for line in DISK.splitlines(keepends=True) if "if=pflash" not in line]
    assert shown(argv(a_machine_with_a_disk("bios"), QemuConfig())) == "".join(drives)


def test_a_disk_that_keeps_what_is_written_says_itself_what_it_is_above() -> None:
    machine = a_machine_with_a_disk("bios")
    kept = BootDisk("/s/disks/k/image", "bios", "/s/vms/a,b/volumes/root-k.qcow2")
    words = argv(replace(machine, disk=kept), QemuConfig())
    (drive,) = [word for word in words if "id=disk," in word]
    assert drive == (
        "if=none,id=disk,format=qcow2,discard=unmap,werror=report,file=/s/vms/a,,b/volumes/root-k.qcow2,"
        "backing.driver=qcow2,backing.file.driver=file,backing.file.filename=/s/disks/k/image"
    )
    others = [word for word in argv(machine, QemuConfig()) if "id=disk," not in word]
    assert [word for word in words if word != drive] == others


def test_more_devices_than_the_bus_of_a_disk_has_places_are_refused() -> None:
    layers = tuple(Disk(f"/l/{n}", f"layer{n}", read_only=True) for n in range(MOST_PCI_DEVICES))
    with pytest.raises(DriverError, match=f"more than {MOST_PCI_DEVICES} devices"):
        argv(replace(a_machine_with_a_disk("bios"), layers=layers), QemuConfig())


def test_the_overlay_of_a_disk_is_where_the_guest_may_write(tmp_path: Path) -> None:
    machine = a_machine_with_a_disk("bios")
    launch = QemuDriver(QemuConfig()).launch(machine)
    assert launch.env == (("TMPDIR", f"{machine.folder}/run"),)
    assert QemuDriver(QemuConfig()).launch(a_machine()).env == ()
    with pytest.raises(DriverError, match="no firmware for `uefi`") as caught:
        QemuDriver(QemuConfig(ovmf=str(tmp_path))).launch(a_machine_with_a_disk("uefi"))
    assert "apt-get install ovmf" in caught.value.hint


def test_the_host_may_choose_another_program_and_cpu() -> None:
    words = argv(a_machine(), QemuConfig(binary="/opt/qemu", cpu="qemu64"))
    assert words[0] == "/opt/qemu"
    assert words[words.index("-cpu") + 1] == "qemu64"


def test_words_of_a_manifest_cannot_undo_what_the_controller_relies_on() -> None:
    line = kernel_cmdline(replace(a_machine(), cmdline=("panic=0", "console=tty0")))
    assert line.index("panic=0") < line.index("panic=-1")
    assert line.index("console=tty0") < line.index("console=ttyS0")


@pytest.mark.parametrize("word", ["a b", "", "x\n", "tab\t", "\x00", "naïve"])
def test_a_parameter_that_is_not_one_word_is_refused(word: str) -> None:
    with pytest.raises(DriverError, match="not a kernel parameter"):
        argv(replace(a_machine(), cmdline=(word,)), QemuConfig())


@pytest.mark.parametrize("point", ["/a:b", "/a b", "/a,b", ""])
def test_a_mount_point_that_would_garble_the_mount_is_refused(point: str) -> None:
    with pytest.raises(DriverError, match="not a mount"):
        argv(replace(a_machine(), mounts=(Mount("vol-data", point, "ext4"),)), QemuConfig())


@pytest.mark.parametrize("serial", ["x" * 21, "a,b", "a b", ""])
def test_a_serial_that_the_guest_could_not_find_is_refused(serial: str) -> None:
    with pytest.raises(DriverError, match="not a disk serial"):
        argv(replace(a_machine(), volumes=(Disk("/v", serial, read_only=False),)), QemuConfig())


def test_a_command_line_that_linux_would_cut_is_refused() -> None:
    mounts = tuple(Mount(f"vol-{n}", f"/{n}/{'x' * 120}", "ext4") for n in range(16))
    with pytest.raises(DriverError, match="command line has"):
        argv(replace(a_machine(), mounts=mounts), QemuConfig())


def test_more_devices_than_the_board_has_places_are_refused() -> None:
    volumes = tuple(Disk(f"/v/{n}", f"vol-{n}", read_only=False) for n in range(22))
    with pytest.raises(DriverError, match="more than 23 devices"):
        argv(replace(a_machine(), volumes=volumes), QemuConfig())


def test_layers_that_find_no_transport_are_on_pci_each_at_a_place_of_its_own() -> None:
    def of(count: int) -> tuple[str, ...]:
        layers = tuple(Disk(f"/l/{n}", f"layer{n}", read_only=True) for n in range(count))
        return argv(replace(a_machine(), layers=layers), QemuConfig())

    places = MOST_VIRTIO_DEVICES - 2  # the random numbers and a network have one each
    assert "pci" not in shown(of(places))
    words = of(127)
    assert words[words.index("-M") + 1].endswith(",pcie=on")
    assert shown(words).count("-device virtio-blk-device,") == places
    on_pci = [word for word in words if word.startswith("virtio-blk-pci,")]
    addresses = {re.search(r"addr=([0-9a-f]+\.[0-7]),", word)[1] for word in on_pci}  # type: ignore[index]
    assert len(addresses) == len(on_pci) == 127 - places
    assert not any(address.startswith("0.") for address in addresses)  # the bridge itself
    with pytest.raises(DriverError, match="command line has"):
        of(250)


def test_each_layers_tree_of_hashes_is_on_the_command_line_in_their_order() -> None:
    def of(*trees: str) -> str:
        layers = tuple(
            Disk(f"/l/{n}", f"layer{n}", read_only=True, hash_tree=tree)
            for n, tree in enumerate(trees)
        )
        return kernel_cmdline(replace(a_machine(), layers=layers))

    # As many layers as a manifest may have, of 4 GiB each: their roots fit.
    roots = [f"1048576:{number:064x}" for number in range(16)]
    assert f"reconciler.verity={','.join(roots)}" in of(*roots).split()
    assert "verity" not in of("", "")
    for unknown in ("", NO_TREE):
        with pytest.raises(DriverError, match="some layers have no tree of hashes"):
            of(roots[0], unknown)


def test_more_trees_than_fit_are_a_list_beside_the_command_line_that_names_it_by_its_digest() -> (
    None
):
    trees = [f"1048576:{number:064x}" for number in range(127)]  # what has room for their serials
    layers = tuple(
        Disk(f"/l/{n}", f"layer{n}", read_only=True, hash_tree=tree) for n, tree in enumerate(trees)
    )
    machine = replace(a_machine(), layers=layers)
    words = argv(machine, QemuConfig())
    (given,) = (word for word in words if word.startswith("name=opt/org.reconciler/verity,"))
    listed = given.partition(",string=")[2].replace(",,", ",")
    assert listed.split(",") == trees
    digest = hashlib.sha256(listed.encode()).hexdigest()
    assert f"reconciler.verity=sha256:{digest}" in kernel_cmdline(machine).split()
    few = argv(replace(machine, layers=layers[:16]), QemuConfig())
    assert not any("org.reconciler/verity" in word for word in few)


def test_what_a_guest_writes_to_its_root_goes_where_its_manifest_says() -> None:
    volumes = (Disk("/v/root", "vol-root", read_only=False),)
    mounts = (Mount("vol-root", "/", "ext4"), Mount("vol-data", "/data", "ext4"))
    kept = kernel_cmdline(replace(a_machine(), volumes=volumes, mounts=mounts)).split()
    assert "reconciler.writable=vol-root:ext4" in kept
    assert [word for word in kept if "mount=" in word] == ["reconciler.mount=vol-data:/data:ext4"]
    sealed = kernel_cmdline(replace(a_machine(), read_only_root=True)).split()
    assert "reconciler.writable=none" in sealed
    assert "writable" not in kernel_cmdline(a_machine())


TAP = Tap(
    "t0-web", "br0", "02:00:00:00:00:01", 0, "10.20.0.5/24", "10.20.0.1", ("9.9.9.9", "1.1.1.1")
)


def test_a_tap_is_opened_by_its_name_and_no_script_is_run() -> None:
    words = argv(replace(a_machine(), networks=(), taps=(TAP,)), QemuConfig())
    text = shown(words)
    assert "\n-netdev tap,id=net0,ifname=t0-web,script=no,downscript=no\n" in text
    assert "\n-device virtio-net-device,netdev=net0,mac=02:00:00:00:00:01\n" in text
    line = words[words.index("-append") + 1]
    nic = "reconciler.nic=02:00:00:00:00:01,10.20.0.5/24,10.20.0.1,9.9.9.9+1.1.1.1"
    assert nic in line.split()
    assert "reconciler.net" not in line


def test_beside_a_tap_user_networking_is_no_second_way_out() -> None:
    bare = replace(TAP, address="", gateway="", nameservers=())
    both = replace(a_machine(), taps=(TAP,))
    assert "-netdev user,id=net0" in shown(argv(both, QemuConfig()))
    assert "-netdev tap,id=net1" in shown(argv(both, QemuConfig()))
    assert "reconciler.nic=52:54:00:00:00:01,10.0.2.15/24,," in kernel_cmdline(both).split()
    alone = kernel_cmdline(replace(a_machine(), taps=(bare,))).split()
    assert "reconciler.nic=52:54:00:00:00:01,10.0.2.15/24,10.0.2.2,10.0.2.3" in alone
    assert "reconciler.nic=02:00:00:00:00:01,,," in alone


def test_a_machine_that_needs_every_place_goes_without_a_balloon() -> None:
    def of(volumes: int) -> tuple[str, ...]:
        disks = tuple(Disk(f"/v/{n}", f"vol-{n}", read_only=False) for n in range(volumes))
        return argv(replace(a_machine(), volumes=disks), QemuConfig())

    places = MOST_VIRTIO_DEVICES - 3  # the random numbers, a layer and a network have one each
    balloon = f"virtio-balloon-device,{BALLOON_FIGURES}"
    assert balloon in of(places - 1)
    assert balloon not in of(places)
