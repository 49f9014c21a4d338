"""What is in the store of images, who names each, and what the next collection removes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler.errors import RequestRefused, did_you_mean
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.image import StoredImage, StoredKind
from reconciler.model.image_tags import by_key, tags_in
from reconciler.model.names import LayerKey, VMName
from reconciler.model.observed import Observed
from reconciler.model.policy import Policy
from reconciler.model.record import Generation, Record, VMRecord
from reconciler.model.store_status import (
    ImageState,
    ImageStatus,
    ImageUse,
    ImageUses,
    StoreReport,
    StoreShare,
    StoreStatus,
    TagStatus,
)
from reconciler.model.trouble import LOOK_UP, TroubleKey
from reconciler.planning.preflight.collection import removable

MOST_USES = 1000
"""Reasons of one image that are listed; the others are counted."""
SHORTEST_KEY = 4
"""Digits of a key that a person must give at least."""
RANK: Mapping[ImageState, int] = {"used": 2, "kept": 1, "unused": 0}
WORDS = {"trial": "on trial", "committed": "kept to roll back to", "condemned": "condemned"}


@dataclass(slots=True)
class _Named:
    """What names one image."""

    title: str = ""
    kind: StoredKind = "layer"
    vms: set[VMName] = field(default_factory=set)
    generations: int = 0
    state: ImageState = "unused"
    wanted: bool = False

    def add(self, vm: VMName, state: ImageState, *, generation: bool) -> None:
        self.vms.add(vm)
        self.wanted = self.wanted or not generation
        self.generations += generation
        if RANK[state] > RANK[self.state]:
            self.state = state


def store_report(
    desired: DesiredState | None, observed: Observed, record: Record, policy: Policy
) -> StoreReport:
    """All images of the store, and all that are missing."""
    named, stored = _all_named(desired, observed, record), observed.stored
    requested = record.store.collect_wall is not None
    collectable = removable(observed, named.keys(), policy, everything=requested)
    if desired is None:  # before the first revision nothing is collected
        collectable = frozenset()
    found = {
        key: _status(key, stored.get(key), named.get(key) or _Named(), observed, collectable)
        for key in stored.keys() | named.keys()
    }
    images = tuple(_in_order(found))
    figures = _figures(images, stored, named)
    tags = tag_statuses(desired, observed, record)
    return StoreReport(images, replace(figures, max_bytes=policy.store_max_mib << 20), tags)


def tag_statuses(
    desired: DesiredState | None, observed: Observed, record: Record
) -> tuple[TagStatus, ...]:
    """Each tag that a VM is declared with, in their order."""
    known = by_key(record.store.tags)
    found = []
    for tag, vms in sorted(tags_in(desired).items(), key=lambda item: str(item[0])):
        key = str(tag)
        failed = record.builds.get(str(TroubleKey(LOOK_UP, key)))
        meaning = known.get(key)
        due = failed is None and (meaning is None or meaning.asked)
        found.append(
            TagStatus(
                reference=tag.reference,
                resolve=tag.resolve,
                digest=meaning.digest if meaning else "",
                since_wall=meaning.since_wall if meaning else 0.0,
                looked_wall=meaning.looked_wall if meaning else 0.0,
                vms=tuple(sorted(vms)),
                error=failed.error if failed is not None else "",
                looking=key in observed.looking or due,
            )
        )
    return tuple(found)


def _all_named(
    desired: DesiredState | None, observed: Observed, record: Record
) -> dict[str, _Named]:
    named: dict[str, _Named] = defaultdict(_Named)
    parts = observed.parts
    for vm in record.vms.values():
        guests = {g.generation for g in observed.guests.get(vm.name, ()) if g.alive}
        good = vm.last_good
        for generation in vm.generations:
            used = generation.number in guests or generation is good
            _add(
                named, vm.name, generation.spec, parts, "used" if used else "kept", generation=True
            )
    for name, spec in desired.vms.items() if desired is not None else ():
        _add(named, name, spec, parts, "used", generation=False)
    return named


def _add(
    named: dict[str, _Named],
    vm: VMName,
    spec: VMSpec,
    parts: Mapping[LayerKey, tuple[LayerKey, ...]],
    state: ImageState,
    *,
    generation: bool,
) -> None:
    for key, title, kind in _images_of(spec):
        one = named[key]
        own = parts.get(LayerKey(key), ())
        one.title, one.kind = title, "composed" if own else kind
        one.add(vm, state, generation=generation)
        for part in own:
            named[part].add(vm, state, generation=generation)


def _images_of(spec: VMSpec) -> Iterator[tuple[str, str, StoredKind]]:
    kernel = spec.kernel
    yield kernel.key, kernel.title, kernel.stored_kind
    for layer in spec.layers:
        yield layer.key, layer.title, "layer"


def _status(
    key: str,
    stored: StoredImage | None,
    named: _Named,
    observed: Observed,
    collectable: frozenset[str],
) -> ImageStatus:
    state: ImageState = named.state
    if stored is None:
        stored = StoredImage(key, named.kind, named.title, 0)
        state = "missing"
    elif stored.broken:
        state = "broken"
    parts = observed.parts.get(LayerKey(key), ())
    sizes = (observed.stored[part].size_bytes for part in parts if part in observed.stored)
    return ImageStatus(
        key=key,
        kind=stored.kind,
        title=named.title or stored.title,
        size_bytes=stored.size_bytes + sum(sizes),
        state=state,
        vms=len(named.vms),
        generations=named.generations,
        made_wall=stored.made_wall,
        used_wall=0.0 if named.vms else stored.used_wall,
        checked_wall=stored.checked_wall,
        parts=parts,
        broken=stored.broken,
        wanted=named.wanted,
        building=key in observed.building,
        collectable=key in collectable,
    )


def _in_order(found: Mapping[str, ImageStatus]) -> Iterator[ImageStatus]:
    """Each composed layer before those of its parts that were not listed yet; then the others."""
    largest = sorted(found.values(), key=lambda i: (-i.size_bytes, i.title, i.key))
    listed: set[str] = set()
    for image in (*(i for i in largest if i.parts), *largest):
        for key in (image.key, *reversed(image.parts)):
            if key in found and key not in listed:
                listed.add(key)
                yield found[key]


def _figures(
    images: Iterable[ImageStatus], stored: Mapping[str, StoredImage], named: Mapping[str, _Named]
) -> StoreStatus:
    shares: dict[tuple[StoredKind, ImageState], list[int]] = defaultdict(list)
    for image in images:
        own = stored[image.key].size_bytes if image.key in stored else 0
        shares[image.kind, image.state].append(own)
    there = [(one, stored[key].size_bytes) for key, one in named.items() if key in stored]
    looked_at = (max(i.checked_wall, i.made_wall) for i in stored.values() if i.kind != "runner")
    return StoreStatus(
        shares=tuple(
            StoreShare(kind, state, len(sizes), sum(sizes))
            for (kind, state), sizes in sorted(shares.items())
        ),
        vms=len({vm for one, _ in there for vm in one.vms}),
        saved_bytes=sum((len(one.vms) - 1) * size for one, size in there),
        oldest_check_wall=min(looked_at, default=0.0),
    )


def image_uses(
    name: str, report: StoreReport, desired: DesiredState | None, observed: Observed, record: Record
) -> ImageUses:
    """What names the image that a person means. Raises RequestRefused unless it is exactly one."""
    image = find_image(name, report)
    holders = [i for i in report.images if image.key in i.parts]
    keys = {image.key, *(one.key for one in holders)}
    specs = desired.vms if desired is not None else {}
    uses = [
        ImageUse(vm.name, g.number, _why(vm, g, specs.get(vm.name), observed))
        for vm in record.vms.values()
        for g in vm.generations
        if keys & set(g.spec.image_keys)
    ]
    for spec in specs.values():
        made = record.vms[spec.name].generations if spec.name in record.vms else ()
        if keys & set(spec.image_keys) and all(g.digest != spec.digest for g in made):
            uses.append(ImageUse(spec.name, None, "desired, and not started yet"))
    uses.sort(key=lambda use: (use.vm, -(use.generation or 0)))
    shown = tuple(uses[:MOST_USES])
    titles = tuple(dict.fromkeys(one.title for one in holders))
    return ImageUses(image, shown, len(uses) - len(shown), titles)


def _why(vm: VMRecord, generation: Generation, spec: VMSpec | None, observed: Observed) -> str:
    beside = vm.candidate.instance if vm.candidate is not None else None
    reasons = [
        "runs on trial" if guest.instance == beside else "runs"
        for guest in observed.guests.get(vm.name, ())
        if guest.alive and guest.generation == generation.number
    ]
    if spec is not None and spec.digest == generation.digest:
        reasons.append("desired")
    if generation is vm.last_good:
        reasons.append("last good")
    if vm.pin is not None and vm.pin.generation == generation.number:
        reasons.append("held by a rollback that was requested")
    if vm.rollback is not None and generation is vm.last_good:
        reasons.append("target of the rollback")
    return ", ".join(reasons) or WORDS[generation.verdict]


def find_image(name: str, report: StoreReport) -> ImageStatus:
    """By the first digits of its key, or by its title, or a part of it. Raises RequestRefused."""
    wanted = name.strip().lower()
    exact = [i for i in report.images if wanted in (i.key, i.title.lower())]
    begun = [i for i in report.images if len(wanted) >= SHORTEST_KEY and i.key.startswith(wanted)]
    within = [i for i in report.images if wanted and wanted in i.title.lower()]
    found = exact or begun or within
    if len(found) == 1:
        return found[0]
    if not found:
        titles = {i.title: None for i in report.images}
        raise RequestRefused(
            f"no image {name!r} is in the store or missing from it", kind="unknown",
            hint=did_you_mean(name, titles, "`reconciler images ls` lists them", 3),
        )  # fmt: skip
    raise RequestRefused(
        f"{name!r} means {len(found)} images",
        hint=f"name one by its key: {', '.join(f'{i.key[:12]} ({i.title})' for i in found[:8])}",
    )


def to_read(report: StoreReport, name: str | None) -> tuple[ImageStatus, ...]:
    """Images that are read for a person: one with its parts, or all. Raises RequestRefused."""
    there = [i for i in report.images if i.state not in ("missing", "broken")]
    if name is None:
        return tuple(there)
    meant = find_image(name, report)
    if meant not in there:
        why = meant.broken or "it is not in the store"
        raise RequestRefused(f"{meant.title}: {why}", hint="it is made again before its next use")
    return tuple(i for i in there if i is meant or i.key in meant.parts)


def of_vm(report: StoreReport, spec: VMSpec) -> StoreReport:
    """Only images that the desired state of one VM names, and their parts."""
    keys = set[str](spec.image_keys)
    keys |= {part for image in report.images if image.key in keys for part in image.parts}
    tags = tuple(tag for tag in report.tags if spec.name in tag.vms)
    return replace(report, images=tuple(i for i in report.images if i.key in keys), tags=tags)
