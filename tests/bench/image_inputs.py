"""The inputs that others make images of, too, beside the programs that people use for them."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.image_bench import Bench, timed_run
from tests.registry.images import Layout
from tests.registry.serving import serving_registry
from tests.unit.image.trees import Content

SUITE = "bookworm"
VMS = 20
ENGINES = {
    "umoci": "umoci unpack --rootless --image {layout}:one {target}",
    "podman": "podman --root {target}/root --runroot {target}/run pull -q oci:{layout}:one",
}
"""What unpacks an image, by the program that must be there."""
SETTINGS = {"config.entrypoint": "/usr/share/1/1"}


async def oci_figures(bench: Bench, root: Path, scale: Scale) -> list[Figure]:
    """The same files as an OCI image of one gzip layer, beside each of the engines that is there."""
    tar = bench.folder / "layer.tar"
    await asyncio.to_thread(pack, tar, root)
    layout = Layout(bench.folder / "layout")
    digest = await asyncio.to_thread(layout.add, "one", tar, settings=SETTINGS)
    source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
    there = [name for name in ENGINES if shutil.which(name)]
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in there}
    for number in range(scale.pick(3, 1)):
        ours.append(await bench.layer(source))
        await bench.store.collect(frozenset())
        for name in there:
            target = bench.folder / f"{name}{number}"
            words = ENGINES[name].format(layout=layout.folder, target=target).split()
            theirs[name].append(await timed_run(*words))
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
    for name in ENGINES.keys() - theirs:
        print(f"{name} is missing: no row beside it (apt-get install {name})")  # noqa: T201 - for who runs it
    rows = [
        Figure(
            "an OCI image", median(ms(ours)), "ms", median(ms(taken)), f"{name} of the same",
            target_ratio=1.0, spread=spread_of(ms(ours), "ms"),
            note="of a layout on disk: verified, checked, packed, synced and digested; others unpack",
        )
        for name, taken in theirs.items()
    ]  # fmt: skip
    if shutil.which("docker-registry") is None:
        print("docker-registry is missing: no row of an unchanged image")  # noqa: T201
        return rows
    return [*rows, await _unchanged_image(bench, layout, scale)]


async def _unchanged_image(bench: Bench, layout: Layout, scale: Scale) -> Figure:
    """An image of a registry that is there: the registry counts what it sends."""
    with serving_registry(bench.folder / "registry", "open") as registry:
        reference = await asyncio.to_thread(registry.push, layout, "one", "acme/app")
        settings = (registry.settings(),)
        store = ImageStore(bench.folder / "pulls", SystemClock(), sources=Sources(settings))
        await store.open()
        pulling = replace(bench, store=store)
        repository, _, digest = reference.partition("@")
        source = OciSource("linux/amd64", repository, digest)
        first = await pulling.layer(source)
        before = len(registry.served())
        taken = [await pulling.layer(source) for _ in range(scale.pick(30, 3))]
        fetched = sum(one.bytes for one in registry.served()[before:])
        await store.close()
    return Figure(
        "an unchanged image", median(ms(taken)), "ms", first * 1000, "its first pull", target=5.0,
        spread=spread_of(ms(taken), "ms"), note=f"the registry sent {fetched} bytes for it",
    )  # fmt: skip


async def many_vms(bench: Bench, scale: Scale) -> Figure:
    """VMs on one base: what the store has on disk, and the host in its page cache once each has read it."""
    count = scale.pick(VMS, 3)
    chance = random.Random(2)  # noqa: S311 - the same in every run
    files: dict[str, Content] = {str(number): chance.randbytes(1 << 20) for number in range(40)}
    base = bench.repository.tree({"base": files})
    await bench.store.collect(frozenset())
    await bench.layer(TreeSource(base, "./base"))
    one = sum(map(_bytes, _images(bench)))
    for number in range(count):
        await bench.layer(TreeSource(base, "./base"))
        own = bench.repository.tree({"hostname": f"web-{number}\n"})
        await bench.layer(TreeSource(own, "./own"))
    base_images = [path for path in _images(bench) if _bytes(path) >= one]
    for path in base_images * count:
        await asyncio.to_thread(path.read_bytes)
    cached = sum(map(_cached, base_images))
    return Figure(
        f"base of {count} VMs on disk", sum(map(_bytes, base_images)) / 1e6, "MB", one / 1e6,
        "base of one VM", target_ratio=1.0,
        note=f"{len(base_images)} image; {cached / 1e6:,.1f} MB in the page cache by fincore after"
        f" {count} reads of all of it. No guests: each would read the same file",
    )  # fmt: skip


async def debian_figures(bench: Bench, scale: Scale) -> list[Figure]:
    """Packages on a warm base beside a build from nothing; no row where they cannot be had."""
    if shutil.which("mmdebstrap") is None:
        print("mmdebstrap is missing: no row of packages")  # noqa: T201
        return []
    cold, warm = [], []
    for number in range(scale.pick(2, 1)):
        store = ImageStore(bench.folder / f"debian{number}", SystemClock())
        await store.open()
        fresh = replace(bench, store=store)
        try:
            cold.append(await fresh.layer(DebianSource(SUITE, ("nginx-light",))))
            warm.append(await fresh.layer(DebianSource(SUITE, ("less", "nginx-light"))))
        except BuildUnavailable as error:
            print(f"no row of packages: {error}")  # noqa: T201
            return []
        finally:
            await store.close()
    return [
        Figure(
            "a package more on a warm base", median(warm), "s", median(cold),
            "the first of these builds", target_ratio=0.2, spread=spread_of(warm, "s"),
            note="of the archive that this host's apt has: nginx-light, then less beside it",
            details={"from nothing": spread_of(cold, "s")},
        )
    ]  # fmt: skip


def pack(tar: Path, root: Path) -> None:
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root / "usr", "usr")


def _images(bench: Bench) -> list[Path]:
    return sorted((bench.folder / "state/layers").glob("*/image"))


def _bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def _cached(path: Path) -> int:
    """Bytes of a file in the page cache."""
    argv = ("fincore", "--bytes", "--noheadings", "--output", "RES", str(path))
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
