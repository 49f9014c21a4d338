"""What the tags of the desired state mean on this host, for people."""

from __future__ import annotations

from reconciler.model.desired import DesiredState
from reconciler.model.image_tags import by_key, tags_in
from reconciler.model.observed import Observed
from reconciler.model.record import Record
from reconciler.model.store_status import TagStatus
from reconciler.model.trouble import LOOK_UP, TroubleKey


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
