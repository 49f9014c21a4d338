"""Which layers and kernel bundles are built now, and which images something names."""

from __future__ import annotations

from reconciler.model.actions import (
    STORE,
    BuildKernel,
    BuildLayer,
    CancelBuild,
    VMOperation,
)
from reconciler.model.change import PutVM
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.image import KernelSpec
from reconciler.model.layers import LayerSpec
from reconciler.model.names import VMName
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.trouble import IMAGE, TroubleKey
from reconciler.model.waits import WaitKind
from reconciler.planning.context import PlanBuilder
from reconciler.planning.preflight.blockers import LOOK_AGAIN

NAMED = 3
"""VMs named in a reason before the rest is only counted."""


class Needs:
    """Missing images with the VMs that need them; the first to ask is served first."""

    def __init__(self, plan: PlanBuilder) -> None:
        self._plan = plan
        self._layers: dict[str, LayerSpec] = {}
        self._kernels: dict[str, KernelSpec] = {}
        self._for: dict[str, list[VMName]] = {}

    def add(self, vm: VMName, spec: VMSpec) -> None:
        """Add the images that this spec lacks."""
        for layer in spec.layers:
            if layer.key not in self._plan.observed.layers:
                self._layers.setdefault(layer.key, layer)
                self._for.setdefault(layer.key, []).append(vm)
        if spec.kernel.key not in self._plan.observed.kernels:
            self._kernels.setdefault(spec.kernel.key, spec.kernel)
            self._for.setdefault(spec.kernel.key, []).append(vm)

    def build(self) -> None:
        """Start builds, as many at once as the host allows; the rest wait."""
        room = self._plan.policy.max_builds - len(self._plan.observed.building)
        for key, kernel in self._kernels.items():
            room = self._build(key, kernel.title, BuildKernel(kernel, self._why(key)), room)
        for key, layer in self._layers.items():
            room = self._build(key, layer.title, BuildLayer(layer, self._why(key)), room)

    def _build(self, key: str, title: str, action: BuildKernel | BuildLayer, room: int) -> int:
        plan = self._plan
        if key in plan.observed.building:
            self._wait(key, f"{title} is being built")
            return room
        trouble = plan.trouble(TroubleKey(IMAGE, key))
        if trouble is not None and trouble.definitive:
            self._wait(
                key, f"{title} cannot be built: {trouble.error}; push a fix or `retry`", "broken"
            )
            return room
        if (pausing := plan.pausing(TroubleKey(IMAGE, key))) is not None:
            self._wait(key, f"building {title} failed, again soon: {pausing.error}", "build")
            plan.wake_at(pausing.retry.boot)
            return room
        free, reserve = plan.observed.host.disk_free_mib, plan.policy.disk_reserve_mib
        if free < reserve:
            short = f"{free}MiB are free, less than policy.disk_reserve_mib {reserve}"
            self._wait(key, f"{title} is not built while {short}: free some space", "disk")
            plan.wake_at(plan.now.boot + LOOK_AGAIN)
            return room
        if room <= 0:
            self._wait(key, f"{title} waits for its turn to be built")
            return room
        plan.actions.append(action)
        self._wait(key, f"{title} is being built")
        if trouble is None and self._was_there(key):
            lost = f"{title} is gone from the store, and is built again; guests run on"
            plan.event("image-lost", lost, severity="warning")
        return room - 1

    def _was_there(self, key: str) -> bool:
        """Whether an image of a last good generation is missing: it existed, and is never collected."""
        goods = (self._plan.vms[vm].record.last_good for vm in self._for[key])
        return any(good is not None and key in good.spec.image_keys for good in goods)

    def _wait(self, key: str, why: str, kind: WaitKind = "image") -> None:
        for vm in self._for[key]:
            self._plan.wait(kind, vm, why)

    def _why(self, key: str) -> str:
        vms = self._for[key]
        more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
        return f"wanted by {', '.join(vms[:NAMED])}{more}"


def stood_on(decided: Plan, record: Record, observed: Observed) -> frozenset[str]:
    """Images of the VMs whose guests this plan starts or stops: for the target, and for going back."""
    operations = (a for a in decided.actions if isinstance(a, VMOperation))
    acting = {a.vm for a in operations if a.phase in ("start", "stop")}
    changed = {c.vm.name: c.vm for c in decided.changes if isinstance(c, PutVM)}
    known = (changed.get(name) or record.vms.get(name) for name in acting)
    keys = {key for vm in known if vm for g in vm.generations for key in g.spec.image_keys}
    return observed.with_parts(keys)


def cancel(plan: PlanBuilder) -> None:
    """Cancel builds of images that no VM names any more, so that others can be built.

    Builds that some VM still needs, or may go back to, continue.
    """
    observed = plan.observed
    running = observed.building - observed.ending - {STORE}
    if plan.desired is None or not running:
        return
    for key in sorted(running - named(plan, plan.desired)):
        plan.actions.append(CancelBuild(key, "no VM needs it any more"))
        plan.event(
            "build-cancelled", f"the build of {key[:12]} is cancelled: no VM needs it any more"
        )


def named(plan: PlanBuilder, desired: DesiredState) -> set[str]:
    """Images that a generation or a desired VM names."""
    found: set[str] = set()
    specs = [g.spec for vm in plan.vms.values() for g in vm.record.generations]
    for spec in (*specs, *desired.vms.values()):
        found.update(spec.image_keys)
    return found


def pinned(plan: PlanBuilder, desired: DesiredState) -> frozenset[str]:
    """Images that may not be collected: those that are named, and the parts of which they are composed."""
    return plan.observed.with_parts(named(plan, desired))
