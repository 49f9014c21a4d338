"""What images cost to make, beside the programs that would make them by hand; the store and the programs are real.

The stack is 442 MB in 28,000 files of random and repeated text: as a Debian with a few services. In the
repository they are in one pack, as a fetch leaves them.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.image_bench import Bench, timed, timed_run
from tests.bench.image_inputs import debian_figures, many_vms, oci_figures
from tests.bench.peaks import Peak, memory_figure
from tests.unit.image.trees import Repository

WHOLE = ("mkfs.erofs", "--quiet", "-zlz4hc", "-T0", "--all-root")
"""How microvm.nix makes the one store disk of a VM, as far as the mkfs.erofs of Debian 12 knows its flags."""
ALONE = "mkfs.erofs alone on the folder"
BY_HAND = {
    ALONE: "mkfs.erofs --quiet -zlz4 -T0 --all-root {image} {folder}",
    "the same, synced and digested": "mkfs.erofs --quiet -zlz4 -T0 --all-root {image} {folder};"
    " sync {image}; sha256sum {image}",
    "git archive, tar, mkfs.erofs": "mkdir {image}.files;"
    " git --git-dir {git} archive {tree} | tar -x -C {image}.files;"
    " mkfs.erofs --quiet -zlz4 -T0 --all-root {image} {image}.files",
}
"""What people do in place of us, as scripts; the last two are what it comes to."""
FILE_BYTES = 15_780
REST = 0.6
"""Seconds until the next children stand ready, as at a push that does not follow another at once."""


def measure(scale: Scale) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        return asyncio.run(_measure(Path(folder), scale))


async def _measure(folder: Path, scale: Scale) -> list[Figure]:
    repository = Repository(folder / "repository.git")
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    await repository.content.ready()
    bench = Bench(store, repository, folder, scale.pick(28_000, 400))
    try:
        tree = await asyncio.to_thread(fill, bench)
        return [
            *await _tree(bench, tree, scale),
            await _one_file(bench, scale),
            await _unchanged(bench, tree, scale),
            await many_vms(bench, scale),
            *await oci_figures(bench, tree, scale),
            *await debian_figures(bench, scale),
        ]
    finally:
        await repository.content.close()
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


async def _tree(bench: Bench, root: Path, scale: Scale) -> list[Figure]:
    """All of it as one layer of the repository, beside mkfs.erofs alone on the folder."""
    source = TreeSource(await asyncio.to_thread(committed, bench, root), "./stack")
    image = bench.folder / "alone"
    taken: dict[str, list[float]] = {}
    peaks: list[Peak] = []
    for _ in range(scale.pick(5, 1)):
        with Peak() as peak:
            taken.setdefault("ours", []).append(await bench.layer(source))
        peaks.append(peak)
        await bench.store.collect(frozenset())
        for name, script in BY_HAND.items():
            words = {
                "folder": root,
                "image": image,
                "git": bench.repository.path,
                "tree": source.tree,
            }
            taken.setdefault(name, []).append(await timed_run("sh", "-ec", script.format(**words)))
            await asyncio.to_thread(shutil.rmtree, f"{image}.files", ignore_errors=True)
            image.unlink()
    ours, alone = taken.pop("ours"), taken[ALONE]
    pairs = [one / other for one, other in zip(ours, alone, strict=True)]
    whole = Figure(
        "a whole tree", median(ms(ours)), "ms", median(ms(alone)), ALONE,
        target_ratio=1.25, spread=spread_of(ms(ours), "ms"),
        note=f"{bench.files:,} files out of git, packed, synced and digested; mkfs.erofs alone neither"
        " reads git nor waits for the disk",
        details={
            "ratios of the rounds": spread_of(pairs, ""),
            **{f"{name}, ms": spread_of(ms(each), "ms") for name, each in taken.items()},
        },
    )  # fmt: skip
    return [whole, memory_figure(peaks, bench.files)]


async def _one_file(bench: Bench, scale: Scale) -> Figure:
    """A changed file beside the whole stack, where another tool makes the whole anew."""
    whole: list[float] = []
    taken: list[float] = []
    hurried: list[float] = []
    for number in range(scale.pick(15, 3)):
        if number % 3 == 0:
            words = (*WHOLE, str(bench.folder / f"whole{number}"), str(bench.folder / "stack"))
            whole.append(await timed_run(*words))
        for rest, each in ((REST, taken), (0.0, hurried)):
            await asyncio.sleep(rest)
            conf = f"answer = {number} after {rest}\n"
            tree = bench.repository.tree({"etc": {"app.conf": conf}})
            each.append(await bench.layer(TreeSource(tree, "./config")))
    return Figure(
        "one changed file", median(ms(taken)), "ms", median(ms(whole)),
        "the whole stack again, as microvm.nix packs it", target_ratio=0.02,
        spread=spread_of(ms(taken), "ms"),
        note="a child stands ready, as for a push that does not follow another within 0.4 s",
        details={
            "right after another build": spread_of(ms(hurried), "ms"),
            "the whole": spread_of(ms(whole), "ms"),
        },
    )  # fmt: skip


async def _unchanged(bench: Bench, root: Path, scale: Scale) -> Figure:
    tree = await asyncio.to_thread(committed, bench, root)
    await bench.layer(TreeSource(tree, "./stack"))
    taken = [await bench.layer(TreeSource(tree, "./stack")) for _ in range(scale.pick(30, 3))]
    looked = [await timed(bench.store.look) for _ in taken]
    return Figure(
        "an unchanged layer", median(ms(taken)), "ms", median(ms(looked)),
        "a look whether all images are there", target=5.0, spread=spread_of(ms(taken), "ms"),
    )  # fmt: skip


def committed(bench: Bench, root: Path) -> str:
    """The id of a folder's git tree."""
    git = ("git", "--git-dir", str(bench.repository.path), "--work-tree", str(root))
    # Files beyond the threshold go into a pack at once.
    pack = ("-c", "core.bigFileThreshold=1")
    subprocess.run((git[0], *pack, *git[1:], "add", "--all", "."), check=True, cwd=root)
    done = subprocess.run(
        (*git, "write-tree"), check=True, cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip()
