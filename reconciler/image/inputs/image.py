"""The layer input `image`: a ready file of the host or of a server, which is a layer as it is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from pathlib import Path

from reconciler.content_store import named
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.downloads import MOST_SECONDS, Downloads, Wanted
from reconciler.image.layer_input import LayerInput
from reconciler.image.progress_board import Progress
from reconciler.image.ready_formats import HEAD_BYTES, described, format_of
from reconciler.model.layer_kinds.image_layer import MOST_BYTES, ImageSource
from reconciler.untrusted_file import open_beneath

CHUNK = 1 << 20
PUT_BACK = "put the right file there, or correct the manifest; it is tried again"


async def build_image(source: ImageSource, site: BuildSite) -> None:
    with named(source.title):
        await have(source, site.tools.downloads, site.image, site.progress)
        judge(source, await asyncio.to_thread(_head, site.image))


async def have(source: ImageSource, downloads: Downloads, target: Path, progress: Progress) -> None:
    """Have the file of a source, whatever is in it. Raises BuildFailed or BuildUnavailable."""
    if not source.url:
        progress.begin("copying", target, total=source.size)
        await copy(source, target)
        return
    wanted = Wanted(f"image-{source.sha256}", source.url, source.sha256, source.size, MOST_BYTES)
    await downloads.fetch(wanted, target, progress)


async def copy(source: ImageSource, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Copy the file of the host, and digest what was copied. Raises BuildUnavailable."""
    stop = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(_copy, source, target, most_bytes, stop))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({work})
        raise


def _copy(source: ImageSource, target: Path, most_bytes: int, stop: threading.Event) -> None:
    try:
        descriptor = open_beneath(source.path)
    except OSError as error:
        raise BuildUnavailable(
            f"cannot be opened: {error.strerror}", hint=f"links are not followed; {PUT_BACK}"
        ) from error
    digest = hashlib.sha256()
    try:
        left = _judged(source, os.fstat(descriptor), most_bytes)
        with target.open("wb") as copied:
            while left and not stop.is_set() and (chunk := os.read(descriptor, min(CHUNK, left))):
                digest.update(chunk)
                copied.write(chunk)
                left -= len(chunk)
    finally:
        os.close(descriptor)
    if not stop.is_set() and digest.hexdigest() != source.sha256:
        raise BuildUnavailable(
            "has another sha256 than the manifest says", kind="changed-file", hint=PUT_BACK
        )


def _judged(source: ImageSource, found: os.stat_result, most_bytes: int) -> int:
    """The bytes of a file that may be copied. Raises BuildUnavailable."""
    wrong = found.st_size != source.size if source.size else found.st_size > most_bytes
    if not stat.S_ISREG(found.st_mode) or wrong:
        size = f"{source.size} bytes" if source.size else f"at most {most_bytes >> 30} GiB"
        raise BuildUnavailable(f"is not a file of {size}", hint=PUT_BACK)
    return found.st_size


def judge(source: ImageSource, head: bytes) -> None:
    """Whether a file that begins so is what the manifest says. Raises BuildFailed."""
    found = format_of(head)
    if found is None:
        words, hint = described(head)
        raise BuildFailed(f"is {words}", hint=hint)
    if source.format and found != source.format:
        raise BuildFailed(
            f"is {found}, and the manifest says {source.format}",
            hint=f"write `format: {found}`, or name another file",
        )


def _head(image: Path) -> bytes:
    with image.open("rb") as file:
        return file.read(HEAD_BYTES)


INPUT = LayerInput(build_image, seconds=2 * MOST_SECONDS + 600.0, ready=True)
"""A file that has changed at the server is downloaded twice, and digested."""
