"""Where a guest's writes to its root go, in a manifest: to memory, to a volume, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from reconciler.model.fields import Face, FieldConflict, VolumeName
from reconciler.model.machine import ROOT


class RootVolume(Face):
    """A volume that keeps what the guest writes to its root."""

    volume: VolumeName = Field(description="A volume of this VM that has no `mountPoint`.")


_BY_FORM = Discriminator(lambda given: "<name>" if isinstance(given, str) else "<volume>")
Writable = Annotated[
    Annotated[Literal["tmpfs", "none"], Tag("<name>")] | Annotated[RootVolume, Tag("<volume>")],
    _BY_FORM,
]
"""Of a guest of layers."""
WritableDisk = Annotated[
    Annotated[Literal["temporary"], Tag("<name>")] | Annotated[RootVolume, Tag("<volume>")],
    _BY_FORM,
]
"""Of a guest that boots a disk."""


def mount_points(writable: str | RootVolume, points: Mapping[str, str | None]) -> Mapping[str, str]:
    """The mount point of each volume, by its name; `points` are those that the manifest has."""
    chosen = writable.volume if isinstance(writable, RootVolume) else ""
    return {name: ROOT if name == chosen else point or "" for name, point in points.items()}


def root_faults(
    part: Literal["store", "disk"],
    writable: str | RootVolume,
    points: list[tuple[str, str | None]],
    *,
    own_initrd: bool,
) -> Iterator[FieldConflict]:
    """What is wrong with the root and with the names and mount points of volumes, below `spec`.

    part: the field of the spec that has `writable`.
    """
    chosen = writable.volume if isinstance(writable, RootVolume) else ""
    names = [name for name, _ in points]
    if chosen and chosen not in names:
        yield FieldConflict(
            (part, "writable", "volume"), f"no volume is named {chosen}",
            f"the volumes are: {', '.join(names) or 'none'}",
        )  # fmt: skip
    if own_initrd and writable != "tmpfs":
        yield FieldConflict(
            (part, "writable"), "needs the controller's own initrd, and `kernel` brings another",
            "remove `kernel`, or this field",
        )  # fmt: skip
    for index, (name, point) in enumerate(points):
        at = ("volumes", index, "mountPoint")
        if point is None and name != chosen:
            yield FieldConflict(
                ("volumes", index), "`mountPoint` is missing",
                f"write where the guest mounts it, or `writable: {{volume: {name}}}` in `{part}`",
            )  # fmt: skip
        elif point is not None and name == chosen:
            yield FieldConflict(at, f"has no effect: {part}.writable has this volume", "remove it")
