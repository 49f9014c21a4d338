"""The layer input `oci`: each layer of the image is a part that all images share, and on top is what starts its program."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator, Sequence

from reconciler.content_store import named
from reconciler.errors import BuildUnavailable
from reconciler.image.archive.stack_folders import find_implied
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.layer_notes import about_image, contents_of_config
from reconciler.image.oci.image_fetch import FetchedLayer
from reconciler.image.oci.image_manifest import ImageConfig
from reconciler.image.oci.origins import fetch_image
from reconciler.image.program_part import FolderEntry, ProgramSpec, build_program
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.names import LayerKey

EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The diff_id of a tar without entries, which builders write where a step changed no file."""
SHOWN = slice(7, 19)
"""What of a digest people are shown."""


def part_key(diff_id: str, site: BuildSite) -> LayerKey:
    """The key of one OCI layer: its content alone, so that every image that has it shares it."""
    return site.part_key({"kind": "oci-layer", "diff_id": diff_id})


def _known(diff_id: str, site: BuildSite) -> bool:
    return diff_id == EMPTY or site.parts.has(part_key(diff_id, site))


async def build_oci(source: OciSource, site: BuildSite) -> None:
    with named(source.title):
        image = await fetch_image(source, site, lambda diff_id: _known(diff_id, site))
        keys = [await _layer(layer, site) for layer in _without_repeats(image.layers)]
        program = _program(image.config)
        keys.append(await _top(program, keys, site))
        contents = contents_of_config(image.config)
        site.compose(keys, about_image(image.digest, shlex.join(program.argv), contents))


def _without_repeats(layers: Sequence[FetchedLayer]) -> Iterator[FetchedLayer]:
    """Without empty layers, and without one that lies on itself."""
    below = ""
    for fetched in layers:
        diff_id = fetched.layer.diff_id
        if diff_id not in (EMPTY, below):
            yield fetched
            below = diff_id


async def _layer(fetched: FetchedLayer, site: BuildSite) -> LayerKey:
    diff_id = fetched.layer.diff_id
    key, title = part_key(diff_id, site), f"layer {diff_id[SHOWN]}"
    await site.part(key, title, functools.partial(_make, fetched, title))
    return key


async def _make(fetched: FetchedLayer, title: str, part: BuildSite) -> None:
    if fetched.blob is None:
        raise BuildUnavailable(
            f"{title} was in the store and is not any more", hint="it is fetched at the next try"
        )
    with named(title):
        await part.make_image_of_tar(fetched.blob, digest=fetched.layer.diff_id)


async def _top(spec: ProgramSpec, below: Sequence[LayerKey], site: BuildSite) -> LayerKey:
    """The part of this image alone: its program, and folders that a layer uses without listing them."""
    contents = [site.parts.contents(key) for key in below]
    found = site.workspace / "folders.json"
    implied = await find_implied(contents, site.tools.programs, found)
    folders = tuple(
        FolderEntry(path, one.mode, one.uid, one.gid, one.mtime)
        for path, one in sorted(implied.items())
    )
    inputs = {
        "kind": "oci-program",
        **spec.key_inputs,
        "folders": [[one.path, one.mode, one.uid, one.gid, one.mtime] for one in folders],
    }
    key = site.part_key(inputs)

    async def make(part: BuildSite) -> None:
        tar, scratch = part.workspace / "program.tar", part.workspace / "busybox"
        await build_program(spec, tar, part.tools.debian, scratch, folders)
        await part.make_image_of_tar(tar, digest=None)

    await site.part(key, "program", make)
    return key


def _program(config: ImageConfig) -> ProgramSpec:
    return ProgramSpec.of(
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=config.env,
        user=config.user,
        working_dir=config.working_dir,
        stop_signal=config.stop_signal,
    )


INPUT = LayerInput(build_oci, seconds=3600.0, composed=True)
"""A slow line has an hour."""
