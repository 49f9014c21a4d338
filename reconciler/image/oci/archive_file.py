"""An image's origin: an archive, as `docker save` or skopeo writes it, which becomes a layout first."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.packing import BAD_INPUT
from reconciler.image.oci.image_manifest import MOST_LAYER_BYTES
from reconciler.image.oci.skopeo import Skopeo
from reconciler.image.oci.unpack_archive import OCI, PLAIN
from reconciler.safe_text import clean
from reconciler.untrusted_file import reading

UNPACK_SECONDS = 1800.0
CHUNK = 1 << 20


async def layout_of_archive(
    archive: Path, sha256: str, programs: ConfinedPrograms, folder: Path
) -> Path:
    """The layout that an archive has or becomes, in a new folder below `folder`.

    sha256: of the archive, in hex; empty: whatever it has. Raises BuildFailed or BuildUnavailable.
    """
    await asyncio.to_thread(_check, archive, sha256)
    layout = folder / "layout"
    unpacking = (sys.executable, "-P", "-m", "reconciler.image.oci.unpack_archive")
    ended = await programs.run(
        (*unpacking, str(archive), str(layout)),
        seconds=UNPACK_SECONDS,
        bounds=Bounds(file_bytes=MOST_LAYER_BYTES),
    )
    said = clean(ended.tail)
    if ended.status == BAD_INPUT:
        raise BuildFailed(said, hint="write the archive again: docker save, or skopeo copy")
    if ended.status < 0:
        raise BuildUnavailable(f"unpacking was ended by signal {-ended.status}", kind="limit")
    if ended.status != 0:
        raise BuildUnavailable(said or f"unpacking: status {ended.status}")
    if said == OCI:
        return layout
    skopeo = Skopeo(programs, folder / "skopeo", None)
    await skopeo.prepare()
    plain = layout / PLAIN
    archive = plain if plain.exists() else archive
    return await skopeo.convert(archive, seconds=UNPACK_SECONDS, file_bytes=MOST_LAYER_BYTES)


def _check(archive: Path, sha256: str) -> None:
    """See that it is a plain file of this digest. Raises BuildUnavailable."""
    digest = hashlib.sha256()
    try:
        with reading(archive) as file:
            while sha256 and (chunk := file.read(CHUNK)):
                digest.update(chunk)
    except OSError as error:
        raise BuildUnavailable(
            f"{archive.name}: {error.strerror}",
            kind="missing",
            hint="is it there, and a plain file?",
        ) from error
    if sha256 and digest.hexdigest() != sha256:
        raise BuildUnavailable(
            f"{archive.name} has the sha256 {digest.hexdigest()[:12]}..., not that of the manifest",
            kind="changed-file",
            hint="put the right file there, or write its sha256 in the manifest",
        )
