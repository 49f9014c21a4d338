"""An image's origin: an archive, as `docker save` or skopeo writes it, which becomes a layout first."""

from __future__ import annotations

import sys
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.packing import BAD_INPUT
from reconciler.image.inputs.image import copy
from reconciler.image.oci.image_manifest import MOST_IMAGE_BYTES, MOST_LAYER_BYTES
from reconciler.image.oci.skopeo import Skopeo
from reconciler.image.oci.unpack_archive import OCI, PLAIN
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.safe_text import clean
from reconciler.untrusted_file import reading_beneath

UNPACK_SECONDS = 1800.0


async def layout_of_archive(
    archive: Path, sha256: str, programs: ConfinedPrograms, folder: Path
) -> Path:
    """The layout that an archive has or becomes, in a new folder below `folder`.

    sha256: of an archive of the host, in hex; empty: it is of the repository, and in a folder of ours.
    Raises BuildFailed or BuildUnavailable.
    """
    if sha256:
        # Another user may change it at any moment: what is read from here on is what was digested.
        own = folder / "archive.tar"
        await copy(ImageSource(sha256, str(archive)), own, MOST_IMAGE_BYTES)
        archive = own
    else:
        _see(archive)
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


def _see(archive: Path) -> None:
    """See that it is a plain file. Raises BuildUnavailable."""
    try:
        reading_beneath(archive).close()
    except OSError as error:
        raise BuildUnavailable(
            f"{archive.name}: {error.strerror}",
            kind="missing",
            hint="is it there, and a plain file?",
        ) from error
