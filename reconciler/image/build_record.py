"""What the inputs of an image gave when it was last made, kept beside the entries to compare with.

An image is named by its inputs, so a build that gives other bytes each time restarts nothing; but
guests of one generation then run on different images, and somebody should know. It is a note for
people: not synced, and lost without harm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.host import layout

SUFFIX = ".made"
MOST_BYTES = 4096


class Made(BaseModel):
    """What `KEY.made` says."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    title: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    differed: int = 0
    """How often a build gave other bytes than the one before it."""


def note(root: Path, key: str, title: str, sha256: str) -> str:
    """Remember what was made; in words how it differs from what was made before, if it does."""
    former = _read(root / f"{key}{SUFFIX}")
    if former is not None and former.sha256 == sha256:
        return ""
    differed = 0 if former is None else former.differed + 1
    made = Made(title=title, sha256=sha256, differed=differed)
    with contextlib.suppress(OSError):
        new = root / f".{key}{SUFFIX}"
        new.write_text(made.model_dump_json(), encoding="utf-8")
        new.replace(root / f"{key}{SUFFIX}")
    if former is None:
        return ""
    return (
        f"{title}: the same inputs gave other bytes than before, sha256 {sha256[:12]} after"
        f" {former.sha256[:12]}; guests take them at their next start"
    )


def forget(root: Path, pinned: frozenset[str]) -> None:
    """Drop the notes of images that nobody may ask for again."""
    with contextlib.suppress(OSError):
        for path in root.glob(f"*{SUFFIX}"):
            if path.name.removesuffix(SUFFIX) not in pinned:
                path.unlink(missing_ok=True)


def differing(state_dir: Path) -> Iterator[Made]:
    """Images of a state directory whose builds did not repeat themselves."""
    for kind in layout.IMAGE_KINDS:
        for path in sorted(layout.images(state_dir, kind).glob(f"*{SUFFIX}")):
            made = _read(path)
            if made is not None and made.differed:
                yield made


def _read(path: Path) -> Made | None:
    try:
        with path.open("rb") as file:
            return Made.model_validate_json(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return None
