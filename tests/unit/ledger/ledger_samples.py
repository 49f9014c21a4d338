"""Records and changes for tests of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.change import (
    AddEvent,
    Change,
    PutBuild,
    PutGroup,
    PutSource,
    PutStore,
    PutSuspension,
    PutVM,
)
from reconciler.model.checks import HttpCheck, ProcessCheck, TcpCheck
from reconciler.model.desired import HealthPolicy, RollbackPolicy, UpdatePolicy, VMSpec, VolumeSpec
from reconciler.model.event import Event, EventKind
from reconciler.model.guest_reports import DamageReport
from reconciler.model.image import (
    DebianKernel,
    DiskImage,
    KernelSource,
    KernelSpec,
    NixRunner,
    PathKernel,
)
from reconciler.model.image_tags import TagMeaning
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.nix_layer import NixSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Mount, PortForward, UserNetwork
from reconciler.model.names import Digest, GenerationNumber, GroupName, InstanceId, Revision, VMName
from reconciler.model.record import (
    BuildTrouble,
    Evidence,
    Generation,
    GroupRecord,
    Hold,
    Record,
    SourceRecord,
    Start,
    StoreRecord,
    Suspension,
    VMRecord,
)
from reconciler.model.source_state import Unreachable
from reconciler.now import Deadline, Now

WALL = 1_790_000_000.5
MEANT = "sha256:" + "7" * 64
FOREVER = Deadline(float("inf"), "b0071d")
REVISION = Revision("c" * 40)
KERNELS: tuple[KernelSource, ...] = (
    DebianKernel(),
    PathKernel("/boot/vmlinuz", "/boot/initrd", "1" * 64, "2" * 64),
    NixRunner("./web", "packages.x86_64-linux.web", "3" * 40),
    DiskImage(ImageSource("4" * 64, "/srv/images/app.qcow2"), "qcow2", "uefi"),
)


@dataclass
class StillClock:
    """A clock that a test sets by hand."""

    wall: float = WALL

    def now(self) -> Now:
        return Now(boot=100.0, wall=self.wall, boot_id="b0071d")

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"the ledger never sleeps, and now it wants {seconds} s")


def spec(name: str, kernel: KernelSource = KERNELS[0]) -> VMSpec:
    return VMSpec(
        name=VMName(name),
        group=GroupName("front"),
        labels=(("tier", "web"),),
        hypervisor="qemu",
        vcpu=1,
        memory_mib=256,
        kernel=KernelSpec.of("debian", kernel),
        format="erofs",
        layers=(
            LayerSpec.of(BusyboxSource(), "erofs"),
            LayerSpec.of(TreeSource("a" * 40, f"./{name}"), "erofs"),
            LayerSpec.of(
                OciSource("linux/amd64", "registry.example.org/app", "sha256:" + "1" * 64)
            ),
            LayerSpec.of(
                OciSource(
                    "linux/amd64", "registry.example.org/app", MEANT, tag="1", resolve="daily"
                )
            ),
            LayerSpec.of(DebianSource("bookworm", ("nginx-light",))),
            LayerSpec.of(ImageSource("2" * 64, path="/srv/base.erofs", format="erofs")),
            LayerSpec.of(ScriptSource("make-site", ("--dark",), "./pages", "5" * 40, "6" * 64)),
            LayerSpec.of(NixSource("./app", "app", "bin/app", ("--quiet",), "b" * 40)),
            LayerSpec.of(ScriptSource("site", ("--fast",), "./in", "c" * 40, "d" * 64)),
            LayerSpec.of(
                SeedSource(
                    VMName(name), "#!/bin/sh\n", "version: 2", (Mount("vol-data", "/srv", "ext4"),)
                )
            ),
        ),
        volumes=(VolumeSpec("data", "/var/lib/app", 1024),),
        networks=(UserNetwork("52:54:00:00:00:01", (PortForward(8080, 80),)),),
        health=HealthPolicy((HttpCheck(8080, "/healthz"), TcpCheck(8080), ProcessCheck())),
        update=UpdatePolicy(after=(VMName("db"),)),
        rollback=RollbackPolicy(),
        digest=Digest("d" * 64),
    )


def vm_record(name: str, generations: int = 2) -> VMRecord:
    record = VMRecord(
        VMName(name),
        GroupName("front"),
        start=Start(InstanceId(f"{name}-1"), GenerationNumber(1), "trial", FOREVER),
        suspended=Suspension(WALL, "maintenance"),
        restarts=(("crash", 2),),
        damage=DamageReport(GenerationNumber(1), WALL),
    )
    for number in range(1, generations + 1):
        record = record.with_generation(
            Generation(
                VMName(name),
                GenerationNumber(number),
                Digest(f"{number:064}"),
                REVISION,
                spec(name, KERNELS[(number - 1) % len(KERNELS)]),
                WALL + number,
                verdict="condemned",
                evidence=Evidence("panicked", exit="kernel panic", console=("Oops", "naïve ☃")),
            )
        )
    return record


def event(message: str, kind: EventKind = "changed-in-place") -> Event:
    return Event(kind, message, WALL, vm=VMName("web"))


def everything() -> tuple[Change, ...]:
    """One of each thing that a record holds, and an event."""
    hold = Hold(
        VMName("web"), Digest("d" * 64), "failed", WALL, ((VMName("db"), Digest("e" * 64)),)
    )
    return (
        *(PutVM(vm_record(name)) for name in ("web", "cache")),
        PutVM(vm_record("db", len(KERNELS))),
        PutGroup(GroupRecord(GroupName("front"), hold)),
        PutBuild(
            BuildTrouble("k" * 64, "tree ./web", 2, "no space", definitive=False, retry=FOREVER)
        ),
        PutStore(
            StoreRecord(
                WALL, (TagMeaning("registry.example.org/app:1 daily", MEANT, WALL, WALL, REVISION),)
            )
        ),
        PutSource(SourceRecord(REVISION, WALL, REVISION, unreachable=Unreachable("auth", WALL))),
        PutSuspension(Suspension(WALL, "")),
        AddEvent(event("all is there")),
    )


def as_text(record: Record) -> str:
    """A record so that equal text means equal to the last bit, and equal in type."""
    parts = (record.vms, record.groups, record.builds)
    ordered = [sorted((str(key), repr(value)) for key, value in part.items()) for part in parts]
    return repr((ordered, record.source, record.suspended, record.store))
