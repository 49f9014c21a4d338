"""What is valid and yet likely a mistake: told by `validate`, and refused nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.model.checks import ProcessCheck
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.image import DebianKernel
from reconciler.model.names import VMName

ENOUGH_MEMORY_MIB = 96
"""With which a busybox guest was seen to boot; with 72 MiB it was not."""


class Doubt(NamedTuple):
    vm: VMName
    field: str
    message: str


def warnings(desired: DesiredState) -> Iterator[Doubt]:
    """In the order of names."""
    for name in sorted(desired.vms):
        yield from _of(desired.vms[name])


def _of(spec: VMSpec) -> Iterator[Doubt]:
    if all(isinstance(check, ProcessCheck) for check in spec.health.checks):
        yield Doubt(
            spec.name, "spec.health.checks",
            "nothing is asked of this VM: it counts as healthy once its init said that it is up, or"
            " after a bounded uptime; add an http or tcp check",
        )  # fmt: skip
    if isinstance(spec.kernel.source, DebianKernel) and spec.memory_mib < ENOUGH_MEMORY_MIB:
        yield Doubt(
            spec.name, "spec.memory",
            f"a guest may not boot with {spec.memory_mib}MiB; {ENOUGH_MEMORY_MIB}MiB is known to do",
        )  # fmt: skip
