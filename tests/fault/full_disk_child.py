"""Builds one layer on disks that are too small for it, each a little larger, until one is large enough.

Called as `python -m tests.fault.full_disk_child INPUT FOLDER` where it may mount. Prints a JSON line for each disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.debian_packages import Debian, Package
from reconciler.image.progress_board import Progress
from reconciler.image.store import ImageStore
from reconciler.image_references import parse_reference
from reconciler.model.image import DiskImage, KernelSpec, PathKernel
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layer_kinds.tree_layer import OwnerRule, TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import VMName
from tests.registry.images import Entry, Layout, skopeo_copy, write_layer
from tests.registry.serving import serving_registry
from tests.unit.image.stranger import serving, whole
from tests.unit.image.trees import Repository

KIB = 1024
PAGE = 4 * KIB
CONTENT_BYTES = 1400 * KIB
FIRST, STEP, MOST = 100 * KIB, 300 * KIB, 8 * 1024 * KIB
"""Sizes of the disks in bytes."""


def noise(seed: int = 1, size: int = CONTENT_BYTES) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  # the same in each run


class Packages(Debian):
    """Of which busybox alone is needed here, and nothing of the network."""

    async def unpack(
        self, packages: Sequence[Package], folder: Path, progress: Progress | None = None
    ) -> None:
        del packages, progress
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/busybox").write_bytes(noise(3, 100 * KIB))


@dataclass
class Stage:
    folder: Path
    repository: Repository
    sources: dict[str, Any] = field(default_factory=dict)

    def file(self, name: str, content: bytes) -> tuple[str, str]:
        """A file of the host, and its sha256."""
        path = self.folder / name
        path.write_bytes(content)
        return str(path), hashlib.sha256(content).hexdigest()

    def layout(self) -> tuple[Layout, str]:
        files: dict[str, Entry | bytes | str] = {
            "bin/": "",
            "bin/app": Entry(noise()),
            "etc/": "",
            "etc/app": "text",
        }
        tar = write_layer(self.folder / "a.tar", files)
        layout = Layout(self.folder / "image")
        return layout, layout.add("one", tar, settings={"config.entrypoint": ["/bin/app"]})


Spec = LayerSpec | KernelSpec
Inputs = Callable[[Stage], Iterator[Spec]]


def tree(stage: Stage) -> Iterator[Spec]:
    yield LayerSpec.of(TreeSource(stage.repository.tree({"a": noise()}), "./a"), "erofs")


def squashed(stage: Stage) -> Iterator[Spec]:
    yield LayerSpec.of(TreeSource(stage.repository.tree({"a": noise()}), "./a"), "squashfs")


def many_files(stage: Stage) -> Iterator[Spec]:
    files: dict[str, Any] = {str(number): noise(number, 3 * KIB) for number in range(300)}
    yield LayerSpec.of(TreeSource(stage.repository.tree(files), "./a"), "erofs")


def owned(stage: Stage) -> Iterator[Spec]:
    owners = (OwnerRule.of("/a", "7:7"),)
    tree = stage.repository.tree({"a": noise()})
    yield LayerSpec.of(TreeSource(tree, "./a", owners=owners), "squashfs")


def layout(stage: Stage) -> Iterator[Spec]:
    image, digest = stage.layout()
    yield LayerSpec.of(OciSource("linux/amd64", digest=digest, layout=str(image.folder)))


def archive(stage: Stage, kind: str = "oci-archive") -> Iterator[Spec]:
    image, _ = stage.layout()
    path = stage.folder / "archive.tar"
    skopeo_copy(f"oci:{image.folder}:one", f"{kind}:{path}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    yield LayerSpec.of(OciSource("linux/amd64", archive=str(path), sha256=sha256))


def docker_archive(stage: Stage) -> Iterator[Spec]:
    yield from archive(stage, "docker-archive")


def registry(stage: Stage) -> Iterator[Spec]:
    with serving_registry(stage.folder / "registry") as served:
        image, _ = stage.layout()
        stage.sources["registries"] = (served.settings(),)
        named = parse_reference(served.push(image, "one", "acme/app"))
        if named is None:
            raise AssertionError("a reference that is none")
        yield LayerSpec.of(OciSource("linux/amd64", named.repository, named.digest))


def host_file(stage: Stage) -> Iterator[Spec]:
    path, sha256 = stage.file("image", b"hsqs" + noise())
    yield LayerSpec.of(ImageSource(sha256, path))


def download(stage: Stage) -> Iterator[Spec]:
    content = b"hsqs" + noise()
    with serving(lambda _stranger: whole(content)) as server:
        stage.sources["image_urls"] = (server.pattern,)
        yield LayerSpec.of(ImageSource(hashlib.sha256(content).hexdigest(), url=server.url()))


def disk(stage: Stage) -> Iterator[Spec]:
    path, sha256 = stage.file("disk", noise() + bytes(-CONTENT_BYTES % 512))
    yield KernelSpec.of("disk", DiskImage(ImageSource(sha256, path), "raw"))


def kernel(stage: Stage) -> Iterator[Spec]:
    kernel, kernel_sha256 = stage.file("vmlinuz", noise(1))
    initrd, initrd_sha256 = stage.file("initrd", noise(2))
    yield KernelSpec.of("kernel", PathKernel(kernel, initrd, kernel_sha256, initrd_sha256))


def seed(_: Stage) -> Iterator[Spec]:
    text = "#cloud-config\n" + noise().hex()
    yield LayerSpec.of(SeedSource(VMName("web"), text))


INPUTS: dict[str, Inputs] = {
    make.__name__: make
    for make in (
        tree, squashed, many_files, layout, archive, docker_archive, registry, host_file, download, disk,
        kernel, seed, owned,
    )
}  # fmt: skip


async def built_on(disk: Path, stage: Stage, spec: Spec) -> dict[str, Any]:
    """How a build went on an empty disk, and what is there afterwards."""
    store = ImageStore(disk, SystemClock(), sources=Sources(**stage.sources), debian=Packages())
    said: dict[str, Any] = {"kind": "", "error": "", "failed": False}
    try:
        await store.open()
        if isinstance(spec, LayerSpec):
            await store.build_layer(spec, stage.repository.content)
        else:
            await store.build_kernel(spec, stage.repository.content)
    except (BuildFailed, BuildUnavailable) as error:
        said |= {"kind": error.kind, "error": str(error), "failed": isinstance(error, BuildFailed)}
        said["hint"] = error.hint
    images = (*store.layers(), *store.kernels())
    await store.close()
    whole = await believed(disk)
    left = (path.relative_to(disk) for path in disk.rglob("*") if path.is_file())
    return {
        **said,
        "there": spec.key in images,
        "left": sorted(str(path) for path in left if not whole & {*path.parts, path.stem}),
        "believed": spec.key in whole,
    }


async def believed(disk: Path) -> set[str]:
    """What a new daemon takes for an image: of a composed layer its parts that are whole, too."""
    store = ImageStore(disk, SystemClock())
    await store.open()
    found = {*store.layers(), *store.kernels()}
    await store.close()
    return found


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def is_enough(size: int, stage: Stage, spec: Spec) -> bool:
    with small_disk(stage.folder / "small", size):
        said = asyncio.run(built_on(stage.folder / "small", stage, spec))
    sys.stdout.write(json.dumps({"size": size, **said}) + "\n")
    sys.stdout.flush()
    return bool(said["there"])


def main(name: str, folder: Path) -> None:
    stage = Stage(folder, Repository(folder / "repository.git"))
    for spec in INPUTS[name](stage):
        enough = next(size for size in range(FIRST, MOST, STEP) if is_enough(size, stage, spec))
        # The last steps write little: just below what is enough each of them is the one that fails.
        short = enough - STEP
        while enough - short > PAGE:
            middle = (short + enough) // 2 // PAGE * PAGE
            if is_enough(middle, stage, spec):
                enough = middle
            else:
                short = middle


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
