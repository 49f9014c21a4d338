"""Has an image on this host: its config, and the blobs of those layers that the store lacks.

Nothing is believed before its digest is that by which it was asked for: the manifest, the config, each
blob. The bytes that a manifest declares are the bound of what is fetched.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.oci import image_manifest as forms
from reconciler.image.oci.image_manifest import ImageConfig, ImageLayer
from reconciler.untrusted_file import reading_beneath

CHUNK = 1 << 20
UNDIGESTED = "it is tried again; if it stays so, push the image again"

Known = Callable[[str], bool]
"""Whether the store has the layer of this diff_id, so that its blob is not needed."""


@dataclass(frozen=True, slots=True)
class FetchedLayer:
    """A layer, and where its blob is; None: it is known."""

    layer: ImageLayer
    blob: Path | None
    """Its size and digest are verified. Whoever unpacks it verifies the diff_id."""


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image of one platform, whose layers are here or known."""

    digest: str
    """`sha256:...` of its manifest."""
    config: ImageConfig
    layers: tuple[FetchedLayer, ...]
    """The lowest first."""


class Origin(Protocol):
    """Where an image is had from. All methods raise BuildUnavailable, or BuildFailed where content is at fault."""

    async def manifest(self, digest: str) -> bytes:
        """The bytes of a manifest or an index, not yet verified; of an empty digest, the only one there is."""
        ...

    async def config(self, digest: str, config: str) -> bytes:
        """The bytes of the config `config` of the manifest `digest`, not yet verified."""
        ...

    async def blobs(
        self, digest: str, wanted: Iterable[ImageLayer], known: Iterable[ImageLayer]
    ) -> Path:
        """A folder `sha256` of blobs that has the wanted ones of the manifest `digest`, not yet verified."""
        ...


async def fetch(
    origin: Origin, digest: str, platform: str, known: Known, workspace: Path
) -> FetchedImage:
    """Have the image of `platform` here. Raises BuildFailed or BuildUnavailable."""
    content, digest = await _manifest(origin, digest)
    index = forms.parse_index(content)
    if index is not None:
        chosen = forms.choose(index, platform)
        content, digest = await _manifest(origin, chosen.digest)
        if forms.parse_index(content) is not None:
            raise BuildFailed("the index names an index")
    manifest = forms.parse_manifest(content)
    raw = await origin.config(digest, manifest.config.digest)
    _same(raw, manifest.config.digest, "the config")
    config, layers = forms.parse_config(raw, manifest, platform)
    return FetchedImage(digest, config, await _layers(origin, digest, layers, known, workspace))


async def _manifest(origin: Origin, digest: str) -> tuple[bytes, str]:
    content = await origin.manifest(digest)
    found = forms.sha256_of(content)
    _same(content, digest or found, "the manifest")
    return content, found


async def _layers(
    origin: Origin, digest: str, layers: tuple[ImageLayer, ...], known: Known, workspace: Path
) -> tuple[FetchedLayer, ...]:
    here = frozenset(layer.diff_id for layer in layers if known(layer.diff_id))
    wanted = [layer for layer in layers if layer.diff_id not in here]
    if not wanted:
        return tuple(FetchedLayer(layer, None) for layer in layers)
    missing = sum({layer.digest: layer.size for layer in wanted}.values())
    free = shutil.disk_usage(workspace).free
    if free < missing:
        raise BuildUnavailable(
            f"{missing >> 20} MiB of layers are to be fetched, and {free >> 20} MiB are free",
            kind="disk-full",
            hint="free some space; it is tried again",
        )
    wanted_digests = {layer.digest for layer in wanted}
    spared = [layer for layer in layers if layer.digest not in wanted_digests]
    folder = await origin.blobs(digest, wanted, spared)
    for layer in {layer.digest: layer for layer in wanted}.values():
        await asyncio.to_thread(verify, folder / "sha256" / _hex(layer.digest), layer)
    return tuple(
        FetchedLayer(
            layer, None if layer.diff_id in here else folder / "sha256" / _hex(layer.digest)
        )
        for layer in layers
    )


def verify(blob: Path, layer: ImageLayer) -> None:
    """Compare a blob with what its manifest says. Raises BuildUnavailable."""
    digest = hashlib.sha256()
    size = 0
    try:
        with reading_beneath(blob) as file:
            while size <= layer.size and (chunk := file.read(CHUNK)):
                size += len(chunk)
                digest.update(chunk)
    except OSError as error:
        raise BuildUnavailable(
            f"layer {layer.digest[:19]}: {error.strerror}", kind="missing", hint=UNDIGESTED
        ) from error
    if size != layer.size:
        more = "more" if size > layer.size else size
        raise BuildUnavailable(
            f"layer {layer.digest[:19]} has {more} bytes, and {layer.size} were declared",
            kind="corrupt",
            hint=UNDIGESTED,
        )
    if f"sha256:{digest.hexdigest()}" != layer.digest:
        raise BuildUnavailable(
            f"layer {layer.digest[:19]} has other bytes than its digest says",
            kind="corrupt",
            hint=UNDIGESTED,
        )


def _same(content: bytes, digest: str, what: str) -> None:
    if len(content) > forms.MOST_BYTES:
        raise BuildUnavailable(
            f"{what} has {len(content)} bytes, and {forms.MOST_BYTES} are the most", kind="limit"
        )
    if forms.sha256_of(content) != digest:
        raise BuildUnavailable(
            f"{what} has other bytes than its digest says", kind="corrupt", hint=UNDIGESTED
        )


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
