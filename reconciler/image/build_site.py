"""Where one layer is made, what an input may use for it, and how a folder becomes an image.

The same content gives the same bytes; the image is made by a confined program.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from reconciler.children.confinement import Bounds
from reconciler.children.program import Ended
from reconciler.children.spare import USUAL, ConfinedPrograms
from reconciler.config import ScriptConfig
from reconciler.content_store import ContentStore
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image.archive.contents import TarContents
from reconciler.image.archive.packing import BAD_INPUT, CANNOT, PARTIAL, REWRITTEN, Request
from reconciler.image.composed import MOST_PARTS, write_composition
from reconciler.image.debian_packages import Debian
from reconciler.image.downloads import Downloads
from reconciler.image.nix_program import Nix
from reconciler.image.oci.shared_blobs import SharedBlobs
from reconciler.image.progress_board import Progress
from reconciler.image_registries import RegistryConfig
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.names import LayerKey, digest_of
from reconciler.safe_text import clean, clean_lines

IMAGE = "image"
MKFS_SECONDS = 180.0
"""Wall clock for an image of the largest size on a slow disk."""
TAR_SECONDS = 900.0
"""The same for a tar of the largest size, which is read twice."""
EROFS_OF_TAR = Bounds(file_bytes=4 << 40)
"""mkfs.erofs keeps content of a tar in a hole of the image, a TiB away, until it has all of it."""
PACKING = "reconciler.image.archive.packing"
FIXED_UUID = "7265636f-6e63-4c69-8572-000000000001"
"""Any fixed one will do: layers are found by the serial of their disk."""
COMPRESS_FROM_BYTES = 32 * 1024 * 1024
"""Below this, unpacking costs a guest more than reading: small layers stay plain in erofs."""
MAGICS = {
    "erofs": (1024, b"\xe2\xe1\xf5\xe0"),
    "squashfs": (0, b"hsqs"),
    "iso9660": (32_769, b"CD001"),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What of the host's config says where builds may get something from."""

    registries: tuple[RegistryConfig, ...] = ()
    """Those that are reached otherwise than as they are."""
    image_urls: tuple[str, ...] = ()
    """Patterns."""
    scripts: Mapping[str, ScriptConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildTools:
    """What all builds of a store share."""

    programs: ConfinedPrograms
    """For what reads foreign input: it has no network."""
    debian: Debian
    downloads: Downloads
    nix: Nix
    sources: Sources = Sources()
    blobs: SharedBlobs = field(default_factory=SharedBlobs)


MakePart = Callable[["BuildSite"], Awaitable[None]]
"""Leaves the image of one part in a site of its own. Raises as the build of a layer does."""


class Parts(Protocol):
    """The images of which the layer that is being made may be composed."""

    def has(self, key: LayerKey) -> bool:
        """Whether a part is in the store, so that nothing has to be fetched for it."""
        ...

    def image(self, key: LayerKey) -> Path:
        """The image of a part that is in the store."""
        ...

    def contents(self, key: LayerKey) -> Path:
        """What a part that was made of a tar says of its folders; the part is in the store."""
        ...

    async def make(self, key: LayerKey, title: str, make: MakePart) -> None:
        """Have a part in the store: found, or made once for all that need it. Raises as `make`."""
        ...


@dataclass(frozen=True, slots=True)
class BuildSite:
    """Where one layer is made. An input leaves `workspace/image`; all else in there is dropped.

    The input of a composed layer leaves `workspace/parts.json` instead, by `compose`.
    """

    format: StoreFormat
    workspace: Path
    content: ContentStore
    """Of the source whose manifest names the layer."""
    tools: BuildTools
    parts: Parts
    progress: Progress = field(default_factory=Progress)
    """What people see of this build meanwhile."""
    verity: bool = False
    """Whether images that are made here end in a tree of hashes."""

    @property
    def folder(self) -> Path:
        """Where the files of the layer go; nothing is there yet."""
        return self.workspace / "content"

    @property
    def image(self) -> Path:
        return self.workspace / IMAGE

    def part_key(self, inputs: Mapping[str, Any]) -> LayerKey:
        """The key of a part that is made of these inputs here: its format and its tree are of the site."""
        tree = {"verity": "yes"} if self.verity else {}
        return LayerKey(digest_of({**inputs, "format": self.format, **tree}))

    async def part(self, key: LayerKey, title: str, make: MakePart) -> None:
        """Have a part image of this key in the store, in the format of this site."""
        with self.progress.within(key):
            await self.parts.make(key, title, make)

    def compose(self, parts: Sequence[LayerKey], about: Mapping[str, str]) -> None:
        """Say of which parts the layer is composed, bottom first. Raises BuildFailed for too many.

        about: what people and the next build may want to know of its origin.
        """
        try:
            write_composition(self.workspace / layout.PARTS, parts, about)
        except ValueError as error:
            raise BuildFailed(f"{len(parts)} images are more than {MOST_PARTS}") from error

    @property
    def contents(self) -> Path:
        """What a tar that became the image has of folders: see `archive/contents.py`."""
        return self.workspace / layout.CONTENTS

    async def make_image_of_tar(
        self, tar: Path, *, digest: str | None = None, seconds: float = TAR_SECONDS
    ) -> TarContents:
        """Make the image of a tar, plain or compressed by gzip or zstd, and leave its `contents` too.

        `digest` is of the tar without its compression, as `sha256:HEX`; give none only for a tar of your own.
        Raises BuildFailed with the entry at fault for what can never be an image, and BuildUnavailable.
        """
        request = Request(
            str(tar), digest, self.format, str(self.workspace), str(self.image), str(self.contents)
        )
        self.progress.begin("packing", *(self.workspace / name for name in (PARTIAL, REWRITTEN)))
        argv = (sys.executable, "-P", "-m", PACKING, json.dumps(asdict(request)))
        bounds = EROFS_OF_TAR if self.format == "erofs" else USUAL
        ended = await self.tools.programs.run(argv, seconds=seconds, bounds=bounds)
        if ended.status == 0:
            return TarContents(**json.loads(ended.output))
        raise _failure(ended)

    async def make_image(self, content_bytes: int) -> None:
        """Make the image of `folder`, whose files have so many bytes. Raises BuildUnavailable."""
        self.progress.begin("packing", self.image)
        argv = mkfs_argv(self.format, str(self.image), str(self.folder), content_bytes)
        ended = await self.tools.programs.run(argv, seconds=MKFS_SECONDS)
        if ended.status < 0:
            # Its own bounds or the host's: a signal is no verdict on the input.
            raise BuildUnavailable(
                f"the builder was ended by signal {-ended.status}: {ended.tail}", kind="limit"
            )
        if ended.status != 0:
            raise BuildUnavailable(ended.tail or f"status {ended.status}")


def _failure(ended: Ended) -> BuildFailed | BuildUnavailable:
    """Why the child that packs a tar made no image."""
    if ended.status == BAD_INPUT:
        return BuildFailed(clean(json.loads(ended.output)))
    if ended.status == CANNOT:
        kind, reason, hint = json.loads(ended.output)
        return BuildUnavailable(clean_lines(reason), kind=kind, hint=hint)
    if ended.status < 0:
        return BuildUnavailable(f"the builder was ended by signal {-ended.status}", kind="limit")
    return BuildUnavailable(ended.tail or f"status {ended.status}")


def mkfs_argv(store_format: str, image: str, folder: str, content_bytes: int) -> tuple[str, ...]:
    """The argv that makes `image` of `folder`; both paths are absolute."""
    if store_format == "squashfs":
        # fmt: off
        return (
            "mksquashfs", folder, image, "-noappend", "-quiet", "-no-progress",
            "-reproducible", "-mkfs-time", "0", "-all-time", "0", "-all-root", "-no-xattrs",
            "-comp", "zstd", "-Xcompression-level", "3", "-mem", "256M", "-processors", "2",
        )
        # fmt: on
    compressed = ("-zlz4",) if content_bytes >= COMPRESS_FROM_BYTES else ()
    # -x-1: extended attributes of the host's file system must not get in.
    # fmt: off
    return (
        "mkfs.erofs", "-T0", "-U", FIXED_UUID, "--all-root", "-x-1", "--quiet",
        *compressed, image, folder,
    )
    # fmt: on


def has_magic(store_format: str, head: bytes) -> bool:
    """Whether an image's first bytes are those of its format."""
    offset, magic = MAGICS[store_format]
    return head[offset : offset + len(magic)] == magic
