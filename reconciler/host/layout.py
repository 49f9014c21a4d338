"""Every path below the state directory, written once. Pure: it joins paths, and looks at none of them.

    daemon.lock              held by the daemon
    ledger.db                the record
    http.key                 what tokens and sessions of the TCP listener are made of
    accel.json               the accelerator that was proven in this boot
    git/                     the bare mirror
    images.json              when store images were last used and read again
    layers/KEY/image         a store image; contents.jsonl beside it lists the folders of an archive,
                             versions.json the packages of Debian that are installed with it
    composed/KEY/parts.json  the images of a layer that has several
    kernels/KEY/vmlinuz      a kernel bundle, with initrd beside it
    runners/KEY              a link into the Nix store
    downloads/NAME.partial   what has come of a file that is being downloaded
    lookups/                 what a lookup of an image's tag is writing
    disks/KEY/image          a disk that firmware boots
    front/                   the port proxy, where no unit of systemd is it
    debian/                  the builder of Debian's packages, where no unit of systemd is it
    vms/NAME/                a VM, and the first of its guest folders; vms/NAME.2/ is the second
        generations/N/       what microvm.nix calls a runner; `current` and `booted` lead to one
        volumes/NAME.raw     the writable disks, which outlive all else
        volumes/NAME-SHA256.qcow2   what is written to a disk that firmware boots, above the file of this sha256
        snapshots/NAME.raw   their copies
        runner               a link to the runner of Nix that was started last
        run/                 of each guest folder: guest.json, and the VMM's sockets
        lock, console.log, vmm.log

A function takes the folder that its answer is below, and answers with a path of the same class: `Path`
in adapters, `PurePath` in `planning`.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, TypeVar

from reconciler.hypervisors import DEFAULT

P = TypeVar("P", bound=PurePath)

ImageKind = Literal["layers", "composed", "kernels", "runners", "disks"]
IMAGE_KINDS: tuple[ImageKind, ...] = ("layers", "composed", "kernels", "runners", "disks")
IMAGE, CONTENTS, PARTS = "image", "contents.jsonl", "parts.json"
HASH_TREE, VERSIONS = "verity", "versions.json"
"""Files of an entry of `layers`, of `disks`, and of `composed`."""
BESIDE_IMAGE = (CONTENTS, HASH_TREE, VERSIONS)
"""Files that only some entries of `layers` have."""
KERNEL, INITRD = "vmlinuz", "initrd"
"""Files of an entry of `kernels`."""
LEDGER_SUFFIXES = ("", "-wal", "-shm")
"""SQLite's own files beside the ledger."""
SECOND = ".2"
"""Ends the name of a second guest folder: no VM has a dot in its name."""
DESCRIPTION = "share/microvm/generation.json"
"""Of a generation's folder."""
LOCK, CONSOLE, VMM_LOG = "lock", "console.log", "vmm.log"
LOGS = (CONSOLE, VMM_LOG)
"""Of a guest folder. Names, as some join them by the thousand."""


def daemon_lock(state: P) -> P:
    return state / "daemon.lock"


def ledger(state: P) -> P:
    return state / "ledger.db"


def ledger_files(state: P) -> tuple[P, ...]:
    """The ledger with the files that SQLite keeps beside it."""
    database = ledger(state)
    return tuple(database.with_name(database.name + suffix) for suffix in LEDGER_SUFFIXES)


def http_key(state: P) -> P:
    return state / "http.key"


def accel(state: P, hypervisor: str = DEFAULT) -> P:
    """What was proven of the accelerator with this VMM."""
    return state / ("accel.json" if hypervisor == DEFAULT else f"accel-{hypervisor}.json")


def mirror(state: P) -> P:
    return state / "git"


def images(state: P, kind: ImageKind) -> P:
    """The folder of all entries of one kind, each under its key."""
    return state / kind


def image_notes(state: P) -> P:
    return state / "images.json"


def layer_image(state: P, key: str) -> P:
    return images(state, "layers") / key / IMAGE


def kernel_files(state: P, key: str) -> tuple[P, P]:
    """Kernel and initrd of a bundle."""
    entry = images(state, "kernels") / key
    return entry / KERNEL, entry / INITRD


def runner(state: P, key: str) -> P:
    return images(state, "runners") / key


def downloads(state: P) -> P:
    return state / "downloads"


def lookups(state: P) -> P:
    return state / "lookups"


def disk_image(state: P, key: str) -> P:
    return images(state, "disks") / key / IMAGE


def proxy_folder(state: P) -> P:
    return state / "front"


def debian_builder(state: P) -> P:
    """Where it keeps what it downloaded, and what it is making."""
    return state / "debian"


def proxy_socket(folder: P) -> P:
    """`folder` is the proxy's: the one of a state directory, or that of its unit."""
    return folder / "front.sock"


def proxy_lock(folder: P) -> P:
    return folder / LOCK


def proxy_log(folder: P) -> P:
    return folder / "front.log"


def vms(state: P) -> P:
    return state / "vms"


def vm(state: P, name: str) -> P:
    """A VM's folder, its `home` below; it is its first guest folder, too."""
    return vms(state) / name


def generations(home: P) -> P:
    return home / "generations"


def generation(home: P, number: int) -> P:
    return generations(home) / str(number)


def description(of: P) -> P:
    """What a generation's folder says of the generation and its machine."""
    return of / DESCRIPTION


def current(home: P) -> P:
    """A link to the generation that runs, or is being started to serve."""
    return home / "current"


def booted(home: P) -> P:
    """A link to the generation that runs."""
    return home / "booted"


def started_runner(home: P) -> P:
    return home / "runner"


def volumes(home: P) -> P:
    return home / "volumes"


def volume(home: P, name: str) -> P:
    return volumes(home) / f"{name}.raw"


def overlay(home: P, name: str, sha256: str) -> P:
    """What is written to a disk that firmware boots: of one file alone, as it means nothing above another."""
    return volumes(home) / f"{name}-{sha256}.qcow2"


def home_of_volume(path: P) -> P:
    """The VM's folder that a volume is in."""
    return path.parent.parent


def snapshots(home: P) -> P:
    return home / "snapshots"


def snapshot(home: P, volume_name: str) -> P:
    return snapshots(home) / f"{volume_name}.raw"


def guest_folder(home: P, slot: int) -> P:
    """The working folder of a VM's guest, by its slot, which is 1 or 2."""
    return home if slot == 1 else home.with_name(f"{home.name}{SECOND}")


def run(guest: P) -> P:
    """Sockets of the VMM and what is known of its process."""
    return guest / "run"


def guest_file(guest: P) -> P:
    return run(guest) / "guest.json"


def lock(guest: P) -> P:
    """Held by the VMM for life."""
    return guest / LOCK


def console(guest: P) -> P:
    """What the guest printed."""
    return guest / CONSOLE


def vmm_log(guest: P) -> P:
    """What the VMM itself printed."""
    return guest / VMM_LOG
