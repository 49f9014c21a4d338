"""The layer input `nix`: the closure of an output, its widely used paths as parts of their own, and its program."""

from __future__ import annotations

import asyncio
import functools
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from reconciler.content_store import named
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.nix_program import WITH_NIX, StorePath, closure
from reconciler.image.program_part import ProgramSpec, build_program
from reconciler.model.layer_kinds.nix_layer import NixSource
from reconciler.model.names import LayerKey

OWN_PARTS = 14
"""At most so many paths are parts of their own, and all others are one: each part is a disk."""
LEAST_BYTES = 1 << 20
"""A smaller path is not worth a disk."""
PACK_SECONDS = 1800.0
CURRENT = "nix/current"
"""A link to the output, for an init of another layer to find it by."""


def grouped(paths: Sequence[StorePath]) -> list[tuple[StorePath, ...]]:
    """The parts of a closure, the most widely used path first, and the rest last.

    What many paths of one closure name (a C library, a shell), others are likely to need too, and then
    share its part. The rest is the application's own, and changes with it.
    """
    large = (path for path in paths if path.size >= LEAST_BYTES and path.referrers)
    ranked = sorted(large, key=lambda path: (-path.referrers, path.path))[:OWN_PARTS]
    rest = tuple(path for path in paths if path not in ranked)
    return [*((path,) for path in ranked), *((rest,) if rest else ())]


async def build_nix(source: NixSource, site: BuildSite) -> None:
    link = site.workspace / "output"
    site.progress.begin(WITH_NIX)
    await site.tools.nix.build(
        source.flake, source.attribute, tree=source.tree, content=site.content,
        folder=site.workspace / "flake", link=link, title=source.title,
    )  # fmt: skip
    with named(source.title):
        output = str(await asyncio.to_thread(link.readlink))
        listing = site.workspace / "closure.json"
        paths = await closure(site.tools.nix, site.tools.programs, output, listing)
        keys = [await _paths_part(group, site) for group in grouped(paths)]
        keys.append(await _top_part(source, output, site))
        site.compose(keys, {"output": output})


async def _paths_part(group: Sequence[StorePath], site: BuildSite) -> LayerKey:
    key = site.part_key({"kind": "nix-paths", "paths": [path.name for path in group]})
    title = group[0].name if len(group) == 1 else f"{len(group)} paths of Nix"
    await site.part(key, title, functools.partial(_pack, group))
    return key


async def _pack(group: Sequence[StorePath], part: BuildSite) -> None:
    tar = part.workspace / "paths.tar"
    part.progress.begin("copying", tar, total=sum(path.size for path in group))
    argv = (
        "tar", "--create", "--file", str(tar), "--format=gnu", "--sort=name", "--mtime=@1",
        "--owner=0", "--group=0", "--numeric-owner", "--hard-dereference", "--directory=/", "--",
        *(path.path.lstrip("/") for path in group),
    )  # fmt: skip
    ended = await part.tools.programs.run(argv, seconds=PACK_SECONDS)
    if ended.status != 0:
        raise BuildUnavailable(f"tar: {ended.tail or f'status {ended.status}'}", kind="nix")
    await part.make_image_of_tar(tar, digest=None)


async def _top_part(source: NixSource, output: str, site: BuildSite) -> LayerKey:
    """What starts the program; or, without one, the link to the output."""
    if not source.program:
        key = site.part_key({"kind": "nix-link", "output": output})
        await site.part(key, CURRENT, functools.partial(_link, output))
        return key
    program = f"{output}/{source.program}"
    if not await asyncio.to_thread(Path(program).is_file):
        raise BuildFailed(f"{source.program}: no such file in {output}", hint="correct `program`")
    spec = ProgramSpec.of(entrypoint=[program], cmd=source.arguments, env=[f"OUT={output}"])
    key = site.part_key({"kind": "nix-program", **spec.key_inputs})
    await site.part(key, "program", functools.partial(_start, spec))
    return key


async def _start(spec: ProgramSpec, part: BuildSite) -> None:
    tar = part.workspace / "program.tar"
    await build_program(spec, tar, part.tools.debian, part.workspace / "busybox", ())
    await part.make_image_of_tar(tar, digest=None)


async def _link(output: str, part: BuildSite) -> None:
    tar = part.workspace / "link.tar"
    await asyncio.to_thread(_write_link, tar, output)
    await part.make_image_of_tar(tar, digest=None)


def _write_link(tar: Path, output: str) -> None:
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        link = tarfile.TarInfo(CURRENT)
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, output, 1
        archive.addfile(link, io.BytesIO())


INPUT = LayerInput(build_nix, seconds=7200.0, composed=True)
"""Nix itself has an hour, and a cold cache may take it."""
