"""What is in the store, image by image: its size, when it was last used, and when last read again.

The two moments are in `images.json` of the state directory. They are notes: not synced, lost without
harm, and written an hour late. Without them an image counts as used and read when it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from reconciler.clock import Clock
from reconciler.host import layout
from reconciler.image.counted_dict import CountedDict
from reconciler.image.image_directory import ImageDirectory
from reconciler.image.image_reading import ImageReader
from reconciler.image.nix_build import NixRunners
from reconciler.model.image import BuiltImage, StoredImage, StoredKind
from reconciler.model.image_contents import LayerContents
from reconciler.model.store_status import ImageCheck

LATE = 3600.0
"""Seconds for which a use that goes on need not be written."""
MOST_BYTES = 64 * 1024 * 1024
NOT_OURS = "Nix keeps its bytes: `nix-store --verify --check-contents` reads them"


class Moments(BaseModel):
    """Of one image, in Unix seconds; 0: never."""

    model_config = ConfigDict(extra="ignore", strict=True)

    used: float = 0.0
    checked: float = 0.0


class _Notes(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    images: dict[str, Moments] = {}


ImagesOfKind = tuple[StoredKind, ImageDirectory | NixRunners, CountedDict[str, BuiltImage]]
"""Images of one kind, and which of them are there."""


class Inventory:
    """Answers from memory. `load` and `close` block, and raise nothing."""

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        shelves: Callable[[], tuple[ImagesOfKind, ...]],
        contents: Callable[[str], LayerContents | None],
    ) -> None:
        """`contents`: what is known of an image, by key."""
        self._path = layout.image_notes(state_dir)
        self._clock = clock
        self._shelves = shelves
        self._contents = contents
        self._reader = ImageReader()
        self._moments: dict[str, Moments] = {}
        self._changed = False
        self._named: frozenset[str] = frozenset()
        self._noted_wall = 0.0
        self._stored: Mapping[str, StoredImage] = {}
        self._edits = 0
        """Counts changes of what is known of images beside the images themselves."""
        self._seen: tuple[int, ...] = ()
        """All counts when `_stored` was made."""

    def load(self) -> None:
        """Read the notes of a former daemon; what cannot be read is not known."""
        with contextlib.suppress(OSError, ValidationError), self._path.open("rb") as file:
            self._moments = _Notes.model_validate_json(file.read(MOST_BYTES)).images

    def close(self) -> None:
        """End all readings, and write what is known."""
        self._reader.close()
        self._save()

    async def keep(self) -> None:
        """Write the notes if they changed, so that a crash loses little."""
        if self._changed:
            await asyncio.to_thread(self._save)

    def _save(self) -> None:
        """Write the notes if they changed; of images that are gone none is kept."""
        if not self._changed:
            return
        self._changed = False
        kept = {key: one for key, one in self._moments.items() if key in self._stored}
        new = self._path.with_name(f".{self._path.name}")
        with contextlib.suppress(OSError):
            new.write_text(_Notes(images=kept).model_dump_json(), encoding="utf-8")
            new.replace(self._path)

    def stored(self) -> Mapping[str, StoredImage]:
        """All images by key, also broken ones; the same object while nothing changed, and then at no cost."""
        shelves = self._shelves()
        counts = ((shelf.broken.changes, present.changes) for _, shelf, present in shelves)
        seen = (self._edits, *(count for both in counts for count in both))
        if seen == self._seen:
            return self._stored
        self._seen = seen
        found = {
            key: self._one(kind, image)
            for kind, shelf, present in shelves
            for key, image in (*shelf.broken.items(), *present.items())
        }
        if found != self._stored:
            self._stored = found
        return self._stored

    def used(self, keys: frozenset[str]) -> None:
        """From now on these are the ones that something names. Cheap while they stay the same."""
        wall = self._clock.now().wall
        late = wall - self._noted_wall > LATE
        for key in keys if late else self._named - keys:
            self._moments.setdefault(key, Moments()).used = wall
        if late or keys != self._named:
            self._noted_wall = wall if late else self._noted_wall
            self._named, self._changed = keys, True
            self._edits += 1

    @property
    def named(self) -> frozenset[str]:
        """What something names, by the newest plan."""
        return self._named

    async def read_again(
        self, key: str, *, bytes_per_second: float, progress: Callable[[int], None]
    ) -> ImageCheck:
        """Read all bytes of an image from the disk, and compare them with what was made.

        One that differs counts as missing from then on; its files stay until it is made again or
        collected, as guests may run on them. `progress` gets the bytes read so far, in another thread.
        """
        for _, shelf, present in self._shelves():
            if (image := present.get(key)) is None:
                continue
            if isinstance(shelf, NixRunners):
                return ImageCheck(key, image.title, 0, 0, "unchecked", NOT_OURS)
            check = await self._reader.read(
                image, shelf, bytes_per_second=bytes_per_second, progress=progress
            )
            if check.result == "sound":
                self._moments.setdefault(key, Moments()).checked = self._clock.now().wall
                self._changed = True
                self._edits += 1
            elif check.result == "rotten" and present.get(key) is image:
                del present[key]
                await asyncio.shield(asyncio.to_thread(shelf.set_broken, image, check.why))
            await self.keep()
            return check
        return ImageCheck(key, key[:12], 0, 0, "gone", "it is not in the store")

    def _one(self, kind: StoredKind, image: BuiltImage) -> StoredImage:
        moments = self._moments.get(image.key, Moments())
        return StoredImage(
            key=image.key,
            kind=kind,
            title=image.title,
            size_bytes=image.size_bytes,
            made_wall=image.made_wall,
            used_wall=0.0 if image.key in self._named else moments.used,
            checked_wall=moments.checked,
            broken=image.broken,
            contents=self._contents(image.key),
        )
