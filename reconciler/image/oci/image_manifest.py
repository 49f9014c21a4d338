"""What an image says of itself: index, manifest and config, parsed from bytes that anyone may have written.

They are addressed by their content, so what is wrong with one stays wrong: BuildFailed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reconciler.errors import BuildFailed
from reconciler.image_references import DIGEST
from reconciler.safe_text import clean

MOST_BYTES = 4 << 20
"""Of a manifest, an index or a config; container tools have the same limit."""
MOST_LAYERS = 127
MOST_PLATFORMS = 200
MOST_LAYER_BYTES = 16 << 30
MOST_IMAGE_BYTES = 32 << 30
"""Of all layers together, as they are served."""
NANOSECONDS = 1e9
SHOWN = 100

_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
CONFIGS = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
LAYERS = (
    *(f"{_OCI}layer.v1.tar{how}" for how in ("", "+gzip", "+zstd")),
    *(f"{_DOCKER}image.rootfs.diff.tar{how}" for how in ("", ".gzip", ".zstd")),
)
"""Layers that are had elsewhere (`foreign`) are not among them."""

Model = TypeVar("Model", bound="Foreign")


class Foreign(BaseModel):
    """Base of what others wrote: strict in what is read, deaf to all else."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)


def _nothing_is_empty(value: Any) -> Any:
    """Tools write null for an empty list, and leave it out as well."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def _names(value: Any) -> Any:
    """The keys of an object, whose values mean nothing."""
    return tuple(value) if isinstance(value, dict) else _nothing_is_empty(value)


def _seconds(value: Any) -> Any:
    if not isinstance(value, int):
        return value or 0.0
    try:
        return value / NANOSECONDS
    except OverflowError as error:
        raise ValueError("is more than any time") from error


# No NUL: a program's arguments and a file's lines cannot have one.
Text = Annotated[str, Field(max_length=128 << 10, pattern=r"^[^\x00]*$")]
Optional = Annotated[Text, BeforeValidator(lambda value: "" if value is None else value)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_nothing_is_empty), Field(max_length=4096)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names), Field(max_length=4096)]
Labels = Annotated[
    dict[Text, Text],
    BeforeValidator(lambda value: {} if value is None else value),
    Field(max_length=4096),
]
Interval = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=86_400 * 365)]
Digest = Annotated[str, Field(pattern=rf"^{DIGEST}$")]


class Platform(Foreign):
    os: Text
    architecture: Text
    variant: Optional = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(Foreign):
    media_type: Text = Field(default="", alias="mediaType")
    digest: Digest
    size: Annotated[int, Field(ge=0)]
    urls: Texts = ()
    platform: Platform | None = None


class Index(Foreign):
    manifests: tuple[Descriptor, ...] = Field(max_length=MOST_PLATFORMS, strict=False)


class Manifest(Foreign):
    config: Descriptor
    layers: tuple[Descriptor, ...] = Field(max_length=MOST_LAYERS, min_length=1, strict=False)

    @property
    def bytes(self) -> int:
        """Of all layers, as they say."""
        return sum({layer.digest: layer.size for layer in self.layers}.values())


class Healthcheck(Foreign):
    """A check that runs inside of the guest. Seconds; 0: not said."""

    test: Texts = Field(default=(), alias="Test")
    interval: Interval = Field(default=0.0, alias="Interval")
    timeout: Interval = Field(default=0.0, alias="Timeout")
    start_period: Interval = Field(default=0.0, alias="StartPeriod")
    retries: int = Field(default=0, alias="Retries", ge=0)


class ImageConfig(Foreign):
    """How the program of an image is run; empty: the image does not say."""

    entrypoint: Texts = Field(default=(), alias="Entrypoint")
    cmd: Texts = Field(default=(), alias="Cmd")
    env: Texts = Field(default=(), alias="Env")
    """`NAME=value` each."""
    user: Optional = Field(default="", alias="User")
    working_dir: Optional = Field(default="", alias="WorkingDir")
    stop_signal: Optional = Field(default="", alias="StopSignal")
    exposed_ports: Names = Field(default=(), alias="ExposedPorts")
    """`80/tcp` each."""
    labels: Labels = Field(default={}, alias="Labels")
    healthcheck: Healthcheck | None = Field(default=None, alias="Healthcheck")


class _RootFs(Foreign):
    diff_ids: tuple[Digest, ...] = Field(strict=False)


class _ConfigFile(Foreign):
    os: Optional = ""
    architecture: Optional = ""
    variant: Optional = ""
    config: ImageConfig | None = None
    rootfs: _RootFs


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer, as manifest and config describe it."""

    diff_id: str
    """`sha256:...` of the unpacked tar."""
    digest: str
    """`sha256:...` of the blob as it is served."""
    media_type: str
    """What the manifest says; how the blob is compressed, its own first bytes say better."""
    size: int
    """Bytes of the blob."""


def sha256_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_index(content: bytes) -> Index | None:
    """An index of several platforms; None if this is a manifest. Raises BuildFailed."""
    kind = parse(_Document, content, "the manifest")
    if kind.media_type in INDEXES or (not kind.media_type and kind.manifests is not None):
        return parse(Index, content, "the index")
    if kind.schema_version == 1:
        raise BuildFailed(
            "the manifest has the form of 2014, which names no unpacked layers",
            hint="push the image again with a tool of today",
        )
    if kind.media_type and kind.media_type not in MANIFESTS:
        raise BuildFailed(f"{clean(kind.media_type)[:SHOWN]} is no image")
    return None


class _Document(Foreign):
    """What says of a document which one it is; older tools leave the media type out."""

    schema_version: int = Field(default=2, alias="schemaVersion")
    media_type: Text = Field(default="", alias="mediaType")
    manifests: list[Any] | None = None


def choose(index: Index, platform: str) -> Descriptor:
    """The manifest for a platform. Raises BuildFailed that names those that there are."""
    for one in index.manifests:
        if one.platform is not None and matches(str(one.platform), platform):
            return one
    # Attestations stand beside the images, as those of an unknown platform.
    there = sorted({str(p) for one in index.manifests if (p := one.platform) and p.os != "unknown"})
    shown = clean(", ".join(there[:10]))[: 3 * SHOWN] or "none is named"
    raise BuildFailed(
        f"there is no image for {platform}; there are: {shown}", hint="set `platform`"
    )


def matches(there: str, wanted: str) -> bool:
    """Whether a platform is the wanted one; who names no variant takes any."""
    return there == wanted or (wanted.count("/") == 1 and there.startswith(f"{wanted}/"))


def parse_manifest(content: bytes) -> Manifest:
    """A manifest within bounds. Raises BuildFailed."""
    manifest = parse(Manifest, content, "the manifest")
    for fault in _faults(manifest):
        raise BuildFailed(fault)
    return manifest


def _faults(manifest: Manifest) -> Iterator[str]:
    config = manifest.config
    if config.media_type and config.media_type not in CONFIGS:
        yield f"is no image that a machine can run: its config is {clean(config.media_type)[:SHOWN]}"
    if config.size > MOST_BYTES:
        yield f"the config has {config.size} bytes, and {MOST_BYTES} are the most"
    for number, layer in enumerate(manifest.layers, 1):
        if layer.urls or layer.media_type not in LAYERS:
            kind = clean(layer.media_type)[:SHOWN] or "of no kind"
            yield f"layer {number} is {kind}, which is no layer that is had with its image"
        if layer.size > MOST_LAYER_BYTES:
            yield f"layer {number} has {layer.size} bytes, and {MOST_LAYER_BYTES} are the most"
    if manifest.bytes > MOST_IMAGE_BYTES:
        yield f"its layers have {manifest.bytes} bytes, and {MOST_IMAGE_BYTES} are the most"


def parse_config(
    content: bytes, manifest: Manifest, platform: str
) -> tuple[ImageConfig, tuple[ImageLayer, ...]]:
    """How the image is run, and its layers, the lowest first. Raises BuildFailed."""
    found = parse(_ConfigFile, content, "the config")
    made_for = "/".join(part for part in (found.os, found.architecture, found.variant) if part)
    if not matches(made_for, platform) and not matches(platform, made_for):
        raise BuildFailed(
            f"the image is for {clean(made_for)[:SHOWN] or 'no platform'}, not for {platform}",
            hint="set `platform`",
        )
    ids = found.rootfs.diff_ids
    if len(ids) != len(manifest.layers):
        raise BuildFailed(
            f"the config names {len(ids)} layers, and the manifest {len(manifest.layers)}"
        )
    layers = tuple(
        ImageLayer(diff_id, one.digest, one.media_type, one.size)
        for diff_id, one in zip(ids, manifest.layers, strict=True)
    )
    return found.config or ImageConfig(), layers


def parse_bare_config(content: bytes) -> ImageConfig:
    """How the image is run whose config stands alone, as in an archive of docker. Raises BuildFailed."""
    return parse(_ConfigFile, content, "the config").config or ImageConfig()


def parse(model: type[Model], content: bytes, what: str) -> Model:
    """A document in one of these forms. Raises BuildFailed."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = re.sub(r"[^A-Za-z0-9_.-]", "?", ".".join(map(str, first["loc"])))[:SHOWN]
        at = f" at {place}" if place else ""
        raise BuildFailed(f"{what} cannot be read{at}: {clean(first['msg'])[:SHOWN]}") from error
