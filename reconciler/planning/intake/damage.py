"""Guests that say that a block of a layer is damaged: what counts, which images are read again, what that found.

A console is untrusted: all that is believed of it is that this VM says so. It names no image, and is
heard once of a guest and once an hour of a VM, as each report has all of the VM's images read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.model.actions import SHORT_KEY
from reconciler.model.guest_reports import DamageReport
from reconciler.model.image import StoredImage
from reconciler.model.names import LayerKey, VMName
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, VMRecord
from reconciler.planning.context import PlanBuilder, VMContext

APART = 3600.0
"""Seconds between two reports of a VM that count."""
MOST_NAMED = 5
Parts = Mapping[LayerKey, tuple[LayerKey, ...]]


def note(plan: PlanBuilder, vm: VMContext) -> None:
    """Take up a new report of one of its guests. Comes before its milestones and its end are recorded."""
    for guest in plan.observed.guests.get(vm.name, ()):
        if not _says_so_first(vm.record, guest):
            continue
        generation = vm.record.generation(guest.generation)
        former, now = vm.record.damage, plan.now.wall
        if generation is None or not any(_images(generation, {})):
            continue
        if former is not None and 0 <= now - former.wall < APART:
            continue
        vm.record = replace(vm.record, damage=DamageReport(guest.generation, now))
        words = (
            f"{vm.name} says that a block of its layers is not what was built, and cannot be read;"
            " its images in the store are read again now"
        )
        plan.event("block-damaged", words, vm, "error", guest.generation)


def _says_so_first(record: VMRecord, guest: Guest) -> bool:
    begun = next(
        (b for b in (record.start, record.candidate) if b and b.instance == guest.instance), None
    )
    if begun is None or begun.said.damaged is not None:
        return False
    end = guest.process.exit
    return guest.said.damaged is not None or (end is not None and end.damaged)


def settle(plan: PlanBuilder) -> None:
    """Say what was found of each VM all of whose images were read since its report."""
    for vm in plan.vms.values():
        report = vm.record.damage
        if report is None or report.settled:
            continue
        if report.wall > plan.now.wall:  # the clock was set back: what is read from now on counts
            report = replace(report, wall=plan.now.wall)
            vm.record = replace(vm.record, damage=report)
        generation = vm.record.generation(report.generation)
        if generation is None:
            vm.record = replace(vm.record, damage=replace(report, settled=True))
            continue
        stored = plan.observed.stored
        found = [stored.get(key) for key in _images(generation, plan.observed.parts)]
        there = [image for image in found if image is not None]  # others may never be made again
        if not all(_read_since(image, report) for image in there):
            continue
        vm.record = replace(vm.record, damage=replace(report, settled=True))
        rotten = [image for image in there if image.broken or image.made_wall > report.wall]
        gone = len(found) - len(there)
        words = _rotten(vm.name, rotten) if rotten else _sound(vm.name, len(there), gone)
        plan.event("damage-checked", words, vm, "warning", report.generation)


def suspects(vms: Mapping[VMName, VMRecord], parts: Parts) -> dict[str, float]:
    """Images that are to be read because a guest says so, with the wall time since when."""
    since: dict[str, float] = {}
    for record in vms.values():
        report = record.damage
        generation = record.generation(report.generation) if report is not None else None
        if report is None or report.settled or generation is None:
            continue
        for key in _images(generation, parts):
            since[key] = max(report.wall, since.get(key, report.wall))
    return since


def _images(generation: Generation, parts: Parts) -> Iterator[LayerKey]:
    """Those of which a guest of this generation compares blocks."""
    for layer in generation.spec.layers:
        if layer.verity:
            yield from parts.get(layer.key, (layer.key,))


def _read_since(image: StoredImage, report: DamageReport) -> bool:
    """One that rotted or was made again since was looked at, too."""
    return bool(image.broken) or max(image.checked_wall, image.made_wall) >= report.wall


def _rotten(name: VMName, images: list[StoredImage]) -> str:
    shown = ", ".join(f"{one.title} ({one.key[:SHORT_KEY]})" for one in images[:MOST_NAMED])
    more = f" and {len(images) - MOST_NAMED} more" if len(images) > MOST_NAMED else ""
    return (
        f"{name} was right: the store's copy of {shown}{more} had rotted, and is made again;"
        f" its guest has the old file open until `reconciler restart {name}`"
    )


def _sound(name: VMName, count: int, gone: int) -> str:
    if gone:
        return (
            f"nothing more can be found of what {name} said: {gone} of its images left the store, and"
            f" the others ({count}) are as they were made"
        )
    return (
        f"the store's copies of all images of {name} ({count}) are as they were made: what its guest read"
        " was damaged in this host's memory or on the way from the disk, or its report is false"
    )
