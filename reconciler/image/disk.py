"""Disks that firmware boots: copied from where a manifest says, examined, and converted to a qcow2 of their own.

A foreign disk image may name other files: a backing file, a file with its data. Programs that read images
follow such names. So the header is examined here first, `qemu-img` gets the format instead of guessing it, and it
runs as all programs over foreign input do. What it writes names nothing but itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.children.confinement import Bounds
from reconciler.children.program import Ended
from reconciler.children.spare import ConfinedPrograms
from reconciler.content_store import named, within
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image import qcow2_header
from reconciler.image.build_site import BuildTools
from reconciler.image.downloads import MOST_SECONDS
from reconciler.image.inputs.image import have
from reconciler.image.progress_board import Progress
from reconciler.model.image import DiskImage
from reconciler.model.layer_kinds.image_layer import MOST_BYTES

PROGRAM, PACKAGE = "qemu-img", "qemu-utils"
BUILD_SECONDS = 2 * MOST_SECONDS + 3600.0
INFO_SECONDS = 30.0
CONVERT_SECONDS = 1800.0
MOST_VIRTUAL_BYTES = 1 << 40
"""The largest disk; a guest may write as much into its overlay."""
CONVERTING = Bounds(cpu_seconds=1800, file_bytes=MOST_BYTES)
FLATTEN = "qemu-img convert -O qcow2 OLD NEW"
SURROUNDINGS = re.compile(
    r"No space left|Disk quota|Cannot allocate memory|Permission denied|Read-only file|Too many open"
)
"""What `qemu-img` says of a host in trouble; all else that it says is about the image."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data_file: str = Field(default="", alias="data-file")
    corrupt: bool = False


class _Specific(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data: _Data = _Data()


class _ImageInfo(BaseModel):
    """What `qemu-img info` says of an image, as far as anything follows from it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: str
    virtual_size: int = Field(alias="virtual-size")
    encrypted: bool = False
    backing: str = Field(default="", alias="backing-filename")
    full_backing: str = Field(default="", alias="full-backing-filename")
    specific: _Specific = Field(default=_Specific(), alias="format-specific")


async def build_disk(
    title: str, source: DiskImage, tools: BuildTools, workspace: Path, progress: Progress
) -> None:
    """Leave `workspace/image`, a qcow2 with the content of the source's disk.

    Raises BuildFailed for an image that is refused, and BuildUnavailable.
    """
    if shutil.which(PROGRAM) is None:
        raise BuildUnavailable(
            f"{title}: {PROGRAM} is not installed",
            kind="missing-program",
            hint=f"apt-get install {PACKAGE}; it is tried again",
        )
    given = workspace / "given"
    async with within(BUILD_SECONDS, title):
        with named(title):
            await have(source.file, tools.downloads, given, progress)
            progress.begin("converting", workspace / layout.IMAGE)
            await convert(given, source.format, tools.programs, workspace / layout.IMAGE)


async def convert(given: Path, form: str, programs: ConfinedPrograms, target: Path) -> None:
    """Make a qcow2 of an image that may be hostile. Raises BuildFailed or BuildUnavailable."""
    await asyncio.to_thread(_examine_header, given, form)
    ended = await programs.run(
        (PROGRAM, "info", "--output=json", "-f", form, str(given)), seconds=INFO_SECONDS
    )
    _judge(ended)
    _examine(ended.output, form)
    ended = await programs.run(
        (PROGRAM, "convert", "-q", "-m", "1", "-O", "qcow2", alone(given, form), str(target)),
        seconds=CONVERT_SECONDS,
        bounds=CONVERTING,
    )
    _judge(ended)


def alone(image: Path, form: str) -> str:
    """An image for `qemu-img` without anything that it names, of a format that is not guessed."""
    opened: dict[str, object] = {
        "driver": form,
        "file": {"driver": "file", "filename": str(image)},
    }
    if form == "qcow2":
        opened["backing"] = None
    return f"json:{json.dumps(opened)}"


def _examine_header(image: Path, form: str) -> None:
    """Raises BuildFailed for an image that is another format, or names other files."""
    with image.open("rb") as file:
        head = file.read(qcow2_header.HEADER_BYTES)
    if form == "raw":
        # As a raw disk it would boot nothing.
        fault = "is a qcow2 image" if head.startswith(qcow2_header.MAGIC) else ""
        hint = "write `format: qcow2`"
    else:
        fault, hint = qcow2_header.refusal(head), f"make one that stands alone: {FLATTEN}"
    if fault:
        raise BuildFailed(fault, hint=hint)


def _examine(printed: bytes, form: str) -> None:
    """The same by what the program reads. Raises BuildFailed or BuildUnavailable."""
    try:
        info = _ImageInfo.model_validate_json(printed)
    except ValidationError as error:
        raise BuildUnavailable(f"{PROGRAM} info printed something else") from error
    others = (info.backing, info.full_backing, info.specific.data.data_file)
    if info.format != form or info.encrypted or info.specific.data.corrupt or any(others):
        raise BuildFailed(
            f"is no {form} image that stands alone",
            hint=f"neither encrypted nor corrupt, without backing and data files: {FLATTEN}",
        )
    if not 0 < info.virtual_size <= MOST_VIRTUAL_BYTES:
        raise BuildFailed(
            f"its disk has {info.virtual_size} bytes",
            hint=f"at most {MOST_VIRTUAL_BYTES >> 30} GiB: a guest may write as much",
        )


def _judge(ended: Ended) -> None:
    """Raises BuildFailed or BuildUnavailable unless `qemu-img` ended well."""
    said = ended.tail or f"status {ended.status}"
    if ended.status < 0:
        # Its own bounds or the host's: a signal is no verdict on the image.
        raise BuildUnavailable(
            f"{PROGRAM} was ended by signal {-ended.status}: {said}", kind="limit"
        )
    if ended.status != 0 and SURROUNDINGS.search(said):
        raise BuildUnavailable(f"{PROGRAM}: {said}", hint="free some space; it is tried again")
    if ended.status != 0:
        raise BuildFailed(f"{PROGRAM}: {said}", hint="is the image whole? try `qemu-img check`")
