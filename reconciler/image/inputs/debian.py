"""The layer input `debian`: a base that all VMs of an archive share, and what packages add to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.content_store import named
from reconciler.image.build_site import BuildSite
from reconciler.image.composed import LINEAGE
from reconciler.image.debian_roots.root_request import RootRequest
from reconciler.image.layer_input import LayerInput
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.names import LayerKey, digest_of

SECONDS = 1800.0
"""For one part: mirrors may be slow, and emulated scripts are."""


def part_key(source: DebianSource, store_format: str) -> LayerKey:
    """Of the base, for a source without packages; else of what its packages add."""
    return LayerKey(digest_of({**source.key_inputs, "part": "debian", "format": store_format}))


async def build_debian(source: DebianSource, site: BuildSite) -> None:
    versions: dict[str, str] = {}
    parts = [part_key(source.base, site.format)]
    base = source.base

    async def make_base(part: BuildSite) -> None:
        versions.update(await _make(base, part, None))

    async def make_additions(part: BuildSite) -> None:
        versions.update(await _make(source, part, site.parts.image(parts[0])))

    with named(source.title):
        await site.part(parts[0], base.title, make_base)
        if source.packages:
            parts.append(part_key(source, site.format))
            await site.part(parts[1], source.title, make_additions)
    site.compose(parts, {LINEAGE: source.lineage, **versions})


async def _make(source: DebianSource, site: BuildSite, base: Path | None) -> Mapping[str, str]:
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
    versions = await site.tools.debian.roots.make(request, tar, base)
    await site.make_image_of_tar(tar)
    return versions


INPUT = LayerInput(build_debian, seconds=2 * SECONDS + 600.0, composed=True)
