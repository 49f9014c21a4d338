"""Warnings of `validate`: what is valid and yet probably a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reconciler.model.checks import ASKING_KINDS
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.fields import FieldConflict
from reconciler.model.image import DebianKernel
from reconciler.model.names import VMName
from reconciler.source.manifests.error_messages import dotted

ENOUGH_MEMORY_MIB = 96
"""Memory with which a busybox guest was measured to boot; with 72 MiB it did not."""


class ManifestWarning(NamedTuple):
    """A warning about one field of a VM."""

    vm: VMName
    field: str
    message: str


def warnings(desired: DesiredState) -> Iterator[ManifestWarning]:
    """Warnings of all VMs, sorted by name."""
    for name in sorted(desired.vms):
        yield from _of(desired.vms[name])


def of_ineffective(found: Iterable[tuple[VMName, FieldConflict]]) -> Iterator[ManifestWarning]:
    """Warnings about fields that are written and have no effect."""
    for vm, conflict in found:
        yield ManifestWarning(vm, dotted(conflict.at), f"{conflict.message}; {conflict.hint}")


def _of(spec: VMSpec) -> Iterator[ManifestWarning]:
    if not any(check.kind in ASKING_KINDS for check in spec.health.checks):
        yield ManifestWarning(
            spec.name, "spec.health.checks",
            "no check asks this VM: it counts as healthy once its init reports that it is up, or"
            f" after some uptime; add a check: {' or '.join(ASKING_KINDS)}",
        )  # fmt: skip
    if isinstance(spec.kernel.source, DebianKernel) and spec.memory_mib < ENOUGH_MEMORY_MIB:
        yield ManifestWarning(
            spec.name, "spec.memory",
            f"a guest may not boot with {spec.memory_mib}MiB; {ENOUGH_MEMORY_MIB}MiB is known to suffice",
        )  # fmt: skip
