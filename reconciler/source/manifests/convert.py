"""Converts validated manifests to drafts: everything that follows from one document alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.model import boot_disk, manifest, network_interfaces
from reconciler.model.checks import Check
from reconciler.model.desired import (
    GroupSpec,
    HealthPolicy,
    RestartPolicy,
    RollbackPolicy,
    UpdatePolicy,
    UpdateWindow,
    VMSpec,
    VolumeSpec,
)
from reconciler.model.fields import FieldConflict
from reconciler.model.groups import Group, Window
from reconciler.model.image import DebianKernel, KernelSpec, NixRunner
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layers import SEVERAL_IMAGES, LayerSource, LayerSpec
from reconciler.model.machine import (
    ANY_ADDRESS,
    ROOT,
    Mount,
    PortForward,
    Tap,
    UserNetwork,
    volume_serial,
)
from reconciler.model.names import GroupName, VMName
from reconciler.model.nix_runner import Runner, is_folder
from reconciler.model.quantity import Share
from reconciler.model.writable_root import mount_points
from reconciler.source.manifests.places import Loc

LOOPBACK = "127.0.0.1"
MAC_PREFIX = "52:54:00"
TAP_MAC_PREFIX = "02"
MOST_INTERFACE_CHARACTERS = 15
LAYERS: Loc = ("spec", "store", "layers")
FLAKE: Loc = ("spec", "runner", "flake")
NO_KERNEL = KernelSpec.of("", DebianKernel())


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Paths of a kernel and an initrd on the host."""

    kernel: str
    initrd: str


@dataclass(frozen=True, slots=True)
class VMDraft:
    """A VM whose layers, kernel and digest are not resolved yet."""

    document: int
    """Index of the document in its file."""
    spec: VMSpec
    layers: tuple[LayerSource, ...]
    """Bottom first; their folders are not resolved."""
    kernel: HostFiles | None
    """None: the kernel bundle `debian`, or what replaces it."""
    store_format: StoreFormat | None = None
    """Of all layers, as written; None: each kind has its own."""
    runner: NixRunner | None = None
    """Replaces kernel and layers."""
    verity: bool = False
    ineffective: tuple[FieldConflict, ...] = ()
    """What is written and has no effect, for warnings."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder of the repository that it names, in the order of `folder_places`."""
        runner = self.runner
        flakes = (runner.flake,) if runner is not None and is_folder(runner.flake) else ()
        return flakes + tuple(folder for layer in self.layers for folder in layer.folders)

    @property
    def contract(self) -> int:
        """What the initrd of its guests must be able to do at least (`DebianKernel.contract`)."""
        root = 1 if self.spec.writable == "tmpfs" and not self.verity else 2
        if self.verity and any(source.kind in SEVERAL_IMAGES for source in self.layers):
            root = 3  # for the list of more trees of hashes than the command line has room for
        return max(root, *(source.needs_contract for source in self.layers), 1)

    @property
    def folder_places(self) -> tuple[Loc, ...]:
        """Where the manifest names each of them."""
        runner = self.runner
        flakes = (FLAKE,) if runner is not None and is_folder(runner.flake) else ()
        return flakes + tuple(
            (*LAYERS, index, layer.kind)
            for index, layer in enumerate(self.layers)
            for _ in layer.folders
        )


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A group whose number of members is not known yet."""

    document: int
    spec: GroupSpec
    max_unavailable: int | Share
    """As written: a count, or a share of the members."""

    @property
    def name(self) -> GroupName:
        """Of the group."""
        return self.spec.name


def draft_of(document: int, face: manifest.MicroVM | Group) -> VMDraft | GroupDraft:
    """The draft of a validated document."""
    return _vm(document, face) if isinstance(face, manifest.MicroVM) else _group(document, face)


def _group(document: int, face: Group) -> GroupDraft:
    policy = face.spec
    spec = GroupSpec(
        name=GroupName(face.metadata.name),
        canary=tuple(VMName(name) for name in policy.canary),
        canary_soak=policy.canary_soak,
        on_failure=policy.on_failure,
        max_failures=policy.max_failures,
        progress_deadline=policy.progress_deadline,
        windows=tuple(map(_window, policy.windows)),
        approval=policy.approval,
    )
    return GroupDraft(document, spec, policy.max_unavailable)


def _window(face: Window) -> UpdateWindow:
    stretch = face.allow or face.deny
    if stretch is None:
        raise AssertionError("a window allows or denies")  # its model enforces it
    return UpdateWindow(
        stretch.cron, stretch.duration, stretch.time_zone, allow=face.allow is not None
    )


def derived_mac(vm: str, index: int) -> str:
    """The MAC of an interface in a user network: a stable function of VM name and index."""
    raw = hashlib.sha256(f"{vm}/{index}".encode()).hexdigest()
    return f"{MAC_PREFIX}:{raw[0:2]}:{raw[2:4]}:{raw[4:6]}"


def derived_tap(vm: str, index: int) -> str:
    """The default name of a tap on the host, within the 15 characters that Linux allows."""
    name = f"t{index}-{vm}"
    if len(name) <= MOST_INTERFACE_CHARACTERS:
        return name
    raw = hashlib.sha256(f"{vm}/{index}".encode()).hexdigest()
    return f"t{index}-{vm[:5]}-{raw[:6]}"


def derived_tap_mac(vm: str, index: int) -> str:
    """The default MAC of a tap: locally administered, with 40 random bits, because VMs share a bridge."""
    raw = hashlib.sha256(f"{vm}/{index}".encode()).hexdigest()
    return ":".join((TAP_MAC_PREFIX, *(raw[at : at + 2] for at in range(0, 10, 2))))


def _taps(vm: str, faces: list[network_interfaces.Interface]) -> Iterator[Tap]:
    for index, face in enumerate(faces):
        if face.type == "tap" and face.bridge is not None:
            yield Tap(
                name=face.id or derived_tap(vm, index),
                bridge=face.bridge,
                mac=face.mac or derived_tap_mac(vm, index),
                interface=index,
                address=face.address or "",
                gateway=face.gateway or "",
                nameservers=tuple(face.nameservers),
            )


def _vm(document: int, face: manifest.MicroVM) -> VMDraft:
    meta, spec = face.metadata, face.spec
    given = spec.runner
    runner = NixRunner(given.flake, given.attribute) if given else None
    points = mount_points(spec.writable, {v.name: v.mount_point for v in spec.volumes})
    draft = VMSpec(
        name=VMName(meta.name),
        group=GroupName(meta.group or ""),
        labels=tuple(sorted(meta.labels.items())),
        hypervisor=spec.hypervisor,
        vcpu=spec.vcpu,
        memory_mib=spec.memory,
        kernel=NO_KERNEL if runner is None else runner_spec(runner),
        format=(spec.store and spec.store.format) or "erofs",
        layers=(),
        volumes=tuple(VolumeSpec(v.name, points[v.name], v.size, v.fs_type) for v in spec.volumes),
        read_only_root=spec.writable == "none",
        networks=tuple(
            UserNetwork(i.mac or derived_mac(meta.name, n), tuple(map(_forward, i.forward)))
            for n, i in enumerate(spec.interfaces)
            if i.type == "user"
        )
        if given is None
        else (_reached(meta.name, given),),
        taps=tuple(_taps(meta.name, spec.interfaces)),
        health=_health(spec),
        update=UpdatePolicy(
            tuple(VMName(name) for name in spec.update.after),
            spec.update.stop_timeout,
            spec.update.strategy,
            spec.update.snapshot_volumes,
            spec.update.short_of_memory,
        ),
        rollback=RollbackPolicy(spec.rollback.mode, spec.rollback.data_epoch),
        moved_from=VMName(meta.moved_from) if meta.moved_from else None,
        restart=RestartPolicy(spec.restart.policy, spec.restart.backoff),
    )
    kernel = None if spec.kernel == "debian" else HostFiles(spec.kernel.path, spec.kernel.initrd)
    ineffective = tuple(_ineffective(spec.health.checks))
    if runner is not None:
        return VMDraft(document, draft, (), None, runner=runner, ineffective=ineffective)
    if spec.disk is not None:
        booted = _with_disk(draft, spec.disk)
        return VMDraft(document, booted, (), None, ineffective=ineffective)
    sources = tuple(layer.source() for layer in (spec.store.layers if spec.store else ()))
    store_format = spec.store.format if spec.store else None
    verity = spec.store is not None and spec.store.verity
    return VMDraft(
        document, draft, sources, kernel, store_format, verity=verity, ineffective=ineffective
    )


def _with_disk(draft: VMSpec, face: boot_disk.GuestDisk) -> VMSpec:
    """A draft that boots a disk: nothing of it has to be resolved."""
    image = face.source()
    given = face.cloud_init
    seeds: tuple[LayerSpec, ...] = ()
    if given is not None:
        mounts = tuple(
            Mount(volume_serial(v.name), v.mount_point, v.fs_type)
            for v in draft.volumes
            if v.mount_point != ROOT
        )
        seed = SeedSource(draft.name, given.user_data, given.network_config or "", mounts)
        seeds = (LayerSpec.of(seed),)
    return replace(draft, kernel=KernelSpec.of(image.file.place, image), layers=seeds)


def _ineffective(checks: list[Check]) -> Iterator[FieldConflict]:
    for index, check in enumerate(checks):
        if (found := check.ineffective) is not None:
            yield found._replace(at=("spec", "health", "checks", index, *found.at))


def runner_spec(runner: NixRunner) -> KernelSpec:
    """The kernel spec that stands for a runner."""
    return KernelSpec.of(f"{runner.flake}#{runner.attribute}", runner)


def port_place(spec: VMSpec, network: int, forward: int) -> Loc:
    """The place of a forwarded host port in the manifest."""
    if isinstance(spec.kernel.source, NixRunner):
        return ("spec", "runner", "ports", forward)
    return ("spec", "interfaces", network, "forward", forward, "host")


def _reached(vm: str, runner: Runner) -> UserNetwork:
    """A runner's network, of which only the forwarded ports are known."""
    return UserNetwork(derived_mac(vm, 0), tuple(PortForward(port, port) for port in runner.ports))


def _forward(face: network_interfaces.Forward) -> PortForward:
    return PortForward(face.host, face.guest, face.protocol, face.address)


def _health(spec: manifest.Spec) -> HealthPolicy:
    hosts = {
        forward.host: LOOPBACK if forward.address == ANY_ADDRESS else forward.address
        for interface in spec.interfaces
        for forward in interface.forward
        if forward.protocol == "tcp"
    }
    at = next((i.address for i in spec.interfaces if i.address), "").partition("/")[0]
    hosts |= dict.fromkeys(spec.runner.ports if spec.runner else (), LOOPBACK)

    def host_of(port: int) -> str:
        """A port that is not forwarded is the guest's own, at its address."""
        return hosts.get(port, at)

    health = spec.health
    return HealthPolicy(
        tuple(check.given[1].check(check.effective_purpose, host_of) for check in health.checks),
        health.startup_deadline,
        health.min_healthy_time,
        health.period,
        health.failure_threshold,
    )
