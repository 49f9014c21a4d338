"""The roles of a VM's living guests: one serves; another may be on trial beside it, or stopping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from reconciler.model.observed import Guest, Operation
from reconciler.model.record import VMRecord


@dataclass(frozen=True, slots=True)
class GuestRoles:
    """A VM's living guests by role; None for roles without a guest."""

    serving: Guest | None = None
    """The one that serves, or is to; the only one where nothing is handed over."""
    candidate: Guest | None = None
    leaving: Guest | None = None
    """Another than the serving one, which was asked to stop."""
    unknown: Guest | None = None
    """One too many, of which the record knows nothing."""


def assign_roles(record: VMRecord, guests: Iterable[Guest]) -> GuestRoles:
    """Assign roles to guests by the VM's record."""
    living = [guest for guest in guests if guest.alive]
    if len(living) == 1 and record.candidate is None:
        return GuestRoles(living[0])
    beside = record.candidate.instance if record.candidate else None
    candidate = next((g for g in living if g.instance == beside), None)
    others = sorted(
        (g for g in living if g is not candidate),
        # The one that the record names; without it, the older generation is the proven one.
        key=lambda g: (
            record.start is None or g.instance != record.start.instance,
            record.stop is not None and g.instance == record.stop.instance,
            g.generation,
            g.instance,
        ),
    )
    serving = others[0] if others else None
    rest = [g for g in living if g is not serving]
    stopped = record.stop.instance if record.stop else None
    leaving = next((g for g in rest if g.instance == stopped), None)
    unknown = next((g for g in rest if g is not candidate and g is not leaving), None)
    return GuestRoles(serving, candidate, leaving, unknown)


def disturbs(operation: Operation | None, record: VMRecord, serving: Guest | None) -> bool:
    """Whether an operation takes the VM's serving guest out of service."""
    if operation is None:
        return False
    match operation.disturbs:
        case "nothing":
            return serving is None
        case "one guest":
            return (
                serving is None or record.stop is None or record.stop.instance == serving.instance
            )
        case "unless handed over":
            return serving is None or not _hands_over(record)
        case "vm":
            return True
        case _:
            assert_never(operation.disturbs)


def _hands_over(record: VMRecord) -> bool:
    return bool(record.generations) and record.generations[-1].spec.update.strategy == "handover"
