"""What must hold before a guest is stopped or started: images, memory, disk, ports, bridges."""

from __future__ import annotations

from reconciler.model.desired import VMSpec
from reconciler.model.waits import WaitKind
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.preflight import bridges, host_ports

LOOK_AGAIN = 5.0
"""Seconds until an obstacle outside our sight is looked at again."""


def images_ready(plan: PlanBuilder, spec: VMSpec) -> bool:
    """Whether all layers and the kernel bundle are built, synced and verified."""
    layers = plan.observed.layers
    return spec.kernel.key in plan.observed.kernels and all(s.key in layers for s in spec.layers)


def missing_images(plan: PlanBuilder, spec: VMSpec) -> list[str]:
    """Titles of missing images, for display."""
    titles = [s.title for s in spec.layers if s.key not in plan.observed.layers]
    if spec.kernel.key not in plan.observed.kernels:
        titles.append(spec.kernel.title)
    return titles


def ready(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> bool:
    """Whether the images of the target and of the way back exist (law 2); missing ones are added to `needs`."""
    good = vm.record.last_good
    for part, what in ((spec, ""), (good.spec if good else None, "the way back lacks ")):
        if part is not None and not images_ready(plan, part):
            missing = ", ".join(missing_images(plan, part))
            plan.wait("image", vm.name, f"{what}{missing} not built yet")
            return False
    return True


def preflight(
    plan: PlanBuilder, vm: VMContext, spec: VMSpec, *, repair: bool = False, beside: bool = False
) -> bool:
    """Whether the host can run this spec in place of what the VM runs now, or `beside` it.

    `repair`: it ran here before and is down; reserves are kept for this case. Every obstacle becomes a wait
    with a short time limit, because no event reports that it went away.
    """
    found = _hindrance(plan, vm, spec)
    if found is None and not repair:
        found = _shortage(plan, vm, spec, beside=beside)
    if found is not None:
        kind, why = found
        plan.wait(kind, vm.name, why)
        plan.wake_at(plan.now.boot + LOOK_AGAIN)
    return found is None


def _hindrance(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> tuple[WaitKind, str] | None:
    """An obstacle to any start: another process holds what the VM needs."""
    conflict = plan.observed.conflicts.get(vm.name)
    if conflict is not None:
        return "conflict", conflict.what
    if taken := next(host_ports.taken_ports(plan, vm, spec), None):
        return "port", taken
    missing = bridges.obstacle(plan, vm, spec)
    return None if missing is None else ("network", missing)


def _shortage(
    plan: PlanBuilder, vm: VMContext, spec: VMSpec, *, beside: bool
) -> tuple[WaitKind, str] | None:
    """What the host lacks for a new generation."""
    host, policy = plan.observed.host, plan.policy
    extra = _more_than_before(vm, spec, beside=beside)
    if extra > 0 and extra > plan.memory_left:
        why = " for a second guest beside the one that serves" if beside else ""
        hint = "; update.shortOfMemory: restart does without" if beside else ""
        return "memory", (
            f"needs {extra}MiB more memory{why}, {max(0, plan.memory_left)}MiB can be given"
            f" (policy.memory_reserve_mib keeps {policy.memory_reserve_mib}MiB){hint}"
        )
    if host.disk_free_mib < policy.disk_reserve_mib:
        return "disk", (
            f"{host.disk_free_mib}MiB free under the state directory, less than"
            f" policy.disk_reserve_mib {policy.disk_reserve_mib}: free some space"
        )
    if (wanted := _snapshot_mib(vm, spec)) > host.disk_free_mib - policy.disk_reserve_mib:
        return "disk", f"a snapshot of its volumes may need {wanted}MiB: free some space"
    return None


def _snapshot_mib(vm: VMContext, spec: VMSpec) -> int:
    """MiB that a snapshot may need at most, if the file system cannot share blocks."""
    good = vm.record.last_good
    if not spec.update.snapshot_volumes or good is None or vm.record.snapshot is not None:
        return 0
    return sum(volume.size_mib for volume in good.spec.volumes)


def _more_than_before(vm: VMContext, spec: VMSpec, *, beside: bool) -> int:
    """MiB that this spec needs beyond the last good generation, which runs or would."""
    good = vm.record.last_good
    if beside or vm.guest is not None or good is None:
        return _extra_memory(vm, spec, beside=beside)
    return spec.memory_mib - good.spec.memory_mib


def claim_memory(plan: PlanBuilder, vm: VMContext, spec: VMSpec, *, beside: bool = False) -> None:
    """Subtract this start's memory from what the pass may still use."""
    plan.memory_left -= max(0, _extra_memory(vm, spec, beside=beside))


def _extra_memory(vm: VMContext, spec: VMSpec, *, beside: bool) -> int:
    """MiB that this spec needs beyond what the guest that it replaces frees."""
    freed = None if beside else host_ports.current_spec(vm)
    return spec.memory_mib - (freed.memory_mib if freed else 0)
