"""How long VMs did not serve between two guests, as passes see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.names import VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.record import Record, VMRecord
from reconciler.now import Now
from reconciler.planning.guest_health import judge

Cause = Literal["planned", "unplanned"]
"""planned: its guest was being stopped. unplanned: it ended, or its checks failed, by itself."""

Seen = tuple[tuple[Guest, ...], VMRecord, bool]


@dataclass(frozen=True, slots=True)
class Gap:
    cause: Cause
    seconds: float


class DowntimeTracker:
    """Of VMs that this daemon has seen serve: before that nobody knows since when one is down."""

    def __init__(self) -> None:
        self._seen: dict[VMName, Seen] = {}
        self._down: dict[VMName, tuple[float, Cause]] = {}

    def ended(self, record: Record, observed: Observed, now: Now) -> list[Gap]:
        """Those that are over with this pass; `record` is as it was before it."""
        found = []
        for name in self._seen.keys() - record.vms.keys():
            del self._seen[name]
            self._down.pop(name, None)
        for name, vm in record.vms.items():
            guests = observed.guests.get(name, ())
            former = self._seen.get(name)
            if former is not None and former[1] is vm and _same(former[0], guests):
                continue
            serving = _serving(vm, guests, now)
            if serving is None:
                if former is not None and former[2]:
                    self._down[name] = now.boot, _cause(vm, observed)
            elif (down := self._down.pop(name, None)) is not None:
                since, cause = down
                until = serving.health.passing_since or now.boot
                found.append(Gap(cause, max(0.0, until - since)))
            if serving is not None or former is not None:
                self._seen[name] = guests, vm, serving is not None
        return found


def _same(former: tuple[Guest, ...], guests: tuple[Guest, ...]) -> bool:
    return len(former) == len(guests) and all(a is b for a, b in zip(former, guests, strict=True))


def _serving(vm: VMRecord, guests: tuple[Guest, ...], now: Now) -> Guest | None:
    for guest in guests:
        generation = vm.generation(guest.generation)
        if generation is not None and judge(guest, generation.spec.health, now) == "healthy":
            return guest
    return None


def _cause(vm: VMRecord, observed: Observed) -> Cause:
    return "planned" if vm.stop is not None or vm.name in observed.busy else "unplanned"
