"""The builds that run, for people: how far each is, and for which VMs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from reconciler.model.build_progress import BuildProgress, BuildStatus
from reconciler.model.desired import DesiredState
from reconciler.model.names import VMName
from reconciler.model.record import Record
from reconciler.now import Now

NAMED = 3
"""VMs that are named of each build."""

Needed = Mapping[str, tuple[VMName, ...]]
"""By an image's key, the VMs that it is for, in order."""


def needed_by(
    keys: Collection[str], desired: DesiredState | None, record: Record
) -> Mapping[str, tuple[VMName, ...]]:
    """The VMs whose desired state or last good generation has each of these images."""
    found: dict[str, set[VMName]] = {key: set() for key in keys}
    for vm, key in _images(desired, record):
        if key in found:
            found[key].add(vm)
    return {key: tuple(sorted(vms)) for key, vms in found.items()}


def _images(desired: DesiredState | None, record: Record) -> Iterator[tuple[VMName, str]]:
    for name, spec in desired.vms.items() if desired is not None else ():
        yield from ((name, key) for key in spec.image_keys)
    for name, vm in record.vms.items():
        if vm.last_good is not None:
            yield from ((name, key) for key in vm.last_good.spec.image_keys)


def build_statuses(
    found: Mapping[str, BuildProgress], needed: Needed, now: Now, vm: VMName | None = None
) -> tuple[BuildStatus, ...]:
    """All builds, or those that are for one VM; the one that began first stands first."""
    return tuple(
        BuildStatus(
            key, one.title, one.doing, one.done_bytes, one.total_bytes,
            float(round(now.wall - now.boot + one.since_boot)),
            needed[key][:NAMED], max(0, len(needed[key]) - NAMED),
        )
        for key, one in sorted(found.items(), key=lambda item: (item[1].since_boot, item[0]))
        if vm is None or vm in needed[key]
    )  # fmt: skip
