"""Checks one VM against the host's policy: the limits on what a repository may request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from reconciler.config import PolicyConfig
from reconciler.hypervisors import Capabilities
from reconciler.model.desired import VMSpec
from reconciler.model.fields import FieldConflict
from reconciler.model.image import DiskImage, NixRunner
from reconciler.model.layer_kinds.described_source import DescribedSource
from reconciler.model.nix_runner import is_folder
from reconciler.source.manifests.convert import LAYERS, port_place

MIB_OF_GIB = 1024
WHO = "the host's policy"


def policy_faults(spec: VMSpec, policy: PolicyConfig) -> Iterator[FieldConflict]:
    """What the VM requests beyond the policy, by its place in the manifest."""
    if spec.hypervisor not in policy.hypervisors:
        allowed = ", ".join(policy.hypervisors) or "none"
        yield FieldConflict(
            ("spec", "hypervisor"), f"{spec.hypervisor} is not allowed by {WHO}", allowed
        )
    if spec.memory_mib > policy.max_memory_mib:
        yield FieldConflict(
            ("spec", "memory"),
            f"{spec.memory_mib}MiB is more than {WHO} allows",
            f"{policy.max_memory_mib}MiB at most",
        )
    if spec.vcpu > policy.max_vcpu:
        yield FieldConflict(
            ("spec", "vcpu"),
            f"{spec.vcpu} is more than {WHO} allows",
            f"{policy.max_vcpu} at most",
        )
    for index, volume in enumerate(spec.volumes):
        if volume.size_mib > policy.max_volume_gib * MIB_OF_GIB:
            yield FieldConflict(
                ("spec", "volumes", index, "size"),
                f"{volume.size_mib}MiB is more than {WHO} allows",
                f"{policy.max_volume_gib}GiB at most",
            )
    yield from _forward_faults(spec, policy)
    for tap in spec.taps:
        if tap.bridge not in policy.bridges:
            yield FieldConflict(
                ("spec", "interfaces", tap.interface, "bridge"),
                f"{tap.bridge} is not allowed by {WHO}",
                f"policy.bridges: {', '.join(policy.bridges) or 'none'}",
            )


def capability_faults(spec: VMSpec, can: Capabilities) -> Iterator[FieldConflict]:
    """What a manifest asks of a VMM that this one cannot do. Places are those of the manifest."""
    vmm = ("spec", "hypervisor")
    if spec.networks and not can.user_networks:
        yield FieldConflict(
            vmm, f"{spec.driver} has no user networks", "use interfaces of type tap"
        )
    if spec.taps and not can.taps:
        yield FieldConflict(vmm, f"{spec.driver} has no taps", "use interfaces of type user")
    if spec.handed_over and not can.open_ports:
        yield FieldConflict(
            ("spec", "update", "strategy"),
            f"guests of {spec.driver} cannot hand over: their ports are fixed at the start",
            "write `strategy: restart`",
        )


def layer_faults(
    layers: Sequence[DescribedSource], policy: PolicyConfig
) -> Iterator[FieldConflict]:
    """Layers that the host's owner must consent to, and did not."""
    for index, source in enumerate(layers):
        if (refused := source.refusal(policy)) is not None:
            at = (*LAYERS, index, source.kind, *refused.at)
            yield FieldConflict(at, refused.message, refused.hint)


def runner_faults(runner: NixRunner, policy: PolicyConfig) -> Iterator[FieldConflict]:
    """What a runner requests beyond the policy.

    A Nix build and the runner it makes execute the repository's code on this host, so the default is off.
    """
    at = ("spec", "runner")
    if not policy.runners:
        yield FieldConflict(
            at, f"runners made by Nix are not allowed by {WHO}",
            "they run the repository's code on this host: policy.runners = true allows them",
        )  # fmt: skip
    elif not is_folder(runner.flake) and not any(
        fnmatchcase(runner.flake, pattern) for pattern in policy.flakes
    ):
        yield FieldConflict(
            (*at, "flake"), f"{runner.flake} is not allowed by {WHO}",
            f"policy.flakes allows: {', '.join(policy.flakes) or 'none'}",
        )  # fmt: skip


def disk_faults(image: DiskImage, policy: PolicyConfig) -> Iterator[FieldConflict]:
    """A disk whose file the policy does not let a manifest name."""
    if (refused := image.file.refusal(policy)) is not None:
        yield FieldConflict(("spec", "disk", *refused.at), refused.message, refused.hint)


def _forward_faults(spec: VMSpec, policy: PolicyConfig) -> Iterator[FieldConflict]:
    for index, network in spec.user_interfaces:
        for number, forward in enumerate(network.forwards):
            at = ("spec", "interfaces", index, "forward", number)
            if forward.address not in policy.forward_addresses:
                yield FieldConflict(
                    (*at, "address"),
                    f"{forward.address} is not allowed by {WHO}",
                    f"allowed: {', '.join(policy.forward_addresses) or 'none'}",
                )
            if forward.host < policy.min_forward_port:
                yield FieldConflict(
                    port_place(spec, index, number),
                    f"{forward.host} is less than {WHO} allows",
                    f"{policy.min_forward_port} or more",
                )
