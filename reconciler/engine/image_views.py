"""The store of images as listeners ask for it, computed when they do and no more often than it costs."""

from __future__ import annotations

from dataclasses import replace

from reconciler.engine.interfaces import Adapters
from reconciler.engine.reconcile_pass import Passed, Reconciler
from reconciler.errors import RequestRefused, did_you_mean
from reconciler.explain.image_advice import Advice, advice_of_stored
from reconciler.explain.image_uses import image_uses, of_vm, store_report
from reconciler.explain.layer_changes import Changes, all_with_contents, with_contents
from reconciler.model.names import VMName
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.store_status import ImageUses, StoreReport, StoreStatus

SHARE = 100.0
"""Of ten thousand VMs it takes 0.3 s; at most one second in so many is spent on it."""


class ImageViews:
    """Answers from what the last pass observed and the record of now."""

    def __init__(self, adapters: Adapters, reconciler: Reconciler, policy: Policy) -> None:
        self._adapters = adapters
        self._reconciler = reconciler
        self._policy = policy
        self._status = StoreStatus()
        self._seen: tuple[object, ...] = ()
        """What the status was computed from."""
        self._explained: tuple[Plan, object, Plan] | None = None
        """A plan, the store that it was looked up in, and the plan with what it changes inside of layers."""
        self._again = float("-inf")
        """Boot-clock moment from which on it may be computed again."""

    def report(self, vm: VMName | None = None) -> StoreReport:
        """All images, or those that a VM is declared with. Raises RequestRefused."""
        record, desired = self._adapters.ledger.record(), self._reconciler.desired
        found = store_report(desired, self._passed().observed, record, self._policy)
        if vm is None:
            return found
        specs = desired.vms if desired is not None else {}
        if vm not in specs:
            hint = did_you_mean(vm, specs, "`reconciler status` lists the VMs", 3)
            raise RequestRefused(f"no revision declares a VM {vm!r}", kind="unknown", hint=hint)
        return of_vm(found, specs[vm])

    def uses(self, name: str) -> ImageUses:
        """What names one image. Raises RequestRefused."""
        return image_uses(
            name, self.report(), self._reconciler.desired, self._passed().observed,
            self._adapters.ledger.record(),
        )  # fmt: skip

    def inside(self, changes: Changes) -> Changes:
        """These changes, with what they change inside of layers, as far as that is known."""
        passed = self._reconciler.passed
        return with_contents(changes, passed.observed.stored if passed else {})

    def explained(self, plan: Plan) -> Plan:
        """The plan, with what it changes inside of layers; the same object for the same plan and store."""
        stored = self._passed().observed.stored
        kept = self._explained
        if kept is None or kept[0] is not plan or kept[1] is not stored:
            found = replace(plan, differences=all_with_contents(plan.differences, stored))
            self._explained = kept = (plan, stored, found)
        return kept[2]

    def advice(self, vm: VMName) -> tuple[Advice, ...]:
        """What the images of a declared VM say, and its manifest does not; nothing before they are all here."""
        passed, desired = self._reconciler.passed, self._reconciler.desired
        spec = desired.vms.get(vm) if desired is not None else None
        if passed is None or desired is None or spec is None:
            return ()
        return advice_of_stored(spec, passed.observed.stored, desired.vms.values())

    def status(self) -> StoreStatus:
        """The store in figures, the same object while they may be shown; empty before the first pass."""
        passed = self._reconciler.passed
        if passed is None:
            return self._status
        seen = (
            self._adapters.ledger.record(), self._reconciler.desired, passed.observed.stored
        )  # fmt: skip
        same = len(self._seen) == len(seen) and all(
            a is b for a, b in zip(seen, self._seen, strict=True)
        )
        began = self._adapters.clock.now().boot
        if not same and began >= self._again:
            found = self.report().store
            self._status = self._status if found == self._status else found
            self._seen, now = seen, self._adapters.clock.now().boot
            self._again = now + SHARE * (now - began)
        return self._status

    def _passed(self) -> Passed:
        if self._reconciler.passed is None:
            raise RequestRefused("the first pass is not done", hint="ask again in a moment")
        return self._reconciler.passed
