"""The manifests of one revision, resolved: defaults filled in, and every image identified by a key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Literal

from reconciler.hypervisors import NIX_RUNNER, Hypervisor
from reconciler.model.checks import CheckSpec
from reconciler.model.image import DiskImage, KernelSpec, NixRunner
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import ROOT, HostPort, Tap, UserNetwork
from reconciler.model.names import Digest, GroupName, Revision, VMName, digest_of

OnFailure = Literal["halt", "rollbackGroup", "continue"]
RestartWhen = Literal["always", "on-failure", "never"]
Strategy = Literal["restart", "handover"]
ShortOfMemory = Literal["wait", "restart"]


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A writable disk that belongs to the VM and outlives every generation."""

    name: str
    mount_point: str
    """`ROOT`: it has what the guest writes to its root."""
    size_mib: int
    fs_type: Literal["ext4"] = "ext4"


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How a guest is judged. Times are in seconds; `failure_threshold` counts failing rounds in a row."""

    checks: tuple[CheckSpec, ...] = ()
    startup_deadline: float = 300.0
    min_healthy_time: float = 10.0
    period: float = 10.0
    failure_threshold: int = 3


# Cached because every pass compares the checks of all VMs.
@lru_cache(maxsize=4096)
def checks_key(policy: HealthPolicy) -> Digest:
    """A digest of the policy. Defaults are left out, so a field added by a later version changes no key."""
    return Digest(digest_of(_without_defaults(policy)))


@lru_cache(maxsize=4096)
def rollout_key(digest: Digest, policy: HealthPolicy) -> Digest:
    """A digest of a spec digest together with its health policy."""
    return Digest(digest_of([digest, checks_key(policy)]))


def _without_defaults(value: object) -> object:
    if isinstance(value, tuple):
        return [_without_defaults(each) for each in value]
    if not is_dataclass(value):
        return value
    given = {each.name: getattr(value, each.name) for each in fields(value)}
    changed = {f.name: given[f.name] for f in fields(value) if given[f.name] != f.default}
    return [type(value).__name__, {name: _without_defaults(each) for name, each in changed.items()}]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What follows when a guest of a committed generation, or its application, ends by itself."""

    policy: RestartWhen = "always"
    backoff: float | None = None
    """Pause in seconds before each restart; None: at first none, then 2, 4, 8 ... up to 300."""


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """How a new generation replaces the old one."""

    after: tuple[VMName, ...] = ()
    """VMs that must be healthy at the same revision before this one moves."""
    stop_timeout: float = 60.0
    """Seconds from pressing the power button to killing the guest."""
    strategy: Strategy = "restart"
    snapshot_volumes: bool = False
    """Keep a snapshot of the volumes from before the new generation writes, until it is committed."""
    short_of_memory: ShortOfMemory = "wait"
    """What a handover does if the host lacks memory for both guests."""


@dataclass(frozen=True, slots=True)
class RollbackPolicy:
    """What follows a failed update."""

    mode: Literal["auto", "manual"] = "auto"
    data_epoch: int = 1
    """Automatic rollback across a change of epoch is refused."""


@dataclass(frozen=True, slots=True)
class VMSpec:
    """One VM as a revision declares it.

    `digest` covers exactly the fields whose change needs a restart; all others take effect in place.
    """

    name: VMName
    group: GroupName
    """Empty: the VM is rolled out by itself."""
    labels: tuple[tuple[str, str], ...]
    hypervisor: Hypervisor
    vcpu: int
    memory_mib: int
    kernel: KernelSpec
    format: StoreFormat
    """Of its layers that are made of folders; each layer has its own."""
    layers: tuple[LayerSpec, ...]
    """Bottom first."""
    volumes: tuple[VolumeSpec, ...]
    networks: tuple[UserNetwork, ...]
    health: HealthPolicy
    update: UpdatePolicy
    rollback: RollbackPolicy
    digest: Digest = Digest("")
    moved_from: VMName | None = None
    """The name under which it was declared before."""
    taps: tuple[Tap, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    read_only_root: bool = False

    def restart_inputs(self) -> dict[str, object]:
        """What the digest covers, as plain data."""
        inputs: dict[str, object] = {
            "hypervisor": self.hypervisor,
            "vcpu": self.vcpu,
            "memory": self.memory_mib,
            "kernel": self.kernel.key,
            "layers": [layer.key for layer in self.layers],
            "volumes": [[v.name, v.mount_point, v.size_mib, v.fs_type] for v in self.volumes],
            "networks": [
                [n.mac, [[f.address, f.host, f.guest, f.protocol] for f in n.forwards]]
                for n in self.networks
            ],
        }
        if self.taps:  # without taps the digest stays what it was before taps existed
            inputs["taps"] = [asdict(tap) for tap in self.taps]
        if self.read_only_root:
            inputs["writable"] = "none"
        return inputs

    def compute_digest(self) -> Digest:
        """The digest of `restart_inputs`."""
        return Digest(digest_of(self.restart_inputs()))

    @property
    def rollout_key(self) -> Digest:
        """Identifies what a rollout changes: digest and checks."""
        return rollout_key(self.digest, self.health)

    @property
    def rollout_group(self) -> GroupName:
        """The group whose budget applies; without a group it is one of its own, `~NAME`, which no group can have."""
        return self.group or GroupName(f"~{self.name}")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Keys of all images that its guests boot from."""
        return self.kernel.key, *(layer.key for layer in self.layers)

    @property
    def writable(self) -> str:
        """Where writes to its root go, for display: `tmpfs`, `none`, `temporary`, `volume data`."""
        if self.root_volume is not None:
            return f"volume {self.root_volume.name}"
        if isinstance(self.kernel.source, DiskImage):
            return "temporary"
        return "none" if self.read_only_root else "tmpfs"

    @property
    def root_volume(self) -> VolumeSpec | None:
        """The volume that keeps what its guests write to their root."""
        return next((volume for volume in self.volumes if volume.mount_point == ROOT), None)

    @property
    def user_interfaces(self) -> Iterator[tuple[int, UserNetwork]]:
        """Its user networks, each with its index among all interfaces of the manifest."""
        taken = {tap.interface for tap in self.taps}
        free = (place for place in itertools.count() if place not in taken)
        return zip(free, self.networks, strict=False)

    @property
    def driver(self) -> str:
        """The name of its guests' driver; runners of Nix have one of their own."""
        return NIX_RUNNER if isinstance(self.kernel.source, NixRunner) else self.hypervisor

    @property
    def handed_over(self) -> bool:
        """Whether its guests are behind the proxy, so that one can take over from another."""
        return self.update.strategy == "handover" and not self.volumes and not self.taps

    @property
    def listens(self) -> tuple[HostPort, ...]:
        """Ports of the host on which a guest of this VM listens."""
        forwards = (f for n in self.networks for f in n.forwards)
        return tuple(HostPort(f.address, f.host, f.protocol) for f in forwards)

    @property
    def host_ports(self) -> tuple[int, ...]:
        """TCP ports without addresses, for display."""
        return tuple(one.port for one in self.listens if one.protocol == "tcp")


@dataclass(frozen=True, slots=True)
class UpdateWindow:
    """A recurring stretch of wall time: from each moment of `cron`, `duration` seconds long.

    Where a group has any allowing window, only those moments are open; a denying one always wins
    (as Argo CD's sync windows).
    """

    cron: str
    """Five fields: minute, hour, day of month, month, day of week."""
    duration: float
    time_zone: str = "UTC"
    allow: bool = True


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """The policy under which a group's members are rolled out."""

    name: GroupName
    max_unavailable: int = 1
    """A count; percentages were resolved against the number of members (rounded down, at least 1)."""
    canary: tuple[VMName, ...] = ()
    canary_soak: float = 0.0
    """Seconds that canaries must stay healthy before other members change."""
    on_failure: OnFailure = "halt"
    max_failures: int | None = None
    """With `continue`: more failed members than this hold the group; None: no limit."""
    progress_deadline: float | None = None
    """Seconds without a member becoming healthy after which a rollout is held."""
    windows: tuple[UpdateWindow, ...] = ()
    approval: Literal["auto", "manual"] = "auto"
    """manual: after the canaries the rollout waits for `promote`."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Valid by construction: no duplicate names, no cycles, no collisions."""

    revision: Revision
    vms: Mapping[VMName, VMSpec] = field(default_factory=dict)
    groups: Mapping[GroupName, GroupSpec] = field(default_factory=dict)

    def group(self, name: GroupName) -> GroupSpec:
        """The group's policy; one that no manifest declares has the defaults."""
        return self.groups.get(name) or GroupSpec(name)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a new revision must descend from: all of `revisions`, or else `rewritten`."""

    revisions: tuple[Revision, ...] = ()
    """Empty: nothing was followed before, so any revision may be."""
    rewritten: Revision | None = None
    """A revision that a person allowed although it descends from none of them."""


ANY = Lineage()


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of a fetch. `state` is None if the revision did not change."""

    state: DesiredState | None
    changed: bool
    revision: Revision | None = None
    """The source's current revision, changed or not."""
