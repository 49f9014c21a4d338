"""What images cost to make, beside the programs that would make them by hand; the store and the programs are real.

The stack is 442 MB in 28,000 files of random and repeated text: as a Debian with a few services.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSource, LayerSpec
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.registry.images import Layout
from tests.unit.image.trees import Repository

WHOLE = ("mkfs.erofs", "--quiet", "-zlz4hc", "-T0", "--all-root")
"""How microvm.nix makes the one store disk of a VM, as far as the mkfs.erofs of Debian 12 knows its flags."""
FILE_BYTES = 15_780


@dataclass(frozen=True, slots=True)
class Bench:
    store: ImageStore
    repository: Repository
    folder: Path
    files: int

    async def layer(self, source: LayerSource) -> float:
        """Seconds to make it, or to find that it is there."""
        began = time.perf_counter()
        await self.store.build_layer(LayerSpec.of(source), self.repository.content)
        return time.perf_counter() - began


def measure(scale: Scale) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        return asyncio.run(_measure(Path(folder), scale))


async def _measure(folder: Path, scale: Scale) -> list[Figure]:
    repository = Repository(folder / "repository.git")
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    bench = Bench(store, repository, folder, scale.pick(28_000, 400))
    try:
        tree = await asyncio.to_thread(fill, bench)
        return [
            await _tree(bench, tree),
            await _one_file(bench, scale),
            await _unchanged(bench, tree, scale),
            await _oci(bench, tree, scale),
        ]
    finally:
        await store.close()


def fill(bench: Bench) -> Path:
    """The stack as a folder."""
    # The same files in every run.
    root, chance = bench.folder / "stack", random.Random(1)  # noqa: S311
    words = [chance.randbytes(16).hex() for _ in range(4000)]
    for number in range(bench.files):
        file = root / f"usr/share/{number % 997}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, k=FILE_BYTES // 33))
        file.write_text(f"{number}\n{text}\n")
    return root


async def _tree(bench: Bench, root: Path) -> Figure:
    """All of it as one layer of the repository, beside mkfs.erofs alone on the folder."""
    tree = await asyncio.to_thread(committed, bench, root)
    ours = await bench.layer(TreeSource(tree, "./stack"))
    alone = await _run(*WHOLE[:2], "-zlz4", *WHOLE[3:], str(bench.folder / "alone"), str(root))
    return Figure(
        "a whole tree", ours * 1000, "ms", alone * 1000, "mkfs.erofs alone on the folder",
        target_ratio=1.25, note=f"{bench.files:,} files out of git, packed, synced and digested",
    )  # fmt: skip


async def _one_file(bench: Bench, scale: Scale) -> Figure:
    """A changed file beside the whole stack, where another tool makes the whole anew."""
    whole = await _run(*WHOLE, str(bench.folder / "whole"), str(bench.folder / "stack"))
    taken = []
    for number in range(scale.pick(15, 3)):
        tree = bench.repository.tree({"etc": {"app.conf": f"answer = {number}\n"}})
        taken.append(await bench.layer(TreeSource(tree, "./config")))
    return Figure(
        "one changed file", median(ms(taken)), "ms", whole * 1000,
        "the whole stack again, as microvm.nix packs it", target_ratio=0.02,
        spread=spread_of(ms(taken), "ms"),
    )  # fmt: skip


async def _unchanged(bench: Bench, root: Path, scale: Scale) -> Figure:
    tree = await asyncio.to_thread(committed, bench, root)
    taken = [await bench.layer(TreeSource(tree, "./stack")) for _ in range(scale.pick(30, 3))]
    looked = [await _timed(bench.store.look) for _ in taken]
    return Figure(
        "an unchanged layer", median(ms(taken)), "ms", median(ms(looked)),
        "a look whether all images are there", target=5.0, spread=spread_of(ms(taken), "ms"),
    )  # fmt: skip


async def _oci(bench: Bench, root: Path, scale: Scale) -> Figure:
    """The same files as an OCI image of one gzip layer, beside umoci."""
    tar = bench.folder / "layer.tar"
    await asyncio.to_thread(pack, tar, root)
    layout = Layout(bench.folder / "layout")
    settings = {"config.entrypoint": "/usr/share/1/1"}
    digest = await asyncio.to_thread(layout.add, "one", tar, settings=settings)
    ours, theirs = [], []
    for number in range(scale.pick(3, 1)):
        ours.append(
            await bench.layer(OciSource("linux/amd64", digest=digest, layout=str(layout.folder)))
        )
        await bench.store.collect(frozenset())
        target = bench.folder / f"bundle{number}"
        theirs.append(await _run("umoci", "unpack", "--image", f"{layout.folder}:one", str(target)))
        await asyncio.to_thread(shutil.rmtree, target)
    return Figure(
        "an OCI image", median(ms(ours)), "ms", median(ms(theirs)), "umoci unpack of the same",
        target_ratio=1.0, spread=spread_of(ms(ours), "ms"),
        note="of a layout on disk: verified, checked, packed, synced and digested; umoci unpacks",
    )  # fmt: skip


def committed(bench: Bench, root: Path) -> str:
    """The id of a folder's git tree."""
    git = ("git", "--git-dir", str(bench.repository.path), "--work-tree", str(root))
    subprocess.run((*git, "add", "--all", "."), check=True, cwd=root)
    done = subprocess.run(
        (*git, "write-tree"), check=True, cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip()


def pack(tar: Path, root: Path) -> None:
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root / "usr", "usr")


async def _run(*argv: str) -> float:
    async def run() -> None:
        child = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        if await child.wait():
            raise RuntimeError(f"{argv[0]} failed")

    return await _timed(run)


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began
