"""Layers that are composed of several images: which parts each has, and what is known of its origin.

A part is an entry of `layers` like any other, so all layers that have it share one. The entry of the
composed layer names its parts, and is there only as long as they all are.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.host import layout
from reconciler.image.counted_dict import CountedDict
from reconciler.image.image_directory import ImageDirectory
from reconciler.image.layer_notes import LINEAGE, contents_of
from reconciler.model.image import BuiltImage
from reconciler.model.image_contents import LayerContents, package_changes
from reconciler.model.names import LayerKey

MOST_PARTS = 128
"""Each is a disk of the guest, and so many were booted; an image that others build has at most 127 layers."""
MOST_BYTES = 1 << 20
SPARE_ENTRIES = 1000
"""How many layers that are gone may be remembered beside twice those that are there."""
MOST_CHANGES = 30
"""Versions that a text names."""

Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Composition(BaseModel):
    """What `parts.json` says."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    parts: list[Key] = Field(min_length=1, max_length=MOST_PARTS)
    """Bottom first."""
    about: dict[str, str] = {}
    """For people and for the next build: versions of packages, the digest of an OCI image (`layer_notes.py`)."""


def write_composition(path: Path, parts: Sequence[LayerKey], about: Mapping[str, str]) -> None:
    """Raises ValidationError, a ValueError, for parts that no guest can have."""
    composition = Composition(parts=list(parts), about=dict(about))
    path.write_text(composition.model_dump_json(), encoding="utf-8")


def read_composition(path: Path) -> Composition:
    """Raises OSError, and ValueError for what is none."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        return Composition.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path}: not the parts of a layer") from error


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """`nginx 1.22.1-9 -> 1.22.1-10, + brotli 1.0, - geoip 2.1`; empty when they are the same."""
    found = list(package_changes(before, now))
    more = len(found) - MOST_CHANGES
    return ", ".join([*found[:MOST_CHANGES], *([f"and {more} more"] if more > 0 else [])])


class ComposedLayers:
    """The entries of `composed`. Questions are answered from memory; `scan` and `learn` read the disk."""

    def __init__(self, state_dir: Path) -> None:
        self.shelf = ImageDirectory(layout.images(state_dir, "composed"), (layout.PARTS,))
        self.present: CountedDict[str, BuiltImage] = CountedDict()
        self._known: dict[str, Composition] = {}
        self._contents: dict[str, LayerContents] = {}
        self._holders: dict[str, set[str]] = {}
        """By part, the layers that have it, also those that are gone."""

    def scan(self) -> None:
        """Find the entries on disk. Blocking. Raises OSError."""
        for key, built in self.shelf.scan().items():
            self.learn(key, built)

    def learn(self, key: str, built: BuiltImage) -> None:
        """Take up an entry that was made or verified. Blocking. Raises OSError and ValueError."""
        if len(self._known) > 2 * len(self.present) + SPARE_ENTRIES:
            self._forget_gone()
        self._known[key] = known = read_composition(self.shelf.path(key, layout.PARTS))
        self._contents[key] = contents_of(known.about)
        for part in known.parts:
            self._holders.setdefault(part, set()).add(key)
        self.present[key] = built

    def composition(self, key: str) -> Composition | None:
        """Of an entry that is there, whether all of its parts are or not."""
        return self._known[key] if key in self.present else None

    def contents(self, key: str) -> LayerContents | None:
        """What is known of an entry that is there, or was there lately; None: it is no composed layer."""
        return self._contents.get(key)

    def _forget_gone(self) -> None:
        self._known = {key: known for key, known in self._known.items() if key in self.present}
        self._contents = {key: self._contents[key] for key in self._known}
        self._holders = {}
        for key, known in self._known.items():
            for part in known.parts:
                self._holders.setdefault(part, set()).add(key)

    def holders(self, part: str) -> Iterator[str]:
        """The layers that are there and have this part."""
        return (key for key in self._holders.get(part, ()) if key in self.present)

    def changes(self, key: str) -> str:
        """What an entry has other versions of than the newest other one of its lineage; empty: of nothing."""
        about = self._known[key].about
        former = [
            (self.present[other].made_wall, known.about)
            for other, known in self._known.items()
            if other in self.present and other != key
            if LINEAGE in about and known.about.get(LINEAGE) == about[LINEAGE]
        ]
        if not former:
            return ""
        _, newest = max(former, key=lambda one: one[0])
        return changed_versions(newest, about)

    def parts(self) -> dict[LayerKey, tuple[LayerKey, ...]]:
        """The parts of each layer, whether they are there or not: what it still has stays pinned."""
        return {LayerKey(key): tuple(map(LayerKey, self._known[key].parts)) for key in self.present}

    def whole(self, images: Container[str]) -> frozenset[LayerKey]:
        """Layers of which all parts are among `images`."""
        parts = self.parts()
        return frozenset(key for key in parts if all(part in images for part in parts[key]))

    def sized(self, key: str, built: BuiltImage, images: Mapping[str, BuiltImage]) -> BuiltImage:
        """An entry as an image, as large as its parts together."""
        parts = self._known[key].parts
        return replace(built, size_bytes=sum(images[part].size_bytes for part in parts))
