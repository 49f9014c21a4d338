"""The builds that run as listeners ask for them: the store knows how far they are, the record for whom."""

from __future__ import annotations

from dataclasses import replace

from reconciler.engine.interfaces import Adapters
from reconciler.engine.reconcile_pass import Reconciler
from reconciler.explain.builds import Needed, build_statuses, needed_by
from reconciler.model.build_progress import BuildStatus
from reconciler.model.names import VMName
from reconciler.model.status import HostStatus


class BuildViews:
    """Answers from memory; of ten thousand VMs it asks again only when they or the builds are others."""

    def __init__(self, adapters: Adapters, reconciler: Reconciler) -> None:
        self._adapters = adapters
        self._reconciler = reconciler
        self._seen: tuple[object, ...] = ()
        """What `_needed` was computed from."""
        self._needed: Needed = {}
        self._former: tuple[HostStatus, HostStatus] | None = None
        """A status without builds, and with them."""

    def added_to(self, status: HostStatus) -> HostStatus:
        """The status with all builds; the same object while nothing changed."""
        builds = self.of(None)
        if (
            self._former is None
            or self._former[0] is not status
            or (self._former[1].builds != builds)
        ):
            self._former = (status, replace(status, builds=builds) if builds else status)
        return self._former[1]

    def of(self, vm: VMName | None) -> tuple[BuildStatus, ...]:
        """Those that are for a VM; None: all."""
        found = self._adapters.images.progress()
        if not found:
            return ()
        desired, record = self._reconciler.desired, self._adapters.ledger.record()
        same = len(self._seen) == len((desired, record)) and (
            self._seen[0] is desired and self._seen[1] is record
        )
        if not same or found.keys() != self._needed.keys():
            self._seen = (desired, record)
            self._needed = needed_by(found.keys(), desired, record)
        return build_statuses(found, self._needed, self._adapters.clock.now(), vm)
