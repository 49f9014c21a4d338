"""Requests about the image store, and what follows from bytes that rotted in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.errors import RequestRefused, did_you_mean
from reconciler.model.actions import SHORT_KEY
from reconciler.model.change import AddEvent, Change, DropBuild, PutStore
from reconciler.model.desired import DesiredState
from reconciler.model.event import Event
from reconciler.model.image_tags import tags_in
from reconciler.model.names import VMName
from reconciler.model.observed import Observed
from reconciler.model.record import Record
from reconciler.model.store_status import ImageCheck
from reconciler.model.trouble import COLLECTION, LOOK_UP, TroubleKey
from reconciler.now import Now
from reconciler.requests.result import Answer, done

MOST_NAMED = 5
"""VMs that an event names; the others are counted."""


def collect(record: Record, desired: DesiredState | None, now: Now) -> Answer:
    """Have everything go that nothing names, also beside builds. Raises RequestRefused."""
    if desired is None:
        raise RequestRefused(
            "no revision could be read, so it is unknown what is needed",
            hint="`reconciler status` says why the source cannot be read",
        )
    changes: list[Change] = [PutStore(replace(record.store, collect_wall=now.wall))]
    if str(COLLECTION) in record.builds:
        changes.append(DropBuild(str(COLLECTION)))
    words = "images that nothing names are removed now"
    return done(changes, "collection-requested", words, now)


def resolve(name: str | None, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    """Have one tag, or all that are desired, looked up at once. Raises RequestRefused."""
    named = tags_in(desired)
    wanted = [tag for tag in named if name in (None, tag.reference)]
    if not wanted:
        raise RequestRefused(
            f"no VM names an image by the tag {name!r}" if name else "no VM names an image by a tag",
            kind="unknown",
            hint=did_you_mean(
                name or "", {tag.reference for tag in named},
                "a tag is named with its registry: registry.example.org/acme/app:1", 3,
            ),
        )  # fmt: skip
    keys = {str(tag) for tag in wanted}
    tags = tuple(replace(one, asked=one.asked or one.key in keys) for one in record.store.tags)
    failed = (str(TroubleKey(LOOK_UP, key)) for key in sorted(keys))
    changes: list[Change] = [
        PutStore(replace(record.store, tags=tags)),
        *(DropBuild(key) for key in failed if key in record.builds),
    ]
    references = sorted({tag.reference for tag in wanted})
    more = f" and {len(references) - MOST_NAMED} more" if len(references) > MOST_NAMED else ""
    words = f"it is looked up what {', '.join(references[:MOST_NAMED])}{more} means"
    return done(changes, "resolve-requested", words, now)


def rot_found(check: ImageCheck, observed: Observed, record: Record, now: Now) -> list[Change]:
    """The event of an image whose bytes are not those that were made; names the guests on it."""
    on_it = sorted(_running_on(check.key, observed, record))
    names = ", ".join(on_it[:MOST_NAMED])
    more = f" and {len(on_it) - MOST_NAMED} more" if len(on_it) > MOST_NAMED else ""
    guests = (
        f"guests of {names}{more} run on it, and run on: restart each once it is made again"
        if on_it
        else "no guest runs on it"
    )
    message = (
        f"{check.title} ({check.key[:SHORT_KEY]}) rotted in the store: {check.why};"
        f" it is made again before its next use; {guests}"
    )
    return [AddEvent(Event("image-rotten", message, now.wall, severity="error"))]


def _running_on(key: str, observed: Observed, record: Record) -> Iterator[VMName]:
    """VMs with a living guest whose generation names the image, or a layer of which it is a part."""
    keys = {key, *(layer for layer, parts in observed.parts.items() if key in parts)}
    for name, vm in record.vms.items():
        numbers = {g.generation for g in observed.guests.get(name, ()) if g.alive}
        if any(g.number in numbers and keys & set(g.spec.image_keys) for g in vm.generations):
            yield name
