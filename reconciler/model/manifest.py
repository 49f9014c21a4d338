"""The manifests as strict models; this is the only place where their bytes become values.

Field descriptions are the reference: `docs/manifest.md` and `manifests/schema.json` come from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from reconciler.hypervisors import DEFAULT, Hypervisor
from reconciler.model import boot_disk
from reconciler.model.desired import RestartWhen, ShortOfMemory, Strategy
from reconciler.model.fields import (
    Face,
    FieldConflict,
    HostPath,
    Labels,
    MountPoint,
    Name,
    VolumeName,
    refuse,
    repeated,
)
from reconciler.model.groups import Group
from reconciler.model.layers import Layer
from reconciler.model.manifest_health import Health
from reconciler.model.network_interfaces import Interface
from reconciler.model.nix_runner import Runner, beside_faults
from reconciler.model.quantity import Duration, DurationOrAuto, Size
from reconciler.model.writable_root import RootVolume, Writable, root_faults

API_VERSION = "reconciler/v1"
LEAST_MEMORY_MIB = 64
"""With less, Debian's kernel panics, or kills the init before it can print anything."""
MOVABLE = frozenset({"user"})
"""Kinds of interfaces whose traffic can be moved from one guest to another."""
UNION_TAGS = frozenset({"<name>", "<files>", "<volume>", "<folder>", "<owned>"})
"""Names of branches of a union in the location of an error; files do not contain them."""


class Metadata(Face):
    """Name, group and labels of a VM."""

    name: Name = Field(description="Unique among the VMs of a repository.")
    group: Name | None = Field(
        default=None,
        description="The declared group whose policy governs its rollouts; none: it rolls out by itself.",
    )
    labels: Labels = Field(default={}, description="Free text for people and queries.")
    moved_from: Name | None = Field(
        default=None,
        description="The VM's former name: it continues under this one, with generations and volumes. A new"
        " VM whose former name the host does not know waits.",
    )


class KernelFiles(Face):
    """A kernel of the host, with its initrd."""

    path: HostPath = Field(description="A kernel of the host; the host's policy must allow it.")
    initrd: HostPath = Field(description="The initrd that belongs to it.")


Kernel = Annotated[
    Annotated[Literal["debian"], Tag("<name>")] | Annotated[KernelFiles, Tag("<files>")],
    Discriminator(lambda given: "<name>" if isinstance(given, str) else "<files>"),
]


class Store(Face):
    """The read-only disks of a VM."""

    format: Literal["erofs", "squashfs"] | None = Field(
        default=None,
        description="The read-only file system of every layer. Without it, layers that are made of folders are"
        " erofs, and those that come as a tar are squashfs: erofs of a tar needs erofs-utils 1.7 on the host.",
    )
    layers: list[Layer] = Field(
        min_length=1, max_length=16, description="Bottom first; only a changed one is built again."
    )
    writable: Writable = Field(
        default="tmpfs",
        description="Where the guest's writes to its root go. tmpfs: to its memory, lost at its end. none:"
        " nowhere, only /run, /tmp and volumes can be written. `{volume: NAME}`: they are kept on that"
        " volume, above whatever layers a later generation has.",
    )

    verity: bool = Field(
        default=False,
        description="Each block that a guest reads of its layers is compared with a tree of hashes, whose root"
        " is on its kernel's command line; a block that differs cannot be read, and the image is then checked.",
    )


class Volume(Face):
    """A writable disk of a VM."""

    name: VolumeName = Field(description="Unique in the VM, at most 16 characters.")
    mount_point: MountPoint | None = Field(
        default=None,
        description="Where the guest mounts it. Only the volume of `store.writable` or `disk.writable` has none.",
    )
    size: Size = Field(description="It may grow later; a smaller one is refused.")
    fs_type: Literal["ext4"] = Field(
        default="ext4", description="Formatted once, when it is created."
    )


class Update(Face):
    """How a new generation replaces the old one."""

    after: list[Name] = Field(
        default=[], max_length=64, description="VMs that must be healthy before this one changes."
    )
    stop_timeout: Duration = Field(
        default=60.0, description="From the power button to SIGTERM, then SIGKILL."
    )
    strategy: Strategy = Field(
        default="restart",
        description="restart: stop, then start. handover: the new guest boots beside the old one and"
        " takes its ports over once it has stayed healthy; for VMs without volumes.",
    )
    short_of_memory: ShortOfMemory = Field(
        default="wait",
        description="What a handover does while the host has no memory for both guests: restart"
        " stops the old one first.",
    )
    snapshot_volumes: bool = Field(
        default=False,
        description="Keep the volumes as they were before the new generation first writes, until it"
        " is committed; a rollback restores them.",
    )


class Restart(Face):
    """Whether a guest that ended by itself is started again."""

    policy: RestartWhen = Field(
        default="always",
        description="What follows when a guest of a good generation, or its application, ends by"
        " itself. on-failure: one that powers off stays off; never: none is started again, before the"
        " host reboots or an operator asks for it.",
    )
    backoff: DurationOrAuto = Field(
        default=None,
        description="The pause before each start. auto: none at first, then 2s, 4s, up to 5m while"
        " it ends again and again.",
    )


class Rollback(Face):
    """How a failed generation is rolled back."""

    mode: Literal["auto", "manual"] = Field(
        default="auto", description="manual: a failed generation waits for an operator."
    )
    data_epoch: int = Field(
        default=1, ge=0, le=1_000_000,
        description="Raise it when older generations can no longer read the volumes.",
    )  # fmt: skip


class Spec(Face):
    """The hardware, images and policies of a VM."""

    hypervisor: Hypervisor = Field(default=DEFAULT, description="The VMM.")
    vcpu: int = Field(default=1, ge=1, le=255, description="Virtual CPUs.")
    memory: Size = Field(
        default=256, description="The guest's memory; with Debian's kernel 64MiB at least."
    )
    kernel: Kernel = Field(default="debian", description="A kernel bundle by name, or files.")
    store: Store | None = Field(
        default=None, description="The read-only disks that form the guest's root."
    )
    runner: Runner | None = Field(
        default=None, description="Replaces kernel, store, volumes and interfaces."
    )
    disk: boot_disk.GuestDisk | None = Field(
        default=None, description="Replaces kernel and store: firmware boots it."
    )
    volumes: list[Volume] = Field(
        default=[], max_length=16, description="Writable disks that outlive every generation."
    )
    interfaces: list[Interface] = Field(default=[], max_length=4, description="Networks.")
    health: Health = Field(default=Health(), description="How a guest is judged.")
    update: Update = Field(default=Update(), description="How a new generation replaces the old.")
    rollback: Rollback = Field(default=Rollback(), description="What follows a failed update.")
    restart: Restart = Field(
        default=Restart(), description="What follows when a guest ends by itself."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        replaced = self.runner is not None or self.disk is not None
        if self.store is None and not replaced:
            yield FieldConflict(
                ("store",), "is missing",
                "write `store`, `disk` for an image with its own kernel, or `runner` for one made by Nix",
            )  # fmt: skip
        if self.kernel == "debian" and not replaced and self.memory < LEAST_MEMORY_MIB:
            yield FieldConflict(
                ("memory",), f"Debian's kernel does not boot with less than {LEAST_MEMORY_MIB}MiB",
                "96MiB is enough for a small guest",
            )  # fmt: skip
        yield from self._verity_faults()
        yield from self._runner_faults()
        if self.disk is not None:
            yield from boot_disk.beside_faults(
                self.disk, self.model_fields_set, [v.name for v in self.volumes], self.interfaces
            )
        yield from self._volume_faults()
        yield from self._port_faults()
        yield from self._gateway_faults()
        yield from repeated(("update", "after"), self.update.after)
        yield from self._handover_faults()

    def _verity_faults(self) -> Iterator[FieldConflict]:
        if self.store is None or not self.store.verity:
            return
        if isinstance(self.kernel, KernelFiles):
            yield FieldConflict(
                ("store", "verity"), "needs the controller's own initrd, and `kernel` brings another",
                "remove `kernel`, or this field",
            )  # fmt: skip

    def _runner_faults(self) -> Iterator[FieldConflict]:
        if self.runner is None:
            return
        yield from beside_faults(self.model_fields_set)
        if self.update.strategy == "handover":
            yield FieldConflict(
                ("update", "strategy"), "the traffic of a runner cannot be handed over",
                "write `strategy: restart`",
            )  # fmt: skip
        if self.update.snapshot_volumes:
            yield FieldConflict(
                ("update", "snapshotVolumes"), "which volumes a runner has is not known",
                "remove it, and take snapshots by other means",
            )  # fmt: skip

    def _handover_faults(self) -> Iterator[FieldConflict]:
        if self.update.strategy != "handover":
            if self.update.short_of_memory != "wait":
                yield FieldConflict(
                    ("update", "shortOfMemory"), "has an effect only with strategy handover",
                    "remove it, or write `strategy: handover`",
                )  # fmt: skip
            return
        place = ("update", "strategy")
        if self.volumes:
            yield FieldConflict(
                place, "handover runs two guests for a while, and this VM has volumes",
                "remove the volumes, or write `strategy: restart`: two writers would destroy them",
            )  # fmt: skip
        for index, interface in enumerate(self.interfaces):
            if interface.type not in MOVABLE:
                yield FieldConflict(
                    place, f"the traffic of interfaces[{index}] ({interface.type}) cannot be handed over",
                    "write `strategy: restart`",
                )  # fmt: skip

    @property
    def writable(self) -> str | RootVolume:
        """Where its guests' writes to their root go."""
        part = self.store or self.disk
        return part.writable if part is not None else "tmpfs"

    def _volume_faults(self) -> Iterator[FieldConflict]:
        yield from root_faults(
            "store" if self.disk is None else "disk",
            self.writable,
            [(volume.name, volume.mount_point) for volume in self.volumes],
            own_initrd=isinstance(self.kernel, KernelFiles),
        )
        for field, key in (("name", "name"), ("mount_point", "mountPoint")):
            seen: dict[str, int] = {}
            for index, volume in enumerate(self.volumes):
                value: str | None = getattr(volume, field)
                if value is None:
                    continue
                if value in seen:
                    yield FieldConflict(
                        ("volumes", index, key),
                        f"{value} is also volumes[{seen[value]}]'s",
                        "choose another",
                    )
                seen.setdefault(value, index)

    def _port_faults(self) -> Iterator[FieldConflict]:
        if any(i.address for i in self.interfaces):
            return  # other ports are those of the guest itself
        known = {f.host for i in self.interfaces for f in i.forward if f.protocol == "tcp"}
        known |= set(self.runner.ports if self.runner else ())
        listed = ", ".join(map(str, sorted(known)[:8])) or "none"
        hint = f"name a host port of its {'runner' if self.runner else 'interfaces'}: {listed}"
        if any(i.type == "tap" for i in self.interfaces):
            hint = "set the `address` of its tap, at which checks ask it"
        for index, check in enumerate(self.health.checks):
            kind, probe = check.given
            if probe.asked_port is not None and probe.asked_port not in known:
                yield FieldConflict(
                    ("health", "checks", index, kind, "port"),
                    f"{probe.asked_port} is not a forwarded TCP port of this VM",
                    hint,
                )

    def _gateway_faults(self) -> Iterator[FieldConflict]:
        given = [n for n, interface in enumerate(self.interfaces) if interface.gateway is not None]
        for index in given[1:]:
            yield FieldConflict(
                ("interfaces", index, "gateway"), f"interfaces[{given[0]}] has one already",
                "keep one: a guest has one default route",
            )  # fmt: skip


class MicroVM(Face):
    """A VM that this host keeps as declared."""

    api_version: Literal["reconciler/v1"] = Field(description="The version of this format.")
    kind: Literal["MicroVM"] = Field(description="What this document declares.")
    metadata: Metadata = Field(description="Its name and labels.")
    spec: Spec = Field(description="Its properties.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        for index, name in enumerate(self.spec.update.after):
            if name == self.metadata.name:
                yield FieldConflict(
                    ("spec", "update", "after", index), "is this VM itself", "remove it"
                )
        if self.metadata.moved_from == self.metadata.name:
            yield FieldConflict(("metadata", "movedFrom"), "is this VM itself", "remove it")


KINDS: dict[str, type[MicroVM | Group]] = {"MicroVM": MicroVM, "Group": Group}


def parse(kind: str, data: dict[str, Any]) -> MicroVM | Group:
    """Validate plain data. Raises pydantic's ValidationError; `source` makes messages of it."""
    return KINDS[kind].model_validate(data)
