"""The child that takes an OCI layout out of an archive: `python -m reconciler.image.oci.unpack_archive ARCHIVE FOLDER`.

It writes the files that a layout has, under names that it makes itself, and prints what the archive is.
Digests are not its concern: who uses a file verifies it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from reconciler.image.archive.headers import Headers, TarEntry
from reconciler.image.archive.packing import BAD_INPUT, CANNOT
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError, is_compressed
from reconciler.image.oci.image_manifest import MOST_BYTES, MOST_IMAGE_BYTES, MOST_LAYER_BYTES

PLAIN = "plain.tar"
"""A docker archive without its compression, where it has one."""
OCI, DOCKER = "oci", "docker"
INDEX = b"index.json"
DOCKERS_INDEX = b"manifest.json"
BLOB = re.compile(rb"blobs/sha256/([0-9a-f]{64})")
MOST_ENTRIES = 10_000
"""Many times what the largest image has: a few for each layer."""


def unpack(archive: Path, folder: Path) -> str:
    """Write the layout to `folder`, which is not there yet. Raises BadArchiveError or OSError."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    seen: set[bytes] = set()
    with ArchiveStream(archive, MOST_IMAGE_BYTES) as stream:
        for number, entry in enumerate(Headers(stream)):
            if number >= MOST_ENTRIES:
                raise BadArchiveError(f"the archive has more than {MOST_ENTRIES} entries")
            name = entry.name.removeprefix(b"./")
            found = BLOB.fullmatch(name)
            if entry.kind != "file" or not (found or name in (INDEX, DOCKERS_INDEX)):
                continue
            if name in seen:
                raise BadArchiveError(f"the archive has {name.decode('ascii')} twice")
            seen.add(name)
            path = blobs / found[1].decode("ascii") if found else folder / name.decode("ascii")
            _write(entry, stream, path, MOST_LAYER_BYTES if found else MOST_BYTES)
    if INDEX in seen:
        return OCI
    if DOCKERS_INDEX in seen:
        _decompress(archive, folder / PLAIN)
        return DOCKER
    raise BadArchiveError("the archive has neither index.json nor manifest.json: it is no image")


def _decompress(archive: Path, plain: Path) -> None:
    """Docker's archives are read by skopeo, which in Debian 12 (1.9.3) takes plain ones alone."""
    if not is_compressed(archive):
        return
    with ArchiveStream(archive, MOST_IMAGE_BYTES) as stream, plain.open("xb") as file:
        stream.copy(MOST_IMAGE_BYTES, file.write)


def _write(entry: TarEntry, stream: ArchiveStream, path: Path, most: int) -> None:
    if entry.parts is not None or entry.size > most:
        raise BadArchiveError(f"the archive's {path.name} is sparse, or larger than {most} bytes")
    with path.open("xb") as file:
        whole = stream.skip_to(entry.at) and stream.copy(entry.size, file.write) == entry.size
    if not whole:
        raise BadArchiveError(f"the archive is cut off within {path.name}")


def main(arguments: list[str]) -> int:
    """Print what the archive is, or why it is none."""
    try:
        sys.stdout.write(unpack(Path(arguments[0]), Path(arguments[1])))
    except BadArchiveError as error:
        sys.stdout.write(str(error))
        return BAD_INPUT
    except OSError as error:
        sys.stdout.write(f"{error.filename or 'the archive'}: {error.strerror}")
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
