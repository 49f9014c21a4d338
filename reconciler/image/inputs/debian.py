"""The layer input `debian`: a base that all VMs of an archive share, and what packages add to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reconciler.content_store import named
from reconciler.host import layout
from reconciler.image.build_site import BuildSite
from reconciler.image.debian_roots.root_request import MOST_BYTES, RootRequest
from reconciler.image.layer_input import LayerInput
from reconciler.image.layer_notes import LINEAGE
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.names import LayerKey

VERSIONS = TypeAdapter(dict[str, str])
SECONDS = 1800.0
"""For one part: mirrors may be slow, and emulated scripts are."""


def part_key(source: DebianSource, site: BuildSite) -> LayerKey:
    """Of the base, for a source without packages; else of what its packages add."""
    return site.part_key({**source.key_inputs, "part": "debian"})


async def build_debian(source: DebianSource, site: BuildSite) -> None:
    parts = [part_key(source.base, site)]
    base = source.base

    async def make_base(part: BuildSite) -> None:
        await _make(base, part, None)

    async def make_additions(part: BuildSite) -> None:
        await _make(source, part, site.parts.image(parts[0]))

    with named(source.title):
        await site.part(parts[0], base.title, make_base)
        if source.packages:
            parts.append(part_key(source, site))
            await site.part(parts[1], source.title, make_additions)
    versions = await asyncio.to_thread(_versions, site.parts.image(parts[-1]))
    site.compose(parts, {**versions, LINEAGE: source.lineage})


async def _make(source: DebianSource, site: BuildSite, base: Path | None) -> None:
    """Leave the image of a part, and the versions of all that is installed with it."""
    request = RootRequest(
        archive_id=source.archive_id,
        suite=source.suite,
        components=list(source.components),
        packages=list(source.packages),
        snapshot=source.snapshot,
        mirror=source.mirror,
        keyring=source.keyring,
        seconds=SECONDS,
    )
    tar = site.workspace / "root.tar"
    roots = site.tools.debian.roots
    site.progress.begin("installing packages", tar, grown=roots.written(request))
    versions = await roots.make(request, tar, base)
    await site.make_image_of_tar(tar)
    note = site.workspace / layout.VERSIONS
    await asyncio.to_thread(note.write_bytes, VERSIONS.dump_json(dict(versions)))


def _versions(image: Path) -> dict[str, str]:
    """The versions beside an image; none, if an earlier controller made it."""
    try:
        with image.with_name(layout.VERSIONS).open("rb") as file:
            return VERSIONS.validate_json(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return {}


INPUT = LayerInput(build_debian, seconds=2 * SECONDS + 600.0, composed=True)
