"""An image's origin: an OCI layout in a folder, whose files may be anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.oci import image_manifest as forms
from reconciler.image.oci.image_manifest import ImageLayer, Index
from reconciler.untrusted_file import reading_beneath

INDEX = "index.json"
ONE = "give the image a layout of its own, or name it with `digest`"


class LocalLayout:
    """The images of a layout; nothing of it is copied.

    `folder` is an absolute path without links, and none is followed below it either: a layout says which of its
    own files are had, and not which of the host's.
    """

    def __init__(self, folder: Path, platform: str) -> None:
        self._folder = folder
        self._platform = platform

    async def manifest(self, digest: str) -> bytes:
        if not digest:
            digest = await self._only()
        return await self._blob(digest)

    async def config(self, digest: str, config: str) -> bytes:
        del digest
        return await self._blob(config)

    async def blobs(
        self, digest: str, wanted: Iterable[ImageLayer], known: Iterable[ImageLayer]
    ) -> Path:
        del digest, wanted, known
        return self._folder / "blobs"

    async def _only(self) -> str:
        """The digest of the layout's only image, or of its only one for the platform. Raises BuildFailed."""
        content = await asyncio.to_thread(read, self._folder / INDEX)
        return only_image(content, self._platform)

    async def _blob(self, digest: str) -> bytes:
        return await asyncio.to_thread(read, blob_path(self._folder, digest))


def only_image(content: bytes, platform: str) -> str:
    """The digest of the only image that an index.json has, or of its only one for the platform. Raises BuildFailed."""
    index = forms.parse(Index, content, INDEX)
    found = index.manifests
    if len(found) > 1:
        found = tuple(
            one for one in found if one.platform and forms.matches(str(one.platform), platform)
        )
    if len(found) != 1:
        raise BuildFailed(
            f"{INDEX} names {len(index.manifests)} images, and {len(found)} for {platform}",
            hint=ONE,
        )
    return found[0].digest


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout has the blob of a digest, `sha256:...`."""
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def read(path: Path) -> bytes:
    """A file of at most the size of a manifest, and one byte more. Raises BuildUnavailable."""
    try:
        with reading_beneath(path) as file:
            return file.read(forms.MOST_BYTES + 1)
    except OSError as error:
        name = path.name if path.name == INDEX else f"blob {path.name[:12]}"
        raise BuildUnavailable(
            f"the layout's {name}: {error.strerror}", kind="missing",
            hint="is it a whole OCI image layout, with oci-layout, index.json and blobs?",
        ) from error  # fmt: skip
