"""What an image in a folder says of itself, read without having it: for `validate`, which needs no daemon.

Nothing is unpacked, and of an archive no more is held than the small documents in it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.headers import Headers
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError
from reconciler.image.layer_notes import contents_of_config
from reconciler.image.oci import image_manifest as forms
from reconciler.image.oci.image_manifest import Foreign, ImageConfig
from reconciler.image.oci.layout_folder import INDEX, blob_path, only_image, read
from reconciler.model.image_contents import LayerContents
from reconciler.untrusted_file import reading

DOCKERS_INDEX = "manifest.json"
BLOBS = "blobs/sha256/"
MOST_ARCHIVE_BYTES = 2 << 30
"""Of an archive without its compression; a larger one is not looked into."""
MOST_ENTRIES = 10_000
MOST_HELD_BYTES = 32 << 20
"""Of all documents of an archive."""
DOCUMENTS = (b"{", b"[")

Read = Callable[[str], bytes]
"""The blob of a digest. Raises BuildFailed or BuildUnavailable."""


def contents_of_layout(layout: Path, digest: str, platform: str) -> LayerContents:
    """Of an image of an OCI layout; of its only one, if the digest is empty.

    Blocks. Raises BuildFailed or BuildUnavailable.
    """
    digest = digest or only_image(read(layout / INDEX), platform)
    config = _config(lambda named: read(blob_path(layout, named)), digest, platform)
    return contents_of_config(config)


def contents_of_archive(archive: Path, platform: str) -> LayerContents:
    """Of the image of an archive, OCI's or docker's. Blocks. Raises BuildFailed or BuildUnavailable."""
    try:
        with reading(archive):
            documents = _documents(archive)
    except BadArchiveError as error:
        raise BuildFailed(str(error)) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildUnavailable(f"it cannot be read: {error}") from error

    def blob(digest: str) -> bytes:
        name = f"{BLOBS}{digest.removeprefix('sha256:')}"
        if name not in documents:
            raise BuildFailed(f"the archive has no {name[: len(BLOBS) + 12]}")
        return documents[name]

    if INDEX in documents:
        digest = only_image(documents[INDEX], platform)
        return contents_of_config(_config(blob, digest, platform))
    return contents_of_config(_docker_config(documents))


def _documents(archive: Path) -> dict[str, bytes]:
    """Files of an archive that may be JSON, by name."""
    found: dict[str, bytes] = {}
    held = 0
    with ArchiveStream(archive, MOST_ARCHIVE_BYTES) as stream:
        for number, entry in enumerate(Headers(stream)):
            if number >= MOST_ENTRIES:
                raise BadArchiveError(f"the archive has more than {MOST_ENTRIES} entries")
            plain = entry.kind == "file" and entry.parts is None
            if not plain or not 0 < entry.size <= forms.MOST_BYTES or not stream.skip_to(entry.at):
                continue
            first = stream.read(1)
            if first not in DOCUMENTS:
                continue
            held += entry.size
            if held > MOST_HELD_BYTES:
                raise BadArchiveError(f"its documents have more than {MOST_HELD_BYTES >> 20} MiB")
            name = entry.name.decode("utf-8", "replace").removeprefix("./")
            found[name] = first + stream.read(entry.size - 1)
    return found


class _DockerImage(Foreign):
    config: forms.Text = Field(alias="Config")


class _DockerImages(Foreign):
    images: tuple[_DockerImage, ...] = Field(strict=False, max_length=forms.MOST_PLATFORMS)


def _docker_config(documents: Mapping[str, bytes]) -> ImageConfig:
    content = documents.get(DOCKERS_INDEX)
    if content is None:
        raise BuildFailed(f"the archive has neither {INDEX} nor {DOCKERS_INDEX}: it is no image")
    images = forms.parse(_DockerImages, b'{"images":' + content + b"}", DOCKERS_INDEX).images
    if len(images) != 1 or images[0].config not in documents:
        raise BuildFailed(f"{DOCKERS_INDEX} does not name one image that the archive has")
    return forms.parse_bare_config(documents[images[0].config])


def _config(blob: Read, digest: str, platform: str) -> ImageConfig:
    """The config of an image, each document compared with its digest."""
    content = _same(blob(digest), digest)
    index = forms.parse_index(content)
    if index is not None:
        content = _same(blob(digest := forms.choose(index, platform).digest), digest)
    manifest = forms.parse_manifest(content)
    named = manifest.config.digest
    config, _ = forms.parse_config(_same(blob(named), named), manifest, platform)
    return config


def _same(content: bytes, digest: str) -> bytes:
    if len(content) > forms.MOST_BYTES or forms.sha256_of(content) != digest:
        raise BuildFailed(f"{digest[:19]} has other bytes than its digest says")
    return content
