"""A push that changes one layer of an OCI image until its guest is healthy, beside one that changes a tree.

Both are updates of one VM, so that what boots is the same.
"""

from __future__ import annotations

import asyncio
import shutil
import time

import yaml

from demo.daemon import free_port
from demo.repository import BRANCH
from demo.stage import Stage
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import fetch_busybox
from tests.bench.figures import Figure, Scale, median, spread_of
from tests.bench.follow import Follower
from tests.bench.update import CALM, FIRST, HEALTH
from tests.registry.images import Entry, Layout, write_layer
from tests.wait import wait_until

VM = "app"
PROGRAM = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
TARGET_RATIO = 1.2


def measure(scale: Scale) -> list[Figure]:
    stage = Stage.open()
    try:
        busybox = asyncio.run(fetch_busybox(Debian(), stage.root / "packages"))
        base: dict[str, Entry | bytes | str] = {
            "bin/": "",
            "bin/busybox": Entry(busybox.read_bytes(), mode=0o755),
        }
        write_layer(stage.root / "base.tar", base)
        change_image(stage, "the first")
        change_tree(stage, "the first")
        declare(stage, free_port())
        first = stage.repository.push("one VM")
        stage.seed()
        stage.daemon.start()
        wait_until(lambda: stage.daemon.fleet().settled(first, VM), FIRST, "the first guest")
        image, tree = asyncio.run(_rounds(stage, scale.pick(10, 2)))
    finally:
        left = stage.close()
    if left:
        raise RuntimeError(f"still running: {left}")
    pairs = [a / b for a, b in zip(image, tree, strict=True)]
    return [
        Figure(
            "one changed OCI layer, push to healthy", median(image), "s", median(tree),
            "one changed file of a tree of the same VM", target_ratio=TARGET_RATIO,
            spread=spread_of(image, "s"),
            note="a layout in the repository, of two layers, of which the upper one changes; a tree"
            " above it; from the start of `git push` to `generation-committed`, in turns",
            details={
                "tree, least / median / most": spread_of(tree, "s"),
                "ratios of the rounds": spread_of(pairs, ""),
            },
        )
    ]  # fmt: skip


def declare(stage: Stage, port: int) -> None:
    manifest = {
        "apiVersion": "reconciler/v1",
        "kind": "MicroVM",
        "metadata": {"name": VM},
        "spec": {
            "memory": "192MiB",
            "store": {"layers": [{"oci": {"layout": "./image"}}, {"tree": "./site"}]},
            "interfaces": [{"type": "user", "forward": [{"host": port, "guest": 80}]}],
            "health": {**HEALTH, "checks": [{"http": {"port": port, "path": "/healthz"}}]},
            "update": {"stopTimeout": "20s"},
        },
    }
    stage.repository.write(f"{VM}.yaml", yaml.safe_dump(manifest))


def change_image(stage: Stage, text: str) -> None:
    """The image of the repository again, with another upper layer; its lower one is as it was."""
    folder = stage.repository.work / "image"
    shutil.rmtree(folder, ignore_errors=True)
    upper = write_layer(stage.root / "upper.tar", {"etc/": "", "etc/note": text})
    settings = {"config.entrypoint": PROGRAM}
    Layout(folder).add("app", stage.root / "base.tar", upper, settings=settings)


def change_tree(stage: Stage, text: str) -> None:
    stage.repository.write("site/www/healthz", "ok\n")
    stage.repository.write("site/www/index.html", f"{text}\n")


async def _rounds(stage: Stage, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each update, of the image and of the tree."""
    image: list[float] = []
    tree: list[float] = []
    async with Follower(stage.daemon.settings.socket) as events:
        for number in range(count):
            for change, taken in ((change_image, image), (change_tree, tree)):
                await asyncio.sleep(CALM)
                await asyncio.to_thread(change, stage, f"round {number}")
                taken.append(await _update(stage, events))
    return image, tree


async def _update(stage: Stage, events: Follower) -> float:
    git = stage.repository.git
    await asyncio.to_thread(git, "add", "--all", ".")
    await asyncio.to_thread(git, "commit", "-q", "-m", "a change")
    before = len(events.heard)
    began = time.monotonic()
    await asyncio.to_thread(git, "push", "-q", "origin", BRANCH)
    healthy = await events.until("generation-committed", before)
    await events.until("revision-applied", before, revision=stage.repository.head())
    return healthy.at - began
